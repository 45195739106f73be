"""Tests of joblib's and scikit-learn's that forkright's backend does not pass, and why; by patterns of their names."""

from __future__ import annotations

from fnmatch import fnmatchcase

LEFT_OUT: dict[str, str] = {
    "test_nested_parallel_warnings*loky-multiprocessing*": (
        "wants the warning that multiprocessing gives below loky; below forkright it can run, and does"
    ),
    "test_parallel_pickling": "wants loky's words for what can't be pickled; forkright names the object",
    "test_auto_memmap_on_arrays_from_generator*loky*": (
        "wants a memory-mapped file; forkright carries arrays in shared memory"
    ),
    "test_memmapping_leaks*loky*": "wants one, too",
    "test_multiple_generator_call_separated_gc*loky*": (
        "wants an error where a second call ends the workers of a generator that is alive; with forkright each call has "
        "workers of its own, and both go on"
    ),
    "test_backend_hinting_and_constraints[[]*": (
        'wants joblib\'s own backend of threads for `prefer="threads"` and `require="sharedmem"`; forkright\'s takes them on '
        "threads of its own"
    ),
    "test_invalid_backend_hinting_and_constraints": 'wants loky to refuse `require="sharedmem"`, which forkright has',
    "test_nested_parallelism_limit*loky*": "compares the name of the class, which is `LokyBackend` there",
}

# By whole names.
OF_SCIKIT_LEARN: dict[str, str] = {
    "test_backend_respected": (
        "wants joblib's own backend of threads for `require=\"sharedmem\"`; forkright's takes it on threads of its own"
    ),
}


def reason(name: str) -> str | None:
    """Why the test is left out; None if it is not."""
    return next((why for pattern, why in LEFT_OUT.items() if fnmatchcase(name, pattern)), None)
