"""`forkright why` runs a program as it would run alone, and has a report of whatever became of it."""

from __future__ import annotations

import json
import os
import pty
import resource
import signal
import subprocess
import sys
import zipapp
from pathlib import Path
from typing import Any

import pytest

import forkright
from measuring import FORKRIGHT, command_of, compare, run, write
from waiting import LIMIT, until

TELLS_ABOUT_ITSELF = """
    import os, sys
    print(sys.argv, sys.orig_argv[1:], sys.path, sys.flags, sys.warnoptions, sys._xoptions)
    print(__name__, __file__, __spec__ and (__spec__.name, __spec__.origin), __package__, __doc__, sorted(globals()))
    print(os.getcwd(), sys.stdin.read())
"""


def test_a_script_finds_itself_as_if_alone(tmp_path: Path) -> None:
    measured = compare(TELLS_ABOUT_ITSELF, tmp_path, "--json", "x", "-m", "--", "", "ä", stdin="piped\nlines")
    assert measured.ending.code == 0
    assert measured.report.startswith("\n`program.py` took ")
    assert measured.data["program"]["argv"] == ["program.py", "--json", "x", "-m", "--", "", "ä"]
    assert measured.data["program"]["exit"] == {"code": 0}


@pytest.mark.parametrize("flags", [("-W", "error"), ("-X", "dev"), ("-O", "-B"), ("-u", "-P"), ("-s", "-X", "utf8")])
def test_the_interpreters_options_are_the_programs(tmp_path: Path, flags: tuple[str, ...]) -> None:
    program = "import sys; print(sys.argv, sys.path, sys.flags, sys.warnoptions, sys._xoptions, __debug__)"
    compare(program, tmp_path, flags=flags)


@pytest.mark.parametrize(("options", "told"), [((), False), (("--thorough",), True)])
def test_processes_that_the_program_starts_are_measured_as_thoroughly_as_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], told: bool
) -> None:
    # What an outer measuring asked for is its own.
    monkeypatch.setenv("FORKRIGHT_WHY_THOROUGH", "1")
    child = "from forkright._why import inject; print(inject._thorough)"
    program = write(tmp_path, f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {child!r}], check=True)")
    done = run([sys.executable, str(FORKRIGHT), "why", *options, program.name], tmp_path)
    assert done.out.strip() == str(told)


def test_modules_and_packages_find_themselves_as_if_alone(tmp_path: Path) -> None:
    write(tmp_path, TELLS_ABOUT_ITSELF, "package/module.py")
    write(tmp_path, TELLS_ABOUT_ITSELF, "package/__main__.py")
    write(tmp_path, "", "package/__init__.py")
    for name in ("package", "package.module"):
        assert compare(["-m", name], tmp_path, "-m", "--html").ending.code == 0
    assert compare(["-m", "package.missing"], tmp_path).ending.code == 1


def test_a_zipped_program_and_a_folder_run_as_if_alone(tmp_path: Path) -> None:
    write(tmp_path, TELLS_ABOUT_ITSELF, "app/__main__.py")
    zipapp.create_archive(tmp_path / "app", tmp_path / "app.pyz")
    for name in ("app", "app.pyz"):
        assert compare([name], tmp_path).ending.code == 0


def test_modules_of_the_program_may_have_names_of_the_standard_library(tmp_path: Path) -> None:
    names = ["queue", "json", "contextlib", "tempfile", "sysconfig", "calendar", "signal", "random", "typing"]
    for name in names:
        write(tmp_path, f"print('own {name}')", f"{name}.py")
    assert "own json" in compare("\n".join(f"import {name}" for name in names), tmp_path).ending.out


