"""What is measured of the machine: where it is kept for the next process, and that this is in nobody's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forkright import _core
from test_cli import call

# Starts the helper, a worker and threads, and sends a call after another to an idle worker.
PROGRAM = """\
import forkright as fr
fr.map(abs, range(4), plan="threads")
for _ in range(2):
    with fr.Executor(plan=fr.Plan(processes=1)) as executor:
        for _ in range(10):
            executor.submit(abs, -1).result()
"""
# A process that chooses, and tells by which figures.
CHOOSES = """\
import json, time
import forkright as fr
fr.map(time.sleep, [0.002] * 3)
print(json.dumps(json.loads(fr.report().to_json())["given"]["machine"]))
"""


def run(code: str, **environment: str) -> str:
    """What a process of its own prints; it must end well and complain of nothing."""
    names = ("HOME", "XDG_CACHE_HOME", "FORKRIGHT_CACHE")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def kept(folder: Path) -> dict[str, Any]:
    """The constants in the one file of a folder."""
    [file] = folder.iterdir()
    found = json.loads(file.read_text())
    assert found["form"] == 1
    constants: dict[str, Any] = found["constants"]
    return constants


def write(folder: Path, value: float) -> Path:
    """Has a folder keep that the helper's start takes so long."""
    run(PROGRAM, FORKRIGHT_CACHE=str(folder))
    [file] = folder.iterdir()
    constants = kept(folder) | {"zygote_start": {"value": value, "seen": 9, "recent": [value] * 5}}
    file.write_text(json.dumps({"form": 1, "constants": constants}))
    return file


def test_what_a_process_measured_is_there_for_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "some" / "where"
    for runs in range(1, 4):
        run(PROGRAM, FORKRIGHT_CACHE=str(folder))
        assert kept(folder)["zygote_start"]["seen"] == runs
    value = kept(folder)["zygote_start"]["value"]
    assert value > 0
    machine = json.loads(run(CHOOSES, FORKRIGHT_CACHE=str(folder)))
    assert machine["zygote_start"] == value
    assert kept(folder)["hop"]["seen"] > 3 and kept(folder)["process_start"]["seen"] >= 3
    assert "thread_start" in kept(folder)


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    machine = json.loads(run(CHOOSES, FORKRIGHT_CACHE="off"))
    assert machine["zygote_start"] == 0.06 and machine["process_start"] == 0.003


def test_a_figure_that_no_longer_fits_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, 5.5)
    for _ in range(3):
        assert kept(tmp_path)["zygote_start"]["value"] == 5.5
        run(PROGRAM, FORKRIGHT_CACHE=str(tmp_path))
    assert kept(tmp_path)["zygote_start"]["value"] < 2.75


def test_it_is_kept_in_the_cache_directory(tmp_path: Path) -> None:
    run(PROGRAM, XDG_CACHE_HOME=str(tmp_path / "xdg"), HOME=str(tmp_path / "home"))
    assert kept(tmp_path / "xdg" / "forkright")
    assert not (tmp_path / "home").exists()
    run(PROGRAM, HOME=str(tmp_path / "home"))
    assert kept(tmp_path / "home" / ".cache" / "forkright")


@pytest.mark.parametrize("off", ["off", "0", ""])
def test_it_can_be_turned_off(off: str, tmp_path: Path) -> None:
    run(PROGRAM, FORKRIGHT_CACHE=off, HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_work_that_measures_nothing_writes_nothing(tmp_path: Path) -> None:
    run("import forkright as fr; fr.map(abs, range(9))", FORKRIGHT_CACHE=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def nonsense(file: Path) -> None:
    file.write_bytes(b"\xff\x00{")


def empty(file: Path) -> None:
    file.write_bytes(b"")


def another_form(file: Path) -> None:
    file.write_text(json.dumps({"form": 99, "constants": {"zygote_start": {"value": 5.5}}}))


def impossible(file: Path) -> None:
    file.write_text(json.dumps({"form": 1, "constants": {"zygote_start": {"value": 1e300, "recent": [-1, 1e300]}}}))


def a_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize("spoil", [nonsense, empty, another_form, impossible, a_pipe])
def test_a_file_that_makes_no_sense_is_as_good_as_none_and_is_replaced(
    spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    file = write(tmp_path, 5.5)
    spoil(file)
    assert json.loads(run(CHOOSES, FORKRIGHT_CACHE=str(tmp_path)))["zygote_start"] == 0.06
    run(PROGRAM, FORKRIGHT_CACHE=str(tmp_path))
    assert kept(tmp_path)["zygote_start"]["seen"] == 1


def test_where_nothing_can_be_written_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run(PROGRAM, FORKRIGHT_CACHE=str(tmp_path / "file"))
    run(PROGRAM, FORKRIGHT_CACHE="/proc/no/such/place")
    assert (tmp_path / "file").read_text() == ""


def test_processes_that_end_at_once_lose_nothing_of_the_form(tmp_path: Path) -> None:
    inherited = os.environ | {"FORKRIGHT_CACHE": str(tmp_path)}
    running = [subprocess.Popen([sys.executable, "-c", PROGRAM], env=inherited) for _ in range(4)]
    assert [process.wait(100) for process in running] == [0] * 4
    assert 1 <= kept(tmp_path)["zygote_start"]["seen"] <= 4


def test_the_tests_leave_the_users_cache_alone() -> None:
    assert json.loads(_core.constants())["file"] is None


def test_the_doctor_tells_each_figure_and_where_it_is_from(tmp_path: Path) -> None:
    for _ in range(2):
        run(PROGRAM, FORKRIGHT_CACHE=str(tmp_path))
    write(tmp_path, 0.05)
    code, out, err = call(tmp_path, "doctor", "--json", FORKRIGHT_CACHE=str(tmp_path))
    assert (code, err) == (0, "")
    choice = json.loads(out)["choice"]
    assert Path(choice["file"]).parent == tmp_path
    measured = {name for name, figure in choice["constants"].items() if figure["measured"]}
    assert {"zygote_start", "process_start", "hop"} <= measured
    assert {"thread_task", "process_task", "process_memory"}.isdisjoint(measured)
    code, out, err = call(tmp_path, "doctor", FORKRIGHT_CACHE=str(tmp_path))
    assert (code, err) == (0, "")
    lines = {line[:18].strip(): line for line in out[out.index("a choice goes by") :].splitlines()}
    assert "measured" in lines["start the helper"] and "by processes before" in lines["start the helper"]
    assert lines["memory of a worker"].endswith("the default")
    assert str(tmp_path) in "".join(out.split())


def test_a_forked_child_does_not_count_what_its_parent_measured(tmp_path: Path) -> None:
    run(
        f"{PROGRAM}import os\npid = os.fork()\nif pid == 0:\n    raise SystemExit(0)\nassert os.waitpid(pid, 0)[1] == 0\n",
        FORKRIGHT_CACHE=str(tmp_path),
    )
    assert kept(tmp_path)["zygote_start"]["seen"] == 1
