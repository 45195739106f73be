"""`forkright.why()` measures what happens inside a `with` block, and `%%why` what happens in a notebook's cell."""

from __future__ import annotations

import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import forkright
from measuring import run, write
from waiting import until


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def names(measured: forkright.why) -> list[str]:
    return [thread["name"] for process in measured.data["processes"] for thread in process["threads"]]


def test_a_block_is_measured_and_another_after_it() -> None:
    for name in ("one", "two"):
        with forkright.why() as measured:
            thread = threading.Thread(target=spin, args=(0.1,), name=name)
            thread.start()
            thread.join()
        assert name in names(measured)
        assert measured.verdict and measured.verdict[1:] in " ".join(str(measured).split())
        assert measured.data["form"] == 1


def test_a_block_says_how_many_tasks_ran_in_worker_processes() -> None:
    with forkright.why() as measured:
        forkright.map(abs, range(5), plan=forkright.Plan(processes=1))
    assert "5 tasks ran in forkright's worker processes" in " ".join(str(measured).split())
    with forkright.why() as measured:
        forkright.map(abs, range(5), plan=forkright.Plan(threads=2))
    assert "worker processes" not in str(measured)


def test_an_exception_passes_and_what_was_measured_stays() -> None:
    with pytest.raises(ZeroDivisionError), forkright.why() as measured:
        1 / 0
    assert "MainThread" in names(measured)


def test_blocks_do_not_nest_and_the_outer_one_goes_on() -> None:
    with forkright.why() as outer:
        with pytest.raises(RuntimeError, match="measured already"), forkright.why():
            raise AssertionError("not reached")
        spin(0.05)
    assert outer.data["processes"][0]["threads"][0]["samples"]


def test_a_block_in_a_program_that_is_measured_is_refused(tmp_path: Path) -> None:
    program = write(
        tmp_path,
        """
        import forkright
        try:
            with forkright.why(): pass
        except RuntimeError as error:
            print(error)
        """,
    )
    done = run([sys.executable, str(Path(sys.executable).with_name("forkright")), "why", program.name], tmp_path)
    assert done.out == "this process is being measured already: measure one thing at a time\n"


def test_a_block_may_be_in_any_thread() -> None:
    measured: list[forkright.why] = []

    def body() -> None:
        with forkright.why() as block:
            spin(0.1)
        measured.append(block)

    thread = threading.Thread(target=body, name="measures")
    thread.start()
    thread.join()
    first = measured[0].data["processes"][0]["threads"][0]
    assert first["name"] == "measures" and first["samples"]


def test_threads_that_are_there_already_are_measured() -> None:
    import _thread

    stop = threading.Event()
    running: set[str] = set()

    def python() -> None:
        running.add("python")
        while not stop.is_set():
            sum(range(100))

    def sleep() -> None:
        running.add("sleep")
        while not stop.is_set():
            time.sleep(0.01)

    def bare() -> None:
        running.add("bare")
        while not stop.is_set():
            time.sleep(0.01)
        running.discard("bare")

    threads = [threading.Thread(target=target, name=target.__name__) for target in (python, sleep)]
    for thread in threads:
        thread.start()
    _thread.start_new_thread(bare, ())
    until(lambda: len(running) == 3, "all threads run")
    with forkright.why() as measured:
        time.sleep(0.5)
        stop.set()
        for thread in threads:
            thread.join()
        until(lambda: "bare" not in running, "the bare thread ends")
        time.sleep(0.2)
    found = {thread["name"]: thread for thread in measured.data["processes"][0]["threads"]}
    states = {name: max(thread["seen"], key=thread["seen"].get) for name, thread in found.items()}
    bare_name = next(name for name in found if name.endswith(".bare"))
    assert states["python"] == "held", measured
    assert states["sleep"] == "io" and states[bare_name] == "io", measured
    assert found["python"]["ended"] < found["MainThread"]["ended"]
    assert [place["function"] for place in found["python"]["functions"]]


def test_a_thread_that_threading_does_not_know_is_found_by_what_it_runs() -> None:
    with forkright.why() as measured:
        import _thread

        done: list[int] = []
        _thread.start_new_thread(lambda: (spin(0.4), done.append(1)), ())
        until(lambda: done, "the thread ends")
    lambdas = [name for name in names(measured) if name.endswith("<lambda>")]
    assert len(lambdas) == 1, names(measured)


