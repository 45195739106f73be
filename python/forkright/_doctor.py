"""`forkright doctor`: what threads and worker processes are and cost on this machine, measured here and now.

`doctor` is the command; `examine` measures, one question per function; `_text` and `_warnings` put it into
words.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from . import _core, _machine
from ._executor import Executor
from ._plan import Plan
from ._report import count, seconds, size, table, times, wrap
from ._terminal import Ink, StatusLine

# How often something is measured: the median counts.
OFTEN, SELDOM = 200, 5
# Iterations of the counting loop: some 50 ms.
LOOP = 1_000_000

# The figures that a choice goes by, and how they are told: seconds unless something else is said.
CONSTANTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "thread_start": ("start a thread", seconds),
    "thread_task": ("a call for a thread", seconds),
    "zygote_start": ("start the helper", seconds),
    "process_start": ("fork a worker", seconds),
    "hop": ("a call and back", seconds),
    "process_task": ("a call in a stream", seconds),
    "byte": ("carry a megabyte", lambda byte: seconds(byte * 1e6)),
    "switch_interval": ("a turn on the GIL", seconds),
    "process_memory": ("memory of a worker", size),
}

notes: list[str] = []


def doctor(command: dict[str, Any]) -> None:
    """Run the command; prints its result."""
    found = examine(StatusLine(command["json"]))
    found["warnings"] = _warnings(found)
    found["summary"] = _summary(found)
    if command["json"]:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(_text(found, Ink(command["color"], sys.stdout))))


def examine(status: StatusLine) -> dict[str, Any]:
    """Measure everything; times in seconds, memory in bytes."""
    found: dict[str, Any] = {"form": 1, "machine": _machine.describe()}
    questions: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        # First, while this process has one thread: it must not be forked later.
        ("standard_library", _standard_library),
        ("process", _worker_process),
        ("thread", _thread),
        ("sharing", _sharing),
        ("loops", _loops),
        ("limits", _limits),
        # Last, as all the others are observed.
        ("choice", _choice),
    ]
    for number, (name, question) in enumerate(questions, 1):
        status.say(f"measuring, {number} of {len(questions)}: {name.replace('_', ' ')}")
        found[name] = question()
    status.say("")
    return found


def _standard_library() -> dict[str, Any]:
    """What `multiprocessing` takes to start a process, until code of ours runs in it."""
    import multiprocessing

    found = {}
    contexts: dict[str, Any] = {
        "fork": multiprocessing.get_context("fork"),
        "spawn": multiprocessing.get_context("spawn"),
    }
    for method, context in contexts.items():
        taken = []
        for _ in range(SELDOM):
            ours, theirs = context.Pipe()
            began = time.perf_counter()
            process = context.Process(target=_greet, args=(theirs,))
            process.start()
            theirs.close()
            ours.recv()
            taken.append(time.perf_counter() - began)
            memory = _machine.memory(process.pid or 0)
            ours.send("that is all")
            process.join()
        found[method] = {"start": statistics.median(taken), "memory": memory}  # pyright: ignore[reportPossiblyUnboundVariable]
    return found


def _greet(connection: Any) -> None:
    connection.send("running")
    connection.recv()


def _worker_process() -> dict[str, Any]:
    first, _ = _first_call(Plan(processes=1))
    others = [_first_call(Plan(processes=1)) for _ in range(SELDOM)]
    with Executor(plan=Plan(processes=1)) as executor:
        parent = executor.submit(os.getppid).result()
        hop = _hop(executor)
    return {
        "first": first,
        "start": statistics.median(taken for taken, _ in others),
        "hop": hop,
        "memory": statistics.median(memory for _, memory in others),
        # Without the helper each worker is a new interpreter: a child of this process, not of the helper.
        "forked": parent != os.getpid(),
    }


def _first_call(plan: Plan) -> tuple[float, int]:
    """Seconds from nothing to the first result of a new worker; its memory."""
    began = time.perf_counter()
    with Executor(plan=plan) as executor:
        pid = executor.submit(os.getpid).result()
        return time.perf_counter() - began, _machine.memory(pid)


def _thread() -> dict[str, Any]:
    first, _ = _first_call(Plan(threads=2))
    taken = []
    for _ in range(OFTEN):
        running = threading.Event()
        began = time.perf_counter()
        thread = threading.Thread(target=running.set)
        thread.start()
        running.wait()
        taken.append(time.perf_counter() - began)
        thread.join()
    with Executor(plan=Plan(threads=2)) as executor:
        hop = _hop(executor)
    return {"first": first, "start": statistics.median(taken), "hop": hop, "memory": _thread_memory()}


def _thread_memory() -> float:
    """Bytes each of many waiting threads takes."""
    many, over = 50, threading.Event()
    before = _machine.memory(os.getpid())
    threads = [threading.Thread(target=over.wait) for _ in range(many)]
    for thread in threads:
        thread.start()
    after = _machine.memory(os.getpid())
    over.set()
    for thread in threads:
        thread.join()
    return max(0, after - before) / many


def _hop(executor: Executor) -> float:
    """Seconds for a call of nothing much, there and back."""
    taken = []
    for _ in range(OFTEN):
        began = time.perf_counter()
        executor.submit(os.getpid).result()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _sharing() -> dict[str, Any]:
    """Whether a list that a worker appends to has grown here."""
    found = {}
    for name, plan in (("thread", Plan(threads=2)), ("process", Plan(processes=1))):
        notes.clear()
        with Executor(plan=plan) as executor:
            executor.submit(_write, f"from a {name}").result()
        found[name] = bool(notes)
    return found


def _write(text: str) -> None:
    notes.append(text)


def _loops() -> dict[str, Any]:
    """How much longer two loops that count take than one, both at a time."""
    found = {}
    for name, plan in (("threads", Plan(threads=2)), ("processes", Plan(processes=2))):
        with Executor(plan=plan) as executor:
            # So that all workers are up.
            for future in [executor.submit(_count, LOOP // 10) for _ in range(8)]:
                future.result()
            rounds = [(_taken(executor, 1), _taken(executor, 2)) for _ in range(SELDOM)]
        # The least disturbed of each.
        found[name] = min(two for _, two in rounds) / min(one for one, _ in rounds)
    return found


def _taken(executor: Executor, loops: int) -> float:
    began = time.perf_counter()
    for future in [executor.submit(_count, LOOP) for _ in range(loops)]:
        future.result()
    return time.perf_counter() - began


def _count(most: int) -> int:
    number = 0
    while number < most:
        number += 1
    return number


def _limits() -> dict[str, Any]:
    """What else may run out."""
    import resource
    import shutil

    def soft(limit: int) -> int | None:
        value = resource.getrlimit(limit)[0]
        return None if value == resource.RLIM_INFINITY else value

    try:
        shared_memory = shutil.disk_usage("/dev/shm").free
    except OSError:
        shared_memory = 0
    return {
        "open_files": soft(resource.RLIMIT_NOFILE),
        # The superuser may have as many as there is room for.
        "processes": None if os.geteuid() == 0 else soft(resource.RLIMIT_NPROC),
        "dev_shm_free": shared_memory,
    }


def _choice() -> dict[str, Any]:
    """What a choice goes by here, and where that is kept."""
    found: dict[str, Any] = json.loads(_core.constants())
    return found


def _warnings(found: dict[str, Any]) -> list[str]:
    """What will hurt, and what to do about it."""
    machine, limits, process = found["machine"], found["limits"], found["process"]
    cores, python = machine["cores"], machine["python"]
    files, tasks, shared = limits["open_files"], limits["processes"], limits["dev_shm_free"]
    # Enough for a worker process per core, and for what a program has besides.
    enough = 256 + 16 * cores["usable"]
    said = []
    if cores["usable"] == 1:
        said.append("only 1 core can be used: calls that compute end no sooner on any kind of worker")
    if cores["limited_by"] == "cgroup":
        said.append(
            f"a control group grants this process {cores['quota']:g} of {count(cores['affinity'], 'core')}; "
            f"os.cpu_count() says {os.cpu_count()}, and pools sized by it start too many workers; "
            "fr.cpu_count() knows"
        )
    elif cores["limited_by"] == "affinity":
        said.append(
            f"the affinity mask (taskset, a container) allows {cores['affinity']} of "
            f"{count(cores['online'], 'core')}; os.cpu_count() does not know of it, fr.cpu_count() does"
        )
    if not process["forked"]:
        said.append(
            "the helper that forks workers can't be used here, so each is a new interpreter, which takes "
            f"{seconds(process['start'])}; something that sitecustomize or a .pth file imports may have "
            "started a thread"
        )
    if machine["meter"]:
        said.append(
            f"the GIL can't be watched: {machine['meter']}; plan='auto' goes by CPU time alone, and takes "
            "calls that compute off the GIL for ones that hold it"
        )
    if python["debug"]:
        said.append("this is a debug build of Python, several times slower: so are all figures here")
    if files is not None and files < enough:
        said.append(f"only {files} files may be open at a time (ulimit -n); a worker process takes several")
    if tasks is not None and tasks < enough:
        said.append(f"this user may have only {tasks} processes and threads (ulimit -u): starting workers may fail")
    if shared < 64e6:
        said.append(
            f"/dev/shm has {size(shared)} left; forkright does not use it, but multiprocessing.shared_memory "
            "and what builds on it do"
        )
    return said


def _summary(found: dict[str, Any]) -> str:
    """The whole of it in one sentence."""
    process, hop = found["process"], found["process"]["hop"]
    dearer = f"{process['start'] / found['thread']['start']:.0f} times"
    shares = "memory and GIL" if found["machine"]["python"]["gil"] else "memory"
    # A hop should cost no more than a tenth of the call; more than one figure would promise too much.
    worth = seconds(float(f"{10 * hop:.0e}"))
    return (
        f"A thread shares this process's {shares}, a worker process has its own; starting one takes "
        f"{dearer} as long as a thread, and sending it a call and getting the result back {seconds(hop)}. "
        f"So processes pay for calls that hold the GIL for about {worth} or more, and threads for all that "
        "wait or compute off the GIL."
    )


def _text(found: dict[str, Any], ink: Ink) -> list[str]:
    machine, thread, process = found["machine"], found["thread"], found["process"]
    library, loops, sharing = found["standard_library"], found["loops"], found["sharing"]
    gil = machine["python"]["gil"]

    def shown(shares: bool) -> str:
        return "yes: a list it appended to grew" if shares else "no: a list it appended to stayed empty here"

    standard = ", ".join(f"{method} {seconds(cost['start'])}" for method, cost in library.items())
    memories = ", ".join(f"{method} {size(cost['memory'])}" for method, cost in library.items())
    rows = [
        ["", "a thread", "a worker process"],
        ["start the first", seconds(thread["first"]), seconds(process["first"])],
        ["start another", seconds(thread["start"]), seconds(process["start"])],
        ["  by multiprocessing", "", standard],
        ["a call and back", seconds(thread["hop"]), seconds(process["hop"])],
        ["memory each", size(thread["memory"]), size(process["memory"])],
        ["  by multiprocessing", "", memories],
        ["shares memory", shown(sharing["thread"]), shown(sharing["process"])],
        ["GILs", "one for all" if gil else "none: a free-threaded build", "one each" if gil else "none"],
        ["two loops at a time", _pair(loops["threads"]), _pair(loops["processes"])],
    ]
    heading, *lines = table(rows, right=False)
    lines = [ink.strong(heading), *lines, ""]
    facts = [("cores", _cores(machine["cores"])), ("Python", _python(machine))]
    facts.append(("the GIL", machine["meter"] or "can be watched from outside"))
    for name, text in facts:
        lines += wrap(f"{name:<21}{text}", indent=21)
    lines += ["", *_constants(found["choice"], ink)]
    for warning in found["warnings"]:
        lines += ["", *wrap(f"{ink.warning('warning:')} {warning}")]
    return [*lines, "", *wrap(found["summary"], indent=0)]


def _constants(choice: dict[str, Any], ink: Ink) -> list[str]:
    """What a choice goes by: each figure, and where it comes from."""
    rows = [["a choice goes by", "now", ""]]
    for name, (words, told) in CONSTANTS.items():
        figure = choice["constants"][name]
        times = "here and by processes before" if choice["file"] else "here"
        if figure["measured"]:
            origin = f"measured {count(figure['seen'], 'time')} {times}"
        elif figure["seen"]:
            origin = f"the default; measured {count(figure['seen'], 'time')}, too few to tell"
        else:
            origin = "the default"
        rows.append([words, told(figure["value"]), origin])
    heading, *lines = table(rows, right=False)
    kept = (
        f"in {choice['file']}" if choice["file"] else "nowhere: FORKRIGHT_CACHE says so, or there is no home directory"
    )
    return [ink.strong(heading), *lines, *wrap(f"{'kept':<21}{kept}", indent=21)]


def _pair(ratio: float) -> str:
    return f"{times(ratio)} the time of one"


def _cores(cores: dict[str, Any]) -> str:
    text = f"{cores['usable']} usable of {cores['online']}"
    match cores["limited_by"]:
        case "cgroup":
            return f"{text}: a control group grants {cores['quota']:g}"
        case "affinity":
            return f"{text}: the affinity mask allows {cores['affinity']}"
        case "worker":
            return f"{text}: the share of a worker process"
        case _:
            return f"{text}: nothing limits them"


def _python(machine: dict[str, Any]) -> str:
    python = machine["python"]
    build = [f"{python['implementation']} {python['version']}"]
    if python["free_threaded"]:
        build.append("free-threaded" + (" with the GIL switched on" if python["gil"] else ""))
    build.append("debug build" if python["debug"] else "release build")
    build.append("shared library" if python["shared_library"] else "static")
    build.append(f"threads take turns every {seconds(python['switch_interval'])}")
    return ", ".join(build)
