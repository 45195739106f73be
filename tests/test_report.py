"""`Report` reads well for people, and keeps everything for programs."""

from __future__ import annotations

import functools
import json
import operator
import re
import time
from typing import Any

import pytest

import forkright as fr
from forkright import _report
from forkright._report import Report


def square(number: int) -> int:
    return number * number


def compute(number: int) -> int:
    """Some 50 ms that hold the GIL."""
    until = time.thread_time() + 0.05
    total = 0
    while time.thread_time() < until:
        total += sum(range(100))
    return total


def forecast(processes: int, threads: int, seconds: float, bound_by: str) -> dict[str, Any]:
    return {"plan": {"processes": processes, "threads": threads}, "seconds": seconds, "bound_by": bound_by}


def chosen(**changes: Any) -> dict[str, Any]:
    """The report of a map that went to processes."""
    verdict = {
        "plan": {"processes": 2, "threads": 1},
        "seconds": 1.2,
        "case": {"demand": {"finished": 4}},
        "beaten": [
            forecast(1, 1, 1.5, "workers"),
            forecast(0, 1, 2.4, "gil"),
            forecast(0, 2, 2.5, "gil"),
            forecast(0, 4, 2.6, "gil"),
        ],
        "ruled_out": [],
        "sentence": "2 processes: 98 % of the time holds the GIL, so threads would take turns; they should take 1.2 s",
    }
    first = verdict | {"plan": {"processes": 0, "threads": 2}}
    data = {
        "form": 3,
        "function": "calc",
        "chosen": True,
        "plan": {"processes": 2, "threads": 1},
        "verdicts": [{"at": 0.01, "verdict": first}, {"at": 0.05, "verdict": verdict}],
        "tasks": 8,
        "done": 8,
        "failed": 0,
        "wall": 1.31,
        "cpu": 2.4,
        "busy": 2.5,
        "per_task": {"wall": 0.3, "cpu": 0.29, "gil_held": 0.27, "off_gil": 0.015, "waiting": 0.003},
        "pickling": {"encode": 0.02, "decode": 0.01, "bytes_out": 2e6, "bytes_back": 100.0},
        "workers": [
            {"kind": "process", "id": 11, "tasks": 4, "busy": 1.2, "cpu": 1.1},
            {"kind": "process", "id": 10, "tasks": 3, "busy": 1.0, "cpu": 1.0},
            {"kind": "thread", "id": 9, "tasks": 1, "busy": 0.3, "cpu": 0.3},
        ],
    }
    return data | changes


def text(data: dict[str, Any]) -> str:
    return str(Report(json.dumps(data)))


def test_a_choice_reads_from_its_reason_down_to_each_worker() -> None:
    assert (
        text(chosen())
        == """\
2 processes: 98 % of the time holds the GIL, so threads would take turns; they should take 1.2 s
  ran        `calc`, 8 tasks on 1 thread here and 2 worker processes
  time       1.3 s, 1.2 s predicted (the choice came after 50 ms); 2.4 s of CPU in tasks
  a task     300 ms: 90 % holds the GIL, 5 % computes without it, 4 % is in a queue for the GIL or a
             core, 1 % waits
  pickling   30 ms in this process: 2.0 MB out, 100 bytes back
  before     2 threads (from 10 ms on)
  not taken  1 process 1.5 s (too few workers), serial 2.4 s (one after another), 2 threads 2.5 s
             (turns on the GIL)

  worker      tasks  in tasks     CPU
  thread 9        1    300 ms  300 ms
  process 10      3       1 s     1 s
  process 11      4     1.2 s   1.1 s"""
    )


def test_many_workers_are_summed_up() -> None:
    workers = [{"kind": "thread", "id": n, "tasks": 1 + n % 2, "busy": 0.1, "cpu": 0.001 * n} for n in range(1, 21)]
    lines = text(chosen(workers=workers)).splitlines()
    assert lines[-2:] == [
        "  worker               tasks  in tasks            CPU",
        "  each of 20 threads  1 to 2    100 ms  1 ms to 20 ms",
    ]


def test_failed_and_unfinished_tasks_are_named() -> None:
    assert "8 tasks, 5 of them done, 2 of them failed" in text(chosen(done=5, failed=2))


