"""`forkright replay`: reports of real maps, whose choice is made again as it was and on other machines."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
from test_cli import call, masked

Report = dict[str, Any]

seen: list[int] = []


def calculate(number: int) -> float:
    """Some 0.1 s that hold the GIL."""
    until = time.thread_time() + 0.1
    total = 0.0
    while time.thread_time() < until:
        total += sum(i**0.5 for i in range(100))
    return total


def wait(number: int) -> None:
    time.sleep(0.05)


def keep(number: int) -> float:
    """As `calculate`, and it writes to what its caller sees."""
    seen.append(number)
    return calculate(number)


def report_of(function: Callable[[int], object], items: int, **options: Any) -> Report:
    fr.map(function, range(items), **options)
    report: Report = json.loads(fr.report().to_json())
    return report


@pytest.fixture(scope="module")
def calculated() -> Report:
    """Of a map that held the GIL and whose plan was chosen."""
    return report_of(calculate, 8)


@pytest.fixture(scope="module")
def fixed() -> Report:
    """Of the same under a fixed plan."""
    return report_of(calculate, 4, plan=fr.Plan(threads=2))


def replay(folder: Path, report: Any, *arguments: str) -> dict[str, Any]:
    """The JSON that comes of a report."""
    (folder / "report.json").write_text(json.dumps(report))
    code, out, err = call(folder, "replay", "report.json", "--json", *arguments)
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def failure(folder: Path, text: str, *arguments: str) -> str:
    """What is said of something that can't be replayed."""
    (folder / "report.json").write_text(text)
    code, out, err = call(folder, "replay", "report.json", *arguments)
    assert (code, out) == (2, "")
    return " ".join(err.split())


def plans(replays: dict[str, Any]) -> list[tuple[int, int]]:
    [only] = replays["replays"]
    found = [choice["verdict"]["plan"] for choice in only["choices"]]
    return [(plan["processes"], plan["threads"]) for plan in found]


def test_what_was_chosen_comes_out_again(calculated: Report, tmp_path: Path) -> None:
    [again] = replay(tmp_path, calculated)["replays"]
    assert calculated["verdicts"]
    assert [choice["verdict"] for choice in again["choices"]] == [each["verdict"] for each in calculated["verdicts"]]
    assert [choice["at"] for choice in again["choices"]] == [each["at"] for each in calculated["verdicts"]]


def test_what_was_chosen_comes_out_again_for_work_that_waits(tmp_path: Path) -> None:
    report = report_of(wait, 40)
    [again] = replay(tmp_path, report)["replays"]
    assert report["verdicts"]
    assert [choice["verdict"] for choice in again["choices"]] == [each["verdict"] for each in report["verdicts"]]


def test_a_server_takes_as_many_processes_as_it_has_cores(calculated: Report, tmp_path: Path) -> None:
    found = replay(tmp_path, calculated, "--cores", "4,16,64", "--items", "6400")
    assert plans(found)[1:] == [(4, 1), (16, 1), (64, 1)]
    choices = found["replays"][0]["choices"]
    assert [choice["items"] for choice in choices] == [6400] * 4
    here, *others = (choice["verdict"]["seconds"] for choice in choices)
    for cores, predicted in zip((4, 16, 64), others, strict=True):
        assert predicted == pytest.approx(others[0] * 4 / cores, rel=0.1)
        assert predicted <= here * 1.03


def test_the_whole_map_is_chosen_for_from_its_start(calculated: Report, tmp_path: Path) -> None:
    [found] = replay(tmp_path, calculated, "--cores", "4")["replays"]
    for choice in found["choices"]:
        remaining = choice["verdict"]["case"]["remaining"]
        assert (remaining["tasks"], remaining["here"], remaining["away"]) == (8, 0, 0)
        assert remaining["zygote"] == "cold"
        assert choice["at"] is None


def test_a_dear_start_keeps_few_calls_where_they_are(calculated: Report, tmp_path: Path) -> None:
    cheap = replay(tmp_path, calculated, "--cores", "8", "--zygote-start", "0.05", "--process-start", "0.002")
    dear = replay(tmp_path, calculated, "--cores", "8", "--zygote-start", "30")
    assert plans(cheap)[1][0] > 1
    assert plans(dear)[1] == (0, 1)


def test_what_had_to_stay_stays_on_every_machine_and_is_told_why(tmp_path: Path) -> None:
    report = report_of(keep, 6)
    [found] = replay(tmp_path, report, "--cores", "1,64")["replays"]
    assert [choice["verdict"]["plan"] for choice in found["choices"]] == [{"processes": 0, "threads": 1}] * 3
    (tmp_path / "report.json").write_text(json.dumps(report))
    _, out, _ = call(tmp_path, "replay", "report.json", "--cores", "64")
    said = " ".join(out.split())
    assert "ruled out: processes" in said and "`keep`" in said and "`seen`" in said


