"""What the meter says of real work, where the plan is fixed too: where the time went, and who made whom wait.

Shares are compared with what is known of the work, within twenty points: the machine may be busy with other things.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import threading
import time
import types
import weakref
import zlib
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
from scripts import run, start
from waiting import until

NEAR = 0.2
LARGE = memoryview(bytes(1 << 24))
NOISE = os.urandom(1 << 20)
SMALL = memoryview(bytes(1 << 16))
LOCK = threading.Lock()
THREADS = fr.Plan(threads=2)


def compute(seconds: float) -> int:
    """Pure Python, for so long on the CPU."""
    end, number = time.thread_time() + seconds, 0
    while time.thread_time() < end:
        number += sum(n * n for n in range(200))
    return number


def digest(seconds: float) -> None:
    """Computes off the GIL: each piece is large."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        hashlib.sha256(LARGE).digest()


def squeeze(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        zlib.compress(NOISE)


def queue_up(seconds: float) -> None:
    with LOCK:
        time.sleep(seconds)


def digest_small_pieces(stop: threading.Event) -> None:
    """Computes off the GIL, and takes it again after each small piece."""
    while not stop.is_set():
        hashlib.sha256(SMALL).digest()


def hog(stop: threading.Event) -> None:
    """Pure Python that never lets go."""
    number = 0
    while not stop.is_set():
        number += sum(n * n for n in range(2000))


def shares(reading: dict[str, Any]) -> dict[str, float]:
    """Of the time in which it had a core or wanted none: what the others on this machine do is not the work's."""
    own = 1 - reading["run_delay"]["share"]
    parts = "held", "off_gil", "gil_wait", "lock_wait", "io", "held_blocked"
    unknown = [name for name in parts if reading[name] is None]
    assert not unknown, f"not known: {unknown} in {reading}"
    return {name: reading[name]["share"] / own for name in parts}


def read(function: Any, items: list[Any], plan: fr.Plan = THREADS) -> dict[str, Any]:
    fr.map(function, items, plan=plan)
    reading: dict[str, Any] = fr.report().data["reading"]
    return reading


def held_part(reading: dict[str, Any]) -> float:
    """Of the CPU time."""
    found = shares(reading)
    return found["held"] / (found["held"] + found["off_gil"])


def of(executor: fr.Executor, name: str) -> dict[str, Any]:
    functions: list[dict[str, Any]] = executor.report().data["functions"]
    found = [function for function in functions if function["function"] == name]
    return found[0] if found else {"tasks": 0, "blame": [], "convoys": []}


def test_pure_python_holds_the_gil_and_takes_turns() -> None:
    reading = read(compute, [0.1] * 4)
    assert held_part(reading) > 1 - NEAR
    found = shares(reading)
    assert found["gil_wait"] > NEAR
    assert found["io"] + found["lock_wait"] + found["held_blocked"] < NEAR


def test_alone_pure_python_waits_for_nothing() -> None:
    found = shares(read(compute, [0.2] * 2, fr.Plan()))
    assert found["held"] > 1 - NEAR


def test_sleep_is_no_use_of_the_gil() -> None:
    assert shares(read(time.sleep, [0.1] * 6))["io"] > 1 - NEAR


@pytest.mark.parametrize("work", [digest, squeeze])
def test_hashing_and_compressing_compute_off_the_gil(work: Any) -> None:
    assert held_part(read(work, [0.15] * 4)) < NEAR


def test_a_wait_for_a_lock_is_none_for_the_gil() -> None:
    # The first sleeps for 1, the others wait for 1, 2 and 3, and then sleep.
    found = shares(read(queue_up, [0.1] * 4, fr.Plan(threads=4)))
    assert abs(found["lock_wait"] - 0.6) < NEAR
    assert abs(found["io"] - 0.4) < NEAR


def test_parts_are_given_with_error_and_samples_and_add_up_to_the_wall_time() -> None:
    reading = read(compute, [0.1] * 4)
    parts = [reading[name] for name in (*shares(reading), "run_delay")]
    assert sum(part["seconds"] for part in parts) == pytest.approx(reading["wall"])
    for part in parts:
        assert part["share"] == pytest.approx(part["seconds"] / reading["wall"])
        assert 0 <= part["error"] < NEAR and part["samples"] <= reading["samples"]
    assert reading["stands_for"] == pytest.approx(reading["wall"])


def test_what_is_over_before_anybody_could_look_is_not_known() -> None:
    fr.map(abs, range(3), plan=THREADS)
    reading = fr.report().data["reading"]
    assert reading["held"] is None and reading["gil_wait"] is None
    assert "GIL" not in str(fr.report())


def test_an_executor_reads_each_of_its_functions() -> None:
    with fr.ThreadPoolExecutor(4) as executor:
        computing = [executor.submit(compute, 0.15) for _ in range(2)]
        sleeping = [executor.submit(time.sleep, 0.1) for _ in range(4)]
        for future in computing + sleeping:
            future.result()
        report = executor.report()
        assert held_part(of(executor, "compute")["reading"]) > 1 - NEAR
        assert of(executor, "sleep")["tasks"] == 4 and of(executor, "compute")["tasks"] == 2
        assert shares(of(executor, "sleep")["reading"])["io"] > 0.5
    assert report.data["tasks"] == 6, "each is counted once"
    assert report.why == "4 threads, as asked"
    said = str(report)
    assert "of `compute`, " in said and "holds the GIL" in said
    assert "of `sleep`, " in said and "reads, writes or sleeps" in said


def test_a_convoy_is_seen_blamed_on_its_hog_and_named() -> None:
    stop = threading.Event()
    with fr.ThreadPoolExecutor(2) as executor:
        hogging = executor.submit(hog, stop)
        try:
            # A reading is of tasks that have ended.
            def starves() -> bool:
                starving = threading.Event()
                timer = threading.Timer(0.3, starving.set)
                timer.start()
                executor.submit(digest_small_pieces, starving).result()
                timer.join()
                return bool(of(executor, "digest_small_pieces")["convoys"])

            until(starves, "a convoy is seen")
        finally:
            stop.set()
        hogging.result()
        report, starved = executor.report(), of(executor, "digest_small_pieces")
    worst = starved["blame"][0]
    assert worst["by"] == "hog"
    assert worst["samples"] > 0.8 * sum(entry["samples"] for entry in starved["blame"])
    (convoy,) = report.data["convoys"]
    assert (convoy["starved"], convoy["hog"]) == ("digest_small_pieces", "hog")
    assert convoy["wait"] > 0.5 and convoy["during"] > 0.5 and convoy["off_gil"] > 0.25
    said = " ".join(str(report).split())
    assert "`digest_small_pieces` starves: it computes without the GIL" in said
    assert "mostly while `hog` holds it" in said


def test_a_thread_without_a_task_is_blamed_as_one() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=hog, args=(stop,))
    thread.start()
    try:
        fr.map(compute, [0.1] * 3, plan=fr.Plan())
    finally:
        stop.set()
        thread.join()
    blame = fr.report().data["blame"]
    assert [entry["by"] for entry in blame] == [None]
    assert "a thread without a task" in str(fr.report())


