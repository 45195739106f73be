"""Ray, as the program has initialised it, or as it initialises itself."""

from __future__ import annotations

import functools
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

try:
    import ray  # pyright: ignore[reportMissingImports]
    from ray import exceptions  # pyright: ignore[reportMissingImports]
except ImportError as error:
    raise ImportError("cluster='ray' needs Ray: `pip install ray`") from error

from cloudpickle import cloudpickle  # type: ignore[import-untyped]

from . import parcel, remote

if TYPE_CHECKING:
    from . import Cancel, Done

_DEATHS = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.LocalRayletDiedError,
)


class Ray:
    """Tasks of Ray's, each on one of its CPUs."""

    name = "Ray"
    ranks = False

    def __init__(self) -> None:
        if not ray.is_initialized():
            ray.init()

    def workers(self) -> int:
        return int(ray.cluster_resources().get("CPU", 0))

    def put(self, payload: bytes) -> Any:
        return ray.put(payload)

    def send(self, token: str, function: Any, chunk: bytes, name: str, priority: int, done: Done) -> Cancel:
        # In a list Ray leaves it where it is: a worker that has the function does not get it again.
        task = _remote().options(name=name).remote(token, [function], chunk)

        def tell(ended: Future[Any]) -> None:
            error = ended.exception()
            done(None if error else ended.result(), error)

        task.future().add_done_callback(tell)
        return functools.partial(ray.cancel, task)

    def death(self, error: BaseException) -> str | None:
        return str(error).strip() if isinstance(error, _DEATHS) else None


@functools.cache
def _remote() -> Any:
    """What Ray runs. Built anew from its pickle it is no module's, so that Ray takes it by value. Of what dies
    forkright takes care, so that nothing is run again that nobody asked for."""
    return ray.remote(max_retries=0)(cloudpickle.loads(parcel.runner(remote.call_on_ray)))
