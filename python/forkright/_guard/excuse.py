"""Which traces are excused, because a process would lose nothing that anybody sees: memos, lazy set-up,
random numbers that nobody seeded, logs and prints that leave the process anyway.

Called once at the end of a study. Without it most real functions would have to stay.
"""

from __future__ import annotations

import sys
from types import CodeType, FunctionType

from .instructions import Instructions
from .names import nature
from .project import owns, underlying

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .study import Study, Trace

# more references to a memo held by no module: its cell, the study's own, and whoever else could look at it
PRIVATE_REFERENCES = 12
SEED = "`seed=` gives each call one of its own"


class Excuses:
    """What the program, apart from the code that was read, could see of a write."""

    def __init__(self, study: Study, namespace: dict[str, object], besides: tuple[CodeType, ...] = ()) -> None:
        self._study = study
        self._namespace = namespace  # of the module of the function that was asked about
        self._besides = besides  # code that counts as running
        self._known: dict[CodeType, Instructions] = {}

    def of(self, trace: Trace) -> tuple[str, str]:
        """(excuse, objection): why a trace does not matter, or what makes it matter; both may be empty."""
        name = trace.value.name
        if trace.kind in ("write", "local") and trace.excuse == "lazy":
            return f"`{name}` is set up once, by each process for itself", ""
        if trace.kind == "write" and trace.excuse == "memo":
            reader = self._reader(trace)
            if reader:
                return "", f"fills the memo `{name}`, which {reader}"
            return f"`{name}` is a memo that nobody else reads; each process keeps its own", ""
        if trace.kind == "generator":
            return self._of_generator(trace)
        return "", ""

    def _of_generator(self, trace: Trace) -> tuple[str, str]:
        name, thing = trace.value.name, trace.value.thing
        draw = trace.how.strip("`")
        if not is_global_generator(thing):
            return "", f"draws from the shared generator `{name}` ({SEED})"
        if self._study.seeds_itself:
            return f"seeds the global generator of `{name}` itself, for each item", ""
        seeder = self._seeder()
        if seeder:
            return "", f"draws from the global generator (`{name}{draw}`), seeded in `{seeder}` ({SEED})"
        return (
            f"draws from the global generator (`{name}{draw}`), which nothing seeds; each process has one ({SEED})",
            "",
        )

    def _reader(self, trace: Trace) -> str:
        """Who else could look at a memo: code of its module, or a later cell; "" for nobody."""
        namespace, memo = trace.namespace, trace.value.thing
        name = trace.value.name.rpartition(".")[2]
        if namespace is None or namespace.get(name) is not memo:
            return "something else refers to" if sys.getrefcount(memo) > PRIVATE_REFERENCES else ""
        for code in (*_running(namespace), *self._besides):
            if code not in self._study.codes and self._mentions(code, name):
                return f"`{code.co_name}` also reads"
        for function in _functions(namespace):
            if function.__code__ not in self._study.codes and self._mentions(function.__code__, name):
                return f"`{function.__name__}` also reads"
        if namespace.get("__name__") == "__main__" and is_interactive() and not name.startswith("_"):
            return "a later cell or line could read"
        return ""

    def _mentions(self, code: CodeType, name: str) -> bool:
        """Whether this code, or code within it, reads that name; what was studied may."""
        if name in code.co_names:
            known = self._known.get(code)
            if known is None:
                known = self._known[code] = Instructions(code)
            if known.loads(name):
                return True
        return any(
            self._mentions(inner, name)
            for inner in code.co_consts
            if isinstance(inner, CodeType) and inner not in self._study.codes
        )

    def _seeder(self) -> str:
        """Who in the program, judging by names, seeds the global generators; "" for nobody."""
        for code in (*_running(None), *self._besides):
            if owns(code) and _seeds(code):
                return code.co_name
        for function in _functions(self._namespace):
            if _seeds(function.__code__):
                return function.__name__
        return ""

    def outputs(self) -> Iterator[str]:
        """Output of the function that would not leave a worker the way it leaves this process."""
        for logger in self._study.loggers:
            while logger is not None:
                for handler in getattr(logger, "handlers", ()):
                    if not _leaves_process(handler):
                        keeper = type(handler).__name__
                        yield f"logs to a `{keeper}`, which keeps what it gets in this process"
                logger = getattr(logger, "parent", None) if getattr(logger, "propagate", False) else None
        if self._study.prints and not _is_file(sys.stdout):
            yield "prints to a `sys.stdout` that was replaced"


def is_interactive() -> bool:
    """Whether somebody types into this program: a prompt or a notebook."""
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules


def is_global_generator(thing: object) -> bool:
    """Whether this is the generator behind the functions of `random` or of `numpy.random`."""
    standard = sys.modules.get("random")
    numpy = sys.modules.get("numpy.random.mtrand")
    owners = (getattr(standard, "_inst", None), getattr(numpy, "_rand", None))
    return thing is not None and any(thing is owner for owner in owners)


def _running(namespace: dict[str, object] | None) -> Iterator[CodeType]:
    """The code of every frame that runs now, in any thread; of one module only, if given."""
    for top in sys._current_frames().values():
        frame = top
        while frame is not None:
            if namespace is None or frame.f_globals is namespace:
                yield frame.f_code
            frame = frame.f_back  # type: ignore[assignment]


def _functions(namespace: dict[str, object]) -> Iterator[FunctionType]:
    """The functions of a module and the methods of its classes."""
    for thing in list(namespace.values()):
        own = isinstance(thing, type) and thing.__module__ == namespace.get("__name__")
        for member in list(vars(thing).values()) if own else (thing,):
            function = underlying(member)
            if isinstance(function, FunctionType) and function.__globals__ is namespace:
                yield function


def _seeds(code: CodeType) -> bool:
    return any("seed" in name for name in code.co_names) or any(
        _seeds(inner) for inner in code.co_consts if isinstance(inner, CodeType)
    )


def _leaves_process(handler: object) -> bool:
    """Whether a logging handler writes to a file or a real stream."""
    logging = sys.modules["logging"]
    if isinstance(handler, (logging.NullHandler, logging.FileHandler)):
        return True
    plain = (logging.StreamHandler, getattr(logging, "_StderrHandler", None))
    return type(handler) in plain and _is_file(getattr(handler, "stream", None))


def _is_file(stream: object) -> bool:
    """Whether a stream writes to a file descriptor."""
    return nature(type(stream)) == "handle" and getattr(stream, "buffer", None) is not None
