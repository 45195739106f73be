"""CPython's tests of `multiprocessing`'s pools and processes, with `forkright.Pool` and `forkright.Process`.

As in `adapted`, the suite itself is not changed.
"""

from __future__ import annotations

import functools
import multiprocessing
import multiprocessing.dummy
import multiprocessing.managers
import multiprocessing.shared_memory
import unittest
from typing import Any
from unittest import mock

from replaced import Replaced, start_helpers

import forkright as fr

# Classes that are derived at import are derived from ours.
with mock.patch.object(multiprocessing, "Process", fr.Process):
    from test import _test_multiprocessing as suite


class Ours(Replaced):
    def setUp(self) -> None:
        self.replace(multiprocessing, "Pool", fr.Pool)
        self.replace(multiprocessing, "Process", fr.Process)
        self.rewrite_scripts(_of_forkright)
        super().setUp()  # type: ignore[misc]


def _of_forkright(script: str) -> str:
    return script.replace("from multiprocessing import Pool", "from forkright import Pool")


class Processes(suite.ProcessesMixin):  # type: ignore[misc,name-defined]
    Pool = fr.Pool
    Process = fr.Process


class PoolOfThreads(suite.ThreadsMixin):  # type: ignore[misc,name-defined]
    @staticmethod
    def Pool(*arguments: Any, **options: Any) -> fr.Pool:
        return fr.Pool(*arguments, plan="threads", **options)


class PoolOfEither(suite.ThreadsMixin):  # type: ignore[misc,name-defined]
    """Under "auto": the suite's objects for threads show whether work stays here that must."""

    @staticmethod
    def Pool(*arguments: Any, **options: Any) -> fr.Pool:
        return fr.Pool(*arguments, plan="auto", **options)


KINDS: dict[str, tuple[type, dict[str, str]]] = {
    "pool": (
        Processes,
        {"pool": "_TestPool", "errors": "_TestPoolWorkerErrors", "lifetime": "_TestPoolWorkerLifetime"},
    ),
    "pool-threads": (PoolOfThreads, {"pool": "_TestPool"}),
    "pool-auto": (PoolOfEither, {"pool": "_TestPool"}),
    "process": (Processes, {"process": "_TestProcess", "subclassing": "_TestSubclassingProcess"}),
}


def _adapt(kind: str, family: str) -> type[unittest.TestCase]:
    mixin, families = KINDS[kind]
    name = f"{kind.replace('-', '_')}_{family}"
    bases = (Ours, getattr(suite, families[family]), mixin, unittest.TestCase)
    return type(name, bases, {"__module__": __name__})


CASES = {(kind, family): _adapt(kind, family) for kind, (_, families) in KINDS.items() for family in families}
# Worker processes look for the classes by name.
globals().update((case.__name__, case) for case in CASES.values())

_fixtures: dict[str, Any] = {"__name__": __name__}
suite.install_tests_in_module_dict(_fixtures, "spawn", only_type="processes")


@functools.cache
def setUpModule() -> None:
    """Once for all tests, though each runs in a suite of its own. What it would tear down ends with the interpreter."""
    _fixtures["setUpModule"]()
    start_helpers()
