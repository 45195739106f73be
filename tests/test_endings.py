"""How programs end, fork, execute others and nest their calls, and what becomes of calls and workers then."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import run, start

PLANS = ["threads", "processes", "hybrid", "auto"]
HEAD = """
import os, sys, threading, time
import forkright as fr
plans = {"threads": fr.Plan(threads=2), "processes": fr.Plan(2), "hybrid": fr.Plan(1, 2), "auto": "auto"}
plan = plans[sys.argv[1]]
def square(number):
    return number * number
def mark(number):
    open(f"mark {number}", "x").close()
"""


@pytest.fixture(params=PLANS)
def plan(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "del executor", "executor.shutdown(wait=False)"])
def test_what_was_submitted_is_finished_however_the_script_ends(tmp_path: Path, plan: str, ending: str) -> None:
    run(
        f"""{HEAD}
executor = fr.Executor(plan=plan)
for number in range(100):
    executor.submit(mark, number)
{ending}
""",
        tmp_path,
        arguments=(plan,),
    )
    assert len(list(tmp_path.glob("mark *"))) == 100


def test_what_was_submitted_is_finished_when_the_script_raises(tmp_path: Path, plan: str) -> None:
    text = f"""{HEAD}
executor = fr.Executor(plan=plan)
for number in range(100):
    executor.submit(mark, number)
raise LookupError("the end")
"""
    with start(text, tmp_path, arguments=(plan,)) as script:
        assert script.wait() == 1 and script.err.endswith("LookupError: the end\n")
        script.until_gone()
    assert len(list(tmp_path.glob("mark *"))) == 100


def test_what_waits_is_not_run_when_a_shutdown_cancels_it(tmp_path: Path, plan: str) -> None:
    lines = run(
        f"""{HEAD}
def hold(number):
    mark(number)
    while not os.path.exists("go"):
        time.sleep(0.001)
executor = fr.Executor(2, plan=plan)
futures = [executor.submit(hold, number) for number in range(100)]
while not os.path.exists("mark 0"):
    time.sleep(0.001)
executor.shutdown(wait=False, cancel_futures=True)
cancelled = sum(future.cancelled() for future in futures)
mark("go between")
open("go", "x").close()
executor.shutdown()
print(cancelled + sum(not future.cancelled() and future.result() is None for future in futures), cancelled > 80)
print(len([name for name in os.listdir() if name.startswith("mark ")]) - 1 == 100 - cancelled)
""",
        tmp_path,
        arguments=(plan,),
    )
    assert lines == ["100 True", "True"]


def test_a_program_that_another_takes_the_place_of_leaves_nothing(tmp_path: Path, plan: str) -> None:
    text = f"""{HEAD}
executor = fr.Executor(plan=plan)
print(executor.submit(square, 3).result(), fr.map(square, range(3), plan="processes"), flush=True)
for number in range(4):
    executor.submit(time.sleep, 10_000)
os.execv(sys.executable, [sys.executable, "-c", "print(input())"])
"""
    with start(text, tmp_path, arguments=(plan,), stdin="another\n") as script:
        assert script.line() == "9 [0, 1, 4]"
        script.until_alone()
        assert script.wait() == 0, script.err
        assert script.out == "another\n"
        script.until_gone()


def test_a_task_on_a_thread_that_exits_at_once_ends_the_program_and_its_workers(tmp_path: Path) -> None:
    text = f"""{HEAD}
processes = fr.Executor(plan=fr.Plan(2))
running = [processes.submit(time.sleep, 10_000) for _ in range(4)]
print(processes.submit(square, 3) and fr.map(square, range(3), plan="processes"), flush=True)
fr.Executor(plan=plan).submit(os._exit, 5).result()
"""
    with start(text, tmp_path, arguments=("threads",)) as script:
        assert script.wait() == 5, script.err
        script.until_gone()


@pytest.mark.parametrize("raised", ["ValueError('bad')", "SystemExit(3)", "KeyboardInterrupt()"])
def test_a_callback_that_raises_is_logged_and_costs_nobody_else(tmp_path: Path, plan: str, raised: str) -> None:
    text = f"""{HEAD}
