"""CPython's tests of `threading.Thread`, with `forkright.Thread`; as in `adapted`, the suite itself is not changed."""

from __future__ import annotations

import threading
import unittest
from unittest import mock

from replaced import Replaced

import forkright as fr

# Classes that are derived at import are derived from ours.
with mock.patch.object(threading, "Thread", fr.Thread):
    from test import test_threading as suite

_OURS = "import forkright, threading; threading.Thread = forkright.Thread\n"


class Threads(Replaced):
    def setUp(self) -> None:
        self.replace(threading, "Thread", fr.Thread)
        self.rewrite_scripts(lambda script: _OURS + script if "threading.Thread" in script else script)
        super().setUp()  # type: ignore[misc]


# Those that start threads; the rest is about locks and about threads of sub-interpreters, where forkright is not.
FAMILIES = {
    "threads": "ThreadTests",
    "shutdown": "ThreadJoinOnShutdown",
    "exceptions": "ThreadingExceptionTests",
    "excepthook": "ExceptHookTests",
}
CASES: dict[tuple[str, str], type[unittest.TestCase]] = {
    ("thread", family): type(f"thread_{family}", (Threads, getattr(suite, name)), {"__module__": __name__})
    for family, name in FAMILIES.items()
}