def test_a_user_s_sitecustomize_and_usercustomize_still_run(tmp_path: Path) -> None:
    write(tmp_path, "import sys\nif 'why' not in sys.orig_argv: print('site')", "own/sitecustomize.py")
    write(tmp_path, "import sys\nif 'why' not in sys.orig_argv: print('user')", "own/usercustomize.py")
    path = os.pathsep.join([str(tmp_path / "own"), str(Path(forkright.__file__).parents[1])])
    program = "import sitecustomize, sys; print(sitecustomize.__file__, sys.path)"
    # Not the virtual environment's interpreter, which has no user's site.
    python = os.path.join(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")
    measured = compare(program, tmp_path, python=python, environment={"PYTHONPATH": path})
    assert measured.ending.out.startswith("site\nuser\n")


def test_there_is_nothing_to_measure_where_there_is_no_program(tmp_path: Path) -> None:
    for arguments in (["-"], ["missing.py"], []):
        done = run([sys.executable, str(FORKRIGHT), "why", *arguments], tmp_path)
        assert done.code == 2 and done.err.startswith("error: ")


TRACEBACKS = {
    "the main thread": "def f(n): return 1 / n\nf(0)",
    "a thread": "import threading\ndef f(): 1 / 0\nt = threading.Thread(target=f); t.start(); t.join()",
    "a bare thread": """
        import _thread, time
        done = []
        def f():
            try:
                1 / 0
            finally:
                done.append(1)
        class F:
            def __call__(self): f()
            def __repr__(self): return "F()"
        _thread.start_new_thread(F(), ())
        while not done: time.sleep(0.01)
        time.sleep(0.1)
    """,
    "a thread that leaves": """
        import sys, threading, _thread, time
        for leave in (sys.exit, _thread.exit):
            t = threading.Thread(target=leave); t.start(); t.join()
            _thread.start_new_thread(leave, ())
        time.sleep(0.1)
        print("goes on")
    """,
    "a chain": """
        try:
            int("x")
        except ValueError as error:
            raise RuntimeError("chained") from error
    """,
    "a syntax error": "def f(:\n",
    "a subclass of Thread": """
        import threading
        class Mine(threading.Thread):
            def run(self): raise KeyError(self.name)
        t = Mine(name="its own"); t.start(); t.join()
    """,
    "no callable": "import _thread\nfor args in [(), (1,), (1, 2), (len, 1), (len, (), 1)]:\n"
    "    try: _thread.start_new_thread(*args)\n    except TypeError as error: print(error)",
}


@pytest.mark.parametrize("where", TRACEBACKS)
def test_tracebacks_are_the_programs_own(tmp_path: Path, where: str) -> None:
    measured = compare(TRACEBACKS[where], tmp_path)
    assert measured.report.startswith("\n`program.py` took ")


ENDS: dict[str, tuple[int, str]] = {
    "no threads": (0, "print(sum(range(1000)))"),
    "an exit code": (3, "import sys; sys.exit(3)"),
    "a text": (1, "import sys; sys.exit('a text')"),
    "_exit": (3, "import os, sys; print('said', flush=True); os._exit(3)"),
    "_exit in a thread": (4, "import os, threading; threading.Thread(target=os._exit, args=(4,)).start(); input()"),
    "an exception": (1, "raise ValueError('end')"),
    "a crash": (-signal.SIGSEGV, "import ctypes; print('said', flush=True); ctypes.string_at(0)"),
    "abort": (-signal.SIGABRT, "import os; os.abort()"),
    "SIGKILL": (-signal.SIGKILL, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"),
    "SIGTERM": (-signal.SIGTERM, "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"),
    "SIGINT": (-signal.SIGINT, "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhile True: pass"),
    "SIGPIPE": (-signal.SIGPIPE, "import os, signal\nsignal.signal(13, signal.SIG_DFL)\nos.kill(os.getpid(), 13)"),
    "a timer's signal": (
        -signal.SIGALRM,
        "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.05)\nwhile True: pass",
    ),
    "its own handlers": (
        5,
        """
        import os, signal, sys
        seen = []
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, lambda number, frame: seen.append(number))
            os.kill(os.getpid(), number)
        print(sorted(seen), flush=True)
        sys.exit(5)
        """,
    ),
    "atexit": (0, "import atexit\n@atexit.register\ndef last(): print('last')\nprint('first')"),
    "atexit that forks": (
        0,
        """
        import atexit, os
        def last():
            try:
                print(os.fork() and os.wait()[1])
            except Exception as error:
                print(error)
        atexit.register(last)
        """,
    ),
    "daemon threads": (
        0,
        """
        import threading, time, hashlib
        def spin():
            while True: sum(range(100))
        def hash():
            while True: hashlib.sha256(bytes(1 << 20))
        def sleep():
            while True: time.sleep(0.001)
        for work in (spin, hash, sleep) * 2: threading.Thread(target=work, daemon=True).start()
        time.sleep(0.2)
        """,
    ),
    "bare threads still running": (
        0,
        """
        import _thread, time
        for _ in range(4): _thread.start_new_thread(time.sleep, (60,))
        time.sleep(0.1)
        """,
    ),
    "deep recursion": (1, "def f(n): return f(n + 1)\nf(0)"),
    "another folder": (0, "import os; os.chdir('/'); print(os.getcwd())"),
    "an empty environment": (
        0,
        "import os, subprocess, sys\nos.environ.clear()\nprint(subprocess.run([sys.executable, '-c', '1']))",
    ),
    "another program": (7, "import os; os.execv('/bin/sh', ['sh', '-c', 'exit 7'])"),
    "itself again": (
        0,
        """
        import os, sys
        print(sys.argv, flush=True)
        if len(sys.argv) == 1: os.execv(sys.executable, [sys.executable, sys.argv[0], "again"])
        """,
    ),
    "forks": (
        0,
        """
        import os
        for end in range(3):
            child = os.fork()
            if not child:
                sum(range(100_000))
                os._exit(end)
            print(os.waitpid(child, 0)[1])
        child = os.fork()
        if not child: os.execv("/bin/echo", ["echo", "executed"])
        print(os.waitpid(child, 0)[1])
        """,
    ),
    "a fork from a thread": (
        0,
        """
        import os, threading, warnings
        warnings.simplefilter("ignore")
        def fork():
            child = os.fork()
            if not child: os._exit(0)
            print(os.waitpid(child, 0)[1])
        t = threading.Thread(target=fork); t.start(); t.join()
        """,
    ),
    "a child that returns": (0, "import os, sys\nif os.fork(): os.wait()\nprint('both', flush=True)"),
    "500 short threads": (
        0,
        """
        import threading
        for _ in range(500):
            t = threading.Thread(target=sum, args=([],)); t.start(); t.join()
        """,
    ),
    "200 threads at once": (
        0,
        """
        import threading
        barrier = threading.Barrier(201)
        threads = [threading.Thread(target=barrier.wait) for _ in range(200)]
        for t in threads: t.start()
        barrier.wait()
        for t in threads: t.join()
        """,
    ),
    "asyncio": (
        0,
        """
        import asyncio, time
        async def main():
            await asyncio.gather(*(asyncio.sleep(0.01) for _ in range(10)), asyncio.to_thread(time.sleep, 0.01))
            process = await asyncio.create_subprocess_exec("true")
            return await process.wait()
        print(asyncio.run(main()))
        """,
    ),
    "an executor": (
        0,
        """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(3) as pool: print(list(pool.map(abs, range(10))))
        """,
    ),
    "another Python": (0, "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'print(1)']))"),
    "another Python that ignores us": (
        0,
        "import subprocess, sys\nprint(subprocess.run([sys.executable, '-I', '-c', 'print(1)']))",
    ),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_program_ends_as_it_would_alone(tmp_path: Path, how: str) -> None:
    code, program = ENDS[how]
    measured = compare(program, tmp_path)
    assert measured.ending.code == code
    expected = {"signal": signal.Signals(-code).name} if code < 0 else {"code": code}
    assert measured.data["program"]["exit"] == expected
    assert measured.data["processes"], measured.report
    assert measured.report.startswith("\n`program.py` took ")


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_children_are_measured_however_they_start(tmp_path: Path, method: str) -> None:
    measured = compare(
        """
        import multiprocessing, sys, threading
        from concurrent.futures import ProcessPoolExecutor
        def work(n):
            if n == 5: sys.exit(5)
            return sum(range(n * 2_000_000))
        if __name__ == "__main__":
            context = multiprocessing.get_context(sys.argv[1])
            process = context.Process(target=work, args=(5,))
            process.start()
            process.join()
            print(process.exitcode)
            with context.Pool(2) as pool: print(pool.map(work, [1, 2, 3]))
            with ProcessPoolExecutor(2, mp_context=context) as pool: print(list(pool.map(work, [1, 2, 3])))
        """,
        tmp_path,
        method,
    )
    assert measured.ending.code == 0
    work = [function for function in measured.data["functions"] if function["name"] == "work"]
    assert len(measured.data["processes"]) >= 4, measured.report
    assert work, measured.report


def test_a_fork_of_a_single_threaded_program_warns_of_nothing(tmp_path: Path) -> None:
    compare(
        """
        import multiprocessing, os, subprocess
        for _ in range(20):
            child = os.fork()
            if not child:
                if os.fork() == 0: os._exit(0)
                os.wait()
                os._exit(0)
            os.waitpid(child, 0)
        process = multiprocessing.get_context("fork").Process(target=print, args=("child",))
        process.start()
        process.join()
        subprocess.run(["true"], preexec_fn=lambda: None)
        """,
        tmp_path,
        flags=("-W", "error"),
    )


def test_a_program_may_close_every_descriptor_and_open_its_own(tmp_path: Path) -> None:
    measured = compare(
        """
        import os, threading, time, hashlib
        stop = False
        def work():
            while not stop: hashlib.sha256(bytes(100_000)); sum(range(1000))
        threads = [threading.Thread(target=work) for _ in range(3)]
        for t in threads: t.start()
        for round in range(20):
            os.closerange(3, 4096)
            files = [os.open(f"own-{n}", os.O_RDWR | os.O_CREAT | os.O_TRUNC) for n in range(40)]
            print(files == list(range(3, 43)))
            time.sleep(0.01)
            for n, file in enumerate(files): os.write(file, str(n).encode())
            print([os.pread(file, 100, 0) == str(n).encode() for n, file in enumerate(files)].count(False))
        stop = True
        for t in threads: t.join()
        print([os.fstat(file).st_size for file in files])
        os.close(0)
        print(os.open("/dev/null", os.O_RDONLY))
        """,
        tmp_path,
    )
    threads = measured.data["processes"][0]["threads"]
    assert len(threads) == 4 and all(thread["samples"] for thread in threads), measured.report


def test_a_program_has_all_the_descriptors_it_may_have(tmp_path: Path) -> None:
    measured = compare(
        """
        import os, resource, threading
        resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
        done = threading.Event()
        threads = [threading.Thread(target=done.wait) for _ in range(40)]
        for t in threads: t.start()
        files = []
        try:
            while True: files.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as error:
            print(error, files)
        done.set()
        for t in threads: t.join()
        """,
        tmp_path,
    )
    assert len(measured.data["processes"][0]["threads"]) == 41


@pytest.mark.parametrize("handler", ["SIG_IGN", "SIG_DFL"])
def test_a_full_disk_costs_the_report_and_not_the_program(tmp_path: Path, handler: str) -> None:
    measured = compare(
        f"""
        import resource, signal, threading, os
        signal.signal(signal.SIGXFSZ, signal.{handler})
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))
        for _ in range(30):
            t = threading.Thread(target=sum, args=(range(300_000),)); t.start(); t.join()
        child = os.fork()
        if not child:
            sum(range(100_000))
            os._exit(0)
        print(os.waitpid(child, 0)[1])
        """,
        tmp_path,
        flags=("-W", "ignore"),
    )
    assert measured.ending.code == 0 and measured.data["processes"]


def test_no_folder_to_write_to_costs_the_report_and_not_the_program(tmp_path: Path) -> None:
    program = write(tmp_path, "print('ran'); raise SystemExit(6)")
    measured = run(
        [sys.executable, str(FORKRIGHT), "why", program.name],
        tmp_path,
        before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY)),
    )
    assert (measured.code, measured.out) == (6, "ran\n")
    assert "nothing was measured" in measured.err and "Traceback" not in measured.err


def test_an_interpreter_whose_gil_can_t_be_seen_is_told_as_unknown(tmp_path: Path) -> None:
    # The GIL is found by what the interpreter says of it: here that is not true.
    program = write(
        tmp_path,
        """
        import sys, threading, forkright
        sys.getswitchinterval = lambda: 12.5
        with forkright.why() as measured:
            threads = [threading.Thread(target=sum, args=(range(5_000_000),)) for _ in range(2)]
            for t in threads: t.start()
            for t in threads: t.join()
        print(measured)
        print(measured.to_json())
        """,
    )
    done = run([sys.executable, program.name], tmp_path)
    assert done.code == 0, done.err
    *report, data = done.out.splitlines()
    assert "the GIL could not be seen: no GIL that this thread holds was found" in " ".join(report)
    threads = json.loads(data)["processes"][0]["threads"]
    assert all(thread["parts"]["held"] is None and thread["parts"]["gil_wait"] is None for thread in threads)
    assert not {"held", "gil_wait", "off_gil"} & {state for thread in threads for state in thread["seen"]}


def test_threads_are_told_by_the_names_they_have_in_the_end_and_none_reaches_the_terminal_raw(tmp_path: Path) -> None:
    measured = compare(
        """
        import threading, time
        def work():
            threading.current_thread().name = "second"
            end = time.monotonic() + 0.2
            while time.monotonic() < end: pass
        def other():
            end = time.monotonic() + 0.2
            while time.monotonic() < end: pass
        other.__code__ = other.__code__.replace(co_qualname="\\x1b[31mred\\x07\\ud800", co_filename="\\x1b]0;title\\x07.py")
        for name, target in (("first", work), ("\\x1b[2Jclear\\udcff", other)):
            t = threading.Thread(target=target, name=name); t.start(); t.join()
        """,
        tmp_path,
    )
    names = set(measured.threads())
    assert "second" in names and "first" not in names, names
    assert "\x1b" not in measured.report and "\x07" not in measured.report
    assert "clear" in measured.report and "red" in measured.report, measured.report


def test_functions_keep_their_names_over_a_fork(tmp_path: Path) -> None:
    measured = compare(
        """
        import os, time
        def before():
            end = time.monotonic() + 0.4
            while time.monotonic() < end: sum(range(1000))
        def after():
            end = time.monotonic() + 0.4
            while time.monotonic() < end: sum(range(1000))
        before()
        child = os.fork()
        if not child: os._exit(0)
        os.waitpid(child, 0)
        after()
        """,
        tmp_path,
    )
    thread = measured.data["processes"][0]["threads"][0]
    shares = {measured.data["functions"][place["function"]]["name"]: place["share"] for place in thread["functions"]}
    assert {"before", "after"} <= set(shares), shares


def test_a_pool_s_own_threads_are_idle(tmp_path: Path) -> None:
    measured = compare(
        """
        import multiprocessing
        def work(n): return sum(range(n))
        if __name__ == "__main__":
            with multiprocessing.Pool(2) as pool: print(pool.map(work, [3_000_000] * 10))
        """,
        tmp_path,
    )
    pool = [thread for name, thread in measured.threads().items() if "_handle_" in name]
    assert len(pool) == 3
    assert all(thread["seen"].get("idle", 0) > thread["seen"].get("io", 0) for thread in pool), measured.report


def test_a_thread_that_is_slow_to_say_who_it_is_is_one_thread(tmp_path: Path) -> None:
    measured = compare(
        """
        import threading, time
        class Slow(threading.Thread):
            def _bootstrap_inner(self):
                time.sleep(int(self.name) / 1000)
                super()._bootstrap_inner()
        threads = [Slow(target=time.sleep, args=(0.2,), name=str(n * 9)) for n in range(10)]
        for t in threads: t.start()
        for t in threads: t.join()
        """,
        tmp_path,
    )
    names = [thread["name"] for thread in measured.data["processes"][0]["threads"]]
    assert sorted(names) == sorted(["MainThread", *(str(n * 9) for n in range(10))])


def test_the_workers_of_a_program_that_uses_forkright_are_measured(tmp_path: Path) -> None:
    measured = compare(
        """
        import forkright as fr
        def work(n): return sum(range(n))
        for plan in ("processes", fr.Plan(2, 2)):
            print(fr.map(work, [1_000_000] * 24, plan=plan))
        """,
        tmp_path,
    )
    assert len(measured.data["processes"]) >= 3, measured.report
    assert any(function["name"] == "work" for function in measured.data["functions"])


class Terminal:
    """A program in the foreground of a terminal of its own."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.pid, self._terminal = pty.fork()
        if not self.pid:
            os.chdir(folder)
            os.execv(command[0], command)
        self._said = b""

    def type(self, text: bytes) -> None:
        os.write(self._terminal, text)

    def read_until(self, what: bytes) -> None:
        while what not in self._said:
            self._said += os.read(self._terminal, 1000)

    def end(self) -> tuple[int, bytes]:
        while True:
            try:
                more = os.read(self._terminal, 1000)
            except OSError:
                break
            if not more:
                break
            self._said += more
        os.close(self._terminal)
        return os.waitpid(self.pid, 0)[1], self._said.replace(b"\r\n", b"\n")


INTERRUPTED = """
    import sys, threading, time
    seen = 0
    def wait():
        global seen
        try:
            print("ready", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            seen += 1
        time.sleep(0.3)
    wait()
    print("seen", seen, flush=True)
    if len(sys.argv) > 1: raise KeyboardInterrupt
"""


@pytest.mark.parametrize("arguments", [[], ["unhandled"]])
def test_ctrl_c_reaches_the_program_once(tmp_path: Path, arguments: list[str]) -> None:
    program = write(tmp_path, INTERRUPTED)
    ends = []
    for file in (None, tmp_path / "measured.json"):
        terminal = Terminal(command_of([program.name, *arguments], [], file), tmp_path)
        terminal.read_until(b"ready\r\n")
        terminal.type(b"\x03")
        ends.append(terminal.end())
    (alone, said_alone), (measured, said) = ends
    assert measured == alone
    assert said.startswith(said_alone) and b"seen 1" in said
    assert b"`program.py` took" in said


def test_ctrl_z_stops_the_program_and_whoever_waits_for_it(tmp_path: Path) -> None:
    program = write(tmp_path, "print('ready', flush=True)\ninput()\nprint('done')")
    terminal = Terminal(command_of([program.name], [], tmp_path / "measured.json"), tmp_path)
    terminal.read_until(b"ready\r\n")
    # Its own session's leader has no shell that would stop it: the launcher stops because the program does.
    child = _child_of(terminal.pid)
    os.kill(child, signal.SIGSTOP)
    stopped, status = os.waitpid(terminal.pid, os.WUNTRACED)
    assert stopped == terminal.pid and os.WIFSTOPPED(status)
    os.kill(terminal.pid, signal.SIGCONT)
    terminal.type(b"\n")
    status, said = terminal.end()
    assert status == 0 and b"done" in said


def _child_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    until(lambda: children.read_text().split(), "the program runs")
    return int(children.read_text().split()[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGQUIT])
def test_a_signal_to_the_launcher_is_for_the_program(tmp_path: Path, number: signal.Signals) -> None:
    program = write(tmp_path, INTERRUPTED)
    codes = []
    for file in (None, tmp_path / "measured.json"):
        process = subprocess.Popen(
            command_of([program.name], [], file),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        out, _ = process.communicate(timeout=LIMIT)
        codes.append((process.returncode, out))
    assert codes[0] == codes[1]
    assert json.loads((tmp_path / "measured.json").read_text())["processes"]


def test_what_is_asked_for_is_written_and_what_can_t_be_is_said(tmp_path: Path) -> None:
    program = write(tmp_path, "print(1)")
    files: dict[str, Any] = {name: tmp_path / f"out.{name}" for name in ("json", "html", "trace")}
    options = [word for name, file in files.items() for word in (f"--{name}", str(file))]
    done = run([sys.executable, str(FORKRIGHT), "why", *options, program.name], tmp_path)
    assert done.code == 0 and all(file.stat().st_size for file in files.values())
    done = run([sys.executable, str(FORKRIGHT), "why", "--json", "/missing/file", program.name], tmp_path)
    assert done.code == 0 and "`/missing/file` can't be written" in done.err
