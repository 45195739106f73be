"""The tests of the suite that forkright does not pass, and why."""

from __future__ import annotations

from typing import NamedTuple


class LeftOut(NamedTuple):
    kinds: str
    family: str
    tests: str
    reason: str


FAILS = (
    # Private internals of the standard library.
    LeftOut(
        "threads",
        "executor",
        "test_idle_thread_reuse",
        "counts the threads in `_threads`; forkright's belong to the engine",
    ),
    LeftOut(
        "threads",
        "shutdown",
        "test_context_manager_shutdown test_del_shutdown test_shutdown_no_wait test_thread_names_assigned "
        "test_thread_names_default",
        "joins the threads in `_threads`",
    ),
    LeftOut("threads processes", "failing_initializer", "test_initializer", "waits for `_broken` to be set"),
    LeftOut(
        "processes",
        "executor",
        "test_idle_process_reuse_multiple test_idle_process_reuse_one test_max_tasks_per_child test_saturation",
        "counts the processes in `_processes`; forkright's workers are no multiprocessing processes",
    ),
    LeftOut(
        "processes",
        "shutdown",
        "test_context_manager_shutdown test_processes_terminate test_shutdown_no_wait",
        "joins the processes in `_processes`",
    ),
    LeftOut(
        "processes",
        "shutdown",
        "test_del_shutdown",
        "joins `_executor_manager_thread`: there is none",
    ),
    LeftOut(
        "processes",
        "deadlock",
        "test_shutdown_deadlock_pickle",
        "joins `_executor_manager_thread`: there is none",
    ),
    LeftOut(
        "processes",
        "executor",
        "test_max_tasks_per_child_defaults_to_spawn_context",
        "asks `_mp_context`: workers have no start method of multiprocessing's",
    ),
    LeftOut(
        "processes",
        "executor",
        "test_python_finalization_error",
        "has the executor's second helper thread fail to start: there is no second one, so the pool does not break",
    ),
    LeftOut(
        "processes",
        "executor",
        "test_traceback",
        "the cause must be the private `_RemoteTraceback`; here it is forkright's own, with the same text",
    ),
    LeftOut(
        "futures",
        "future",
        "test_exception_with_success",
        "ends a future by writing to `_state` and `_exception`, which are read only; `set_exception` is the public way",
    ),
    # Otherwise by design: a worker's death costs the task it ran, never the pool.
    LeftOut(
        "processes",
        "executor",
        "test_killed_child",
        "a worker's death must break the pool, and it is found in `_processes`",
    ),
    LeftOut(
        "processes",
        "deadlock",
        "test_crash_at_task_unpickle test_crash_big_data test_crash_during_func_exec_on_worker "
        "test_crash_during_result_pickle_on_worker test_shutdown_deadlock",
        "a worker's death must break the pool with BrokenProcessPool; here the task gets `WorkerDied`",
    ),
    LeftOut(
        "processes",
        "deadlock",
        "test_error_at_task_unpickle test_error_during_result_unpickle_in_result_handler "
        "test_exit_at_task_unpickle test_exit_during_result_unpickle_in_result_handler",
        "what can't be unpickled must break the pool with BrokenProcessPool; here the task gets the error",
    ),
)

# These would hang, or pass and fail by turns.
NOT_RUN = (
    LeftOut(
        "threads",
        "executor",
        "test_saturation",
        "counts the threads in `_threads`, and leaves them blocked when it fails",
    ),
    LeftOut(
        "threads",
        "shutdown",
        "test_threads_terminate",
        "counts the threads in `_threads`, and leaves them blocked when it fails",
    ),
    LeftOut(
        "processes",
        "shutdown",
        "test_cancel_futures",
        "one of 50 calls must have started when `submit` returns; forkright can still cancel them all",
    ),
)


def names(table: tuple[LeftOut, ...], kind: str, family: str) -> frozenset[str]:
    """The tests of a family that a table names for a kind of worker."""
    rows = (row for row in table if kind in row.kinds.split() and row.family == family)
    return frozenset(name for row in rows for name in row.tests.split())
