"""What workers log reaches the caller's loggers where that is asked for, and lines they print are whole and not lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import run, start

PLANS = ["fr.Plan(2)", "fr.Plan(2, 2)"]

HEAD = """
import logging, os, sys, time
import forkright as fr
class Keep(logging.Handler):
    def emit(self, record):
        kept.append(record)
kept = []
logging.root.addHandler(Keep())
logging.root.setLevel(logging.INFO)
"""


@pytest.mark.parametrize("plan", PLANS)
def test_records_reach_the_callers_handlers_in_order(tmp_path: Path, plan: str) -> None:
    lines = run(
        f"""{HEAD}
def work(number):
    for step in range(20):
        logging.getLogger("deep.down").info("step %d of %s", step, number, extra={{"task": number}})
    return os.getpid()
fr.forward_logging()
with fr.Executor(plan={plan}) as executor:
    pids = {{future.result() for future in [executor.submit(work, number) for number in range(50)]}}
print(len(kept), {{record.process for record in kept}} == pids, {{record.name for record in kept}})
steps = {{}}
for record in kept:
    steps.setdefault(record.task, []).append(record.getMessage())
print(all(said == [f"step {{step}} of {{task}}" for step in range(20)] for task, said in steps.items()), len(steps))
""",
        tmp_path,
    )
    assert lines == ["1000 True {'deep.down'}", "True 50"]


def test_levels_are_the_callers(tmp_path: Path) -> None:
    lines = run(
        f"""{HEAD}
logging.getLogger("loud").setLevel(logging.DEBUG)
logging.getLogger("quiet").setLevel(logging.ERROR)
def work():
    made = []
    for name in ("loud", "quiet", "other"):
        for level in (logging.DEBUG, logging.INFO, logging.ERROR):
            made.append(logging.getLogger(name).isEnabledFor(level))
            logging.getLogger(name).log(level, "said")
    return made
fr.forward_logging()
with fr.Executor(plan=fr.Plan(1)) as executor:
    print(executor.submit(work).result())
print([(record.name, record.levelname) for record in kept])
""",
        tmp_path,
    )
    assert lines == [
        "[True, True, True, False, False, True, False, True, True]",
        "[('loud', 'DEBUG'), ('loud', 'INFO'), ('loud', 'ERROR'), ('quiet', 'ERROR'), ('other', 'INFO'), ('other', 'ERROR')]",
    ]


def test_tracebacks_extra_values_and_warnings_travel(tmp_path: Path) -> None:
    lines = run(
        f"""{HEAD}
import datetime, warnings
logging.captureWarnings(True)
class Odd:
    def __reduce__(self): raise TypeError("no")
    def __repr__(self): return "something odd"
def work():
    try:
        1 / 0
    except ZeroDivisionError:
        logging.exception("failed", extra={{"day": datetime.date(2026, 11, 27), "odd": Odd()}})
    warnings.warn("careful")
    logging.error("%s", Odd())
fr.forward_logging()
with fr.Executor(plan=fr.Plan(1)) as executor:
    executor.submit(work).result()
failed, careful, odd = kept
print("in work" in failed.exc_text and "ZeroDivisionError" in failed.exc_text, failed.day.year, failed.odd)
print(careful.name, "careful" in careful.getMessage(), odd.getMessage())
print("ZeroDivisionError" in logging.Formatter().format(failed))
""",
        tmp_path,
    )
    assert lines == ["True 2026 something odd", "py.warnings True something odd", "True"]


@pytest.mark.parametrize("ending", ["return", "os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_nothing_that_was_written_is_lost_however_the_worker_ends(tmp_path: Path, ending: str) -> None:
    lines = run(
        f"""{HEAD}
def work():
    for number in range(1000):
        logging.info("%d %s", number, "x" * 10_000)
    {ending}
fr.forward_logging()
executor = fr.Executor(plan=fr.Plan(1))
future = executor.submit(work)
future.exception()
executor.shutdown()
print([record.getMessage().split()[0] for record in kept] == [str(number) for number in range(1000)])
print({{len(record.getMessage()) for record in kept}} == {{10_002, 10_003, 10_004}})
""",
        tmp_path,
    )
    assert lines == ["True", "True"]


def test_records_of_a_map_are_handled_when_it_returns(tmp_path: Path) -> None:
    lines = run(
        f"""{HEAD}
def work(number):
    logging.info("item %d", number)
    return number
fr.forward_logging()
for plan in (fr.Plan(2), "auto", "threads"):
    kept.clear()
    fr.map(work, range(100), plan=plan)
    print(sorted(int(record.getMessage().split()[1]) for record in kept) == list(range(100)))
