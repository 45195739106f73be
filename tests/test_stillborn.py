"""Workers that end before they are ready break the executor with the reason, in bounded time, instead of restarting."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from scripts import run, start
from waiting import until

ENDS = {
    "exit": ("os._exit(7)", "exited with code 7"),
    "kill": ("os.kill(os.getpid(), 9)", "SIGKILL (signal 9)"),
    "crash": ("ctypes.string_at(0)", "SIGSEGV (signal 11)"),
}
PLANS = ["fr.Plan(1)", "fr.Plan(4)", "fr.Plan(2, 2)"]

START = """
    import ctypes, os, sys, time
    import forkright as fr
    def end():
        open(f"begun {os.getpid()}", "x").close()
        ENDING
    def square(number):
        return number * number
"""


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("how", ENDS)
def test_an_initializer_that_ends_its_process_breaks_the_executor(tmp_path: Path, plan: str, how: str) -> None:
    ending, words = ENDS[how]
    text = START.replace("ENDING", ending)
    lines = run(
        f"""{text}
    with fr.Executor(plan={plan}, initializer=end) as executor:
        futures = [executor.submit(square, number) for number in range(20)]
        errors = [future.exception() for future in futures]
        assert all(type(error) is fr.BrokenWorkers for error in errors), errors
        try:
            executor.submit(square, 1)
        except fr.BrokenWorkers as error:
            print("later:", str(error) == str(errors[0]))
        print(errors[0])
        """,
        tmp_path,
    )
    pids = [path.name.split()[1] for path in tmp_path.glob("begun *")]
    assert lines[0] == "later: True"
    assert words in lines[1] and "3 attempts" in lines[1] and any(f"process {pid}:" in lines[1] for pid in pids)
    assert len(pids) <= 12, "no attempt follows the third"
    if how == "crash":
        # The user's line is the first that is not the library's.
        assert any('script.py", line 6 in end' in line for line in lines), lines
        assert not any("_worker.py" in line for line in lines)


@pytest.mark.parametrize("plan", PLANS)
def test_an_import_that_crashes_is_told_by_its_line(tmp_path: Path, plan: str) -> None:
    (tmp_path / "crashing.py").write_text("import ctypes\nctypes.string_at(0)\n")
    lines = run(
        f"""
        import os, sys
        import forkright as fr
        def load():
            import crashing
        with fr.Executor(plan={plan}, initializer=load) as executor:
            print(executor.submit(abs, -1).exception())
        """,
        tmp_path,
    )
    assert "SIGSEGV" in lines[0] and any('crashing.py", line 2 in <module>' in line for line in lines), lines


@pytest.mark.parametrize("plan", [*PLANS, "'processes'"])
@pytest.mark.parametrize("ending", ["os._exit(9)", "os.kill(os.getpid(), 11)"])
def test_a_helper_that_ends_at_its_start_breaks_the_executor(tmp_path: Path, plan: str, ending: str) -> None:
    with start(
        site(tmp_path, ending)
        + f"""
with fr.Executor(plan={plan}) as executor:
    errors = [future.exception() for future in [executor.submit(abs, -1) for _ in range(9)]]
assert all(type(error) is fr.BrokenWorkers for error in errors), errors
print(errors[0])
try:
    fr.map(abs, range(9), plan="processes")
except fr.BrokenWorkers as error:
    print(error)
""",
        tmp_path,
    ) as script:
        assert script.wait() == 0, script.err
        script.until_gone()
    lines = script.out.splitlines()
    words = "exit status: 9" if "_exit" in ending else "signal: 11"
    assert len(lines) == 2 and all(words in line and "helper process" in line for line in lines), lines
    assert len(list(tmp_path.glob("helper *"))) <= 12


def test_auto_stays_here_when_no_helper_starts(tmp_path: Path) -> None:
    with start(
        site(tmp_path, "os._exit(9)")
        + """
def spend(number):
    until = time.thread_time() + 0.02
    while time.thread_time() < until:
        pass
    return os.getpid()
print(set(fr.map(spend, range(60))) == {os.getpid()})
with fr.Executor() as executor:
    print({future.result() for future in [executor.submit(spend, n) for n in range(60)]} == {os.getpid()})
""",
        tmp_path,
    ) as script:
        assert script.wait() == 0, script.err
        script.until_gone()
    assert script.out.splitlines() == ["True", "True"]
    assert len(list(tmp_path.glob("helper *"))) <= 12


def site(folder: Path, ending: str) -> str:
    """A script whose helper processes end so, by a customisation of the site that their folder has."""
    own = folder / "site"
    own.mkdir()
    (own / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('SPARED') not in (None, str(os.getpid())):\n"
        f"    open(os.path.join({str(folder)!r}, f'helper {{os.getpid()}}'), 'x').close()\n"
        f"    {ending}\n"
    )
    return f"""
import os, sys, time
import forkright as fr
os.environ["SPARED"] = str(os.getpid())
os.environ["PYTHONPATH"] = {str(own)!r} + os.pathsep + os.environ.get("PYTHONPATH", "")
"""


def test_a_limit_that_leaves_no_room_for_workers_is_the_reason(tmp_path: Path) -> None:
    lines = run(
        """
        import os, resource
        import forkright as fr
        fr.BrokenWorkers
        with fr.Executor(plan=fr.Plan(2)) as executor:
            usual = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), usual[1]))
            try:
                executor.submit(abs, -1).result()
            except (fr.BrokenWorkers, OSError) as error:
                resource.setrlimit(resource.RLIMIT_NOFILE, usual)
                print("Too many open files" in str(error))
        """,
        tmp_path,
    )
    assert lines == ["True"]


def test_a_worker_that_becomes_ready_sets_the_count_back(tmp_path: Path) -> None:
    lines = run(
        """
        import os
        import forkright as fr
        def every_third():
            number = len(os.listdir("starts"))
            open(f"starts/{os.getpid()}", "x").close()
            if number % 3:
                os._exit(1)
        os.mkdir("starts")
        with fr.Executor(plan=fr.Plan(1), initializer=every_third, max_tasks_per_child=1) as executor:
            print([executor.submit(abs, -number).result() for number in range(6)])
        """,
        tmp_path,
    )
    assert lines == ["[0, 1, 2, 3, 4, 5]"]


def test_a_helper_killed_while_many_workers_start_breaks_nothing(tmp_path: Path) -> None:
    with start(
        """
        import os, time
        import forkright as fr
        def slow():
            open(f"begun {os.getpid()}", "x").close()
            while not os.path.exists("go"):
                time.sleep(0.01)
        with fr.Executor(plan=fr.Plan(6), initializer=slow) as executor:
            print([future.result() for future in [executor.submit(abs, -n) for n in range(6)]])
        """,
        tmp_path,
    ) as script:
        until(lambda: len(list(tmp_path.glob("begun *"))) == 6, "all start")
        os.kill(script.zygote(), signal.SIGKILL)
        (tmp_path / "go").touch()
        assert script.wait() == 0, script.err
        assert script.out == "[0, 1, 2, 3, 4, 5]\n"
