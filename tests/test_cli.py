"""The command line, as a shell sees it: whole outputs with their figures masked, streams, exit codes."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """\
import os, sys, threading

class Pair:
    def __init__(self, a, b):
        self.both = a, b

def square(x): print("noise"); return x * x
def pair(x): return Pair(x, {x, "one", "two"})
def nothing(): return os.path.basename(sys.argv[0])
def boom(x): raise ValueError(f"no {x}")
def leave(x): os._exit(3)
def lock(x): return threading.Lock()
def luck(x): return os.urandom(8)
def main(): return __name__
number = 3

if __name__ == "__main__":
    raise SystemExit("it ran as a script")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "some.py").write_text(SCRIPT)
    (tmp_path / "listed.py").write_text("def items(): return [1, 2, 3]\ndef double(x): return 2 * x\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "wrong.py").write_text("def f(:\n")
    return tmp_path


def call(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error of the command line in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "forkright", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=100,
    )
    return done.returncode, done.stdout, done.stderr


def failure(folder: Path, *arguments: str) -> tuple[int, str]:
    code, out, err = call(folder, "compare", *arguments)
    assert out == ""
    return code, err


def masked(text: str) -> str:
    """The text with its measured figures as `N`, and columns that are as wide as them closed up."""
    text = re.sub(r"± ?\d[\d.]* (µs|ms|s)", "± T", text)
    text = re.sub(r"\d[\d.]* (µs|ms|s)\b", "T", text)
    text = re.sub(r"\d[\d.e-]*x(?= |$)", "Nx", text, flags=re.M)
    text = re.sub(r"\d[\d.]* (bytes|KB|MB|GB)", "SIZE", text)
    return re.sub(r" {2,}", "  ", text)


def test_a_comparison_is_one_table_and_a_verdict(folder: Path) -> None:
    code, out, err = call(
        folder, "compare", "listed.py:double", "--plans", "serial,threads=2,processes=1", "--runs", "3"
    )
    assert (code, err) == (0, "")
    # Which row is marked depends on the machine.
    shown = re.sub(r"^\* (?=\w+  |\d)", "  ", masked(out), flags=re.M)
    table, _, verdict = shown.partition("\n\nfastest: ")
    assert re.sub(r"on \d+ cores?", "on N cores", table) == (
        "listed.py:double, 3 calls on N cores\n"
        "\n"
        "  plan  wall  speed-up  CPU  processes  GILs  memory\n"
        "  serial  T  ± T  Nx  T  1  1  SIZE\n"
        "  2 threads  T  ± T  Nx  T  1  1  SIZE\n"
        "  1 process  T  ± T  Nx  T  3  1  SIZE\n"
        "  * the fastest; wall: the median of 3 runs ± half of the range, workers' start included; processes:\n"
        "  all there were, with the caller and the helper that starts workers; GILs: those that tasks ran\n"
        "  under; memory: the peak of all processes together"
    )
    assert re.fullmatch(r"(serial|2 threads|1 process)(, Nx as fast as serial)?\n", verdict)


def test_the_verdict_of_auto_gives_its_reason(folder: Path) -> None:
    code, out, _ = call(folder, "compare", "listed.py:double", "--plans", "serial,auto", "--runs", "1")
    assert code == 0
    assert "auto took serial: nothing else would have saved enough to begin with it\n" in out
    # Beside other programs one of two that take microseconds may take milliseconds.
    assert re.search(r"^auto (was as fast as|lost .* against|won .* against) the best fixed plan, serial", out, re.M)


def test_json_has_every_run_and_the_machine(folder: Path) -> None:
    code, out, err = call(
        folder,
        "compare",
        "some.py:pair",
        "--items",
        "range(5)",
        "--plans",
        "serial,1x2,auto",
        "--runs",
        "2",
        "--json",
    )
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["tasks"] == 5
    assert data["results_equal"] is True
    assert data["machine"]["cores"]["usable"] >= 1
    assert [plan["name"] for plan in data["plans"]] == ["serial", "1 process x 2 threads", "auto"]
    for plan in data["plans"]:
        assert [run["report"]["tasks"] for run in plan["runs"]] == [5, 5]
        assert {"median", "spread"} == set(plan["wall"])
    assert data["best"] in ("serial", "auto")


def test_a_plan_is_run_once_however_it_is_spelled(folder: Path) -> None:
    _, out, _ = call(
        folder, "compare", "listed.py:double", "--plans", "serial,threads=1,serial", "--runs", "1", "--json"
    )
    assert [plan["name"] for plan in json.loads(out)["plans"]] == ["serial"]


@pytest.mark.parametrize(
    ("arguments", "tasks"),
    [
        (["listed.py:double"], 3),
        (["listed.py:double", "--calls", "2"], 2),
        (["listed.py:double", "--calls", "7"], 7),
        (["listed.py:double", "--items", "items() * 2"], 6),
        (["some.py:nothing", "--calls", "4"], 4),
    ],
)
def test_calls_come_from_items_and_their_number(folder: Path, arguments: list[str], tasks: int) -> None:
    code, out, _ = call(folder, "compare", *arguments, "--plans", "serial", "--runs", "1", "--json")
    assert (code, json.loads(out)["tasks"]) == (0, tasks)


def test_a_plan_that_cannot_run_it_is_named_below_the_others(folder: Path) -> None:
    code, out, err = call(
        folder, "compare", "some.py:lock", "--items", "[1]", "--plans", "serial,processes=1", "--runs", "1"
    )
    assert (code, err) == (0, "")
    assert "\n1 process can't run this: the result of `lock` can't be sent to another process: " in out
    assert failure(folder, "some.py:lock", "--items", "[1]", "--plans", "processes=1")[0] == 1


def test_different_results_are_warned_of(folder: Path) -> None:
    _, out, _ = call(folder, "compare", "some.py:luck", "--items", "[1]", "--plans", "serial", "--runs", "2")
    assert "\nwarning: the runs gave different results; " in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["sum.py:f"], 2, "error: there is no file `sum.py`\n\nhint: did you mean `some.py`?\n"),
        (["nowhere/f.py:f"], 2, "error: there is no file `nowhere/f.py`\n"),
        (["some.py:sqare"], 2, "error: `some.py` has no function `sqare`\n\nhint: did you mean `square`?\n"),
        (["some.py:number"], 2, "error: `number` in `some.py` is no function: it is of type `int`\n"),
        (
            ["some.py:square"],
            2,
            "error: `square` needs an argument (missing a required argument: 'x'), and there are no items\n\n"
            "hint: give them with `--items 'range(8)'`, or define `items()` in `some.py` to return a list\n",
        ),
        (["some.py:square", "--items", "[1,"], 2, "error: `[1,` raised `SyntaxError: '[' was never closed (<string>, line 1)`\n"),
        (["some.py:square", "--items", "many"], 2, "error: `many` raised `NameError: name 'many' is not defined`\n"),
        (["some.py:square", "--items", "5"], 2, "error: `5` gives no items: `5` can't be iterated over\n"),
        (["some.py:square", "--items", "[]"], 2, "error: `[]` gives no items: it is empty\n"),
        (["some.py:leave", "--items", "[1]"], 1, "error: `leave` ended its process (exit code 3) before there was a result\n"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_with_what_to_do(
    folder: Path, arguments: list[str], code: int, message: str
) -> None:
    assert failure(folder, *arguments) == (code, message)


def test_a_function_that_raises_shows_its_traceback_and_none_of_ours(folder: Path) -> None:
    code, err = failure(folder, "some.py:boom", "--items", "[7]")
    assert code == 1
    assert err.startswith(f'Traceback (most recent call last):\n  File "{folder}/some.py", line 10, in boom\n')
    assert err.endswith("\nerror: `boom` raised `ValueError: no 7`\n")
    assert "forkright" not in err


def test_a_function_that_raises_in_a_worker_shows_its_traceback_too(folder: Path) -> None:
    code, err = failure(folder, "some.py:boom", "--items", "[7]", "--plans", "processes=1")
    assert code == 1
    assert "in boom" in err and err.endswith("\nerror: `boom` raised `ValueError: no 7`\n")


def test_a_file_that_raises_or_is_not_python_is_the_users_failure(folder: Path) -> None:
    code, err = failure(folder, "broken.py:f")
    assert (code, err.splitlines()[-1]) == (
        1,
        "error: `broken.py` raised `ZeroDivisionError: division by zero`",
    )
    code, err = failure(folder, "wrong.py:f")
    assert (code, err.splitlines()[-1]) == (
        1,
        "error: `wrong.py` raised `SyntaxError: invalid syntax (wrong.py, line 1)`",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "some.py"], "error: invalid value 'some.py' for '<FILE.py:FUNCTION>': a file and a function are wanted, such as `script.py:main`\n"),
        (["compare", "a.py:f", "--plans", "thread"], "error: invalid value 'thread' for '--plans <LIST>': it is no plan; take serial, threads, processes, hybrid, auto, or a size: threads=8, processes=2, 2x8\n"),
        (["compare", "a.py:f", "--plans", "0x2"], "error: invalid value '0x2' for '--plans <LIST>': a plan with processes has at least one\n"),
        (["compare", "a.py:f", "--plans", "threads=0"], "error: invalid value 'threads=0' for '--plans <LIST>': "),
        (["compare", "a.py:f", "--plans", "2x99999"], "error: invalid value '2x99999' for '--plans <LIST>': "),
        (["compare", "a.py:f", "--calls", "0"], "error: invalid value '0' for '--calls <N>': "),
        (["compare", "a.py:f", "--color", "blue"], "error: invalid value 'blue' for '--color <WHEN>'\n"),
        (["comapre"], "error: unrecognized subcommand 'comapre'\n\n  tip: a similar subcommand exists: 'compare'\n"),
    ],
)  # fmt: skip
def test_bad_usage_is_explained_and_exits_with_2(folder: Path, arguments: list[str], message: str) -> None:
    code, out, err = call(folder, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(message)


def test_help_and_version_go_to_standard_output(folder: Path) -> None:
    code, out, err = call(folder, "--help")
    assert (code, err) == (0, "")
    assert "Exit codes:" in out and "compare" in out and "_run" not in out
    assert "Examples:" in call(folder, "compare", "--help")[1]
    code, out, err = call(folder, "--version")
    assert re.fullmatch(r"forkright \d+\.\d+\.\d+\n", out)


def test_a_pipe_gets_no_colours_and_no_progress_unless_asked_for(folder: Path) -> None:
    arguments = ("compare", "listed.py:double", "--plans", "serial", "--runs", "1")
    _, out, err = call(folder, *arguments)
    assert "\x1b" not in out + err
    assert "\x1b[1m" in call(folder, *arguments, "--color", "always")[1]
    assert "\x1b" in call(folder, "--help", "--color=always")[1]


def on_terminal(folder: Path, *arguments: str, **environment: str) -> bytes:
    """What a terminal would be sent."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "forkright", *arguments]
    env = {**os.environ, "TERM": "xterm", **environment}
    child = subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # how a terminal says that nobody is left on the other side
        pass
    finally:
        os.close(ours)
    assert child.wait(100) == 0
    return shown


def test_a_terminal_gets_colours_and_progress(folder: Path) -> None:
    environment = {"NO_COLOR": ""}
    shown = on_terminal(folder, "compare", "listed.py:double", "--plans", "serial", "--runs", "2", **environment)
    assert b"\x1b[1mlisted.py:double" in shown
    assert b"round 1 of 2: serial" in shown
    assert re.search(rb"round 2 of 2: serial, about \d+ s left", shown)


def test_json_comes_without_progress_on_a_terminal_too(folder: Path) -> None:
    shown = on_terminal(folder, "compare", "listed.py:double", "--plans", "serial", "--runs", "1", "--json")
    assert json.loads(shown)["plans"]


def test_no_color_is_respected(folder: Path) -> None:
    arguments = ("compare", "listed.py:double", "--plans", "serial", "--runs", "1")
    assert not re.search(rb"\x1b\[[\d;]*m", on_terminal(folder, *arguments, NO_COLOR="1"))
    assert not re.search(rb"\x1b\[[\d;]*m", on_terminal(folder, "--help", NO_COLOR="1"))


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    command = [
        sys.executable,
        "-m",
        "forkright",
        "compare",
        "listed.py:double",
        "--plans",
        "serial",
        "--runs",
        "1",
    ]
    done = subprocess.run(command, cwd=folder, stdout=theirs, stderr=subprocess.PIPE, timeout=100)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_ends_a_comparison_and_its_run(folder: Path) -> None:
    # The run says who it is before it waits for ever.
    told, tell = os.pipe()
    (folder / "endless.py").write_text(
        f"import os, threading\ndef wait(): os.write({tell}, b'%d ' % os.getpid()); threading.Event().wait()\n"
    )
    command = [
        sys.executable,
        "-c",
        PASSING.format(fd=tell),
        "compare",
        "endless.py:wait",
        "--plans",
        "serial",
    ]
    child = subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=[tell],
        start_new_session=True,
    )
    os.close(tell)
    run = int(os.read(told, 64).split()[0])
    os.killpg(child.pid, signal.SIGINT)
    assert child.wait(100) == 130
    # The pipe ends when the last process that could write to it is gone.
    assert os.read(told, 64) == b""
    os.close(told)
    assert not os.path.exists(f"/proc/{run}")
    assert child.communicate() == (b"", b"")


# The command line, with a descriptor of the test handed on to the run.
PASSING = """\
import subprocess, sys
start = subprocess.Popen.__init__
def with_ours(self, *args, pass_fds=(), **options):
    start(self, *args, pass_fds=[*pass_fds, {fd}], **options)
subprocess.Popen.__init__ = with_ours
from forkright.__main__ import main
sys.exit(main())
"""


def test_the_doctor_measures_and_shows_what_is_shared(folder: Path) -> None:
    code, out, err = call(folder, "doctor")
    assert (code, err) == (0, "")
    rows = [line[:20].strip() for line in masked(out).splitlines()[:10]]
    assert "shares memory" in out and "yes: a list it appended to grew" in out
    assert "no: a list it appended to stayed empty here" in out
    assert rows[1].startswith("start the first") and rows[2].startswith("start another")
    assert "A thread shares this process's memory" in out
    assert "\x1b" not in out


def test_the_doctor_speaks_json(folder: Path) -> None:
    code, out, _ = call(folder, "doctor", "--json")
    data = json.loads(out)
    assert code == 0
    assert data["sharing"] == {"thread": True, "process": False}
    assert {"fork", "spawn"} == set(data["standard_library"])
    assert data["process"]["forked"] is True
    for name in ("thread", "process"):
        assert all(data[name][what] > 0 for what in ("first", "start", "hop"))
    assert isinstance(data["warnings"], list)


def test_the_doctor_warns_of_one_core(folder: Path) -> None:
    core = min(os.sched_getaffinity(0))
    done = subprocess.run(
        [sys.executable, "-c", f"import os, runpy, sys; os.sched_setaffinity(0, [{core}]); sys.argv = ['forkright', 'doctor']; from forkright.__main__ import main; sys.exit(main())"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
    )  # fmt: skip
    assert done.returncode == 0
    assert "warning: only 1 core can be used" in done.stdout
