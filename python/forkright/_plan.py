"""Where tasks run: so many worker processes with so many threads each."""

from __future__ import annotations

# `typing` is not imported where `import forkright` leads: it costs as much as all the rest.

MOST_WORKERS = 65_536


class Plan(tuple[int, int]):
    """A point on the grid of processes and threads.

    ``Plan()`` is serial: the calling thread. ``Plan(threads=8)`` is eight threads of this process,
    ``Plan(processes=4)`` four worker processes, ``Plan(processes=4, threads=8)`` four with eight threads each.

    Args:
        processes: Worker processes; 0 for none: tasks run in this process.
        threads: Threads in each process, or in this one if there are no worker processes. At least 1.

    Raises:
        ValueError: If there is no worker, or more than 65,536.
        TypeError: If a count is not an integer.
    """

    __slots__ = ()

    def __new__(cls, processes: int = 0, threads: int = 1) -> Plan:
        for name, count in (("processes", processes), ("threads", threads)):
            if isinstance(count, bool) or not isinstance(count, int):
                raise TypeError(f"{name} must be an integer, not {count!r}")
        if processes < 0:
            raise ValueError(f"processes must be 0 or more, not {processes}")
        if threads < 1:
            raise ValueError(f"threads must be 1 or more, not {threads}")
        if max(processes, 1) * threads > MOST_WORKERS:
            raise ValueError(f"{max(processes, 1) * threads} workers are more than the {MOST_WORKERS} a plan can have")
        return super().__new__(cls, (processes, threads))

    def __getnewargs__(self) -> tuple[int, int]:
        return (self[0], self[1])

    @property
    def processes(self) -> int:
        """Worker processes; 0 for none."""
        return self[0]

    @property
    def threads(self) -> int:
        """Threads in each process, or in this one."""
        return self[1]

    @property
    def workers(self) -> int:
        """Tasks that can run at a time."""
        return max(self.processes, 1) * self.threads

    @property
    def kind(self) -> str:
        """``"serial"``, ``"threads"``, ``"processes"`` or ``"hybrid"``."""
        if self.processes == 0:
            return "serial" if self.threads == 1 else "threads"
        return "processes" if self.threads == 1 else "hybrid"

    def __repr__(self) -> str:
        return f"Plan(processes={self.processes}, threads={self.threads})"

    def __str__(self) -> str:
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes"
        match self.kind:
            case "serial":
                return "serial"
            case "threads":
                return f"{self.threads} threads"
            case "processes":
                return processes
            case _:
                return f"{processes} x {self.threads} threads"


class Cluster(Plan):
    """The workers of a cluster: so many tasks run there at a time."""

    name: str

    def __new__(cls, workers: int, name: str) -> Cluster:
        plan = tuple.__new__(cls, (workers, 1))
        plan.name = name
        return plan

    def __getnewargs__(self) -> tuple[int, str]:  # type: ignore[override]
        return (self[0], self.name)

    @property
    def kind(self) -> str:
        """``"cluster"``."""
        return "cluster"

    def __repr__(self) -> str:
        return f"<{self}>"

    def __str__(self) -> str:
        workers = "1 worker" if self.processes == 1 else f"{self.processes} workers"
        return f"{workers} of {self.name}"


def parse(plan: object, workers: int | None) -> Plan | None:
    """The plan somebody asked for, cut to `workers`; None for "auto".

    Names stand for the size that suits this machine: "threads" for what the standard library starts, "processes"
    for one per core, "hybrid" for one process per core with eight threads each.
    """
    if workers is not None:
        if isinstance(workers, bool) or not isinstance(workers, int):
            raise TypeError(f"the number of workers must be an integer or None, not {workers!r}")
        if workers < 1:
            raise ValueError(f"the number of workers must be greater than 0, not {workers}")
        if workers > MOST_WORKERS:
            raise ValueError(f"{workers} workers are more than the {MOST_WORKERS} a plan can have")
    if isinstance(plan, Plan):
        return _within(plan, workers)
    if not isinstance(plan, str):
        raise TypeError(f"plan must be a forkright.Plan or a name, not {plan!r}")
    if plan == "auto":
        return None
    from ._core import cpu_count

    cores = cpu_count()
    match plan:
        case "serial":
            return Plan()
        case "threads":
            return Plan(threads=workers or min(32, cores + 4))
        case "processes":
            return Plan(processes=workers or cores)
        case "hybrid":
            return _within(Plan(processes=cores, threads=8), workers)
    raise ValueError(
        f"{plan!r} is no plan; take 'auto', 'serial', 'threads', 'processes', 'hybrid' or a forkright.Plan"
    )


def check_shared_state(shared_state: object, plan: Plan | None) -> None:
    """See that what somebody says of shared state makes sense, and suits the fixed plan, if it is one.

    Raises:
        TypeError, ValueError: If not.
    """
    if shared_state is not None and not isinstance(shared_state, bool):
        raise TypeError(f"shared_state must be True, False or None, not {shared_state!r}")
    if shared_state and plan is not None and plan.processes:
        raise ValueError(
            f"shared_state=True says that the calls share state with this process, but {plan} would run them in others;"
            " take plan='threads', or leave one of the two out"
        )


def _within(plan: Plan, workers: int | None) -> Plan:
    if workers is None or plan.workers <= workers:
        return plan
    if plan.processes == 0:
        return Plan(threads=workers)
    processes = min(plan.processes, workers)
    return Plan(processes=processes, threads=max(1, min(plan.threads, workers // processes)))