def test_functions_beyond_many_are_counted_together_and_keep_nothing_alive() -> None:
    class Witness:
        pass

    witness = Witness()
    alive = weakref.ref(witness)
    with fr.ThreadPoolExecutor(1) as executor:
        executor.submit(lambda held=witness: bool(held)).result()
        del witness
        for number in range(100):
            scope: dict[str, Any] = {}
            exec(f"def function_{number}(): return {number}", scope)
            assert executor.submit(scope[f"function_{number}"]).result() == number
        # A bound method is its function's, whatever its object.
        for _ in range(3):
            executor.submit(types.SimpleNamespace().__repr__).result()
        until(lambda: alive() is None, "what a call held is let go")
        functions = executor.report().data["functions"]
    assert len(functions) == 65
    assert sum(function["tasks"] for function in functions) == 104
    assert functions[-1]["function"] == "other functions" and functions[-1]["tasks"] == 40


def threads_of(pid: int) -> list[str]:
    names = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):
            names.append(Path(f"/proc/{pid}/task/{task}/comm").read_text().strip())
    return names


def test_one_worker_process_of_a_hybrid_plan_is_metered_for_all() -> None:
    with fr.Executor(plan=fr.Plan(processes=2, threads=2)) as executor:

        def work() -> bool:
            for future in [executor.submit(compute, 0.1) for _ in range(8)]:
                future.result()
            reading = of(executor, "compute").get("reading")
            return bool(reading) and reading["held"] is not None and reading["gil_wait"] is not None

        until(work, "enough is seen")
        metered = ["forkright-meter" in threads_of(pid) for pid in executor._pool.pids()]
        reading, tasks = of(executor, "compute")["reading"], of(executor, "compute")["tasks"]
        assert tasks == executor.report().data["tasks"]
    assert sorted(metered) == [False, True]
    assert held_part(reading) > 1 - NEAR
    assert 0 < reading["wall"] < reading["stands_for"]


def test_worker_processes_with_one_thread_are_not_metered() -> None:
    with fr.Executor(plan=fr.Plan(processes=1)) as executor:
        executor.submit(compute, 0.05).result()
        (pid,) = executor._pool.pids()
        assert "forkright-meter" not in threads_of(pid)
        assert executor.report().data["functions"] == []


