"""A measured program under valgrind: nothing outside what is allocated is read or written. `make test-memory` runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import forkright

PROGRAM = """
    import _thread, gc, os, threading, time
    def work():
        for _ in range(20): sum(range(1000)); time.sleep(0.001)
    for round in range(3):
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads: thread.start()
        _thread.start_new_thread(work, ())
        for thread in threads: thread.join()
        child = os.fork()
        if not child:
            work()
            os._exit(0)
        print(os.waitpid(child, 0)[1], gc.collect() >= 0)
"""


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="there is no valgrind")
def test_a_measured_program_touches_no_memory_that_is_not_its_own(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    site = Path(forkright.__file__).parent / "_why" / "site"
    # CPython reads what was never written on purpose, and checks afterwards.
    options = ["--quiet", "--undef-value-errors=no", "--error-exitcode=9", "--fair-sched=yes"]
    done = subprocess.run(
        ["valgrind", *options, sys.executable, str(program)],
        env=os.environ
        | {
            "PYTHONPATH": str(site),
            "FORKRIGHT_WHY": str(recordings),
            "PYTHONMALLOC": "malloc",
            "PYTHONWARNINGS": "ignore",
        },
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("0 True\n" * 3, "")
    assert len(list(recordings.iterdir())) == 4
