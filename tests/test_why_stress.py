"""The meter reads a running interpreter from outside: whatever comes and goes there meanwhile, nothing breaks.

Each of these programs has the same end as alone, is measured at the eager rate, and takes a few seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

from measuring import compare, write

# Processes of these programs report in with this many looks at least, or the stress was none.
LEAST_LOOKS = 100
INTERPRETERS = """
    import sys
    if sys.version_info >= (3, 14):
        from concurrent import interpreters
        def create_and_destroy():
            one = interpreters.create()
            one.exec("x = sum(range(20_000))")
            one.close()
    else:
        name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
        module = __import__(name)
        def create_and_destroy():
            one = module.create()
            run = getattr(module, "exec", None) or module.run_string
            run(one, "x = sum(range(20_000))")
            module.destroy(one)
"""


def test_threads_that_start_and_end_at_a_high_rate(tmp_path: Path) -> None:
    measured = compare(
        """
        import _thread, threading, time
        end = time.monotonic() + 1.5
        def short(): sum(range(200))
        def start():
            while time.monotonic() < end:
                threads = [threading.Thread(target=short) for _ in range(8)]
                for thread in threads: thread.start()
                _thread.start_new_thread(short, ())
                for thread in threads: thread.join()
        starters = [threading.Thread(target=start) for _ in range(4)]
        for starter in starters: starter.start()
        for starter in starters: starter.join()
        print("done")
        """,
        tmp_path,
    )
    (process,) = measured.data["processes"]
    assert len(process["threads"]) > 100 and measured.data["meter"]["ticks"] > LEAST_LOOKS
    assert process["gil"] == ""


def test_interpreters_that_are_created_and_destroyed(tmp_path: Path) -> None:
    measured = compare(
        INTERPRETERS
        + """
    import threading, time
    end = time.monotonic() + 1.5
    def spin():
        while time.monotonic() < end: sum(range(1000))
    threads = [threading.Thread(target=spin) for _ in range(2)]
    for thread in threads: thread.start()
    while time.monotonic() < end: create_and_destroy()
    for thread in threads: thread.join()
    print("done")
    """,
        tmp_path,
        flags=("-W", "ignore"),
    )
    assert measured.data["meter"]["ticks"] > LEAST_LOOKS
    spinning = [thread for thread in measured.data["processes"][0]["threads"] if thread["seen"].get("held", 0) > 0.1]
    assert spinning, measured.report


def test_forks_of_several_threads_while_all_are_looked_at(tmp_path: Path) -> None:
    measured = compare(
        """
        import os, threading, time, warnings
        warnings.simplefilter("ignore")
        end = time.monotonic() + 1.5
        wrong = []
        def fork():
            while time.monotonic() < end:
                child = os.fork()
                if not child:
                    thread = threading.Thread(target=sum, args=([],))
                    thread.start()
                    thread.join()
                    os._exit(7)
                if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 7: wrong.append(child)
        def spin():
            while time.monotonic() < end: sum(range(1000))
        threads = [threading.Thread(target=target) for target in (fork, fork, fork, spin)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print("wrong", wrong)
        """,
        tmp_path,
    )
    assert measured.ending.out == "wrong []\n"
    assert len(measured.data["processes"]) > 10


def test_interpreters_that_end_while_they_are_looked_at(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
        import hashlib, sys, threading, time
        def spin():
            while True: sum(range(100))
        def digest():
            while True: hashlib.sha256(bytes(100_000))
        def sleep():
            while True: time.sleep(0.001)
        for target in (spin, digest, sleep): threading.Thread(target=target, daemon=True).start()
        time.sleep(int(sys.argv[1]) / 1000)
        """,
        "ends.py",
    )
    measured = compare(
        """
        import subprocess, sys
        for round in range(20):
            done = subprocess.run([sys.executable, "ends.py", str(round * 3)], capture_output=True, text=True)
            if done.returncode or done.stderr: print(round, done)
        print("done")
        """,
        tmp_path,
    )
    assert measured.ending.out == "done\n"
    assert len(measured.data["processes"]) == 21


def test_a_program_whose_switch_interval_changes_all_the_time(tmp_path: Path) -> None:
    measured = compare(
        """
        import sys, threading, time
        end = time.monotonic() + 1.5
        def spin():
            while time.monotonic() < end: sum(range(100))
        threads = [threading.Thread(target=spin) for _ in range(3)]
        for thread in threads: thread.start()
        while time.monotonic() < end:
            for interval in (1e-6, 1e-3, 0.05):
                sys.setswitchinterval(interval)
                time.sleep(0.001)
        for thread in threads: thread.join()
        """,
        tmp_path,
    )
    assert measured.data["processes"][0]["gil"] == "", sys.version
