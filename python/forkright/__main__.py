"""The command line: `forkright` and `python -m forkright`.

`_core.parse_command` knows what may be typed and prints the help; here the commands are called, and what
ends them becomes an exit code.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from ._core import parse_command


def main() -> int:
    """Do what the arguments ask for; returns the exit code."""
    import json

    from ._terminal import Trouble, complain

    command = json.loads(parse_command(sys.argv[1:]))
    code = 0
    try:
        code = _call(command)
        sys.stdout.flush()
    except Trouble as trouble:
        complain(trouble, command["color"])
        return trouble.code
    except BrokenPipeError:
        # Whoever read our output has seen enough. The interpreter must not stumble over it again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except KeyboardInterrupt:
        return 130
    return code


def _call(command: dict[str, Any]) -> int:
    match command["command"]:
        case "check":
            from ._check import check

            return check(command)
        case "compare":
            from ._compare import compare

            compare(command)
        case "doctor":
            from ._doctor import doctor

            doctor(command)
        case "replay":
            from ._replay import replay

            replay(command)
        case "why":
            from ._why.command import why

            return why(command)
        case "_run":
            import json

            from ._trial import run

            run(json.loads(command["request"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