def test_workers_that_were_not_allowed_are_not_chosen(tmp_path: Path) -> None:
    report = report_of(calculate, 8, workers=3)
    found = replay(tmp_path, report, "--cores", "64", "--items", "1000")
    assert plans(found)[-1] == (3, 1)


def test_a_fixed_plan_has_no_choice_but_what_was_measured_is_enough_for_one(fixed: Report, tmp_path: Path) -> None:
    [alone] = replay(tmp_path, fixed)["replays"]
    assert len(alone["choices"]) == 1
    assert alone["notes"][0].startswith("the plan was fixed, 2 threads, so there is no choice to make again")
    found = replay(tmp_path, fixed, "--cores", "16", "--items", "1600")
    assert plans(found)[1] == (16, 1)
    notes = found["replays"][0]["notes"]
    assert any("nobody has looked whether the function may leave" in note for note in notes)
    sentence = found["replays"][0]["choices"][1]["verdict"]["sentence"]
    assert "holds the GIL" in sentence and "as far as the clocks tell" not in sentence


def test_worker_processes_measure_enough_for_a_choice(tmp_path: Path) -> None:
    report = report_of(wait, 12, plan=fr.Plan(processes=2))
    found = replay(tmp_path, report, "--cores", "4", "--items", "200")
    # What waits computes for a part of the time: where processes start fast they share the threads, 32 in each at most.
    processes, threads = plans(found)[1]
    assert max(processes, 1) * threads >= min(200, 4 * 32)


def test_a_map_that_ended_at_once_was_right_to_begin_where_it_did(tmp_path: Path) -> None:
    [found] = replay(tmp_path, report_of(abs, 10))["replays"]
    assert found["notes"] == ["no choice was made: nothing else would have saved enough to begin with it"]
    assert [choice["verdict"]["plan"] for choice in found["choices"]] == [{"processes": 0, "threads": 1}]


def test_each_function_of_an_executor_has_a_choice_of_its_own(tmp_path: Path) -> None:
    with fr.Executor() as executor:
        # One after another: what waits would have calculations in its way otherwise.
        for function, calls in ((calculate, 4), (wait, 9)):
            for future in [executor.submit(function, 1) for _ in range(calls)]:
                future.result()
        report = json.loads(executor.report().to_json())
    found = replay(tmp_path, report, "--cores", "32", "--items", "320")["replays"]
    last = {each["name"]: each["choices"][-1]["verdict"]["plan"] for each in found}
    assert set(last) == {"calculate", "wait"}
    assert last["calculate"] == {"processes": 32, "threads": 1}
    assert last["wait"]["threads"] > 8


def test_an_executor_that_measured_too_little_says_so(tmp_path: Path) -> None:
    with fr.Executor(plan=fr.Plan(threads=2)) as executor:
        executor.submit(abs, 1).result()
        report = executor.report().to_json()
    said = failure(tmp_path, report, "--cores", "4")
    assert "its plan was fixed, 2 threads, so it has no choice, and too little was measured of its calls" in said


def test_an_executor_without_calls_has_nothing_to_choose_for(tmp_path: Path) -> None:
    with fr.Executor() as executor:
        report = executor.report().to_json()
    assert "ran nothing" in failure(tmp_path, report)


def test_a_comparison_is_replayed_plan_by_plan(tmp_path: Path) -> None:
    (tmp_path / "some.py").write_text(
        "import time\ndef items(): return range(6)\n"
        "def calc(n):\n    until = time.thread_time() + 0.05\n    while time.thread_time() < until: sum(range(99))\n"
    )
    code, out, _ = call(tmp_path, "compare", "some.py:calc", "--plans", "serial,auto", "--runs", "1", "--json")
    assert code == 0
    found = replay(tmp_path, json.loads(out), "--cores", "8", "--items", "800")["replays"]
    assert [each["name"] for each in found] == ["calc, run as serial", "calc, run as auto"]
    assert [each["choices"][1]["verdict"]["plan"] for each in found] == [{"processes": 8, "threads": 1}] * 2


def test_people_read_per_machine_what_why_and_what_else(calculated: Report, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(calculated))
    code, out, err = call(tmp_path, "replay", "report.json", "--cores", "16", "--items", "1600")
    assert (code, err) == (0, "")
    shown = re.sub(r"\d+ %", "N %", masked(out))
    title, here, there = shown.split("\n\n")
    assert re.fullmatch(r"calculate: 8 calls, measured on \d+ cores?", title)
    assert re.match(r"on \d+ cores? where it was measured, all 1,600 calls from the start:\n", here)
    assert there.startswith(
        "on 16 cores, all 1,600 calls from the start:\n"
        "  16 processes: N % of the time holds the GIL, so threads would take turns; they should take T,"
    )
    rows = re.findall(r"^( {4}|  \* )(\S.*)$", calculated_table(out), re.M)
    assert [mark.strip() for mark, _ in rows] == ["", "*", *[""] * (len(rows) - 2)]
    assert rows[0][1] == "plan          predicted  of it start  held up by"
    assert re.fullmatch(r"16 processes +[\d.]+ s +[\d.]+ ms  \S.*", rows[1][1])
    rivals = {row.split("  ")[0] for _, row in rows[2:]}
    assert "serial" in rivals and any(re.fullmatch(r"\d+ threads", rival) for rival in rivals)


