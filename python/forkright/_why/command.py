"""`forkright why`: runs a program as it would run alone, and tells what its threads did when it has ended.

The program is a child of this process, started by the same interpreter with `_why/site` on its path, where
`sitecustomize` begins the recording. This process only waits: it passes on what signals it is sent, stops when the
program stops, and ends as the program ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from .._terminal import Ink, Trouble, complain
from . import data, text

# Signals that ask a program for something: sent to this process, they are meant for the program.
NAMES = "HUP INT QUIT USR1 USR2 ALRM TERM CONT WINCH URG IO TSTP TTIN TTOU"
PASSED_ON = tuple(getattr(signal, f"SIG{name}") for name in NAMES.split())
# What the kernel says of a signal that a terminal sent: it went to every process in the foreground, so to the program.
SI_KERNEL = 0x80


def why(command: dict[str, Any]) -> int:
    """Run the command; returns the program's exit code, or ends this process by the program's signal."""
    arguments = _arguments(command)
    with _folder() as folder:
        began = time.monotonic()
        status = _run([sys.executable, *_flags(), *arguments], folder, command["thorough"])
        wall = time.monotonic() - began
        recordings = data.read(folder) if folder else []
    program = {"argv": arguments[1:] if command["module"] else arguments, "wall": wall, "exit": _ending(status)}
    found = data.document(recordings, program, command["cores"])
    _tell(found, command)
    return _end_like(status)


@contextlib.contextmanager
def _folder() -> Iterator[str | None]:
    """Where the recordings go while they are made; none where nothing can be written, and then nothing is measured."""
    try:
        made = tempfile.TemporaryDirectory(prefix="forkright-why-", ignore_cleanup_errors=True)
    except OSError:
        yield None
        return
    with made as folder:
        yield folder


def _arguments(command: dict[str, Any]) -> list[str]:
    """What the interpreter is given after its own options."""
    program: list[str] = command["program"]
    if command["module"] is not None:
        return ["-m", command["module"], *program]
    if not program:
        raise Trouble("what is to be measured?", hint="forkright why script.py, or: forkright why -m module")
    if not os.path.exists(program[0]):
        from .._terminal import similar

        folder = os.path.dirname(program[0])
        with contextlib.suppress(OSError):
            near = similar(os.path.basename(program[0]), os.listdir(folder or "."))
            if near:
                raise Trouble(f"there is no file `{program[0]}`", hint=f"did you mean `{os.path.join(folder, near)}`?")
        raise Trouble(f"there is no file `{program[0]}`")
    return program


def _flags() -> list[str]:
    """The options that this interpreter was given, as they were given: the environment's it finds there again."""
    if sys.flags.ignore_environment or sys.flags.no_site:
        raise Trouble(
            "measuring goes by the environment and by `site`, which this Python was told to ignore",
            hint="leave out -E, -I and -S",
        )
    flags: list[str] = []
    words = iter(sys.orig_argv[1:])
    for word in words:
        if word == "--" or word == "-" or not word.startswith("-"):
            break
        if word.startswith("--"):
            flags += [word, *([next(words, "")] if word == "--check-hash-based-pycs" else [])]
            continue
        letters = word[1:]
        end = next((index for index, letter in enumerate(letters) if letter in "mcWX"), len(letters))
        if letters[end : end + 1] in ("W", "X"):
            flags.append(word)
            if end + 1 == len(letters):
                flags.append(next(words, ""))
        else:
            flags += [f"-{letters[:end]}"] if end else []
            if end < len(letters):
                break
    return flags


def _run(command: list[str], folder: str | None, thorough: bool) -> int:
    """Run the program to its end; returns its wait status."""
    environment = dict(os.environ)
    if folder:
        site = os.path.join(os.path.dirname(__file__), "site")
        path = os.pathsep.join(filter(None, [site, os.environ.get("PYTHONPATH")]))
        environment |= {"PYTHONPATH": path, "FORKRIGHT_WHY": folder}
        environment.pop("FORKRIGHT_WHY_THOROUGH", None)
        if thorough:
            environment["FORKRIGHT_WHY_THOROUGH"] = "1"
    with _signals_held() as before:
        pid = os.posix_spawn(
            command[0],
            command,
            environment,
            setsigmask=before,
            # As for any child: the interpreter ignores these for itself.
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
        )
        try:
            return _attend(pid)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise


@contextlib.contextmanager
def _signals_held() -> Iterator[set[signal.Signals]]:
    """Signals wait until they are asked for."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *PASSED_ON})
    try:
        yield {known for known in before if isinstance(known, signal.Signals)}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _attend(pid: int) -> int:
    """Wait for the program's end; meanwhile pass signals on, and stop when it stops."""
    while True:
        news = signal.sigwaitinfo({signal.SIGCHLD, *PASSED_ON})
        if news.si_signo == signal.SIGCHLD:
            found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if found and os.WIFSTOPPED(status):
                # Whoever started us sees the program stop; what continues us is passed on.
                os.kill(os.getpid(), signal.SIGSTOP)
                os.kill(pid, signal.SIGCONT)
            elif found:
                return status
        elif news.si_code != SI_KERNEL:
            os.kill(pid, news.si_signo)


def _ending(status: int) -> dict[str, Any]:
    if os.WIFEXITED(status):
        return {"code": os.WEXITSTATUS(status)}
    number = os.WTERMSIG(status)
    with contextlib.suppress(ValueError):
        return {"signal": signal.Signals(number).name}
    return {"signal": f"signal {number}"}


def _end_like(status: int) -> int:
    """End as the program did: by its signal, or with the exit code that is returned."""
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    import resource

    number = os.WTERMSIG(status)
    # The program has left its core, if any.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
    sys.stderr.flush()
    os.kill(os.getpid(), number)
    return 128 + number


def _tell(found: dict[str, Any], command: dict[str, Any]) -> None:
    """Print what was found and write the files that were asked for."""
    ink = Ink(command["color"], sys.stderr)
    title, *rest = text.lines(found)
    with contextlib.suppress(BrokenPipeError):
        print("\n".join(["", ink.strong(title), *rest]), file=sys.stderr)
    for name, render in RENDERERS.items():
        file = command[name]
        if file is not None:
            try:
                with open(file, "w", encoding="utf-8") as out:
                    out.write(render(found))
            except OSError as error:
                complain(Trouble(f"`{file}` can't be written: {error.strerror}"), command["color"])


def _page(found: dict[str, Any]) -> str:
    from . import page

    return page.render(found)


def _trace(found: dict[str, Any]) -> str:
    from . import trace

    return trace.render(found)


RENDERERS: dict[str, Callable[[dict[str, Any]], str]] = {"html": _page, "trace": _trace, "json": json.dumps}
