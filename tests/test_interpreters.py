"""Workers run the caller's Python as the caller does; the package loads quickly and says where it can't work."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

from scripts import run, run_command

FLAGS = """
    import sys, warnings, os
    import forkright as fr
    def state():
        names = ("debug", "optimize", "dont_write_bytecode", "no_user_site", "ignore_environment", "no_site",
                 "bytes_warning", "dev_mode", "utf8_mode", "quiet", "int_max_str_digits")
        flags = {name: getattr(sys.flags, name) for name in names}
        return flags, sys.warnoptions, {k: v for k, v in sys._xoptions.items()}, __debug__, sys.executable, sys.prefix
    def warn():
        warnings.warn("careful", RuntimeWarning)
    mine = state()
    with fr.ProcessPoolExecutor(1) as pool:
        theirs = pool.submit(state).result()
        warned = pool.submit(warn).exception()
    assert mine == theirs, (mine, theirs)
    print(type(warned).__name__, mine[0]["optimize"])
"""


@pytest.mark.parametrize(
    ("flags", "outcome"),
    [
        ((), "NoneType 0"),
        (("-O",), "NoneType 1"),
        (("-OO",), "NoneType 2"),
        (("-B",), "NoneType 0"),
        (("-X", "utf8"), "NoneType 0"),
        (("-X", "dev"), "NoneType 0"),
        (("-X", "int_max_str_digits=1000"), "NoneType 0"),
        (("-s",), "NoneType 0"),
        (("-W", "error"), "RuntimeWarning 0"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_workers_have_the_callers_interpreter_flags(tmp_path: Path, flags: tuple[str, ...], outcome: str) -> None:
    path = tmp_path / "flags.py"
    path.write_text(textwrap.dedent(FLAGS))
    assert run_command([*flags, str(path)], tmp_path)[-1:] == [outcome]


def test_workers_have_the_callers_flags_where_the_environment_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(
        "import sys, forkright as fr\n"
        "def state(): return sys.flags.ignore_environment, sys.flags.no_user_site\n"
        "with fr.ProcessPoolExecutor(1) as pool: print(state(), pool.submit(state).result())\n"
    )
    for flag, state in (("-E", (1, 0)), ("-I", (1, 1))):
        [line] = run_command([flag, str(path)], tmp_path)
        assert line == f"{state} {state}"


def test_a_module_of_the_working_directory_shadows_nothing_in_the_zygote(tmp_path: Path) -> None:
    for name in ("pickle", "signal", "select", "selectors", "numbers", "cloudpickle"):
        (tmp_path / f"{name}.py").write_text("raise SystemError('the wrong module')\n")
    (tmp_path / "elsewhere").mkdir()
    script = tmp_path / "elsewhere" / "script.py"
    script.write_text("import forkright as fr\nprint(fr.map(lambda x: x + 1, range(3), plan='processes'))\n")
    assert run_command([str(script)], tmp_path) == ["[1, 2, 3]"]


HEAVY = (
    "asyncio",
    "cloudpickle",
    "concurrent.futures",
    "dis",
    "inspect",
    "json",
    "logging",
    "multiprocessing",
    "numpy",
    "re",
    "subprocess",
    "typing",
)


def test_importing_the_package_imports_nothing_heavy(tmp_path: Path) -> None:
    [line] = run_command(
        [
            "-S",
            "-c",
            f"import sys; sys.path[:0] = {sys.path!r}; before = set(sys.modules); import forkright; "
            f"print(sorted(set({HEAVY!r}) & (set(sys.modules) - before)))",
        ],
        tmp_path,
    )
    assert line == "[]"


def test_importing_the_package_starts_nothing(tmp_path: Path) -> None:
    lines = run(
        """
        import os
        def state(): return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
        before = state()
        import forkright
        print(state() == before)
        """,
        tmp_path,
    )
    assert lines == ["True"]


def test_sub_interpreters_are_told_that_the_package_works_in_the_main_one_only(tmp_path: Path) -> None:
    lines = run(
        """
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        code = (
            "try:\\n import forkright\\n"
            "except ImportError as error:\\n print(error, flush=True)\\n"
            "else:\\n print('imported', flush=True)\\n"
        )
        import forkright
        inner = interpreters.create()
        interpreters.run_string(inner, code)
        interpreters.destroy(inner)
        print(forkright.map(abs, [-1], plan="processes"))
        """,
        tmp_path,
    )
    assert "interpreter" in lines[0] and lines[1] == "[1]"


@pytest.mark.parametrize("name", ["Executor", "Plan", "Future", "WorkerDied", "map", "ProcessPoolExecutor"])
def test_public_names_are_found_and_listed(name: str) -> None:
    import forkright

    assert name in dir(forkright) and getattr(forkright, name)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    import forkright

    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = forkright.nothing_like_it
