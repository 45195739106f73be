"""What a new worker process is told about the caller, as it is now."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._spawning import Lent

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The first thing is that Ctrl-C, which a terminal sends to all of its processes, is the caller's business alone.
# -P: the working directory must not shadow a module that the helper imports. The caller's paths come with each worker.
_BOOTSTRAP = (
    "import _signal; _signal.signal(_signal.SIGINT, lambda *_: None); "
    "import sys; root = {root!r}; known = root in sys.path; known or sys.path.append(root); "
    "from forkright import _zygote; known or sys.path.remove(root); _zygote.main({caller})"
)


# pytest sets it anew for each step of a test: for its sake workers would never be warm.
_PYTEST = b"PYTEST_CURRENT_TEST"


class Initializer:
    """What each worker calls first, pickled with its arguments, and what they lend to every worker that comes."""

    def __init__(self, function: Callable[..., object], payload: bytes, lent: Lent) -> None:
        self.function = function
        self.payload = payload
        self._lent = lent


def make(initializer: Initializer | None, share: int) -> tuple[bytes, tuple[list[str], str, str], bool]:
    """The spec of a worker, the program that forks it, and whether it is a plain one. `share` are the worker's cores.

    A worker that is not plain has something to do for this program in particular before it is ready.
    """
    import _pickle  # what it imports in turn is not needed for `program`, which is in a hurry

    spec = {
        "initializer": initializer and initializer.payload,
        "share": share,
        "directory": _directory(),
        "environment": os.environb._data.copy(),  # type: ignore[attr-defined]  # as in `_budget`
        "path": list(sys.path),
        "argv": list(getattr(sys, "argv", [""])),
        "umask": _umask(),
        "authkey": _authkey(),
        "start_method": _start_method(),
        "tracker": _tracker(),
        "main": _main(),
        "logging": _logging(),
    }
    particular = ("initializer", "authkey", "start_method", "tracker", "main", "logging")
    return _pickle.dumps(spec, 5), program(), all(spec[name] is None for name in particular)


def changed_surroundings(before: object) -> object:
    """What a new worker finds of this process otherwise than other programs do, if it has changed; else None.

    Workers that were started before do not suit the caller any more then.
    """
    environment = os.environb._data.copy()  # type: ignore[attr-defined]
    environment.pop(_PYTEST, None)
    now = (
        _directory(),
        environment,
        sys.path.copy(),
        getattr(sys, "argv", [""]).copy(),
        _umask(),
        _streams(),
        os.sched_getaffinity(0),
        _logging(),
    )
    return None if now == before else now


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _streams() -> list[tuple[int, int] | None]:
    """Where standard output and error lead."""
    found: list[tuple[int, int] | None] = []
    for number in (1, 2):
        try:
            stream = os.fstat(number)
        except OSError:
            found.append(None)
        else:
            found.append((stream.st_dev, stream.st_ino))
    return found


def program() -> tuple[list[str], str, str]:
    """The command of the zygote, the word that makes it one worker instead, and what makes it unfit if it changes."""
    command = [sys.executable, "-P", *_flags(), "-c", _BOOTSTRAP.format(root=_ROOT, caller=os.getpid())]
    return command, "single", _circumstances()


def _flags() -> list[str]:
    """The options that give another interpreter this one's flags.

    As `subprocess._args_from_interpreter_flags`; written out here because importing `subprocess` takes longer
    than the rest of a worker's start on this side.
    """
    letters = {
        "debug": "d",
        "dont_write_bytecode": "B",
        "no_site": "S",
        "verbose": "v",
        "bytes_warning": "b",
        "quiet": "q",
        "optimize": "O",
    }
    flags = ["-" + letter * count for name, letter in letters.items() if (count := getattr(sys.flags, name)) > 0]
    if sys.flags.isolated:
        # Its parts: -P comes anyway, and -I would leave out the path to this package.
        flags += ["-E", "-s"]
    else:
        flags += ["-E"] * sys.flags.ignore_environment + ["-s"] * sys.flags.no_user_site
    flags += [f"-W{option}" for option in _warnings()]
    for name, value in sorted(sys._xoptions.items()):
        if name != "importtime" and name != "showrefcount":
            flags += ["-X", name if value is True else f"{name}={value}"]
    return flags


def _warnings() -> list[str]:
    """The warning options that were given, without those that other flags imply."""
    options = list(sys.warnoptions)
    implied = {"default": sys.flags.dev_mode}
    if sys.flags.bytes_warning > 1:
        implied["error::BytesWarning"] = True
    elif sys.flags.bytes_warning:
        implied["default::BytesWarning"] = True
    for option, is_implied in implied.items():
        if is_implied and option in options:
            options.remove(option)
    return options


def _circumstances() -> str:
    """Whatever a process inherits at its start and can't be given later."""
    import resource

    ids = (os.getresuid(), os.getresgid(), sorted(os.getgroups()))
    limits = [
        (name, resource.getrlimit(getattr(resource, name))) for name in dir(resource) if name.startswith("RLIMIT_")
    ]
    spaces = [os.readlink(f"/proc/self/ns/{space}") for space in ("mnt", "net", "pid", "user")]
    loaded = [os.environ.get(name) for name in ("LD_PRELOAD", "LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONPATH")]
    return repr((ids, limits, spaces, loaded, sorted(os.sched_getaffinity(0))))


def _loaded(name: str) -> Any:
    """The module of that name if it is in use here. Another thread may still be importing it: this waits."""
    if name not in sys.modules:
        return None
    import importlib

    return importlib.import_module(name)


def _authkey() -> bytes | None:
    """What multiprocessing's managers and listeners know their own processes by, if it is in use here."""
    process = _loaded("multiprocessing.process")
    return None if process is None else bytes(process.current_process().authkey)


def _start_method() -> str | None:
    """How multiprocessing shall start processes there, if it has been told to."""
    context = _loaded("multiprocessing.context")
    if context is None:
        return None
    methods = context._default_context
    method: str | None = methods.get_start_method(allow_none=True)
    return None if method == methods.get_all_start_methods()[0] else method


def _tracker() -> str | None:
    """Where to find the pipe to multiprocessing's tracker of shared memory, if that is in use here.

    A worker must not have a tracker of its own: it would remove, at the worker's end, what is still in use elsewhere.
    """
    module = _loaded("multiprocessing.resource_tracker")
    if module is None:
        return None
    tracker = module._resource_tracker
    if "multiprocessing.shared_memory" in sys.modules:
        tracker.ensure_running()
    return None if tracker._fd is None else f"/proc/{os.getpid()}/fd/{tracker._fd}"


def _main() -> tuple[object, int] | None:
    """Where to ask for what the main module has here, if objects may come there otherwise than with tasks."""
    if "multiprocessing.connection" not in sys.modules:
        return None
    from . import _spawning

    return _spawning.offer_main()


def _logging() -> dict[str, object] | None:
    """Where to send what is logged there, if it is wanted here."""
    module = _loaded("forkright._logging")
    return None if module is None else module.offer()


def _umask() -> int:
    # There is no call that only reads it; /proc has it without a moment in which another thread sees the wrong one.
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return 0o022
