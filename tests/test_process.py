"""`forkright.Process` does what scripts written for `multiprocessing.Process` under spawn rely on, and gives results."""

from __future__ import annotations

import gc
import multiprocessing
import os
import re
import signal
import sys
import threading
from multiprocessing import connection, shared_memory
from pathlib import Path
from typing import Any

import pytest

import forkright as fr
import tasks
from kinship import children, zygote
from scripts import run, start
from waiting import LIMIT, Flag, until


@pytest.fixture(params=["fork", "spawn", "forkserver"])
def context(request: pytest.FixtureRequest) -> Any:
    """What makes locks and queues: those of every start method travel."""
    return multiprocessing.get_context(request.param)


def started(target: Any, *args: Any, **options: Any) -> fr.Process:
    process = fr.Process(target=target, args=args, **options)
    process.start()
    return process


# Results and ends


def test_result_is_what_the_target_returned() -> None:
    process = started(tasks.everything, 1, 2, kwargs={"key": 3}, name="mine")
    assert process.result(LIMIT) == ((1, 2), {"key": 3})
    assert process.result() is process.result()
    process.join(LIMIT)
    assert (process.name, process.exitcode, process.is_alive()) == ("mine", 0, False)


def test_a_large_result_arrives_whole() -> None:
    value = started(lambda: {"bytes": b"x" * 5_000_000, "list": list(range(100_000))}).result(LIMIT)
    assert value == {"bytes": b"x" * 5_000_000, "list": list(range(100_000))}


def test_it_runs_in_a_process_of_its_own_that_knows_itself_and_its_parent() -> None:
    def who() -> tuple[Any, ...]:
        me, parent = multiprocessing.current_process(), multiprocessing.parent_process()
        assert parent is not None and parent.is_alive()
        return os.getpid(), me.pid, me.name, me.daemon, parent.pid, multiprocessing.active_children()

    process = started(who, name="mine", daemon=True)
    assert process in multiprocessing.active_children()
    assert process.result(LIMIT) == (process.pid, process.ident, "mine", True, os.getpid(), [])
    assert process.pid != os.getpid()
    process.join(LIMIT)
    assert process not in multiprocessing.active_children()


def test_an_exception_arrives_with_its_traceback_and_is_told_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    process = started(tasks.fail, "no luck", name="mine")
    with pytest.raises(ValueError, match="no luck") as caught:
        process.result(LIMIT)
    assert "tasks.py" in str(caught.value.__cause__)
    process.join(LIMIT)
    assert process.exitcode == 1
    told = capfd.readouterr().err
    assert told.startswith("Process mine:\nTraceback") and told.endswith("ValueError: no luck\n")


@pytest.mark.parametrize(("code", "exitcode"), [(None, 0), (0, 0), (3, 3), (-1, 255), (True, 1), ("words", 1)])
def test_sys_exit_gives_the_exit_code(code: Any, exitcode: int, capfd: pytest.CaptureFixture[str]) -> None:
    process = started(sys.exit, code)
    process.join(LIMIT)
    assert process.exitcode == exitcode
    assert capfd.readouterr().err == ("words\n" if code == "words" else "")
    with pytest.raises(SystemExit):
        process.result()


@pytest.mark.parametrize(("how", "exitcode"), [("exit", 3), ("SIGKILL", -signal.SIGKILL), ("SIGTERM", -signal.SIGTERM)])
def test_a_sudden_death_is_told_by_exit_code_and_result(how: str, exitcode: int) -> None:
    process = started(tasks.die, how, name="mine")
    process.join(LIMIT)
    assert process.exitcode == exitcode
    with pytest.raises(fr.WorkerDied, match="mine") as caught:
        process.result()
    assert (caught.value.pid, caught.value.exitcode) == (process.pid, exitcode)
    assert process.reading is None


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(("end", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)])
def test_terminate_and_kill_end_it(end: str, number: int, at_once: bool, tmp_path: Path) -> None:
    begun, go = Flag(tmp_path / "started"), Flag(tmp_path / "go")
    process = started(tasks.hold, begun, go)
    if not at_once:
        begun.wait()
    getattr(process, end)()
    process.join(LIMIT)
    assert process.exitcode == -number
    with pytest.raises(fr.WorkerDied):
        process.result()


