"""The code in the documentation runs as it stands, on every page: nothing has to be listed here.

- Python blocks of a page are one script, in their order.
- Blocks with a title are files: they lie beside that script, and run by themselves.
- Lines of console blocks that begin with `$ ` are commands, run where the files lie. What they print is not compared.
- Blocks of IPython are cells of one session.
- In tables whose first columns are "before" and "after", what the two cells of a row give is the same. They run behind
  the block with the title "setup" that was last.

What needs a library that is not here is skipped, and says so.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

import forkright
from scripts import run, run_command

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
FENCE = re.compile(r'^( *)```(\w+)(?: title="([^"]+)")?\n(.*?)^\1```$', re.DOTALL | re.MULTILINE)
SETUP = "setup"
# What a page of clusters shows runs where clusters are started: tests/clusters.
ELSEWHERE = {"clusters.md"}


class Block(NamedTuple):
    """A block of code of a page."""

    language: str
    title: str | None
    code: str


def blocks(page: Path) -> list[Block]:
    return [Block(language, title or None, code) for _, language, title, code in FENCE.findall(page.read_text())]


def python(page: Path) -> str:
    """The script of a page."""
    return "\n".join(block.code for block in blocks(page) if block.language == "python" and not block.title)


def files(page: Path) -> dict[str, str]:
    return {block.title: block.code for block in blocks(page) if block.title and block.title != SETUP}


def commands(page: Path) -> list[str]:
    shown = "".join(block.code for block in blocks(page) if block.language == "console")
    return re.findall(r"^\$ (.*)$", shown, re.MULTILINE)


def cells(page: Path) -> list[str]:
    return [block.code for block in blocks(page) if block.language == "ipython"]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def need(code: str) -> None:
    """Skip what imports a library that is not here."""
    for library in re.findall(r"^(?:import|from) (\w+)", code, re.MULTILINE):
        if find_spec(library) is None:
            pytest.skip(f"{library} is not installed")


def write(page: Path, folder: Path) -> None:
    for name, code in files(page).items():
        (folder / name).write_text(code)
    (folder / "examples").symlink_to(ROOT / "examples")


def the_pages(what: object) -> pytest.MarkDecorator:
    """One test for each page that has something of a kind."""
    having = [page for page in PAGES if page.name not in ELSEWHERE and what(page)]  # type: ignore[operator]
    assert having
    return pytest.mark.parametrize("page", having, ids=named)


@the_pages(python)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    need(python(page))
    run(python(page), tmp_path)


def programs() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        yield from ((page, name) for name in files(page))


@pytest.mark.parametrize(("page", "name"), list(programs()), ids=lambda it: it if isinstance(it, str) else named(it))
def test_a_program_of_a_page_runs(page: Path, name: str, tmp_path: Path) -> None:
    need(files(page)[name])
    write(page, tmp_path)
    run_command([name], tmp_path)


@the_pages(commands)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    write(page, tmp_path)
    # `python` and `forkright` are those that run this test.
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in commands(page):
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


@the_pages(cells)
def test_the_cells_of_a_page_run(page: Path, tmp_path: Path) -> None:
    need("import IPython")
    run(
        f"""
        import os
        os.environ["IPYTHONDIR"] = {str(tmp_path)!r}
        from IPython.core.interactiveshell import InteractiveShell

        shell = InteractiveShell.instance()
        for cell in {cells(page)!r}:
            shell.run_cell(cell).raise_error()
        """,
        tmp_path,
    )


# Tables of what one has and what it becomes


class Row(NamedTuple):
    """What two cells of a table say, and what comes before them."""

    setup: str
    before: str
    after: str


def rows() -> Iterator[tuple[str, Row]]:
    for page in PAGES:
        setup, heading, inside = "", "", False
        pieces = re.split(r"(?m)^(```.*\n(?:.*\n)*?```$)", page.read_text())
        for piece in pieces:
            if piece.startswith("```"):
                if f'title="{SETUP}"' in piece:
                    setup = "\n".join(piece.splitlines()[1:-1])
                continue
            for number, line in enumerate(piece.splitlines()):
                columns = [cell.strip() for cell in line.strip().strip("|").split("|")]
                if line.startswith("#"):
                    heading = line.strip("# ")
                if line.startswith("|"):
                    inside = inside or columns[:2] == ["before", "after"]
                    if inside and "`" in line:
                        yield f"{heading}-{number}", Row(setup, code(columns[0]), code(columns[1]))
                else:
                    inside = False


def code(cell: str) -> str:
    return "\n".join(re.findall(r"`([^`]+)`", cell))


def value_of(lines: str) -> str:
    """The same, with what the last line gives as `results`, unless it says so itself."""
    tree = ast.parse(lines)
    if isinstance(tree.body[-1], ast.Expr):
        tree.body[-1] = ast.Assign([ast.Name("results", ast.Store())], tree.body[-1].value, lineno=0)
    return ast.unparse(ast.fix_missing_locations(tree))


def indented(lines: str) -> str:
    return "\n".join("    " + line for line in lines.splitlines())


ROWS = dict(rows())


@pytest.mark.parametrize("name", ROWS)
def test_what_it_becomes_gives_what_it_was(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    need(row.setup)
    script = [row.setup, "if __name__ == '__main__':", "    results = None"]
    script += [indented(value_of(row.before)), "    before, results = results, None"]
    script += [indented(value_of(row.after)), "    print(repr(before), repr(results), sep='\\n')"]
    (tmp_path / "script.py").write_text("\n".join(script))
    before, after = run_command(["script.py"], tmp_path)[-2:]
    # A plain thread has no result: there the second cell may give more.
    assert before in ("None", after)
    assert ("results" in row.before) == (before != "None")


def test_the_tables_are_found() -> None:
    assert {name.rpartition("-")[0] for name in ROWS} == {
        "threading",
        "multiprocessing",
        "concurrent.futures",
        "joblib",
        "MPIRE",
        "Ray tasks",
    }
    assert len(ROWS) > 30


# The reference


def test_the_reference_has_every_public_name() -> None:
    reference = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))
    there = set(re.findall(r"^::: forkright\.(\w+)$", reference, re.MULTILINE))
    assert set(forkright.__all__) - there == {"__version__"}
