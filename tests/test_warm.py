"""Maps share workers, which wait for the next map for some time, suit the caller as it is now, and end by themselves."""

from __future__ import annotations

import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
from scripts import run, start
from waiting import Flag

PRELUDE = """
import os, sys, threading, time
import forkright as fr

def pid(_=0):
    time.sleep(0.01)
    return os.getpid()

def pids():
    # Of both workers: each has to wait for the other.
    barrier = f"barrier-{time.monotonic_ns()}"
    os.mkdir(barrier)
    barrier = os.path.abspath(barrier)
    def meet(_):
        open(os.path.join(barrier, str(os.getpid())), "w").close()
        until(lambda: len(os.listdir(barrier)) == 2)
        return os.getpid()
    return set(fr.map(meet, range(4), plan="processes", workers=2, chunksize=1))

def lives(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

def until(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
"""


def run_with_prelude(text: str, folder: Path) -> list[str]:
    import textwrap

    return run(PRELUDE + textwrap.dedent(text), folder)


def test_a_second_map_has_the_workers_of_the_first(tmp_path: Path) -> None:
    run_with_prelude(
        """
        first, second = pids(), pids()
        assert len(first) == 2 and first == second
        def names():
            def name(_):
                time.sleep(0.01)
                return threading.current_thread().name
            return set(fr.map(name, range(12), plan="threads", workers=3))
        assert names() & names()
        """,
        tmp_path,
    )


def test_idle_workers_end_by_themselves_and_new_ones_come(tmp_path: Path) -> None:
    run_with_prelude(
        """
        fr.keep_workers(0.2)
        before = pids()
        fr.map(pid, range(8), plan="threads", workers=3)
        until(lambda: not any(map(lives, before)))
        until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("forkright_")])
        after = pids()
        assert len(after) == 2 and not before & after
        # A map that takes longer than that is no idle one.
        assert fr.map(time.sleep, [0.5] * 2, plan="processes", workers=2) == [None] * 2
        fr.keep_workers(0)
        until(lambda: not any(map(lives, after)))
        assert len(pids()) == 2
        """,
        tmp_path,
    )


def test_an_idle_program_keeps_its_workers_for_as_long_as_it_said(tmp_path: Path) -> None:
    run_with_prelude(
        """
        import math
        fr.keep_workers(math.inf)
        before = pids()
        fr.keep_workers(10**400)
        assert pids() == before
        fr.keep_workers(0.1)
        until(lambda: not any(map(lives, before)))
        """,
        tmp_path,
    )


def test_workers_find_the_caller_as_it_is_at_each_map(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "found_late.py").write_text("VALUE = 7\n")
    run_with_prelude(
        """
        base = os.getcwd()
        def surroundings(_):
            return os.path.relpath(os.getcwd(), base), os.environ.get("MINE"), sys.path[-1], sys.argv[1:]
        def late(_):
            import found_late
            return found_late.VALUE
        def seen():
            (found,) = {tuple(map(str, one)) for one in fr.map(surroundings, range(4), plan="processes")}
            return found
        last = sys.path[-1]
        assert seen() == (".", "None", last, "[]")
        before = pids()
        os.environ["MINE"] = "one"
        assert seen() == (".", "one", last, "[]")
        os.chdir("elsewhere")
        assert seen() == ("elsewhere", "one", last, "[]")
        sys.path.append(os.getcwd())
        sys.argv.append("--flag")
        assert seen() == ("elsewhere", "one", os.getcwd(), "['--flag']")
        assert fr.map(late, range(2), plan="processes") == [7, 7]
        del os.environ["MINE"]
        os.umask(0o077)
        def umask(_):
            mask = os.umask(0)
            os.umask(mask)
            return mask
        assert fr.map(umask, range(2), plan="processes") == [0o077] * 2
        assert seen()[1] == "None"
        # Those that were told otherwise go.
        until(lambda: not any(map(lives, before)))
        assert pids() == pids()
        """,
        tmp_path,
    )


def test_what_workers_print_goes_where_the_callers_output_goes_now(tmp_path: Path) -> None:
    run_with_prelude(
        """
        pids()
        kept = os.dup(1)
        log = os.open("log.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        fr.map(lambda _: print("from a worker"), range(2), plan="processes")
        os.dup2(kept, 1)
        """,
        tmp_path,
    )
    assert (tmp_path / "log.txt").read_text() == "from a worker\n" * 2


def test_a_map_under_way_outlives_a_change_and_a_release(tmp_path: Path) -> None:
    flag = Flag(tmp_path / "go on")
    results: list[list[int]] = []

    def map_slowly() -> None:
        results.append(fr.map(await_flag, range(20), [flag] * 20, plan="processes", workers=2, chunksize=1))

    thread = threading.Thread(target=map_slowly)
    thread.start()
    os.environ["FORKRIGHT_TEST_CHANGE"] = "yes"
    try:
        assert fr.map(environment, range(2), plan="processes") == ["yes", "yes"]
        fr.release(timeout=0.1)
        assert fr.map(environment, range(2), plan="processes") == ["yes", "yes"]
    finally:
        del os.environ["FORKRIGHT_TEST_CHANGE"]
        flag.set()
        thread.join()
    assert results == [list(range(20))]


def await_flag(item: int, flag: Flag) -> int:
    flag.wait()
    return item


def environment(_: int) -> str | None:
    return os.environ.get("FORKRIGHT_TEST_CHANGE")


def test_release_ends_idle_workers_and_waits_for_them(tmp_path: Path) -> None:
    run_with_prelude(
        """
        before = pids()
        fr.map(pid, range(8), plan="threads", workers=3)
        fr.release()
        assert not any(map(lives, before))
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("forkright_")]
        assert len(pids()) == 2
        fr.release()
        fr.release()
        """,
        tmp_path,
    )


def test_a_forked_child_has_workers_of_its_own(tmp_path: Path) -> None:
    with start(
        PRELUDE
        + """
before = pids()
child = os.fork()
if child == 0:
    mine = pids()
    assert len(mine) == 2 and not mine & before
    fr.release()
    assert not any(map(lives, mine)) and all(map(lives, before))
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert pids() == before
""",
        tmp_path,
    ) as script:
        assert script.wait() == 0, script.err
        script.until_gone()


@pytest.mark.parametrize("seconds", [-1, math.nan, "5", None, True])
def test_what_is_no_time_is_refused(seconds: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="seconds must"):
        fr.keep_workers(seconds)
