"""The clusters, each started once; and what holds for tests with libraries that start threads of their own."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # What the libraries warn of, in threads and at the end of their own, is not ours.
        item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session", autouse=True)
def no_leftovers() -> None:
    """Nothing is looked for here: Dask's and Ray's threads and helpers stay until the interpreter ends."""


def library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        pytest.skip(f"{name} is not installed; `make test-clusters` does that")


@pytest.fixture(scope="session")
def dask() -> Iterator[Any]:
    """A client of a cluster of two processes with a thread each."""
    distributed = library("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="session")
def ray() -> Iterator[Any]:
    """Ray, initialised with two CPUs."""
    module = library("ray")
    # Workers import the tests' modules, as Dask's do, whose processes get this one's path.
    modules = {"env_vars": {"PYTHONPATH": str(Path(__file__).parents[1])}}
    module.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=modules)
    yield module
    module.shutdown()