def test_join_and_result_keep_to_their_timeout(tmp_path: Path) -> None:
    go = Flag(tmp_path / "go")
    process = started(tasks.hold, Flag(tmp_path / "started"), go)
    process.join(0.01)
    assert process.is_alive() and process.exitcode is None and process.reading is None
    with pytest.raises(TimeoutError):
        process.result(0.01)
    with pytest.raises(ValueError, match="still running"):
        process.close()
    go.set()
    assert process.result(LIMIT) == process.pid
    process.join(LIMIT)
    assert process.exitcode == 0
    process.close()
    for use in (process.result, process.is_alive, process.join):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_the_sentinel_is_ready_at_the_end(tmp_path: Path) -> None:
    go = Flag(tmp_path / "go")
    process = started(tasks.hold, Flag(tmp_path / "started"), go)
    assert connection.wait([process.sentinel], timeout=0) == []
    go.set()
    assert connection.wait([process.sentinel], timeout=LIMIT) == [process.sentinel]
    process.join(LIMIT)
    process.close()


def test_a_subclass_with_run_travels_and_what_it_sets_stays_there() -> None:
    class Mine(fr.Process):
        def __init__(self, value: int) -> None:
            super().__init__(daemon=True)
            self.value = value

        def run(self) -> int:
            self.value += 1
            return self.value

    process = Mine(4)
    process.start()
    assert process.result(LIMIT) == 5
    assert process.value == 4
    process.join(LIMIT)


def test_a_result_that_can_not_travel_is_no_failure_of_the_target() -> None:
    process = started(lambda: threading.Lock())
    with pytest.raises(fr.UnpicklableError, match="result"):
        process.result(LIMIT)
    process.join(LIMIT)
    assert process.exitcode == 0


def test_what_can_not_travel_is_refused_by_start_which_may_be_tried_again() -> None:
    process = fr.Process(target=tasks.identity, args=(threading.Lock(),))
    with pytest.raises(fr.UnpicklableError, match="lock"):
        process.start()
    assert process.pid is None
    with pytest.raises(ValueError, match="not started"):
        process.result()


def test_reading_tells_wall_and_cpu_seconds() -> None:
    process = started(sum, range(1_000_000))
    process.join(LIMIT)
    assert process.reading is not None
    assert set(process.reading) == {"wall", "cpu"}
    assert process.reading["cpu"] > 0 and process.reading["wall"] > 0


def test_processes_nest() -> None:
    def inner() -> int:
        process = fr.Process(target=tasks.square, args=(7,))
        process.start()
        value: int = process.result(LIMIT)
        process.join(LIMIT)
        return value

    process = started(inner)
    assert process.result(LIMIT) == 49
    process.join(LIMIT)


# What `multiprocessing` makes


def use_all(
    queue: Any, simple: Any, pipe: Any, locks: list[Any], event: Any, barrier: Any, value: Any, array: Any
) -> str:
    event.wait(LIMIT)
    for lock in locks:
        with lock:
            value.value += 1
    with value.get_lock():
        array[0] = 1.5
    queue.put("queue")
    simple.put("simple")
    pipe.send("pipe")
    barrier.wait(LIMIT)
    return "done"


def test_queues_pipes_locks_events_and_values_travel(context: Any) -> None:
    queue, simple, (ours, theirs) = context.Queue(), context.SimpleQueue(), context.Pipe()
    locks = [context.Lock(), context.RLock(), context.Semaphore(2), context.BoundedSemaphore(1), context.Condition()]
    event, barrier = context.Event(), context.Barrier(2)
    value, array = context.Value("i", 10), context.Array("d", 3)
    process = started(use_all, queue, simple, theirs, locks, event, barrier, value, array)
    theirs.close()
    event.set()
    assert (queue.get(timeout=LIMIT), simple.get(), ours.recv()) == ("queue", "simple", "pipe")
    barrier.wait(LIMIT)
    assert process.result(LIMIT) == "done"
    assert value.value == 15 and array[:] == [1.5, 0, 0]
    process.join(LIMIT)
    # The only other end was the process's.
    with pytest.raises(EOFError):
        ours.recv()
    for used in (queue, simple, ours):
        used.close()
    queue.join_thread()


def hold_lock(lock: Any, held: Flag, go: Flag) -> None:
    with lock:
        held.set()
        go.wait()


def test_a_lock_excludes_across_processes(context: Any, tmp_path: Path) -> None:
    lock, held, go = context.Lock(), Flag(tmp_path / "held"), Flag(tmp_path / "go")
    with lock:
        process = started(hold_lock, lock, held, go)
        assert not held.is_set()
    held.wait()
    assert not lock.acquire(block=False)
    # It goes to a second process as it went to the first.
    other = started(lock_is_free, lock)
    assert other.result(LIMIT) is False
    go.set()
    process.join(LIMIT)
    other.join(LIMIT)
    assert lock.acquire(timeout=LIMIT)
    lock.release()


