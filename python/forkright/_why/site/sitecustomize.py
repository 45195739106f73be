"""Put on the path of a program that `forkright why` measures: the interpreter imports it before the program.

It begins the recording and then lets the `sitecustomize` that it stands in front of have its turn.
"""

import os
import sys


def _step_aside() -> None:
    """Leave no trace on the path, and import whatever has our name elsewhere."""
    here = os.path.dirname(__file__)
    sys.path[:] = [entry for entry in sys.path if entry != here]
    ours = sys.modules.pop(__name__, None)
    try:
        import sitecustomize  # type: ignore[import-not-found] # noqa: F401
    except ImportError as error:
        if error.name != __name__:
            raise
        if ours is not None:
            sys.modules[__name__] = ours


def _is_main_interpreter() -> bool:
    """Sub-interpreters import `sitecustomize`, too; what measures is the main one's."""
    import _thread

    if sys.version_info >= (3, 12):
        return bool(_thread._is_main_interpreter())  # type: ignore[attr-defined]
    try:
        import _xxsubinterpreters as interpreters  # type: ignore[import-not-found]
    except ImportError:
        return True
    return bool(interpreters.get_current() == interpreters.get_main())


_folder = os.environ.get("FORKRIGHT_WHY")
if _folder and _is_main_interpreter():
    try:
        from forkright._why.inject import begin

        begin(_folder, "FORKRIGHT_WHY_THOROUGH" in os.environ)
    except Exception:
        # Another environment's interpreter may not have forkright, and none must fail because of us. Not by
        # `contextlib`: once imported it would stand in for a module of the program's of that name.
        pass
_step_aside()
