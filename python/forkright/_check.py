"""`forkright check`: whether a function may leave for worker processes, told without calling it.

A process of its own looks (`_inspection`): nothing of the user's is loaded here. This module words what it found.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from ._compare import ask, expect
from ._report import count, wrap
from ._terminal import Ink, Trouble

STAYS = 1


def check(command: dict[str, Any]) -> int:
    """Run the command; prints its result and returns its exit code."""
    try:
        expect(command["file"])
        request = {name: command[name] for name in ("file", "function", "items")}
        found = ask(request | {"inspect": True})
    except Trouble as trouble:
        # 1 has a meaning of its own here.
        raise Trouble(str(trouble), hint=trouble.hint, details=trouble.details, code=2) from trouble
    may_leave = not found["findings"]
    if command["json"]:
        document = {"form": 1, "file": command["file"], "function": command["function"], "may_leave": may_leave}
        print(json.dumps(document | {"verdict": _verdict(command, found)} | found, indent=2))
    else:
        print("\n".join(_text(command, found)))
    return 0 if may_leave else STAYS


def _verdict(command: dict[str, Any], found: dict[str, Any]) -> str:
    """The whole of it in one sentence."""
    name = f"`{command['function']}`"
    if not found["findings"]:
        return (
            f'{name} may leave for worker processes under plan="auto": nothing is against it, as far as could be seen'
        )
    against = count(len(found["findings"]), "finding")
    verb = "is" if len(found["findings"]) == 1 else "are"
    return f'{name} must stay in its process under plan="auto": {against} {verb} against leaving it'


def _text(command: dict[str, Any], found: dict[str, Any]) -> list[str]:
    ink = Ink(command["color"], sys.stdout)
    first, *rest = wrap(_verdict(command, found))
    lines = [ink.strong(first), *map(ink.strong, rest)]
    for finding in found["findings"]:
        where = _where(finding)
        lines += ["", *([ink.faint(f"  {where}")] if where else []), *_indented(finding["sentence"])]
    for heading, name in (("sent to a worker process", "sent"), ("excused", "notes"), ("not seen", "unseen")):
        if found[name]:
            lines += ["", f"{heading}:"]
            for text in found[name]:
                lines += wrap(f"  - {text}", indent=4)
    return lines


def _where(finding: dict[str, Any]) -> str:
    """`file:line`, as editors open it; the file as seen from here."""
    if not finding["file"]:
        return ""
    near = os.path.relpath(finding["file"])
    file = finding["file"] if near.startswith("..") else near
    return f"{file}:{finding['line']}" if finding["line"] else file


def _indented(sentence: str) -> list[str]:
    return [f"  {line}" for line in wrap(sentence, indent=0)]
