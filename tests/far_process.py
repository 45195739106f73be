"""A second interpreter for the tests of what travels: it runs functions as a worker would, without the engine."""

from __future__ import annotations

import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).resolve().parent.parent / "python"
if SOURCE.is_dir() and str(SOURCE) not in sys.path:
    sys.path.append(str(SOURCE))

_LOOP = """
import sys, pickle, struct
sys.path[:] = pickle.loads(bytes.fromhex(sys.argv[1]))
from forkright import _functions, _pickling, _stale
_pickling.become_worker()
sys.stdout, out, source = sys.stderr, sys.stdout.buffer, sys.stdin.buffer
known = {}
def frames():
    while head := source.read(4):
        yield pickle.loads(source.read(struct.unpack("<I", head)[0]))
for kind, payload, args in frames():
    try:
        if payload not in known:
            known[payload] = _functions.load(payload)
        if kind == "digest":
            answer = True, pickle.dumps(_stale.digest(known[payload]))
        else:
            answer = True, _pickling.encode(known[payload](*_pickling.decode(args)), None, "the result")
    except BaseException as error:
        answer = False, _pickling.encode_exception(error)
    data = pickle.dumps(answer)
    out.write(struct.pack("<I", len(data)) + data)
    out.flush()
"""


class Far:
    """One far interpreter."""

    def __init__(self) -> None:
        path = pickle.dumps(list(sys.path)).hex()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOOP, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __enter__(self) -> Far:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def ask(self, kind: str, payload: bytes, args: bytes = b"") -> bytes:
        assert self._process.stdin is not None and self._process.stdout is not None
        data = pickle.dumps((kind, payload, args))
        self._process.stdin.write(struct.pack("<I", len(data)) + data)
        self._process.stdin.flush()
        head = self._process.stdout.read(4)
        ok, answer = pickle.loads(self._process.stdout.read(struct.unpack("<I", head)[0]))
        if not ok:
            from forkright import _pickling

            raise _pickling.decode_exception(answer)
        return bytes(answer)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        from forkright import _functions, _pickling

        payload = _functions.describe(function).payload
        return _pickling.decode(self.ask("call", payload, _pickling.encode(args, None, "the arguments")))

    def digest(self, function: Callable[..., Any]) -> dict[str, str]:
        from forkright import _functions

        found: dict[str, str] = pickle.loads(self.ask("digest", _functions.describe(function).payload))
        return found


def run_script(text: str, folder: Path) -> str:
    """Run `text` as a user's script (so that it is `__main__`) with `far` at hand; what it printed."""
    script = folder / "script.py"
    here = Path(__file__).parent
    script.write_text(f"import sys; sys.path.append({str(here)!r})\nfrom far_process import Far\nfar = Far()\n" + text)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout
