"""Names of library functions and methods that change something: what is known of code that is not read.

Looked up by `library`. Where the program's own code has a function of such a name, that code is read instead.
"""

from __future__ import annotations

import sys


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MUTATORS = _words("""
    append extend insert pop popitem popleft appendleft extendleft remove clear sort reverse rotate
    add discard update setdefault subtract move_to_end intersection_update difference_update
    symmetric_difference_update write writelines writerow writerows writeheader read readline
    readlines readinto seek truncate close put put_nowait acquire release notify notify_all send
    sendall recv throw __setitem__ __delitem__ __setattr__ __delattr__ __iadd__ __ior__ __next__
    fill itemset resize partition shuffle seed execute executemany executescript commit rollback inc
    increment increase incr record push enqueue dequeue register set_value append_row emit observe
    log_metric frombytes fromlist setflags byteswap task_done
    """)
TAKERS = _words("get pop popitem setdefault popleft __getitem__ elements get_nowait")
INSERTERS = _words("append appendleft add extend insert setdefault update __setitem__ put push")
VIEWS = _words("reshape ravel view transpose swapaxes squeeze diagonal T real imag flat")
FRAME_MUTATORS = _words("insert pop update __setitem__ set_flags")

# module -> functions that change their first argument
CHANGE_FIRST = {
    "heapq": _words("heappush heappop heapify heappushpop heapreplace"),
    "bisect": _words("insort insort_left insort_right"),
    "operator": _words("setitem delitem iadd isub imul ior iand iconcat ixor"),
    "numpy": _words("copyto put place putmask fill_diagonal put_along_axis"),
}
# module -> functions that change, or write to, their second argument
CHANGE_SECOND = {
    "struct": _words("pack_into"),
    "json": _words("dump"),
    "pickle": _words("dump"),
    "marshal": _words("dump"),
    "shutil": _words("copyfileobj"),
}
# methods that change their first argument
METHODS_CHANGE_FIRST = _words("shuffle readinto readinto1 recv_into")
# module -> functions that change the process itself
CHANGE_PROCESS = {
    "os": _words("chdir putenv unsetenv umask fchdir nice setuid setgid"),
    "signal": _words("signal"),
    "locale": _words("setlocale"),
    "sys": _words("setrecursionlimit settrace setprofile setswitchinterval"),
    "socket": _words("setdefaulttimeout"),
    "decimal": _words("setcontext"),
    "numpy": _words("seterr set_printoptions"),
    "warnings": _words("simplefilter filterwarnings resetwarnings"),
    "gc": _words("disable enable freeze"),
    "atexit": _words("register unregister"),
}
# functions of numpy whose result shares the memory of their first argument
VIEW_FUNCTIONS = _words("""
    asarray asanyarray ravel reshape transpose squeeze atleast_1d atleast_2d swapaxes moveaxis
    broadcast_to frombuffer diagonal expand_dims rollaxis flip
    """)
# they may call what they are given with their other arguments whole, not with parts of them
WHOLE = _words("submit apply apply_async run call_soon")

_NATURES = {
    "lock": """
    _thread.lock _thread.RLock threading._RLock threading.Event threading.Condition
    threading.Semaphore threading.Barrier queue.Queue _queue.SimpleQueue
    multiprocessing.synchronize.SemLock multiprocessing.synchronize.Event
    multiprocessing.synchronize.Condition multiprocessing.synchronize.Barrier
    multiprocessing.queues.Queue multiprocessing.queues.SimpleQueue asyncio.locks.Lock
    asyncio.locks.Event asyncio.locks.Condition asyncio.locks.Semaphore asyncio.queues.Queue
    """,
    "handle": "_io._IOBase _socket.socket mmap.mmap sqlite3.Connection sqlite3.Cursor",
    "local": "_thread._local _threading_local.local",
    "context": "_contextvars.ContextVar",
    "logger": "logging.Logger logging.LoggerAdapter",
    "generator": "_random.Random numpy.random.mtrand.RandomState numpy.random._generator.Generator",
}
_NATURE_OF = {name: nature for nature, names in _NATURES.items() for name in names.split()}


def nature(kind: type | None) -> str:
    """What sort of shared thing a type is, by the names of its bases; "" for plain data."""
    if kind is None:
        return ""
    for base in kind.__mro__:
        found = _NATURE_OF.get(f"{base.__module__}.{base.__qualname__}")
        if found:
            return found
    return ""


_STREAMS = ("stdout", "stderr", "__stdout__", "__stderr__")


def is_stream(thing: object) -> bool:
    """Whether this is the standard output or error of the process."""
    return any(thing is getattr(sys, name, None) for name in _STREAMS)
