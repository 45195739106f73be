"""Scripts need no `if __name__ == "__main__"`: what they define reaches worker processes however they are run."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from scripts import run, run_command


def test_every_kind_of_function_of_a_script_runs_on_worker_processes(tmp_path: Path) -> None:
    lines = run(
        """
        import functools, os
        import forkright as fr

        factor = 3
        def times(x): return x * factor
        def outer(y):
            def inner(x): return times(x) + y
            return inner
        class Scale:
            def __init__(self, by): self.by = by
            def scale(self, x): return x * self.by
            def __call__(self, x): return x + self.by
            @classmethod
            def named(cls, x): return cls.__name__, x
            @staticmethod
            def plain(x): return -x
        @functools.cache
        def remembered(x): return x + 1
        def recursive(n): return 1 if n < 2 else n * recursive(n - 1)
        def pid(x): return os.getpid()

        functions = [
            times, lambda x: x + factor, outer(10), Scale(5).scale, Scale(5), Scale.named, Scale.plain,
            functools.partial(pow, 2), functools.partial(lambda a, b, c: (a, b, c), 1, c=3), remembered, recursive, str.upper,
        ]
        for function in functions:
            items = "ab" if function is str.upper else (2, 3)
            print(fr.map(function, items, plan="processes"))
            with fr.ProcessPoolExecutor(1) as pool:
                assert pool.submit(function, items[0]).result() == function(items[0]), function
        print(os.getpid() in fr.map(pid, range(4), plan="processes"))
        """,
        tmp_path,
    )
    assert lines == [
        "[6, 9]",
        "[5, 6]",
        "[16, 19]",
        "[10, 15]",
        "[7, 8]",
        "[('Scale', 2), ('Scale', 3)]",
        "[-2, -3]",
        "[4, 8]",
        "[(1, 2, 3), (1, 3, 3)]",
        "[3, 4]",
        "[2, 6]",
        "['A', 'B']",
        "False",
    ]


def test_a_script_without_a_guard_never_runs_again_in_a_worker(tmp_path: Path) -> None:
    run(
        """
        with open("runs.txt", "a") as file:
            print("run", file=file)
        import forkright as fr
        def twice(x): return 2 * x
        assert fr.map(twice, range(100), plan="processes") == [2 * x for x in range(100)]
        assert fr.map(twice, range(100), plan=fr.Plan(2, 4)) == [2 * x for x in range(100)]
        with fr.ProcessPoolExecutor(2, max_tasks_per_child=3) as pool:
            assert [pool.submit(twice, x).result() for x in range(10)] == [2 * x for x in range(10)]
        """,
        tmp_path,
    )
    assert (tmp_path / "runs.txt").read_text() == "run\n"


def test_a_script_beside_its_modules_uses_them_in_workers(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import os\ndef where(x): return __name__, x\nclass Mine: pass\n")
    lines = run(
        """
        import forkright as fr
        import mine
        print(fr.map(mine.where, [1, 2], plan="processes"))
        print([type(x) is mine.Mine for x in fr.map(lambda _: mine.Mine(), [1], plan="processes")])
        """,
        tmp_path,
    )
    assert lines == ["[('mine', 1), ('mine', 2)]", "[True]"]


PROGRAM = textwrap.dedent(
    """
    import os, forkright as fr
    def cube(x): return x ** 3
    print(fr.map(cube, range(4), plan="processes"))
    with fr.ProcessPoolExecutor(1) as pool: print(pool.submit(lambda: cube(5)).result())
    """
)


def test_a_program_piped_to_the_interpreter_runs_on_worker_processes(tmp_path: Path) -> None:
    assert run_command(["-"], tmp_path, PROGRAM) == ["[0, 1, 8, 27]", "125"]


def test_a_program_given_with_c_runs_on_worker_processes(tmp_path: Path) -> None:
    assert run_command(["-c", PROGRAM], tmp_path) == ["[0, 1, 8, 27]", "125"]


def test_a_module_run_with_m_runs_on_worker_processes(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    (tmp_path / "package" / "__main__.py").write_text(
        "from .parts import PART\nopen('runs', 'a').write('x')\n" + PROGRAM
    )
    (tmp_path / "package" / "parts.py").write_text("PART = 1\n")
    assert run_command(["-m", "package"], tmp_path) == ["[0, 1, 8, 27]", "125"]
    assert (tmp_path / "runs").read_text() == "x"


def test_functions_typed_into_an_interactive_session_run_on_worker_processes(tmp_path: Path) -> None:
    typed = textwrap.dedent(
        """
        import forkright as fr
        factor = 10
        def times(x):
            return x * factor

        fr.map(times, range(3), plan="processes")
        factor = 100
        fr.map(times, range(3), plan="processes")
        def times(x):
            return x - factor

        fr.map(times, range(3), plan="processes")
        class Point:
            pass

        type(fr.map(lambda x: Point(), [1], plan="processes")[0]) is Point
        """
    )
    assert run_command(["-i", "-q"], tmp_path, typed) == [
        "[0, 10, 20]",
        "[0, 100, 200]",
        "[-100, -99, -98]",
        "True",
    ]


def test_functions_of_notebook_cells_run_on_worker_processes(tmp_path: Path) -> None:
    lines = run(
        """
        import sys, forkright as fr
        def cell(number, text):
            exec(compile(text, f"/tmp/ipykernel_1/{number}.py", "exec"), sys.modules["__main__"].__dict__)
        cell(1, "import math\\nbase = 2\\ndef power(x): return math.pow(base, x)")
        cell(2, "print(fr.map(power, range(3), plan='processes'))")
        cell(3, "base = 3\\nprint(fr.map(power, range(3), plan='processes'))")
        cell(4, "def power(x): return -x\\nprint(fr.map(power, range(3), plan='processes'))")
        """,
        tmp_path,
    )
    assert lines == ["[1.0, 2.0, 4.0]", "[1.0, 3.0, 9.0]", "[0, -1, -2]"]


def test_classes_and_enums_of_a_script_come_back_identical(tmp_path: Path) -> None:
    lines = run(
        """
        import dataclasses, enum, typing
        import forkright as fr
        class Colour(enum.Enum):
            RED = 1
            BLUE = 2
        class Bits(enum.Flag):
            A = enum.auto()
            B = enum.auto()
        @dataclasses.dataclass(frozen=True)
        class Point:
            x: int
            colour: Colour = Colour.RED
        class Pair(typing.NamedTuple):
            a: int
            b: Point
        class Trouble(Exception):
            def __init__(self, code): super().__init__(f"trouble {code}"); self.code = code

        def work(x): return Pair(x, Point(x, Colour.BLUE))
        def complain(x): raise Trouble(x)

        for plan in ("processes", fr.Plan(2, 2)):
            pairs = fr.map(work, range(20), plan=plan)
            print(all(type(p) is Pair and type(p.b) is Point and p.b.colour is Colour.BLUE for p in pairs))
            print(fr.map(lambda c: (c, Colour), [Colour.RED], plan=plan)[0] == (Colour.RED, Colour))
            print(fr.map(lambda b: b, [Bits.A | Bits.B], plan=plan)[0] is (Bits.A | Bits.B))
            errors = fr.map(complain, range(3), plan=plan, on_error="return")
            print([(type(error) is Trouble, error.code) for error in errors])
        """,
        tmp_path,
    )
    assert lines == ["True", "True", "True", "[(True, 0), (True, 1), (True, 2)]"] * 2


@pytest.mark.parametrize("plan", ["serial", "threads", "processes", "hybrid", "auto"])
def test_globals_changed_between_two_maps_are_seen(tmp_path: Path, plan: str) -> None:
    lines = run(
        """
        import sys, forkright as fr
        plan = sys.argv[1]
        limit, table, step = 1, {"a": 1}, 1
        def helper(x): return x + step
        def work(x, extra=[]): return limit, table["a"], helper(x), len(extra)
        print(fr.map(work, [1], plan=plan))
        limit = 2
        print(fr.map(work, [1], plan=plan))
        table["a"] = 2
        print(fr.map(work, [1], plan=plan))
        step = 10
        print(fr.map(work, [1], plan=plan))
        work.__defaults__[0].append(1)
        print(fr.map(work, [1], plan=plan))
        def helper(x): return -x
        print(fr.map(work, [1], plan=plan))
        """,
        tmp_path,
        arguments=(plan,),
    )
    assert lines == [
        "[(1, 1, 2, 0)]",
        "[(2, 1, 2, 0)]",
        "[(2, 2, 2, 0)]",
        "[(2, 2, 11, 0)]",
        "[(2, 2, 11, 1)]",
        "[(2, 2, -1, 1)]",
    ]


@pytest.mark.parametrize("kind", ["ThreadPoolExecutor", "ProcessPoolExecutor", "Executor"])
def test_closures_and_defaults_changed_between_two_submits_are_seen(tmp_path: Path, kind: str) -> None:
    lines = run(
        """
        import sys, forkright as fr
        def make():
            count, seen = 0, []
            def more():
                nonlocal count
                count += 1
                seen.append(count)
            def read(also={}): return count, list(seen), dict(also)
            return more, read
        more, read = make()
        with getattr(fr, sys.argv[1])(2) as pool:
            print(pool.submit(read).result())
            more()
            print(pool.submit(read).result())
            more()
            read.__defaults__[0]["x"] = 1
            print(pool.submit(read).result())
        """,
        tmp_path,
        arguments=(kind,),
    )
    assert lines == ["(0, [], {})", "(1, [1], {})", "(2, [1, 2], {'x': 1})"]


def test_an_object_of_a_script_changed_between_two_maps_of_its_method_is_seen(tmp_path: Path) -> None:
    lines = run(
        """
        import forkright as fr
        class Scale:
            by = 2
            def scale(self, x): return x * self.by
        scale = Scale()
        print(fr.map(scale.scale, [1, 2], plan="processes"))
        scale.by = 3
        print(fr.map(scale.scale, [1, 2], plan="processes"))
        del scale.by
        Scale.by = 4
        print(fr.map(scale.scale, [1, 2], plan="processes"))
        """,
        tmp_path,
    )
    assert lines == ["[2, 4]", "[3, 6]", "[4, 8]"]


def test_an_exception_of_a_script_shows_the_line_in_the_worker(tmp_path: Path) -> None:
    lines = run(
        """
        import traceback, forkright as fr
        def divide(x): return 1 / x
        try:
            fr.map(divide, [1, 0], plan="processes")
        except ZeroDivisionError as error:
            print("def divide" in (text := "".join(traceback.format_exception(error))), text.count("in divide"), type(error.__cause__).__name__)
        """,
        tmp_path,
    )
    assert lines == ["True 1 RemoteTraceback"]
