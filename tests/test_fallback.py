"""Where the native extension can't be imported the package works on the standard library's pools, and says so once.

The scripts run beside a copy of the package that has no extension, so that their imports really fail.
"""

from __future__ import annotations

import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import forkright
from scripts import run, start
from waiting import LIMIT

# For tests whose promise is not the warning: `run` takes no words on standard error.
QUIET = ("-W", "ignore::UserWarning")
MISSING = "`forkright._core` can't be imported: No module named 'forkright._core'"

TASKS = """
import os, threading, time
def square(x): return x * x
def add(x, y): return x + y
def place(_): return os.getpid(), threading.get_ident()
def fail_at(x, worst):
    if x >= worst: raise ValueError(f"item {x}")
    return x
def large(size): return b"x" * size
def nap(seconds): time.sleep(seconds)
def refuse(): raise KeyError("no")
def die(*_): os._exit(7)
def lock(*_): return threading.Lock()
ready = None
def make_ready(value):
    global ready
    ready = value
def is_ready(_): return ready
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where scripts find a package without its extension, and `work`."""
    source = Path(forkright.__file__).parent
    shutil.copytree(source, tmp_path / "forkright", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (tmp_path / "work.py").write_text(TASKS)
    return tmp_path


# What is said


def test_the_import_says_nothing_and_the_first_call_warns_on_its_line(folder: Path) -> None:
    lines = run(
        """
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            import forkright as fr
            fr.Executor, fr.Plan(2), fr.cpu_count()
            print(len(caught))
            fr.map(abs, [-1])
            fr.map(abs, [-1])
            fr.Executor(2).shutdown()
        [warning] = caught
        print(warning.category is fr.ForkrightWarning, warning.filename == __file__, warning.lineno)
        print(warning.message)
        """,
        folder,
    )
    assert lines[:2] == ["0", "True True 8"]
    for words in (
        MISSING,
        "Nothing is measured",
        'plan="auto" runs on threads',
        '`if __name__ == "__main__":`',
        "hybrid",
    ):
        assert words in lines[2]


def test_worker_processes_do_not_say_it_again(folder: Path) -> None:
    script = """
        import forkright as fr, work
        def nested(x): return fr.map(work.square, [x])
        if __name__ == "__main__":
            print(fr.map(nested, [2, 3], plan="processes"))
        """
    with start(script, folder) as script:
        assert script.wait() == 0, script.err
        assert (script.out, script.err.count("ForkrightWarning")) == ("[[4], [9]]\n", 1)


def test_an_extension_that_does_not_load_is_told_with_the_loaders_words(folder: Path) -> None:
    (folder / "forkright" / "_core.abi3.so").write_bytes(b"not for this machine" * 100)
    with start("import forkright as fr; print(fr.map(abs, [-1]))", folder) as script:
        assert script.wait() == 0, script.err
        assert script.out == "[1]\n" and "invalid ELF header" in script.err


@pytest.mark.parametrize(
    ("extension", "error"),
    [
        ("import nothing_like_it", "No module named 'nothing_like_it'"),
        ("raise ImportError('main interpreter only')", "main interpreter only"),
        ("__version__ = '0'", "cannot import name 'cpu_count'"),
    ],
    ids=["it lacks something", "it refuses", "it is stale"],
)
def test_a_mistake_inside_the_extension_is_not_hidden(folder: Path, extension: str, error: str) -> None:
    (folder / "forkright" / "_core.py").write_text(extension)
    with start("import forkright", folder) as script:
        assert script.wait() == 1
        assert error in script.err.splitlines()[-1]


def test_the_command_line_says_that_it_needs_the_extension(folder: Path) -> None:
    for arguments in (["compare", "work.py:square"], ["doctor"], []):
        command = [sys.executable, "-m", "forkright", *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: the native extension {MISSING}")
        assert "hint: " in done.stderr and "Traceback" not in done.stderr


# Maps


@pytest.mark.parametrize("plan", ["auto", "serial", "threads", "processes", "hybrid"])
def test_maps_give_their_results_on_every_plan(folder: Path, plan: str) -> None:
    lines = run(
        f"""
        import forkright as fr, work
        if __name__ == "__main__":
            plan = {plan!r}
            assert fr.map(work.square, range(50), plan=plan) == [x * x for x in range(50)]
            assert fr.map(work.add, [1, 2, 3], [10, 20], plan=plan, chunksize=2) == [11, 22]
            assert fr.starmap(work.add, [(1, 2), (3, 4)], plan=plan, workers=1) == [3, 7]
            assert fr.map(work.square, [], plan=plan) == []
            results = fr.map(work.fail_at, range(4), [2] * 4, plan=plan, on_error="return")
            print(results)
            try:
                fr.map(work.fail_at, range(9), [3] * 9, plan=plan)
            except ValueError as error:
                print(error, plan in ("processes", "hybrid"), "work.py" in str(error.__cause__))
        """,
        folder,
        *QUIET,
    )
    away = plan in ("processes", "hybrid")
    assert lines == ["[0, 1, ValueError('item 2'), ValueError('item 3')]", f"item 3 {away} {away}"]


def test_plans_say_where_items_run_and_auto_is_threads(folder: Path) -> None:
    lines = run(
        """
        import os, forkright as fr, work
        if __name__ == "__main__":
            for plan in ("auto", "serial", "threads", "processes", fr.Plan(2, 4)):
                places = fr.map(work.place, range(8), plan=plan)
                print({pid for pid, _ in places} == {os.getpid()}, fr.report().plan.kind)
        """,
        folder,
        *QUIET,
    )
    assert lines == ["True threads", "True serial", "True threads", "False processes", "False processes"]


def test_a_map_whose_time_is_up_raises_and_starts_nothing_more(folder: Path) -> None:
    lines = run(
        """
        import time, forkright as fr
        def mark(x):
            open(f"ran {x}", "x").close()
            time.sleep(0.5)
        if __name__ == "__main__":
            for number, plan in enumerate(("serial", "threads", "processes")):
                try:
                    fr.map(mark, range(100 * number, 100 * number + 100), plan=plan, workers=2, timeout=0.1)
                except TimeoutError as error:
                    print(error)
        """,
        folder,
        *QUIET,
    )
    assert len(lines) == 3 and all("of 100 tasks of `mark` were done when the time was up" in line for line in lines)
    assert len(list(folder.glob("ran *"))) <= 1 + 2 + 2


def test_lazy_maps_read_an_endless_iterable_as_results_are_taken(folder: Path) -> None:
    run(
        """
        import itertools, forkright as fr, work
        if __name__ == "__main__":
            for plan in ("auto", "serial", "processes"):
                for imap in (fr.imap, fr.imap_unordered):
                    items = itertools.count()
                    results = imap(work.square, items, plan=plan, workers=2, chunksize=2, buffersize=6)
                    taken = [next(results) for _ in range(20)]
                    assert taken == [x * x for x in range(20)] or imap is fr.imap_unordered, taken
                    assert next(items) <= 20 + 6
                    results.close()
        """,
        folder,
        *QUIET,
    )


def test_the_report_claims_nothing(folder: Path) -> None:
    lines = run(
        """
        import forkright as fr, work
        try:
            fr.report()
        except LookupError as error:
            print(error)
        for plan in ("auto", "serial"):
            fr.map(work.square, range(4), plan=plan, workers=3)
            report = fr.report()
            print(report.why)
            print(isinstance(report, fr.Report), report.data["tasks"], report.data["wall"] > 0, "cpu" in report.data)
        print(*str(report).splitlines()[1:], sep="\\n")
        print(report._repr_html_())
        """,
        folder,
        *QUIET,
    )
    assert lines[:5] == [
        "there is no report yet: nothing has been mapped",
        "3 threads: nothing was measured or chosen, as `forkright._core` can't be imported",
        "True 4 True False",
        "serial, as asked; nothing was measured, as `forkright._core` can't be imported",
        "True 4 True False",
    ]
    assert lines[5] == "  ran        `square`, 4 tasks"
    assert lines[6].startswith("  time ") and "CPU" not in lines[6]
    assert lines[7].startswith("<details><summary>serial, as asked") and "`square`, 4 tasks</dd>" in lines[7]
    assert lines[7].count("<dt") == 2 and "CPU" not in lines[7]


# Executors and pools


def test_executors_make_calls_as_with_the_extension(folder: Path) -> None:
    run(
        """
        import concurrent.futures, os, forkright as fr, work
        makes = {
            "auto": lambda **options: fr.Executor(2, **options),
            "serial": lambda **options: fr.Executor(plan="serial", **options),
            "threads": lambda **options: fr.ThreadPoolExecutor(2, **options),
            "processes": lambda **options: fr.ProcessPoolExecutor(2, **options),
        }
        if __name__ == "__main__":
            assert fr.Future is concurrent.futures.Future
            for name, make in makes.items():
                with make(initializer=work.make_ready, initargs=(name,)) as executor:
                    assert isinstance(executor, fr.Executor)
                    future = executor.submit(work.add, 2, y=3)
                    assert isinstance(future, fr.Future) and future.result() == 5
                    assert executor.submit(work.is_ready, 0).result() == name
                    assert list(executor.map(work.square, range(10), buffersize=3)) == [x * x for x in range(10)]
                    assert isinstance(executor.submit(work.refuse).exception(), KeyError)
                    assert executor.report().data["tasks"] == 13, executor.report()
                    assert "nothing was measured" in str(executor.report())
                try:
                    executor.submit(work.square, 1)
                except RuntimeError as error:
                    assert "shutdown" in str(error)
        """,
        folder,
        *QUIET,
    )


def test_calls_under_way_when_the_script_ends_are_finished(folder: Path) -> None:
    run(
        """
        import time, forkright as fr
        def mark(name):
            time.sleep(0.2)
            open(f"ran {name}", "x").close()
        if __name__ == "__main__":
            executors = [fr.ThreadPoolExecutor(1), fr.ProcessPoolExecutor(1)]
            for number, executor in enumerate(executors):
                executor.submit(mark, number)
        """,
        folder,
        *QUIET,
    )
    assert {path.name for path in folder.glob("ran *")} == {"ran 0", "ran 1"}


@pytest.mark.parametrize("limit", ["max_tasks_per_child=2", "max_memory_per_child='1 kB'"])
def test_processes_that_would_not_be_replaced_are_warned_of(folder: Path, limit: str) -> None:
    text = f"""
        import forkright as fr, work
        if __name__ == "__main__":
            with fr.ProcessPoolExecutor(1, {limit}) as executor:
                print([executor.submit(work.square, x).result() for x in range(5)])
        """
    with start(text, folder) as script:
        assert script.wait() == 0, script.err
        assert script.out == "[0, 1, 4, 9, 16]\n" and limit.partition("=")[0] in script.err


def test_logging_that_would_not_be_forwarded_is_warned_of(folder: Path) -> None:
    with start("import forkright as fr\nfr.forward_logging()\n", folder) as script:
        assert script.wait() == 0
        assert "is not forwarded" in script.err


@pytest.mark.parametrize("end", ["terminate_workers", "kill_workers"])
def test_workers_can_be_ended_with_what_they_run(folder: Path, end: str) -> None:
    lines = run(
        f"""
        import concurrent.futures, time
        import forkright as fr, work
        if __name__ == "__main__":
            with fr.ProcessPoolExecutor(1) as executor:
                running = executor.submit(time.sleep, 10_000)
                waiting = [executor.submit(work.square, x) for x in range(5)]
                while not running.running():
                    time.sleep(0.001)
                executor.{end}()
                print(type(running.exception()).__mro__[1].__name__, waiting[-1].cancelled())
        """,
        folder,
        *QUIET,
    )
    assert lines == ["BrokenExecutor True"]


def test_pools_are_the_standard_librarys(folder: Path) -> None:
    lines = run(
        """
        import os, forkright as fr, work
        if __name__ == "__main__":
            for plan in ("processes", "threads", "auto"):
                with fr.Pool(2, plan=plan) as pool:
                    [(pid, _)] = pool.map(work.place, [0])
                    print(type(pool).__module__, pid == os.getpid(), pool.starmap(work.add, [(1, 2)]))
                    pool.close()
                    pool.join()
        """,
        folder,
        *QUIET,
    )
    assert lines == [f"multiprocessing.pool {here} [3]" for here in (False, True, True)]


# Threads and processes one by one


def test_threads_and_processes_give_results(folder: Path) -> None:
    run(
        """
        import forkright as fr, work
        class Mine(fr.Process):
            def run(self): return self.name
        if __name__ == "__main__":
            for kind in (fr.Thread, fr.Process):
                one = kind(target=work.add, args=(1,), kwargs={"y": 2})
                one.start()
                assert one.result(10) == one.result() == 3
                one.join()
            assert one.exitcode == 0 and one.reading is None
            mine = Mine(name="mine")
            mine.start()
            assert mine.result() == "mine"
        """,
        folder,
        *QUIET,
    )


def test_a_process_ends_before_anybody_asks_for_its_large_result(folder: Path) -> None:
    run(
        """
        import forkright as fr, work
        if __name__ == "__main__":
            process = fr.Process(target=work.large, args=(20_000_000,))
            process.start()
            process.join()
            assert process.exitcode == 0 and process.result() == work.large(20_000_000)
        """,
        folder,
        *QUIET,
    )


def test_what_became_of_a_process_is_told(folder: Path) -> None:
    script = """
        import threading, forkright as fr, work
        def outcome(target, *args, timeout=None):
            process = fr.Process(target=target, args=args, name="mine")
            try:
                process.start()
                process.result(timeout)
            except BaseException as error:
                print(type(error).__name__, str(error).replace(str(process.pid), "PID"), sep=": ")
                return process, error
        if __name__ == "__main__":
            assert "work.py" in str(outcome(work.refuse)[1].__cause__)
            outcome(work.die)
            outcome(work.lock)
            outcome(lambda: 0)
            process, _ = outcome(work.nap, 1000, timeout=0.1)
            process.kill()
            try: process.result()
            except fr.WorkerDied as error: print(error.exitcode)
            try: fr.Process(target=work.nap).result()
            except ValueError as error: print(error)
        """
    with start(script, folder, *QUIET) as script:
        assert script.wait() == 0, script.err
        lines = script.out.splitlines()
        script.until_gone()
    assert lines[0] == "KeyError: 'no'"
    assert lines[1] == "WorkerDied: the worker process PID died while it ran `mine`: it left with exit code 7"
    assert lines[2].startswith("UnpicklableError: the result of mine can't be sent to another process")
    assert lines[3].startswith("UnpicklableError: the process mine can't be sent to another process")
    assert [line.strip() for line in lines[4:]] == ["TimeoutError:", "-9", "process not started"]


# Errors


def test_what_can_not_travel_is_named_with_what_to_do(folder: Path) -> None:
    lines = run(
        """
        import threading, forkright as fr, work
        if __name__ == "__main__":
            def attempt(call):
                try: call()
                except fr.UnpicklableError as error: print(error)
            unnamed = lambda x: x
            attempt(lambda: fr.map(unnamed, [1], plan="processes"))
            attempt(lambda: fr.map(work.square, [1, threading.Lock()], plan="processes"))
            attempt(lambda: fr.map(work.lock, [1], plan="processes"))
            with fr.ProcessPoolExecutor(1) as executor:
                attempt(executor.submit(work.square, threading.Lock()).result)
        """,
        folder,
        *QUIET,
    )
    begins = (
        "the function `<lambda>` can't",
        "an argument of `square` can't",
        "the result of `lock` can't",
        "the call of `square` can't",
    )
    for line, begin in zip(lines, begins, strict=True):
        assert line.startswith(f"{begin} be sent to another process") and 'plan="threads"' in line


def test_a_worker_process_that_dies_breaks_its_map_and_no_other(folder: Path) -> None:
    lines = run(
        """
        import forkright as fr, work
        if __name__ == "__main__":
            try:
                fr.map(work.die, range(2), plan="processes")
            except fr.BrokenWorkers as error:
                print(error)
            print(fr.map(work.square, range(3), plan="processes"))
        """,
        folder,
        *QUIET,
    )
    assert "during the map of `die`" in lines[0] and lines[1] == "[0, 1, 4]"


def test_a_script_without_its_guard_is_told_of_it(folder: Path) -> None:
    with start("import forkright as fr; fr.map(abs, range(4), plan='processes')", folder) as script:
        assert script.wait() == 1
        # The standard library's resource tracker may have its say after it.
        question = 'does the script have its `if __name__ == "__main__":`?'
        assert any(line.endswith(question) for line in script.err.splitlines())


def test_arguments_without_sense_are_refused_as_with_the_extension(folder: Path) -> None:
    run(
        """
        import forkright as fr
        def refuses(kind, call):
            try: call()
            except kind: return
            raise AssertionError(call)
        refuses(TypeError, lambda: fr.map(abs))
        refuses(TypeError, lambda: fr.map(5, [1]))
        refuses(ValueError, lambda: fr.map(abs, [1], plan="fast"))
        refuses(ValueError, lambda: fr.map(abs, [1], workers=0))
        refuses(ValueError, lambda: fr.map(abs, [1], chunksize=0))
        refuses(ValueError, lambda: fr.map(abs, [1], on_error="ignore"))
        refuses(ValueError, lambda: fr.map(abs, [1], timeout=float("nan")))
        refuses(TypeError, lambda: fr.map(abs, [1], timeout="1"))
        refuses(ValueError, lambda: fr.Executor(0))
        refuses(TypeError, lambda: fr.Executor(2, initializer=5))
        refuses(ValueError, lambda: fr.Pool(0))
        refuses(AttributeError, lambda: fr.nothing_like_it)
        """,
        folder,
        *QUIET,
    )


def test_what_would_be_shared_is_copied_and_said_where_that_matters(folder: Path) -> None:
    lines = run(
        """
        import warnings
        import forkright as fr, work
        if __name__ == "__main__":
            view = fr.share(b"bytes")
            print(bytes(view), view.readonly, fr.map(bytes, [view], plan="threads"))
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                view = fr.share(bytearray(b"bytes"), writable=True)
            view[0] = 66
            print(bytes(view), "nothing is shared" in str(caught[0].message))
        """,
        folder,
        *QUIET,
    )
    assert lines == ["b'bytes' True [b'bytes']", "b'Bytes' True"]


# What keeps it right


def test_every_public_name_is_there(folder: Path) -> None:
    [line] = run(
        "import forkright as fr; print(all(getattr(fr, name) is not None for name in fr.__all__), len(fr.__all__))",
        folder,
        "-W",
        "error",
    )
    assert line == f"True {len(forkright.__all__)}"


@pytest.mark.parametrize(
    "name",
    [
        *("cpu_count", "parse_command", "close_shared", "run_map", "share", "shared_place"),
        *("Pool", "Pool.submit", "Pool.close", "Pool.join"),
    ],
)
def test_what_stands_in_is_called_as_the_extension_is(name: str) -> None:
    from forkright import _core
    from forkright._fallback import core

    def parameters(module: object) -> list[tuple[str, object]]:
        found = module
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found)
        return [(parameter.name, parameter.default) for parameter in inspect.signature(found).parameters.values()]

    assert parameters(core) == parameters(_core)


def test_with_the_extension_none_of_this_is_loaded(tmp_path: Path) -> None:
    lines = run(
        """
        import sys, forkright as fr
        fr.map(abs, range(4), plan="processes"), fr.Executor, fr.Pool, fr.Process, fr.Thread, fr.report()
        print([name for name in sys.modules if "_fallback" in name], fr._core.__file__.endswith(".so"))
        """,
        tmp_path,
    )
    assert lines == ["[] True"]


# Calls with terms


@pytest.mark.parametrize("plan", ["threads", "processes", "auto"])
def test_a_late_call_fails_on_time_and_what_is_not_kept_is_said(folder: Path, plan: str) -> None:
    lines = run(
        f"""
        import warnings
        import forkright as fr
        from work import nap, square
        if __name__ == "__main__":
            warnings.simplefilter("ignore")
            with fr.Executor(1, plan={plan!r}) as executor:
                view = executor.options(task_timeout=1)
                error = view.submit(nap, 3).exception()
                print(type(error).__name__, error.task, error.pid)
                print(executor.submit(square, 3).result(), list(view.map(square, [4, 5])))
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    print(view.options(retries=1, priority=2).submit(square, 6).result())
                print([str(one.message)[:33] for one in caught])
        """,
        folder,
        *QUIET,
    )
    assert lines == ["TaskTimeoutError nap 0", "9 [16, 25]", "36", "['retries and priority are not kept']"]


def test_coroutine_functions_and_asyncio_programs_run_too(folder: Path) -> None:
    lines = run(
        """
        import asyncio
        import forkright as fr
        from work import square

        async def double(x):
            await asyncio.sleep(0)
            return 2 * x

        async def main():
            print(await fr.amap(square, range(4)), await fr.amap(double, range(4)))
            print([x async for x in fr.aimap(square, range(4), plan="threads")])

        print(fr.map(double, range(4)), fr.report().why)
        asyncio.run(main())
        """,
        folder,
        *QUIET,
    )
    assert lines == [
        "[0, 2, 4, 6] an event loop in this process and up to 100 calls at a time, as `double` is a coroutine function",
        "[0, 1, 4, 9] [0, 2, 4, 6]",
        "[0, 1, 4, 9]",
    ]


@pytest.mark.parametrize("plan", ["serial", "threads", "processes", "auto"])
def test_contexts_follow_calls_and_workers_keep_their_state(folder: Path, plan: str) -> None:
    (folder / "variables.py").write_text(
        """
import contextvars
import forkright as fr
number = contextvars.ContextVar("number", default=0)
def see(x):
    seen = number.get()
    number.set(x)
    return seen
def count(x):
    state = fr.worker_state()
    state.calls = getattr(state, "calls", 0) + 1
    return fr.worker_state(list) is fr.worker_state(list), state.calls > 0
"""
    )
    run(
        f"""
        import forkright as fr
        import variables
        if __name__ == "__main__":
            variables.number.set(7)
            assert fr.map(variables.see, range(1, 9), plan={plan!r}, context=True) == [7] * 8
            assert fr.map(variables.see, range(1, 9), plan={plan!r}, context=[variables.number]) == [7] * 8
            assert list(fr.imap(variables.see, range(1, 9), plan={plan!r}, context=True)) == [7] * 8
            assert fr.map(variables.count, range(8), plan={plan!r}) == [(True, True)] * 8
            if {plan!r} == "auto":
                assert fr.map(variables.see, range(1, 9)) == [7] * 8
            with fr.Executor(2, plan={plan!r}, context=True) as executor:
                assert executor.submit(variables.see, 1).result() == 7
            fr.keep_workers(5)
            fr.release()
        """,
        folder,
        *QUIET,
    )


# Progress


def test_progress_is_shown(folder: Path) -> None:
    lines = run(
        """
        import forkright as fr
        from work import square
        if __name__ == "__main__":
            told = []
            for plan in ("serial", "threads", "processes", "hybrid", "auto"):
                fr.map(square, range(20), plan=plan, progress=told.append)
                list(fr.imap(square, range(20), plan=plan, progress=told.append))
                print(*[(last.done, last.failed, last.plan) for last in told if last.over])
                told.clear()
        """,
        folder,
        *QUIET,
    )
    kinds = ["serial", "threads", "processes", "processes", "threads"]
    assert lines == [f"(20, 0, '{kind}') (20, 0, '{kind}')" for kind in kinds]


# Clusters


def test_a_cluster_needs_no_extension(folder: Path) -> None:
    lines = run(
        """
        import concurrent.futures
        import forkright as fr
        with concurrent.futures.ThreadPoolExecutor(2) as cluster:
            print(fr.map(lambda item: -item, range(5), cluster=cluster))
            print(list(fr.imap(abs, range(5), cluster=cluster, chunksize=2)))
            print(str(fr.report()).startswith("the cluster"), fr.report().plan.kind)
            with fr.Executor(cluster=cluster) as executor:
                print(executor.submit(pow, 2, 5).result(), executor.report().plan)
        """,
        folder,
    )
    assert lines == [
        "[0, -1, -2, -3, -4]",
        "[0, 1, 2, 3, 4]",
        "True cluster",
        "32 2 workers of the ThreadPoolExecutor",
    ]
