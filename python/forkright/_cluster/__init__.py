"""Calls on the workers of a cluster that runs already: `cluster=`.

Called by `_map`, `_executor`, `_lazy` and `_asyncio`. forkright cuts the work into chunks, sends each function once,
keeps a bounded number of chunks out, and measures; which worker runs what is the cluster's own business.

General layout: `dask`, `ray` and `futures` each speak with one kind of cluster, in the few verbs of `Cluster`; `parcel`
pickles what travels and `remote` is what runs there; `pool` is what an executor submits to, and `driver` a map of known
length; `chunk` and `verdict` are its pure rules.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from .. import _functions, _map, _plan

if TYPE_CHECKING:
    from .._options import Terms
    from .._progress import Display
    from .._seeding import Seeds
    from .driver import Driver

Call = tuple[Any, ...]

Done = Callable[[Any, BaseException | None], object]
Cancel = Callable[[], object]


class Cluster(Protocol):
    """What forkright wants of a cluster."""

    name: str
    """For people."""
    ranks: bool
    """Whether it knows priorities."""

    def workers(self) -> int:
        """Tasks that it can run at a time, now."""
        ...

    def put(self, payload: bytes) -> Any:
        """Have the workers get `payload` once each; what `send` takes for it. It is let go with that."""

    def send(self, token: str, function: Any, chunk: bytes, name: str, priority: int, done: Done) -> Cancel:
        """Have ``remote.call(token, function, chunk)`` run on a worker, and `done` called in any thread with what it
        returned, or with what went wrong. What is returned cancels it.
        """
        ...

    def death(self, error: BaseException) -> str | None:
        """How the worker that had the chunk died, if that is what `error` tells of."""


def find(cluster: Any) -> Cluster:
    """The adapter for what a user calls a cluster.

    Raises:
        TypeError, ValueError: If it is none, or can't be used from here.
    """
    if cluster == "ray" or (isinstance(cluster, types.ModuleType) and cluster.__name__ == "ray"):
        from .ray import Ray

        return Ray()
    distributed = sys.modules.get("distributed")
    if distributed is not None and isinstance(cluster, distributed.Client):
        from .dask import Dask

        return Dask(cluster)
    if cluster == "dask" or (distributed is not None and isinstance(cluster, distributed.deploy.Cluster)):
        raise TypeError(
            "Dask's clusters are used by a Client: `distributed.Client(cluster)` or `distributed.Client(address)`"
        )
    futures = sys.modules.get("concurrent.futures")
    if futures is not None and isinstance(cluster, futures.Executor):
        from .futures import Futures

        return Futures(cluster)
    raise TypeError(
        "cluster must be a distributed.Client, the string 'ray' or the module ray, or a concurrent.futures.Executor "
        f"that stands for a cluster, not {cluster!r}"
    )


def plan_of(cluster: Cluster, workers: int | None) -> _plan.Cluster:
    """Where calls run, by the tasks that run there at a time: at most `workers`."""
    there = max(cluster.workers(), 1)
    return _plan.Cluster(min(there, workers or there), cluster.name)


def driver_of(
    cluster: object,
    fn: Callable[..., Any],
    calls: list[Call],
    plan: object,
    workers: int | None,
    chunksize: int | None,
    timeout: float | None,
    return_errors: bool,
    shared_state: bool | None,
    terms: Terms,
    seeds: Seeds | None,
    display: Display | None,
) -> Driver:
    """A map of known length.

    Raises:
        TypeError, ValueError: If what was asked for can't be had on that cluster.
    """
    from .driver import Driver

    found = find(cluster)
    check(fn, plan, workers, shared_state)
    check_terms(found, terms)
    return Driver(found, fn, calls, workers, chunksize, timeout, return_errors, terms, seeds, display)


def pool_of(
    cluster: object, plan: object, workers: int | None, made: tuple[object, object, object, object, bool | None]
) -> tuple[Any, _plan.Cluster]:
    """What an executor submits to, and its plan. `made` is what the executor was told of its workers: initializer and
    arguments, tasks and memory until one is replaced, shared state.

    Raises:
        TypeError, ValueError: If what was asked for can't be had on that cluster.
    """
    from .pool import Pool

    found = find(cluster)
    initializer, _, tasks, memory, shared_state = made
    check(None, plan, workers, shared_state)
    for name, value in (
        ("initializer", initializer),
        ("max_tasks_per_child", tasks),
        ("max_memory_per_child", memory),
    ):
        if value is not None:
            raise ValueError(f"{name} is for workers of forkright's; those of a cluster are its own. Leave it out")
    there = plan_of(found, workers)
    return Pool(found, there, workers), there


def plan_for(
    cluster: object,
    fn: Callable[..., Any],
    plan: object,
    workers: int | None,
    shared_state: bool | None,
    terms: Terms,
) -> _plan.Cluster:
    """The plan of a lazy map.

    Raises:
        TypeError, ValueError: If what was asked for can't be had on that cluster.
    """
    found = find(cluster)
    check(fn, plan, workers, shared_state)
    check_terms(found, terms)
    return plan_of(found, workers)


def check(fn: object, plan: object, workers: int | None, shared_state: bool | None) -> None:
    """See that nothing was asked for beside the cluster that is said of workers of this machine.

    Raises:
        TypeError, ValueError: If it was.
    """
    if fn is not None and _map.is_coroutine_function(fn):
        raise TypeError(
            f"`{_functions.name_of(fn)}` is a coroutine function, which a cluster's workers would not await; "
            "give cluster= a plain function, such as one that calls asyncio.run()"
        )
    if plan != "auto":
        raise ValueError(f"plan={plan!r} is for this machine's workers; leave it out beside cluster=, or the cluster")
    _plan.parse(plan, workers)
    if shared_state:
        raise ValueError(
            "shared_state=True says that the calls share state with this process, but a cluster would run them "
            "elsewhere; leave one of the two out"
        )
    _plan.check_shared_state(shared_state, None)


def check_context(context: object) -> None:
    """See that no context was asked for.

    Raises:
        ValueError: If one was.
    """
    if context is not None and context is not False:
        raise ValueError(
            "context= takes context variables to forkright's own workers; leave it out beside cluster=, and hand calls "
            "what they need as arguments"
        )


def check_terms(cluster: Cluster, terms: Terms) -> None:
    """See that the cluster can keep the terms of calls.

    Raises:
        ValueError: If it can't.
    """
    limit, _, priority = terms
    if limit is not None:
        raise ValueError(
            "task_timeout can't be kept on a cluster, whose workers are not forkright's to kill; "
            "leave it out, or have the call itself end in time"
        )
    if priority and not cluster.ranks:
        raise ValueError(f"{cluster.name} knows no priorities; leave out priority=")
