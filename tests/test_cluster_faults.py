"""Workers that are killed in the middle of a fit: the same bits, or an error of one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings

import pytest

from accel import LogisticRegression
from accel.cluster import ClusterError, distributed

dask = pytest.importorskip("distributed", reason="the extra dask is not installed")
dask_config = pytest.importorskip("dask.config").set

from tests.test_cluster import QUIET, chunked, data  # noqa: E402


def kill_once(pids):
    """A callback that kills a process at update 2."""

    def kill(progress):
        if progress.n_iter == 2 and pids:
            os.kill(pids.pop(), signal.SIGKILL)

    return kill


@pytest.mark.parametrize("solver", ["gd", "newton-cg"])
def test_a_worker_that_is_killed_costs_nothing_but_time(solver):
    X, y = data(n_classes=3)
    options = {"solver": solver, "learning_rate": 0.5, "max_iter": 6, "tol": 0.0}
    with (
        warnings.catch_warnings(),
        dask.LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as cluster,
        dask.Client(cluster),
    ):
        warnings.simplefilter("ignore")
        whole = LogisticRegression(**options).fit(chunked(X), y)
        pids = [next(iter(cluster.workers.values())).pid]
        model = LogisticRegression(callback=kill_once(pids), **options).fit(chunked(X), y)
    assert pids == []
    assert (model.coef_ == whole.coef_).all()


@pytest.fixture
def bare_workers():
    """A scheduler, and two worker processes that nobody restarts."""
    with (
        dask.LocalCluster(n_workers=0, processes=False, protocol="tcp://", **QUIET) as cluster,
        dask.Client(cluster) as client,
    ):
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address]
        options = ["--no-nanny", "--nthreads", "1", "--no-dashboard"]
        children = [
            subprocess.Popen([*worker, *options], stderr=subprocess.DEVNULL) for _ in range(2)
        ]
        client.wait_for_workers(2, timeout=30)
        yield [child.pid for child in children]
        for child in children:
            child.kill()
            child.wait()


def test_one_of_two_workers_is_enough_and_none_is_an_error(bare_workers, monkeypatch):
    X, y = data(n_classes=3)
    options = {"solver": "gd", "learning_rate": 0.5, "max_iter": 6, "tol": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = LogisticRegression(**options).fit(chunked(X), y)
        first = [bare_workers[0]]
        model = LogisticRegression(callback=kill_once(first), **options).fit(chunked(X), y)
    assert first == []
    assert (model.coef_ == whole.coef_).all()
    monkeypatch.setattr(distributed, "LOOK_S", 0.2)
    monkeypatch.setattr(distributed, "ALONE_S", 1.0)
    with pytest.raises(ClusterError, match="has had no workers for 1 s"):
        LogisticRegression(callback=kill_once([bare_workers[1]]), **options).fit(chunked(X), y)


def die(block):
    os._exit(1)


def test_a_task_that_kills_its_workers_is_an_error():
    X, y = data()
    with (
        dask_config({"distributed.scheduler.allowed-failures": 0}),
        dask.LocalCluster(n_workers=1, threads_per_worker=1, **QUIET) as cluster,
        dask.Client(cluster),
    ):
        deadly = chunked(X).map_blocks(die, dtype=X.dtype, meta=X[:0])
        with pytest.raises(ClusterError, match="died again and again of the same task"):
            LogisticRegression().fit(deadly, y)
