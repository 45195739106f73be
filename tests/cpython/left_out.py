"""The tests of the suites that forkright does not pass, and why.

There are three good reasons: a test looks into what is private to the standard library's implementation, it asks of
threads what only processes can do, or it relies on what a fork inherits. One more contradicts what forkright
promises, and says so.
"""

from __future__ import annotations

from typing import NamedTuple


class LeftOut(NamedTuple):
    kinds: str
    family: str
    tests: str
    reason: str


THREADS = "threads auto-like-threads"
PROCESSES = "processes hybrid auto-like-processes"

FAILS = (
    # Private internals of the standard library.
    LeftOut(THREADS, "executor", "test_idle_thread_reuse", "counts the threads in `_threads`"),
    LeftOut(
        THREADS,
        "shutdown",
        "test_context_manager_shutdown test_del_shutdown test_shutdown_no_wait test_thread_names_assigned "
        "test_thread_names_default",
        "joins the threads in `_threads`",
    ),
    LeftOut(f"{THREADS} {PROCESSES}", "failing_initializer", "test_initializer", "waits for `_broken` to be set"),
    LeftOut(
        PROCESSES,
        "executor",
        "test_idle_process_reuse_multiple test_idle_process_reuse_one test_max_tasks_per_child",
        "counts the processes in `_processes`",
    ),
    LeftOut("processes hybrid", "executor", "test_saturation", "counts the processes in `_processes`"),
    LeftOut(PROCESSES, "executor", "test_killed_child", "kills a process that it finds in `_processes`"),
    LeftOut(
        PROCESSES,
        "shutdown",
        "test_context_manager_shutdown test_shutdown_no_wait",
        "joins the processes in `_processes`",
    ),
    LeftOut("processes hybrid", "shutdown", "test_processes_terminate", "joins the processes in `_processes`"),
    LeftOut(PROCESSES, "shutdown", "test_del_shutdown", "joins the thread in `_executor_manager_thread`"),
    LeftOut(PROCESSES, "deadlock", "test_shutdown_deadlock_pickle", "joins the thread in `_executor_manager_thread`"),
    LeftOut(
        PROCESSES,
        "executor",
        "test_max_tasks_per_child_defaults_to_spawn_context",
        "asks the `multiprocessing` context in `_mp_context`",
    ),
    LeftOut(
        PROCESSES,
        "executor",
        "test_python_finalization_error",
        "has the second of the executor's helper threads fail to start, by `threading`'s private function; forkright's "
        "has no second one",
    ),
    LeftOut(
        PROCESSES, "executor", "test_traceback", "asks for the type `_RemoteTraceback`; forkright's has the same text"
    ),
    LeftOut(
        "futures",
        "future",
        "test_exception_with_success",
        "ends a future by writing to `_state` and `_exception`",
    ),
    LeftOut("pool pool-threads pool-auto", "pool", "test_make_pool", "counts the processes in `_pool`"),
    LeftOut("pool pool-threads pool-auto", "pool", "test_resource_warning", "writes to `_state`"),
    LeftOut(
        "pool", "lifetime", "test_pool_worker_lifetime", "counts the processes in `_pool`, calls `_repopulate_pool`"
    ),
    LeftOut(
        "pool",
        "pool",
        "test_traceback",
        "asks for the undocumented type `RemoteTraceback`; forkright's has the same text",
    ),
    LeftOut(
        "pool",
        "errors",
        "test_unpickleable_result",
        "asks for the undocumented error `MaybeEncodingError` of a lambda, which forkright's workers can return",
    ),
    LeftOut("auto-like-threads", "executor", "test_default_workers", "asks for `_max_workers`, of a pool of threads"),
    # Under auto these run on threads.
    LeftOut(
        "auto-like-processes",
        "executor",
        "test_ressources_gced_in_workers",
        "waits for the end of the copy of an argument; on threads nothing is copied",
    ),
    LeftOut(
        "auto-like-processes",
        "deadlock",
        "test_error_at_task_pickle test_error_at_task_unpickle test_error_during_result_pickle_on_worker "
        "test_error_during_result_unpickle_in_result_handler test_exit_at_task_unpickle "
        "test_exit_during_result_pickle_on_worker test_exit_during_result_unpickle_in_result_handler",
        "waits for what pickling raises; on threads nothing is pickled",
    ),
)

# These would hang, end the interpreter, or pass and fail by turns.
NOT_RUN = (
    # It contradicts a promise.
    LeftOut(
        "process",
        "process",
        "test_parent_process",
        "has a process outlive the one that started it, which is killed; forkright's end with it and leave nothing, which "
        "may be before or after it has said so",
    ),
    LeftOut(
        THREADS,
        "executor",
        "test_saturation",
        "counts the threads in `_threads`, and leaves them blocked when it fails",
    ),
    LeftOut(
        THREADS,
        "shutdown",
        "test_threads_terminate",
        "counts the threads in `_threads`, and leaves them blocked when it fails",
    ),
    LeftOut(
        "auto-like-processes",
        "executor",
        "test_saturation",
        "counts the processes in `_processes`, and leaves its calls blocked when it fails",
    ),
    LeftOut(
        "auto-like-processes",
        "shutdown",
        "test_processes_terminate",
        "joins the processes in `_processes`, and leaves its calls blocked when it fails",
    ),
    LeftOut(
        "auto-like-processes",
        "deadlock",
        "test_crash_at_task_unpickle test_crash_during_func_exec_on_worker test_crash_during_result_pickle_on_worker "
        "test_shutdown_deadlock test_crash_big_data",
        "crashes in a call: under auto these run on threads, and the caller's process would crash",
    ),
)


def names(table: tuple[LeftOut, ...], kind: str, family: str) -> frozenset[str]:
    """The tests of a family that a table names for a kind of worker."""
    rows = (row for row in table if kind in row.kinds.split() and row.family == family)
    return frozenset(name for row in rows for name in row.tests.split())