def lock_is_free(lock: Any) -> bool:
    free: bool = lock.acquire(block=False)
    return free


def test_a_semaphore_keeps_its_value_when_it_first_travels() -> None:
    semaphore = multiprocessing.get_context("fork").Semaphore(3)
    semaphore.acquire()
    process = started(take_all, semaphore)
    assert process.result(LIMIT) == 2
    process.join(LIMIT)
    assert semaphore.get_value() == 0
    semaphore.release()


def take_all(semaphore: Any) -> int:
    count = 0
    while semaphore.acquire(block=False):
        count += 1
    return count


def test_shared_memory_outlives_the_process_that_attached_it() -> None:
    memory = shared_memory.SharedMemory(create=True, size=16)
    try:
        process = started(write_shared, memory.name)
        process.join(LIMIT)
        assert bytes(memory.buf[:5]) == b"hello"
        again = shared_memory.SharedMemory(memory.name)
        again.close()
    finally:
        memory.close()
        memory.unlink()


def write_shared(name: str) -> None:
    memory = shared_memory.SharedMemory(name)
    memory.buf[:5] = b"hello"
    memory.close()


def test_proxies_of_managers_work_there() -> None:
    with multiprocessing.get_context("spawn").Manager() as manager:
        shared = manager.dict()
        process = started(fill, shared)
        process.join(LIMIT)
        assert process.exitcode == 0
        assert dict(shared) == {"key": 1}


def fill(shared: Any) -> None:
    shared["key"] = 1


# Scripts


def test_a_script_of_multiprocessing_needs_only_other_imports(tmp_path: Path) -> None:
    lines = run(
        """
        from multiprocessing import Queue, Lock, Value, current_process
        from forkright import Process

        def worker(number, queue, lock, total):
            with lock:
                total.value += number
            queue.put((number, current_process().name))

        queue, lock, total = Queue(), Lock(), Value("i")
        processes = [Process(target=worker, args=(number, queue, lock, total)) for number in range(4)]
        for process in processes:
            process.start()
        print(sorted(queue.get() for _ in processes))
        for process in processes:
            process.join()
        print(total.value, [process.exitcode for process in processes])
        """,
        tmp_path,
    )
    assert lines == ["[(0, 'Process-1'), (1, 'Process-2'), (2, 'Process-3'), (3, 'Process-4')]", "6 [0, 0, 0, 0]"]


def test_what_queues_bring_may_be_of_the_scripts_own_classes(tmp_path: Path) -> None:
    lines = run(
        """
        import enum
        from multiprocessing import Queue
        from forkright import Pool, Process

        class Outer:
            class Task:
                def __init__(self, number):
                    self.number = number

        class Color(enum.Enum):
            RED = 1

        factor = 10

        def times(number):
            return number * factor

        def work(tasks, results):
            for task in iter(tasks.get, None):
                results.put((task, times(3)) if callable(task) else task)

        def pass_on(tasks, results):
            process = Process(target=work, args=(tasks, results))
            process.start()
            process.join()

        def set_up(queue):
            global given
            given = queue

        def take(_):
            return given.get()

        tasks, results = Queue(), Queue()
        for target in (work, pass_on):
            process = Process(target=target, args=(tasks, results))
            process.start()
            for task in (Outer.Task(7), Color.RED, times, None):
                tasks.put(task)
            came = results.get()
            print(type(came) is Outer.Task, came.number, results.get() is Color.RED, results.get() == (times, 30))
            process.join()
        with Pool(1, set_up, (tasks,)) as pool:
            tasks.put(Color.RED)
            print(pool.apply(take, (0,)) is Color.RED)
        """,
        tmp_path,
    )
    assert lines == ["True 7 True True", "True 7 True True", "True"]


def test_what_the_main_module_does_not_have_is_missed_in_a_process_too() -> None:
    process = started(name_of_main, multiprocessing.get_context("spawn").Lock())
    with pytest.raises(AttributeError, match="no_such_name"):
        process.result(LIMIT)
    process.join(LIMIT)


def name_of_main(_: Any) -> Any:
    return sys.modules["__main__"].no_such_name