def test_pickling_that_nobody_would_notice_is_not_mentioned() -> None:
    cheap = {"encode": 1e-5, "decode": 1e-5, "bytes_out": 10.0, "bytes_back": 10.0}
    assert "pickling" not in text(chosen(pickling=cheap))


def test_a_guess_is_not_called_a_prediction() -> None:
    data = chosen()
    data["verdicts"][-1]["verdict"]["case"] = {"demand": {"finished": 0}}
    assert "time       1.3 s (the choice came after 50 ms); 2.4 s of CPU in tasks" in text(data)


def test_what_was_not_looked_at_is_not_claimed() -> None:
    blind = {"wall": 0.1, "cpu": 0.04, "gil_held": None, "off_gil": None, "waiting": 0.06}
    said = text(chosen(chosen=False, verdicts=[], per_task=blind))
    assert said.startswith("2 processes, as asked\n")
    assert "a task     100 ms: 40 % computes, the rest waits" in said
    assert "predicted" not in said and "GIL" not in said


def test_missing_parts_leave_their_lines_out() -> None:
    assert text({"plan": {"processes": 0, "threads": 1}, "chosen": True}).startswith("serial: ")
    assert text({"plan": None, "chosen": True}) == "nothing has been submitted yet"


def test_a_number_is_never_parted_from_its_unit() -> None:
    for line in _report.wrap("a word " * 12 + " and then it took 12 ms and 2 processes" * 6):
        assert not re.search(r"\d$", line)
        assert len(line) <= _report.WIDTH


def test_times_sizes_and_ratios_read_as_people_say_them() -> None:
    assert [_report.seconds(t) for t in (90.0, 1.274, 0.9999, 0.105, 0.0013, 2e-6, 0.0)] == [
        "1.5 min",
        "1.3 s",
        "1 s",
        "105 ms",
        "1.3 ms",
        "2 µs",
        "0 µs",
    ]
    assert [_report.figure(t) for t in (12.345, 1.2345, 0.9994, 0.000_123)] == [
        "12.3 s",
        "1.23 s",
        "999 ms",
        "123 µs",
    ]
    assert [_report.size(n) for n in (12, 1500, 25e6, 3.2e9)] == ["12 bytes", "1.5 KB", "25 MB", "3.2 GB"]
    assert [_report.times(r) for r in (0.0028, 0.5, 1.954, 13.68)] == ["0.0028x", "0.50x", "1.95x", "13.7x"]


def test_the_last_map_can_be_asked_for() -> None:
    assert fr.map(square, range(100), plan=fr.Plan(threads=2)) == [n * n for n in range(100)]
    report = fr.report()
    assert report.plan == fr.Plan(threads=2)
    assert report.why == "2 threads, as asked"
    assert json.loads(report.to_json()) == report.data
    assert report.data["tasks"] == 100
    assert str(report).startswith("2 threads, as asked\n  ran        `square`, 100 tasks on ")
    assert repr(report) == "<forkright.Report 2 threads, as asked>"


def test_an_over_at_once_map_says_so() -> None:
    fr.map(square, range(3))
    assert str(fr.report()).startswith("serial: nothing else would have saved enough to begin with it\n")


def test_a_notebook_shows_the_sentence_and_folds_the_rest() -> None:
    html = Report(json.dumps(chosen(function="<lambda>")))._repr_html_()
    assert html.startswith("<details><summary>2 processes: 98 %")
    assert "&lt;lambda&gt;" in html and "<lambda>" not in html


def test_a_notebook_shows_each_function_of_an_executor_within_it() -> None:
    function = chosen(function="<calc>")
    data = {"form": 3, "chosen": True, "plan": None, "verdicts": [], "wall": 1.0, "functions": [function, function]}
    html = Report(json.dumps(data))._repr_html_()
    assert html.count("<details>") == 3 and html.endswith("</details></div></details>")
    assert html.count("<dt") == html.count("</dd>") == 1 + 2 * 6 and html.count("<pre") == 2
    assert html.count("&lt;calc&gt;") == 2 and "<calc>" not in html
    assert html.index("2 functions, for each of which") < html.index("2 processes: 98 %")


