"""Workers see the caller's surroundings as they are when the worker starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from forkright import _core, _zygote
from scripts import run


def test_workers_see_directory_environment_paths_and_arguments_as_they_are_now(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "found_late.py").write_text("VALUE = 7\n")
    lines = run(
        """
        import os, sys
        import forkright as fr
        base = os.getcwd()
        def surroundings():
            return os.path.relpath(os.getcwd(), base), os.environ.get("MINE"), sys.path[-1], sys.argv[1:]
        def late():
            import found_late
            return found_late.VALUE
        os.chdir("first")
        os.environ["MINE"] = "one"
        sys.path.append("/one")
        with fr.ProcessPoolExecutor(1) as pool:
            print(pool.submit(surroundings).result())
        os.chdir("../second")
        os.environ["MINE"] = "two"
        sys.path[-1] = os.getcwd()
        sys.argv[:] = ["other", "--flag"]
        with fr.ProcessPoolExecutor(1) as pool:
            directory, mine, path, argv = pool.submit(surroundings).result()
            print(directory, mine, path == os.getcwd(), argv, pool.submit(late).result())
        del os.environ["MINE"]
        with fr.Executor(plan=fr.Plan(1, 2)) as pool:
            print(pool.submit(surroundings).result()[1])
        """,
        tmp_path,
        arguments=("an", "argument"),
    )
    assert lines == ["('first', 'one', '/one', ['an', 'argument'])", "second two True ['--flag'] 7", "None"]


def test_workers_see_umask_and_standard_streams_as_they_are_now(tmp_path: Path) -> None:
    lines = run(
        """
        import os, sys
        import forkright as fr
        def write(name):
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o666))
            print("printed by the worker", flush=True)
            return oct(os.stat(name).st_mode & 0o777)
        os.umask(0o077)
        kept = os.dup(1)
        log = os.open("log.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        with fr.ProcessPoolExecutor(1) as pool:
            mode = pool.submit(write, "strict").result()
        os.dup2(kept, 1)
        os.umask(0o022)
        with fr.ProcessPoolExecutor(1) as pool:
            print(mode, pool.submit(write, "usual").result())
        """,
        tmp_path,
    )
    assert sorted(lines) == ["0o600 0o644", "printed by the worker"]
    assert (tmp_path / "log.txt").read_text() == "printed by the worker\n"


def test_a_task_that_starts_a_program_leaves_it_the_usual_signals(tmp_path: Path) -> None:
    lines = run(
        """
        import subprocess, sys, forkright as fr
        def ignored():
            code = "import signal; print([s.name for s in signal.Signals if signal.getsignal(s) == signal.SIG_IGN])"
            return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
        print(ignored())
        with fr.ProcessPoolExecutor(1) as pool:
            print(pool.submit(ignored).result())
        """,
        tmp_path,
    )
    assert lines[0] == lines[1]


def test_workers_have_no_descriptors_of_the_caller(tmp_path: Path) -> None:
    lines = run(
        """
        import os, forkright as fr
        secret = os.open("secret.txt", os.O_CREAT | os.O_RDONLY)
        os.set_inheritable(secret, True)
        def files():
            links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
            return [os.path.basename(os.readlink(link)) for link in links if os.path.exists(link)]
        with fr.ProcessPoolExecutor(1) as pool:
            print("secret.txt" in pool.submit(files).result())
        """,
        tmp_path,
    )
    assert lines == ["False"]


def test_workers_draw_different_random_numbers(tmp_path: Path) -> None:
    lines = run(
        """
        import random, forkright as fr
        random.seed(1)
        def draw():
            return random.random()
        draws = []
        for _ in range(4):
            with fr.ProcessPoolExecutor(1) as pool:
                draws.append(pool.submit(draw).result())
        print(len(set(draws)))
        """,
        tmp_path,
    )
    assert lines == ["4"]


def test_what_prepares_for_later_workers_waits_for_a_free_core(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[str] = []
    with socket.socket() as control:
        helper = _zygote._Zygote(control, -1, -1, -1)
        monkeypatch.setattr(helper, "_prepare_by_value", lambda: prepared.append("for later"))
        for taken, ready in ((True, []), (False, ["for later"])):
            monkeypatch.setattr(_core, "cores_are_taken", lambda taken=taken: taken)
            helper._use_idle_time()
            assert prepared == ready