def test_the_end_of_a_script_joins_processes_and_ends_daemons(tmp_path: Path) -> None:
    lines = run(
        """
        import multiprocessing, time
        from forkright import Process

        def last(lock):
            with lock:
                print("last", flush=True)

        Process(target=time.sleep, args=(1000,), daemon=True).start()
        Process(target=last, args=(multiprocessing.Lock(),)).start()
        print("end", flush=True)
        """,
        tmp_path,
    )
    assert sorted(lines) == ["end", "last"]


def test_ctrl_c_ends_a_script_and_its_processes(tmp_path: Path) -> None:
    text = """
        import time
        from forkright import Process

        def work():
            print("begun", flush=True)
            time.sleep(1000)

        process = Process(target=work)
        process.start()
        process.join()
        """
    with start(text, tmp_path) as script:
        assert script.line() == "begun"
        os.killpg(script.process.pid, signal.SIGINT)
        assert script.wait() == -signal.SIGINT
        script.until_gone()
    assert script.err.count("KeyboardInterrupt") >= 1


def test_a_forked_child_of_the_caller_leaves_its_processes_alone(tmp_path: Path) -> None:
    lines = run(
        """
        import os
        from forkright import Process
        import time
        process = Process(target=time.sleep, args=(1000,), daemon=True)
        process.start()
        child = os.fork()
        if child == 0:
            process.terminate()
            print(process.exitcode, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(process.is_alive())
        process.kill()
        process.join()
        print(process.exitcode)
        """,
        tmp_path,
    )
    assert lines == ["None", "True", "-9"]


def test_nothing_is_left_of_a_process_that_ended() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    def once() -> int:
        process = started(tasks.identity, multiprocessing.get_context("spawn").Lock())
        process.join(LIMIT)
        pid = process.pid
        process.close()
        assert pid is not None
        return pid

    once()
    gc.collect()
    before = descriptors()
    pids = [once() for _ in range(5)]
    gc.collect()
    until(lambda: descriptors() <= before, "the descriptors are closed")
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_what_processes_need_is_imported_where_they_are_forked(tmp_path: Path) -> None:
    lines = run(
        """
        import sys
        import forkright as fr

        process = fr.Process(target=abs, args=(-1,))
        process.start()
        process.join()
        with fr.ProcessPoolExecutor(1) as executor:
            print(executor.submit(eval, "'forkright._process' in __import__('sys').modules").result())
        """,
        tmp_path,
    )
    assert lines == ["True"]


# Forked ahead


def spares() -> set[int]:
    """The worker that is forked before it is ordered: the zygote has no other child when no process runs."""
    return children(zygote(os.getpid()))


def outcome(target: Any, *args: Any) -> Any:
    process = started(target, *args)
    process.join(LIMIT)
    return process.result(0)


def kill(spare: int) -> None:
    os.kill(spare, signal.SIGKILL)
    until(lambda: spare not in spares(), "it is gone")


@pytest.fixture
def spare() -> int:
    """The pid of the one there is, and no worker beside it."""
    fr.release()
    # By value, so that it has no reason left to be forked anew.
    outcome(lambda: None)
    until(lambda: len(spares()) == 1, "the next process is forked before it is ordered")
    return spares().pop()


def test_the_next_process_was_forked_before_it_is_started(spare: int) -> None:
    assert outcome(os.getpid) == spare


def test_what_changed_since_it_was_forked_is_known_there(
    spare: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORKRIGHT_TEST", "changed")
    monkeypatch.chdir(tmp_path)
    found = outcome(lambda: (os.getpid(), os.environ["FORKRIGHT_TEST"], os.getcwd(), signal.getsignal(signal.SIGCHLD)))
    assert found == (spare, "changed", str(tmp_path), signal.SIG_DFL)


def test_it_has_the_descriptors_that_any_other_has(spare: int) -> None:
    def descriptors() -> tuple[int, list[str]]:
        found = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return os.getpid(), sorted(re.sub(r"\d+", "", os.readlink(path)) for path in found if os.path.lexists(path))

    ahead, found = outcome(descriptors)
    until(lambda: len(spares()) == 1, "another one is forked")
    kill(spares().pop())
    _, expected = outcome(descriptors)
    assert ahead == spare
    assert found == expected


def test_one_that_was_killed_is_done_without(spare: int) -> None:
    kill(spare)
    assert outcome(tasks.square, 3) == 9


def test_it_ends_when_no_process_is_started_for_seconds(spare: int) -> None:
    until(lambda: not spares(), "it is let go")
    assert outcome(tasks.square, 3) == 9
    until(lambda: len(spares()) == 1, "another one is forked")