def test_a_forked_child_is_a_part_of_the_block_and_may_measure_by_itself_after_it(tmp_path: Path) -> None:
    program = write(
        tmp_path,
        """
        import os, time, forkright
        def spin():
            end = time.monotonic() + 0.2
            while time.monotonic() < end: pass
        with forkright.why() as both:
            child = os.fork()
            if not child:
                spin()
                os._exit(0)
            os.waitpid(child, 0)
        print(len(both.data["processes"]), both.data["processes"][1]["parent"] == os.getpid(), flush=True)
        child = os.fork()
        if not child:
            with forkright.why() as own: spin()
            print(len(own.data["processes"]), own.data["processes"][0]["pid"] == os.getpid(), flush=True)
            os._exit(0)
        print(os.waitpid(child, 0)[1])
        """,
    )
    done = run([sys.executable, "-W", "error", program.name], tmp_path)
    assert done.err == "" and done.out == "2 True\n1 True\n0\n"


def test_a_block_that_its_child_leaves_is_the_childs_own(tmp_path: Path) -> None:
    program = write(
        tmp_path,
        """
        import os, forkright
        with forkright.why() as measured:
            child = os.fork()
            if child: os.waitpid(child, 0)
        print("child" if not child else "parent", measured.data["processes"] != [], flush=True)
        """,
    )
    done = run([sys.executable, program.name], tmp_path)
    assert (done.code, done.err) == (0, "")
    assert sorted(done.out.splitlines()) == ["child True", "parent True"]


@pytest.mark.parametrize("cores", [[0], [-1], ["4"], [1.5]])
def test_numbers_of_cores_are_whole_and_positive(cores: list[Any]) -> None:
    with pytest.raises(ValueError, match="cores must be positive whole numbers"):
        forkright.why(cores=cores)


def shell(cells: str, folder: Path) -> list[str]:
    """Run cells in a real IPython shell; what they print."""
    text = f"""
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance()
        shell.history_manager.enabled = False
        for cell in {[cell.strip() for cell in textwrap.dedent(cells).split("# cell")]!r}:
            result = shell.run_cell(cell, store_history=False)
            print("!", result.success)
    """
    done = run([sys.executable, write(folder, text).name], folder, environment={"IPYTHONDIR": str(folder / "ipython")})
    assert done.code == 0, done.err
    return done.out.splitlines()


@pytest.fixture
def notebook(tmp_path: Path) -> Callable[[str], list[str]]:
    pytest.importorskip("IPython", reason="IPython is not installed")
    return lambda cells: shell(cells, tmp_path)


def test_a_notebooks_cell_is_measured_in_the_notebooks_names(notebook: Callable[[str], list[str]]) -> None:
    lines = notebook(
        """
        %load_ext forkright
        # cell
        %%why 2,8
        import threading
        def work(): sum(range(3_000_000))
        threads = [threading.Thread(target=work, name="mine") for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        answer = 42
        # cell
        measured = _
        print(answer, [t["name"] for t in measured.data["processes"][0]["threads"]].count("mine"))
        print(sorted({one["cores"] for one in measured.data["verdict"]["predictions"]} | {2, 8}))
        print(any(f["name"] == "work" for f in measured.data["functions"]))
        # cell
        from IPython.core.formatters import format_display_data
        shown, _ = format_display_data(measured)
        print(sorted(shown), "<iframe" in shown["text/html"], "GIL" in shown["text/plain"])
        """
    )
    assert lines.count("! True") == 4, lines
    assert "42 2" in lines and "True" in lines
    assert "['text/html', 'text/plain'] True True" in lines, lines


def test_an_error_in_a_measured_cell_is_the_cells(notebook: Callable[[str], list[str]]) -> None:
    lines = notebook(
        """
        %load_ext forkright
        # cell
        %%why
        1 / 0
        # cell
        %%why
        fine = 1
        # cell
        %%why four
        never = 1
        # cell
        print(fine, "never" in globals())
        """
    )
    assert any("ZeroDivisionError" in line for line in lines)
    assert lines[-2:] == ["1 False", "! True"], lines
