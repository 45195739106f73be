"""One budget of cores: in a worker process, libraries with threads of their own get its share of them.

Called by `_worker` before anything is imported there, and by the engine when the share changes. Without it each
worker's BLAS would start a thread for each core of the machine. Imports no library: these read such settings when they
are loaded.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# It may not change once Numba has started its threads.
_NUMBA = "NUMBA_NUM_THREADS"
# Whoever finds no setting of its own goes by OpenMP's.
_OPENMP = "OMP_NUM_THREADS"
_FOLLOWERS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
# The last is what loky, and so a joblib that is called in a task, takes for the number of cores.
_OTHERS = (
    "VECLIB_MAXIMUM_THREADS",
    _NUMBA,
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
    "LOKY_MAX_CPU_COUNT",
)
# What has native threads if it is loaded.
_LIBRARIES = ("numpy", "scipy", "sklearn", "torch", "mkl", "faiss", "cv2")

_CORES = os.cpu_count() or 1
_ours: list[str] = []


def begin(share: int) -> None:
    """Limit what will be loaded to `share` threads, unless the user's environment says otherwise."""
    given = os.environb._data  # type: ignore[attr-defined]  # its own look-up is Python, a dozen times
    names = [_OPENMP, *_FOLLOWERS] if _OPENMP.encode() not in given else []
    _ours[:] = [name for name in (*names, *_OTHERS) if name.encode() not in given]
    if share < _CORES:  # else it is what they take by themselves
        _set(share)


def change(share: int) -> None:
    """The share has changed: limit what is loaded, too, if `threadpoolctl` is there to do it."""
    if "numba" in sys.modules and _NUMBA in _ours:
        _ours.remove(_NUMBA)
    _set(share)
    if _OPENMP not in _ours or not any(name in sys.modules for name in _LIBRARIES):
        return
    try:
        import threadpoolctl  # type: ignore[import-untyped]
    except ImportError:
        return
    limits: Any = threadpoolctl.threadpool_limits
    limits(share)


def _set(share: int) -> None:
    os.environ.update(dict.fromkeys(_ours, str(share)))