""",
        tmp_path,
    )
    assert lines == ["True"] * 3


def test_records_that_are_written_at_the_end_of_the_program_are_handled(tmp_path: Path) -> None:
    with start(
        """
        import logging
        import forkright as fr
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
        fr.forward_logging()
        def work(number):
            logging.info("item %d", number)
        executor = fr.Executor(plan=fr.Plan(2))
        for number in range(100):
            executor.submit(work, number)
        """,
        tmp_path,
    ) as script:
        assert script.wait() == 0
        assert sorted(script.err.splitlines()) == sorted(f"INFO item {number}" for number in range(100))
        script.until_gone()


def test_workers_of_workers_and_of_forks_forward_too(tmp_path: Path) -> None:
    with start(
        """
        import logging, os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        import forkright as fr
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        fr.forward_logging()
        def inner(number):
            logging.info("inner %d", number)
        def outer(number):
            fr.forward_logging()
            fr.map(inner, range(2), plan=fr.Plan(1))
            logging.info("outer %d", number)
        with fr.Executor(plan=fr.Plan(1)) as executor:
            executor.submit(outer, 5).result()
        child = os.fork()
        if child == 0:
            fr.map(inner, [7], plan=fr.Plan(1))
            os._exit(0)
        os.waitpid(child, 0)
        """,
        tmp_path,
    ) as script:
        assert script.wait() == 0, script.err
        assert script.err.splitlines() == ["inner 0", "inner 1", "outer 5", "inner 7"]
        script.until_gone()


def test_a_handler_that_hangs_or_raises_holds_up_no_shutdown_for_ever(tmp_path: Path) -> None:
    with start(
        """
        import logging, threading, time
        import forkright as fr
        class Hang(logging.Handler):
            def emit(self, record):
                threading.Event().wait()
        logging.root.addHandler(Hang())
        fr.forward_logging()
        with fr.Executor(plan=fr.Plan(1)) as executor:
            executor.submit(logging.error, "said").result()
        print("over", flush=True)
        import os; os._exit(0)
        """,
        tmp_path,
    ) as script:
        assert script.line() == "over"
        assert script.wait() == 0
        script.until_gone()


def test_without_it_nothing_is_forwarded(tmp_path: Path) -> None:
    lines = run(
        f"""{HEAD}
def work():
    return "logging" in sys.modules and bool(logging.root.handlers)
import threading
threads = threading.active_count()
with fr.Executor(plan=fr.Plan(1)) as executor:
    print(executor.submit(work).result(), kept)
""",
        tmp_path,
    )
    assert lines == ["False []"]


# What workers print


def test_lines_of_workers_are_whole(tmp_path: Path) -> None:
    with start(
        """
        import os
        # Whoever wants no buffer at all gets none.
        os.environ.pop("PYTHONUNBUFFERED", None)
        import forkright as fr
        def work(number):
            for step in range(100):
                print("worker", number, "step", step, "x" * (step * 7))
        with fr.Executor(plan=fr.Plan(4)) as executor:
            for future in [executor.submit(work, number) for number in range(40)]:
                future.result()
        """,
        tmp_path,
    ) as script:
        assert script.wait() == 0, script.err
        lines = [f"worker {number} step {step} {'x' * (step * 7)}" for number in range(40) for step in range(100)]
        assert sorted(script.out.splitlines()) == sorted(lines)


@pytest.mark.parametrize("ending", ["return", "os._exit(3)", "os.kill(os.getpid(), 9)", "ctypes.string_at(0)"])
def test_lines_that_were_printed_are_not_lost_however_the_worker_ends(tmp_path: Path, ending: str) -> None:
    with start(
        f"""
        import ctypes, os, warnings
        import forkright as fr
        def work():
            print("printed", "by", "the", "worker")
            warnings.warn("careful")
            {ending}
        with fr.Executor(plan=fr.Plan(1)) as executor:
            executor.submit(work).exception()
        """,
        tmp_path,
    ) as script:
        assert script.wait() == 0
        assert script.out == "printed by the worker\n" and "UserWarning: careful" in script.err


def test_a_line_without_its_end_is_written_when_the_worker_ends(tmp_path: Path) -> None:
    lines = run(
        """
        import forkright as fr
        with fr.Executor(plan=fr.Plan(1)) as executor:
            executor.submit(print, "no end", end="").result()
        """,
        tmp_path,
    )
    assert lines == ["no end"]
