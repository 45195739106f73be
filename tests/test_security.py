"""Nobody but a process and its own children has a way to what forkright moves between them: docs/threat-model.md."""

from __future__ import annotations

import contextlib
import os
import pty
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from scripts import run

# A script that has workers of every kind, and tells of a process.
BEGINNING = """
    import os, signal, stat, sys, threading
    import forkright as fr

    def family(_=None):
        "Every process that this one started, and itself: the zygote and the workers."
        parents = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    parents[int(entry)] = int(open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()[1])
                except OSError:
                    pass
        found = {os.getpid()}
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)

    def descriptors(pid="self"):
        "What each descriptor is, by number; the one that lists the others is gone again."
        found = {}
        for number in os.listdir(f"/proc/{pid}/fd"):
            try:
                found[int(number)] = os.readlink(f"/proc/{pid}/fd/{number}")
            except FileNotFoundError:
                pass
        return found

    def nothing(_=None):
        pass

    def busy():
        "Workers of processes, of a hybrid plan, of a map and a process, all at work before."
        global pools
        pools = [fr.ProcessPoolExecutor(2), fr.Executor(plan=fr.Plan(2, 2)), fr.Pool(2)]
        pools[0].submit(nothing).result(), pools[1].submit(nothing).result(), pools[2].apply(nothing)
        fr.map(nothing, range(4), plan="processes")
        fr.map(bytes, [10_000_000] * 3, plan="processes")
"""


def test_no_process_of_ours_has_a_socket_that_others_could_reach(tmp_path: Path) -> None:
    lines = run(
        BEGINNING
        + """
    busy()
    family = family()
    assert len(family) > 5
    inodes = {
        target[8:-1] for pid in family for target in descriptors(pid).values() if target.startswith("socket:[")
    }
    named = []
    # The kernel's tables of this network namespace: what has a name or a port has a line with it.
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet", "netlink"):
        try:
            rows = open(f"/proc/net/{table}").read().split("\\n")[1:]
        except FileNotFoundError:
            continue
        named += [(table, row) for row in rows if inodes & set(row.split())]
    unnamed = 0
    for row in open("/proc/net/unix").read().split("\\n")[1:]:
        fields = row.split()
        if len(fields) > 6 and fields[6] in inodes:
            if len(fields) > 7 or fields[3] != "00000000":  # a path or an abstract name; "listens"
                named.append(("unix", row))
            unnamed += 1
    print(named, bool(inodes), unnamed == len(inodes))
    """,
        tmp_path,
    )
    assert lines == ["[] True True"]


def test_shared_memory_has_no_name_and_no_file(tmp_path: Path) -> None:
    lines = run(
        BEGINNING
        + """
    before = set(os.listdir("/dev/shm")), set(os.listdir("/tmp"))
    busy()
    shared = set()
    for pid in family():
        for row in open(f"/proc/{pid}/maps"):
            fields = row.split(maxsplit=5)
            if fields[1].startswith("rw") and fields[1].endswith("s") and len(fields) > 5:
                shared.add(fields[5].strip())
    print(all(name.startswith("/memfd:") and name.endswith(" (deleted)") for name in shared), bool(shared))
    print((set(os.listdir("/dev/shm")) - before[0]) | {name for name in os.listdir("/tmp") if "forkright" in name} - before[1])
    """,
        tmp_path,
    )
    assert lines == ["True True", "set()"]


def test_a_worker_has_its_own_descriptors_only(tmp_path: Path) -> None:
    lines = run(
        BEGINNING
        + """
    import socket, tempfile
    file = tempfile.TemporaryFile()
    listening = socket.create_server(("127.0.0.1", 0))
    ends = os.pipe()
    for number in (file.fileno(), listening.fileno(), *ends):
        os.set_inheritable(number, True)
    mine = set(descriptors().values())
    kinds = []
    for plan in (fr.Plan(3), fr.Plan(1, 3)):
        with fr.Executor(plan=plan) as executor:
            for theirs in [executor.submit(descriptors) for _ in range(6)]:
                for number, target in theirs.result().items():
                    # The standard streams are the caller's; the rest is memory that it shares with the caller alone.
                    if number > 2 and not target.startswith("/proc/"):
                        kinds.append(target.partition(":")[0])
                        assert target.startswith("/memfd:forkright"), target
    print(sorted(set(kinds)))
    """,
        tmp_path,
    )
    assert lines == ["['/memfd']"]


def test_workers_share_no_memory_with_each_other(tmp_path: Path) -> None:
    lines = run(
        BEGINNING
        + """
    import time
    def mapped():
        time.sleep(0.05)
        found = set()
        for row in open("/proc/self/maps"):
            fields = row.split(maxsplit=5)
            if fields[1].endswith("s") and int(fields[4]):
                found.add(fields[4])
        return os.getpid(), found
    with fr.ProcessPoolExecutor(3) as pool:
        seen = dict(future.result() for future in [pool.submit(mapped) for _ in range(30)])
    rows = list(seen.values())
    alike = set.intersection(*rows) if len(rows) > 1 else None
    print(len(rows) > 1, len(alike))
    """,
        tmp_path,
    )
    several, alike = lines[0].split()
    assert several == "True"
    # The caller's own payloads, which every worker may read, are one memory; rings are each worker's own.
    assert int(alike) <= 2


def test_workers_begin_with_no_signal_blocked_or_ignored_that_the_caller_does_not(tmp_path: Path) -> None:
    lines = run(
        BEGINNING
        + """
    def masks():
        rows = dict(row.split(":\\t") for row in open("/proc/thread-self/status").read().splitlines() if ":\\t" in row)
        return int(rows["SigBlk"], 16), int(rows["SigIgn"], 16)
    # What the caller blocks here is the caller's affair.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM, signal.SIGINT})
    with fr.ProcessPoolExecutor(1) as pool:
        blocked, ignored = pool.submit(masks).result()
    print(blocked)
    print([s.name for s in signal.Signals if ignored >> (s - 1) & 1])
    """,
        tmp_path,
    )
    # Python itself ignores these two.
    assert lines == ["0", "['SIGPIPE', 'SIGXFSZ']"]


def test_a_worker_may_print_on_its_callers_terminal_and_reads_nothing_that_is_typed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        """
import os, sys
import forkright as fr
def terminals():
    return [number for number in range(3) if os.isatty(number)]
def read():
    return sys.stdin.read(), os.read(0, 100)
with fr.ProcessPoolExecutor(1) as pool:
    print(terminals(), pool.submit(terminals).result(), pool.submit(read).result())
"""
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, str(script)])
    shown = b""
    # Its end is an error, that of the last process which has the terminal open.
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 65536):
            shown += part
    os.close(terminal)
    assert os.waitpid(pid, 0)[1] == 0, shown
    assert shown.decode().splitlines() == ["[0, 1, 2] [1, 2] ('', b'')"]


def test_what_is_kept_for_the_next_process_is_readable_by_the_user_alone(tmp_path: Path) -> None:
    lines = run(
        """
        import os
        os.umask(0)
        os.environ["FORKRIGHT_CACHE"] = os.path.abspath("cache")
        import forkright as fr
        fr.map(abs, range(4), plan="processes")
        """,
        tmp_path,
    )
    assert lines == []
    for path in _tree(tmp_path / "cache"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0, path


def _tree(folder: Path) -> Iterator[Path]:
    if folder.exists():
        yield folder
        yield from folder.rglob("*")
