"""A cluster of two processes on this machine beside one process: the fit, and what dask costs."""

from __future__ import annotations

import statistics
import time
import warnings

import numpy as np
import pytest

from accel import LogisticRegression
from accel.benchmark.timer import summary
from bench.conftest import ROWS

PARTITIONS = (1, 2, 8, 32, 64)  # more are merged where they are small
FEATURES = (20, 1000)
PASSES = 12
N_BYTES = {True: 256 << 20, False: 2 << 30}
N_FEATURES, N_PARTS = 784, 8


@pytest.fixture(scope="module")
def client():
    """Two workers of one thread each, in processes of their own."""
    distributed = pytest.importorskip("distributed")
    quiet = {"dashboard_address": ":0", "silence_logs": 50}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, **quiet) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def pass_seconds(n_partitions, n_features):
    """Seconds from one update of gradient descent to the next, over rows that cost nothing."""
    import dask.array as da

    rng = np.random.default_rng(0)
    X = rng.normal(size=(10 * n_partitions, n_features)).astype(np.float32)
    y, seen = np.arange(len(X)) % 2, []
    model = LogisticRegression(
        solver="gd", max_iter=PASSES, tol=0.0, callback=lambda _: seen.append(time.perf_counter())
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it does not converge
        model.fit(da.from_array(X, chunks=(10, -1)), y)
    return np.diff(seen).tolist()


@pytest.mark.parametrize("n_features", FEATURES)
@pytest.mark.parametrize("n_partitions", PARTITIONS)
def test_overhead_of_a_pass(request, client, n_partitions, n_features):
    pass_seconds(2, n_features)  # imports on the workers
    found = pass_seconds(n_partitions, n_features)
    request.config.stash[ROWS].append({
        "kind": "cluster pass", "case": f"{n_partitions} partitions, {n_features} columns",
        "contender": "accel on dask, 2 workers", "partitions": n_partitions,
        "features": n_features, **summary(found), "valid": True,
    })  # fmt: skip


def maker(n):
    """The rows of a partition, made where they are needed."""

    def part(k):
        rng = np.random.default_rng(k)
        X = rng.normal(size=(n, N_FEATURES)).astype(np.float32)
        return X, (X[:, 0] + X[:, 1] > rng.logistic(size=n)).astype(np.int8)

    return part


def on_workers(make, n):
    """X and y as dask arrays whose partitions are made on the workers."""
    import dask.array as da
    from dask import delayed

    parts = [delayed(make)(k) for k in range(N_PARTS)]
    X = [da.from_delayed(part[0], (n, N_FEATURES), np.float32) for part in parts]
    y = [da.from_delayed(part[1], (n,), np.int8) for part in parts]
    return da.concatenate(X), da.concatenate(y)


def test_two_processes_beside_one(request, client):
    """To the same optimum, X in memory on both sides; in turn, so that noise meets both."""
    quick = request.config.getoption("--quick")
    n = N_BYTES[quick] // (4 * N_FEATURES * N_PARTS)
    make = maker(n)
    X, y = (np.concatenate(arrays) for arrays in zip(*map(make, range(N_PARTS)), strict=True))
    far_X, far_y = (array.persist() for array in on_workers(make, n))
    fits = {
        "one process": lambda: LogisticRegression(backend="numpy").fit(X, y),
        "one process, stream": lambda: LogisticRegression(
            backend="numpy", placement="stream").fit(X, y),
        "2 workers": lambda: LogisticRegression(backend="numpy").fit(far_X, far_y),
    }  # fmt: skip
    seconds, models = {name: [] for name in fits}, {}
    for _ in range(2 if quick else 3):
        for name, fit in fits.items():
            started = time.perf_counter()
            models[name] = fit()
            seconds[name].append(time.perf_counter() - started)
    best = min(model.objective_ for model in models.values())
    one = min(statistics.median(seconds[name]) for name in fits if name != "2 workers")
    for name, model in models.items():
        request.config.stash[ROWS].append({
            "kind": "cluster fit", "case": f"fit of {X.nbytes / 1e9:.2g} GB float32",
            "contender": name, "shape": [n * N_PARTS, N_FEATURES, 1], **summary(seconds[name]),
            "passes": model.n_passes_, "stages_s": model.account_.seconds,
            "objective": model.objective_, "gradient": model.gradient_norm_,
            "gap": model.objective_ / best - 1, "ratio": statistics.median(seconds[name]) / one,
            "valid": model.gradient_norm_ <= 1e-4,
        })  # fmt: skip
        assert model.gradient_norm_ <= 1e-4