def test_the_meter_of_a_worker_process_sleeps_when_nothing_runs_and_the_zygote_has_none(tmp_path: Path) -> None:
    text = """
        import sys, forkright as fr
        from test_readings import compute
        executor = fr.Executor(plan=fr.Plan(processes=1, threads=2))
        for future in [executor.submit(compute, 0.05) for _ in range(2)]:
            future.result()
        print(*executor._pool.pids(), flush=True)
        sys.stdin.read()
        executor.shutdown()
    """
    with start(text, tmp_path, stdin="") as script:
        pid = int(script.line())
        assert len(os.listdir(f"/proc/{script.zygote()}/task")) == 1
        (meter,) = [
            task
            for task in os.listdir(f"/proc/{pid}/task")
            if Path(f"/proc/{pid}/task/{task}/comm").read_text().strip() == "forkright-meter"
        ]

        def sleeps() -> bool:
            """Whether it does not wake up for a hundred times its usual period."""
            before = Path(f"/proc/{pid}/task/{meter}/schedstat").read_text()
            time.sleep(0.5)
            return before == Path(f"/proc/{pid}/task/{meter}/schedstat").read_text()

        until(sleeps, "its meter is parked")
        assert script.wait() == 0, script.err


def test_the_meter_is_parked_when_nothing_runs_and_tells_what_it_took() -> None:
    fr.map(compute, [0.05] * 2, plan=THREADS)
    report = fr.report()
    took = report.data["meter"]["took"]
    assert took["ticks"] > 0 and 0 < took["cpu"] < took["wall"]
    assert took["share"] == pytest.approx(took["cpu"] / took["wall"])
    assert report.data["meter"]["unknown"] is None
    assert "of a core" in str(report)
    (meter,) = [
        task
        for task in os.listdir("/proc/self/task")
        if Path(f"/proc/self/task/{task}/comm").read_text().strip() == "forkright-meter"
    ]

    def parked() -> bool:
        """Whether it waits on a futex for ever."""
        words = Path(f"/proc/self/task/{meter}/syscall").read_text().split()
        return len(words) > 4 and words[4] == "0x0"

    until(parked, "the meter is parked")
    fr.map(compute, [0.05] * 2, plan=THREADS)
    assert fr.report().data["reading"]["samples"] > 0, "and wakes up for the next task"


def test_threads_that_python_did_not_start_are_named(tmp_path: Path) -> None:
    if importlib.util.find_spec("numpy") is None:  # imported here, it would start its threads in the tests' own process
        pytest.skip("there is no numpy")
    lines = run(
        """
        import numpy, os, time
        import forkright as fr
        matrix = numpy.ones((600, 600))
        def multiply(_):
            end = time.monotonic() + 0.05
            while time.monotonic() < end:
                matrix @ matrix
        end = time.monotonic() + 8
        native = None
        while not native and time.monotonic() < end:
            fr.map(multiply, range(4), plan=fr.Plan(threads=2))
            native = fr.report().data["native"]
        print(os.cpu_count(), bool(native), *(native or {"libraries": []})["libraries"])
        print(" ".join(str(fr.report()).split()))
        """,
        tmp_path,
    )
    cores, seen, *libraries = lines[0].split()
    if cores == "1":
        pytest.skip("with one core a BLAS starts no threads")
    assert seen == "True" and "OpenBLAS" in libraries
    assert " of CPU went to " in lines[1] and " of OpenBLAS" in lines[1]


def test_where_the_gil_can_not_be_found_the_report_says_so_and_maps_go_on(tmp_path: Path) -> None:
    lines = run(
        """
        import sys
        # The GIL is known by its switch interval: with another one than it has, it is not found.
        interval = sys.getswitchinterval()
        sys.getswitchinterval = lambda: 1.5
        import forkright as fr
        from forkright import _core
        from test_readings import compute
        print(_core.meter())
        sys.getswitchinterval = lambda: interval
        assert all(fr.map(compute, [0.05] * 4, plan=fr.Plan(threads=2)))
        reading = fr.report().data["reading"]
        print(reading["held"], reading["off_gil"], reading["gil_wait"])
        print(" ".join(str(fr.report()).split()))
        assert all(fr.map(compute, [0.2] * 4))
        print(" ".join(str(fr.report()).split()))
        """,
        tmp_path,
    )
    reason = "no GIL that this thread holds was found in Python's runtime state"
    assert lines[0] == reason
    assert lines[1] == "None None None"
    assert f"the GIL can't be seen, so its part is not known: {reason}" in lines[2]
    assert f"the GIL can't be seen, so its part is not known: {reason}" in lines[3]
