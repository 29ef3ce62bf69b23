"""What verbs take as workers, and the executors of other packages."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sdc_ext.errors import InputError
from sdc_ext.workers import SERIAL, choose_workers


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (0, "`workers` must be .*from 1 to 1024"),
        (True, "`workers`"),
        (2.5, "`workers` cannot be a float: pass a number of processes"),
        ("slurm", "executor 'slurm' is unknown: use dask:ADDRESS"),
        ("dask:", "executor 'dask:' is unknown"),
        ("submitit:timeout_min", "written NAME=VALUE, e.g. timeout_min=90, got 'timeout_min'"),
        ("submitit:no_such=1", "submitit refuses 'no_such=1'"),
        ("submitit:cluster=moon", "submitit refuses 'cluster=moon'"),
        ("dask:nowhere", "no dask scheduler answers at 'nowhere'"),
    ],
)
def test_what_is_no_worker_is_refused(given: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        choose_workers(given)


def test_one_process_is_this_one_and_workers_stay_as_they_are() -> None:
    assert choose_workers(1) is SERIAL and choose_workers(SERIAL, launched=4) is SERIAL
    assert choose_workers(np.int64(1)) is SERIAL
    two = choose_workers(2)
    assert choose_workers(two) is two
    for given in (2, two):
        with pytest.raises(InputError, match="launched in 2 processes"):
            choose_workers(given, launched=2)


def make_deadly() -> Callable[[Path, int], int]:
    """A function that kills its worker the first time; no worker could import it from here."""

    def once(folder: Path, cell: int) -> int:
        if cell == 1 and not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), 9)
        return 10 * cell

    return once


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def process(shared: None, cell: bool) -> int:
    return time.monotonic_ns()


def test_equal_cells_are_all_carried_out_on_dask(here: Path) -> None:
    from distributed import Client

    with Client(processes=False, n_workers=1, dashboard_address=None) as client:
        found = choose_workers(client.get_executor()).map(process, None, [False] * 3)
    assert len(set(found)) == 3


@pytest.mark.slow
def test_a_dask_cluster_survives_a_killed_worker(here: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        workers = choose_workers(f"dask:{cluster.scheduler_address}")
        assert workers.map(make_deadly(), here, range(4)) == [0, 10, 20, 30]


@pytest.mark.slow
def test_jobs_of_submitit_are_done_again(here: Path) -> None:
    said: list[str] = []
    workers = choose_workers("submitit:cluster=local")
    assert workers.map(make_deadly(), here, range(3), say=said.append) == [0, 10, 20]
    assert "UncompletedJobError" in said[0]