seen = threading.Event()
def work(number):
    while not os.path.exists("go"):
        time.sleep(0.001)
    return number
def call_back(future):
    raise {raised}
with fr.Executor(plan=plan) as executor:
    first = executor.submit(work, 9)
    first.add_done_callback(call_back)
    first.add_done_callback(lambda future: seen.set())
    open("go", "x").close()
    print(first.result(), seen.wait(10), executor.submit(square, 4).result())
"""
    with start(text, tmp_path, arguments=(plan,)) as script:
        assert script.wait() == 0, script.err
        assert script.out == "9 True 16\n" and raised.partition("(")[0] in script.err, script.err
        script.until_gone()


def test_maps_may_be_nested_in_threads_tasks_and_callbacks(tmp_path: Path, plan: str) -> None:
    lines = run(
        f"""{HEAD}
def inner(number):
    return sum(fr.map(square, range(number)))
def outer(number):
    import forkright as fr
    return sum(fr.map(inner, range(number), plan="threads")) + sum(fr.map(square, range(3), plan=fr.Plan(1)))
called = []
done = threading.Event()
def call_back(future):
    called.append(fr.map(square, range(4), plan="threads"))
    called.append(executor.submit(square, 5).result())
    done.set()
with fr.Executor(plan=plan) as executor:
    future = executor.submit(outer, 4)
    future.add_done_callback(call_back)
    print(future.result(), done.wait(10), called)
    from_threads = []
    threads = [threading.Thread(target=lambda: from_threads.append(fr.map(square, [7], plan=plan))) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(from_threads)
""",
        tmp_path,
        arguments=(plan,),
    )
    assert lines == ["11 True [[0, 1, 4, 9], 25]", "[[49], [49], [49], [49]]"]


def test_an_executor_made_by_a_task_ends_with_its_worker(tmp_path: Path) -> None:
    lines = run(
        f"""{HEAD}
def nest(number):
    kept.append(fr.Executor(plan=fr.Plan(1)))
    return kept[-1].submit(square, number).result()
kept = []
with fr.Executor(plan=plan) as executor:
    print([executor.submit(nest, number).result() for number in range(3)])
""",
        tmp_path,
        arguments=("processes",),
    )
    assert lines == ["[0, 1, 4]"]


@pytest.mark.parametrize("plan", ["processes", "hybrid"])
def test_an_executor_that_is_sent_to_a_worker_says_that_it_can_not_be(tmp_path: Path, plan: str) -> None:
    lines = run(
        f"""{HEAD}
def use(executor):
    return executor.submit(square, 3).result()
with fr.Executor(plan=plan) as executor:
    error = executor.submit(use, executor).exception()
    print(type(error).__name__, "Executor" in str(error) or "Pool" in str(error) or "lock" in str(error))
    print(executor.submit(square, 3).result())
""",
        tmp_path,
        arguments=(plan,),
    )
    assert lines == ["UnpicklableError True", "9"]


# What a daemon thread is in the middle of: Python code that never ends, called by the engine.
ENDLESS = {
    "map": "fr.map(endless, range(5), plan='serial')",
    "map of auto": "fr.map(endless, range(5))",
    "lazy map": "list(fr.imap(endless, range(5), plan='serial'))",
    "iterable": "list(fr.imap(abs, iter(endless, 1), plan='serial'))",
    "pickling": "fr.map(abs, [Endless()] * 2, plan='processes')",
    "callback": "done.add_done_callback(endless)",
}


@pytest.mark.parametrize("what", ENDLESS)
def test_the_interpreter_ends_while_a_daemon_thread_is_in_the_middle_of_a_call(tmp_path: Path, what: str) -> None:
    with start(
        f"""
import threading
import forkright as fr
begun = threading.Event()
def endless(_=None):
    begun.set()
    while True: pass
class Endless:
    def __reduce__(self):
        endless()
with fr.Executor(plan="threads") as executor:
    done = executor.submit(abs, 1)
def body():
    {ENDLESS[what]}
threading.Thread(target=body, daemon=True).start()
begun.wait()
""",
        tmp_path,
    ) as script:
        assert script.wait() == 0, script.err
        script.until_gone()