def test_a_report_speaks_of_the_plan_that_did_most_of_the_work_and_names_what_came_after() -> None:
    data = chosen()
    tail = data["verdicts"][1]["verdict"] | {
        "plan": {"processes": 0, "threads": 1},
        "sentence": "serial: it is the last",
    }
    data["verdicts"].append({"at": 1.2, "verdict": tail})
    said = text(data | {"told": 1})
    assert said.startswith("2 processes: 98 %") and "before     2 threads (from 10 ms on)" in said
    assert "at the end serial (from 1.2 s on)" in said and "it is the last" not in said
    assert text(data).startswith("serial: it is the last"), "a report of before has no such word"


def test_a_map_of_long_calls_is_told_by_their_plan_even_if_the_last_ran_elsewhere() -> None:
    fr.map(time.sleep, [0.01] * 40)
    data = fr.report().data
    plans = [entry["verdict"]["plan"] for entry in data["verdicts"]]
    assert data["plan"] == plans[data["told"]] and data["plan"]["threads"] > 1


@pytest.mark.parametrize("items", [8, 9, 16])
def test_a_map_is_told_by_the_plan_for_where_its_workers_were_busy_even_if_its_end_ran_elsewhere(items: int) -> None:
    fr.map(compute, range(items))
    data = fr.report().data
    busy = {"process": 0.0, "thread": 0.0}
    for worker in data["workers"]:
        busy[worker["kind"]] += worker["busy"]
    left = busy["process"] > busy["thread"]
    plans = [entry["verdict"]["plan"] for entry in data["verdicts"]]
    assert data["plan"] == plans[data["told"]] and fr.report().plan == _report.plan_of(data["plan"])
    # On a busy machine most may have been done where it began, before any plan was chosen.
    if any(bool(plan["processes"]) == left for plan in plans):
        assert bool(data["plan"]["processes"]) == left


def test_what_wraps_a_function_has_its_name() -> None:
    fr.map(functools.partial(square), range(3))
    assert "`square`, 3 tasks" in str(fr.report())
    with fr.Executor() as executor:
        executor.submit(functools.partial(square, 3)).result()
        assert "`square`, 1 task" in str(executor.report())


class Model:
    def __call__(self, number: int) -> Any:
        return (n for n in range(number))


class Derived(Model):
    pass


class Keeping:
    """Its calls change what its caller sees."""

    def __init__(self) -> None:
        self.total = 0

    def __call__(self, number: int) -> int:
        self.total += number
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass
        return self.total


@pytest.mark.parametrize("kind", [Model, Derived])
def test_the_calls_of_an_instance_have_the_name_of_its_class_wherever_they_are_told_of(kind: type[Model]) -> None:
    name = f"{kind.__name__}.__call__"
    fr.map(kind(), range(3), plan="serial")
    assert f"`{name}`, 3 tasks" in str(fr.report()) and fr.report().data["function"] == name
    with fr.Executor() as executor:
        executor.submit(kind(), 3).result()
        assert f"`{name}`, 1 task" in str(executor.report())
    # One item and several at a time, a generator does not travel.
    for chunksize in (1, 3):
        with pytest.raises(fr.UnpicklableError, match=f"the result of `{name}` can't be sent"):
            fr.map(kind(), range(3), plan="processes", chunksize=chunksize)
    fr.map(operator.itemgetter(0), [[1], [2]])
    assert "`itemgetter`, 2 tasks" in str(fr.report())


def test_a_verdict_names_the_instance_whose_calls_must_stay() -> None:
    fr.map(Keeping(), range(6))
    assert "`Keeping.__call__` changes `self.total`" in fr.report().why


def test_an_executor_that_has_ended_still_tells_of_each_function() -> None:
    with fr.Executor() as executor:
        assert executor.submit(square, 3).result() == 9
    said = str(executor.report())
    assert "`square`, 1 task" in said and "nothing has been submitted" not in said


def test_an_executor_tells_what_its_workers_did() -> None:
    with fr.Executor(plan=fr.Plan(processes=1)) as executor:
        assert [executor.submit(square, n).result() for n in range(3)] == [0, 1, 4]
        said = str(executor.report())
    assert said.startswith("1 process, as asked\n  ran        3 tasks on 1 worker process\n")


