"""Makes Markdown of the package's docstrings, for the reference. Called by mkdocstrings.

In an editor they read as they are: a block of code after `::` is indented, a name stands in backticks. On the site the
block is coloured, and a page or a name that the reference knows leads there.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

PACKAGE = "forkright"
BLOCK = re.compile(r"(\n\n|\A)?::\n\n((?:[ ]{4,}.*\n|\n)+)")
PAGE = re.compile(r"docs/([a-z-]+)\.md")
NAME = re.compile(r"(?<![`\w])`([A-Za-z_][\w.]*)`(?!`)")


class Docstrings(griffe.Extension):
    """Goes through all objects of the package once they are loaded."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        if pkg.name == PACKAGE:
            self._public = {f"{PACKAGE}.{name}" for name in pkg.exports or ()}
            self._walk(pkg)

    def _walk(self, thing: griffe.Object) -> None:
        if thing.docstring:
            thing.docstring.value = self._markdown(thing.docstring.value)
        for member in thing.members.values():
            if isinstance(member, griffe.Object):
                self._walk(member)

    def _markdown(self, text: str) -> str:
        text = BLOCK.sub(_fenced, text + "\n").rstrip()
        text = PAGE.sub(r"[\g<0>](../\1.md)", text)
        return NAME.sub(self._link, text)

    def _link(self, name: re.Match[str]) -> str:
        full = name[1] if name[1].startswith(f"{PACKAGE}.") else f"{PACKAGE}.{name[1]}"
        owner = ".".join(full.split(".")[:2])
        if owner not in self._public:
            return name[0]
        return f'<autoref identifier="{full}" optional>{name[0]}</autoref>'


def _fenced(block: re.Match[str]) -> str:
    lines = block[2].rstrip().splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line)
    code = "\n".join(line[indent:] for line in lines)
    # A `::` that stands alone says nothing by itself.
    before = ":" if block[1] is None else ""
    return f"{before}\n\n```python\n{code}\n```\n\n"