def calculated_table(out: str) -> str:
    """The last table of the output."""
    return out[out.rindex("    plan ") :]


def test_the_same_moment_is_told_with_what_was_left(calculated: Report, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(calculated))
    _, out, _ = call(tmp_path, "replay", "report.json")
    headings = re.findall(r"^as it was after \S+ \S+, with \d+ calls? to begin(?: and \d+ under way)?:$", out, re.M)
    assert len(headings) == len(calculated["verdicts"])


def test_a_choice_that_comes_out_differently_is_pointed_out(calculated: Report, tmp_path: Path) -> None:
    report = json.loads(json.dumps(calculated))
    report["verdicts"][-1]["verdict"]["plan"] = {"processes": 7, "threads": 3}
    (tmp_path / "report.json").write_text(json.dumps(report))
    _, out, _ = call(tmp_path, "replay", "report.json")
    assert "warning: the report has 7 processes x 3 threads here" in " ".join(out.split())


def test_colours_are_for_terminals(calculated: Report, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(calculated))
    _, plain, _ = call(tmp_path, "replay", "report.json")
    _, colourful, _ = call(tmp_path, "replay", "report.json", "--color", "always")
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", colourful) == plain != colourful


def test_a_report_may_come_through_a_pipe(calculated: Report) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "forkright", "replay", "-", "--cores", "4"],
        input=json.dumps(calculated),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "on 4 cores, all 8 calls from the start" in done.stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "`report.json` is not JSON"),
        ("\xff", "`report.json` is not JSON"),
        ("[" * 100_000, "`report.json` is not JSON"),
        ("[1]", "there is no report in `report.json`"),
        ("{}", "there is no report in `report.json`"),
        ('{"plans": [{"name": "serial", "runs": []}]}', "there is no report in `report.json`"),
        ('{"chosen": true, "plan": null, "function": "f"}', "does not say which form it has"),
        ('{"chosen": true, "plan": null, "function": "f", "form": 1}', "is of an older form (1)"),
        ('{"chosen": true, "plan": null, "function": "f", "form": 99}', "made by a later version of forkright"),
        ('{"chosen": true, "plan": null, "function": "f", "form": 3}', "is damaged: KeyError: 'verdicts'"),
        (
            '{"chosen": false, "plan": null, "function": "f", "form": 3, "why": "nothing was measured"}',
            "has nothing to choose by: nothing was measured",
        ),
    ],
)
def test_what_is_no_report_is_named(text: str, said: str, tmp_path: Path) -> None:
    assert said in failure(tmp_path, text)


@pytest.mark.parametrize("options", [(), ("--cores", "4")])
def test_a_report_of_the_form_before_is_read_as_it_was(
    options: tuple[str, ...], calculated: Report, tmp_path: Path
) -> None:
    # There `plan` is the last one, and nobody says which verdict to tell of.
    last = calculated["verdicts"][-1]["verdict"]["plan"]
    before = {name: value for name, value in calculated.items() if name != "told"} | {"form": 2, "plan": last}
    assert calculated["form"] == 3 and "told" in calculated
    (tmp_path / "before.json").write_text(json.dumps(before))
    (tmp_path / "now.json").write_text(json.dumps(calculated))
    said = [call(tmp_path, "replay", f"{name}.json", *options) for name in ("before", "now")]
    assert said[0] == said[1] and said[0][0] == 0, said


@pytest.mark.parametrize("where", ["demand", "machine", "may_leave", "tasks", "verdicts", "given"])
@pytest.mark.parametrize("what", [-7, "seven"])
def test_a_damaged_report_is_named(where: str, what: object, calculated: Report, tmp_path: Path) -> None:
    report = json.loads(json.dumps(calculated))
    (report["given"] if where in report["given"] else report)[where] = what
    assert "the report in `report.json` is damaged" in failure(tmp_path, json.dumps(report), "--cores", "4")


def test_a_report_that_is_not_there_is_named(tmp_path: Path) -> None:
    code, out, err = call(tmp_path, "replay", "nowhere.json")
    assert (code, out) == (2, "")
    assert "error: `nowhere.json` can't be read: No such file or directory" in err


@pytest.mark.parametrize(
    "arguments",
    [["--cores", "0"], ["--cores", "x"], ["--items", "0"], ["--process-start", "-1"], ["--zygote-start", "nan"]],
)
def test_figures_that_make_no_sense_are_refused(arguments: list[str], tmp_path: Path) -> None:
    code, out, err = call(tmp_path, "replay", "report.json", *arguments)
    assert (code, out) == (2, "")
    assert arguments[0] in err