def test_an_executor_that_chooses_tells_of_each_function() -> None:
    with fr.Executor() as executor:
        assert executor.submit(square, 3).result() == 9
        assert executor.submit(len, "abcd").result() == 4
        report = executor.report()
    assert report.plan is None
    said = str(report)
    assert said.startswith("2 functions, for each of which a plan is chosen\n")
    assert "`square`, 1 task" in said and "`len`, 1 task" in said


def part(share: float, error: float = 0.01, samples: int = 400) -> dict[str, Any]:
    return {"seconds": share * 2.5, "share": share, "error": error, "samples": samples}


def reading(**changes: Any) -> dict[str, Any]:
    parts = {
        "held": part(0.03, 0.004),
        "off_gil": part(0.12),
        "gil_wait": part(0.8, 0.02),
        "lock_wait": part(0.0),
        "io": part(0.004),
        "held_blocked": part(0.0),
        "run_delay": part(0.046, 0.0, 0),
    }
    return parts | {"wall": 2.5, "cpu": 0.375, "samples": 1600, "stands_for": 2.5} | changes


def test_a_reading_tells_shares_with_twice_their_error() -> None:
    said = " ".join(text(chosen(reading=reading())).split())
    assert (
        " a task 312 ms: 80 ± 4 % waits for the GIL, 12 ± 2 % computes without it, 5 % is ready and has no core, "
        "3 ± 1 % holds the GIL pickling " in said
    )


def test_a_reading_of_few_tasks_or_with_gaps_claims_no_more_than_it_knows() -> None:
    assert "90 % holds the GIL, 5 %" in text(chosen(reading=reading(stands_for=1.0))), "less than half was measured"
    nothing = dict.fromkeys(("held", "off_gil", "gil_wait", "lock_wait", "io", "held_blocked"))
    assert "90 % holds the GIL, 5 %" in text(chosen(reading=reading(**nothing))), "clocks alone say little"
    gap = text(chosen(reading=reading(held=None, off_gil=None)))
    assert "80 ± 4 % waits for the GIL, 5 % is ready and has no core; 15 % is not known" in " ".join(gap.split())


def test_who_held_the_gil_is_told_where_that_was_waited_for() -> None:
    blame = [
        {"by": "other", "samples": 80},
        {"by": "calc", "samples": 15},
        {"by": None, "samples": 5},
    ]
    said = " ".join(text(chosen(reading=reading(), blame=blame)).split())
    waits = "80 % while `other` held it, 15 % while another of its calls held it, 5 % while a thread without a task"
    assert f"GIL waits {waits}" in said
    assert "GIL waits" not in text(chosen(reading=reading(), blame=[{"by": "other", "samples": 19}])), "too few"
    assert "GIL waits" not in text(chosen(reading=reading(gil_wait=part(0.04)), blame=blame)), "too short"


def test_a_convoy_native_threads_and_the_meter_are_named() -> None:
    convoy = {"starved": "calc", "hog": "other", "wait": 0.84, "off_gil": 0.8, "during": 0.9}
    native = {"cpu": 1.2, "threads": [{"id": 1, "name": None, "cpu": 1.2}], "libraries": ["OpenBLAS"]}
    meter = {"unknown": None, "took": {"ticks": 500, "cpu": 0.005, "wall": 1.3, "share": 0.0038}}
    said = " ".join(text(chosen(reading=reading(), convoys=[convoy], native=native, meter=meter)).split())
    assert (
        "convoy `calc` starves: it computes without the GIL, but waits for its turn to take it again for 84 % of its "
        "time, mostly while `other` holds it; more threads make that worse, worker processes end it" in said
    )
    assert "native 1.2 s of CPU went to 1 thread of OpenBLAS" in said
    assert "meter took 0.4 % of a core" in said
    named = native | {"libraries": [], "threads": [{"id": n, "name": "pool", "cpu": 0.6} for n in (1, 2)]}
    assert "went to 2 threads of `pool`" in text(chosen(native=named))
    assert "1 thread that Python did not start" in text(chosen(native=native | {"libraries": []}))


def test_a_meter_that_can_not_see_the_gil_says_so() -> None:
    said = text(chosen(meter={"unknown": "this Python is a free-threaded build", "took": None}))
    assert "  meter      the GIL can't be seen, so its part is not known: this Python is a free-threaded build" in said
