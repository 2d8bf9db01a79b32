"""Data larger than memory: passes from disk and over the link, beside what disk and link can do."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from accel import LogisticRegression
from accel.backends import BackendUnavailable, get_backend
from accel.benchmark.timer import summary
from accel.estimators.checks import check_targets
from accel.estimators.linear import linear_objective
from accel.rows import Streamed
from accel.sources import ArraySource, as_source
from bench.conftest import ROWS

N_FEATURES = 784
N_BYTES = {True: 512 << 20, False: 2 << 30}  # quick, full
READ_BYTES = 4 << 20
ROUNDS = {True: 5, False: 11}
LARGEST_ERROR = 1e-4
DTYPES = ("float32", "uint8")


def rows_of(dtype, n_bytes):
    return n_bytes // (N_FEATURES * np.dtype(dtype).itemsize)


def labels(n):
    return np.arange(n) % 3 % 2


@pytest.fixture(scope="module")
def quick(request):
    return request.config.getoption("--quick")


@pytest.fixture(scope="module", params=DTYPES)
def file(request, quick, tmp_path_factory):
    """A .npy file on disk; removed at the end."""
    n = rows_of(request.param, N_BYTES[quick])
    path = tmp_path_factory.mktemp("scale") / "X.npy"
    X = np.lib.format.open_memmap(path, mode="w+", dtype=request.param, shape=(n, N_FEATURES))
    rng = np.random.default_rng(0)
    for k in range(0, n, 65536):
        block = rng.normal(size=(min(65536, n - k), N_FEATURES), scale=40.0)
        X[k : k + 65536] = np.clip(128 + block, 0, 255)
    X.flush()
    del X
    os.sync()
    yield path
    path.unlink()


def read_whole(path):
    """Read a file from the first byte to the last, as a program with one thread does."""
    buffer, started = bytearray(READ_BYTES), time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - started


def forget(path):
    """Take the file out of the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def objective_of(source, backend):
    """The loss over a source, streamed, and its parameters."""
    n, d = source.shape
    real = 8 if source.dtype == np.float64 else 4
    block_rows = max(1, backend.stream_bytes(backend.free_bytes()) // (real * (d + 4)))
    targets = check_targets(labels(n), n, None, None)
    streamed = Streamed(source, block_rows, backend)
    objective = linear_objective(
        streamed, targets, backend, fit_intercept=True, input_scale=1 / 255, alpha=1e-6
    )
    params = np.linspace(-0.01, 0.01, d + 1, dtype=np.float32)
    return objective, backend.asarray(params)


def error_of(objective, params, X, backend):
    """Of value and gradient, against float64 NumPy."""
    value, gradient = objective.value_and_grad(params)
    W, n = backend.to_numpy(params).astype(np.float64), X.shape[0]
    wanted, y = np.zeros(len(W)), labels(n)
    for k in range(0, n, 65536):
        block = X[k : k + 65536].astype(np.float64) / 255
        z = block @ W[:-1] + W[-1]
        residual = (1 / (1 + np.exp(-z)) - y[k : k + 65536]) / n
        wanted[:-1] += block.T @ residual
        wanted[-1] += residual.sum()
    wanted[:-1] += 1e-6 * W[:-1]
    (value,) = backend.scalars(value)
    gradient = backend.to_numpy(gradient)
    return float(np.abs(gradient - wanted).max() / np.abs(wanted).max()) if value > 0 else 1.0


def measured(ceiling, one_pass, before, rounds):
    """Seconds of both, in turn, so that what disturbs one disturbs the other."""
    found = {"ceiling": [], "pass": []}
    for _ in range(rounds):
        before()
        found["ceiling"].append(ceiling())
        before()
        started = time.perf_counter()
        one_pass()
        found["pass"].append(time.perf_counter() - started)
    return found


def stream_row(case, contender, dtype, shape, n_bytes, found, ceiling, error):
    """One row: the rate of a pass, and its share of what the disk or the link does."""
    times, most = summary(found["pass"]), summary(found["ceiling"])
    return {
        "kind": "stream", "case": case, "contender": contender, "dtype": dtype, "shape": shape,
        **times, "gigabytes_per_s": n_bytes / times["median_s"] / 1e9, "ceiling": ceiling,
        "ceiling_gigabytes_per_s": n_bytes / most["median_s"] / 1e9,
        "share": float(np.median(np.divide(found["ceiling"], found["pass"]))), "error": error,
        "valid": error <= LARGEST_ERROR,
    }  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="no posix_fadvise on this system")
@pytest.mark.parametrize("where", ["page cache", "disk"])
def test_pass_from_disk(request, file, quick, where):
    backend, source = get_backend("numpy"), as_source(file)
    objective, params = objective_of(source, backend)
    error = error_of(objective, params, np.load(file, mmap_mode="r"), backend)
    read_whole(file)
    before = {"page cache": lambda: None, "disk": lambda: forget(file)}[where]
    found = measured(
        lambda: read_whole(file),
        lambda: objective.value_and_grad(params),
        before,
        ROUNDS[quick],
    )
    n_bytes, dtype = Path(file).stat().st_size, str(source.dtype)
    case = f"pass over {n_bytes / 1e9:.2g} GB {dtype} from the {where}"
    made = stream_row(
        case, "accel numpy", dtype, [*source.shape, 1], n_bytes, found,
        f"one thread reads the file from the {where}", error,
    )  # fmt: skip
    request.config.stash[ROWS].append(made)
    assert made["valid"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_pass_over_the_link(request, quick, dtype):
    """X in host memory, computed on on the GPU: the ceiling is a copy from pinned memory."""
    try:
        backend = get_backend("cupy")
    except BackendUnavailable as error:
        pytest.skip(str(error))
    n = rows_of(dtype, N_BYTES[quick])
    X = np.random.default_rng(0).integers(0, 256, (n, N_FEATURES)).astype(dtype)
    with backend.context():
        objective, params = objective_of(ArraySource(X), backend)
        error = error_of(objective, params, X, backend)
        link = backend.uploader()
        pinned = link.host((READ_BYTES * 16 // X[0].nbytes, N_FEATURES), X.dtype)
        there = backend.asarray(pinned)

        def copies():
            started = time.perf_counter()
            for _ in range(n // len(pinned)):
                token = link.upload(pinned, there)
            link.wait_on_host(token)
            return (time.perf_counter() - started) * n / (n // len(pinned) * len(pinned))

        def one_pass():
            objective.value_and_grad(params)
            backend.synchronize()

        found = measured(copies, one_pass, lambda: None, ROUNDS[quick])
    made = stream_row(
        f"pass over {X.nbytes / 1e9:.2g} GB {dtype} from host memory", "accel cupy", dtype,
        [n, N_FEATURES, 1], X.nbytes, found, "copies from pinned memory", error,
    )  # fmt: skip
    request.config.stash[ROWS].append(made)
    assert made["valid"]


@pytest.mark.parametrize("placement", ["resident", "stream"])
def test_fit_from_disk(request, file, placement):
    """A fit of a file, loaded first or streamed: seconds, passes, and the optimum."""
    source = as_source(file)
    y, options = labels(source.shape[0]), {"input_scale": 1 / 255, "backend": "numpy"}
    found = []
    for _ in range(3):
        started = time.perf_counter()
        model = LogisticRegression(placement=placement, **options).fit(source, y)
        found.append(time.perf_counter() - started)
    dtype, n_bytes = str(source.dtype), Path(file).stat().st_size
    made = {
        "kind": "stream fit", "case": f"fit of {n_bytes / 1e9:.2g} GB {dtype}",
        "contender": f"accel numpy, {placement}", "dtype": dtype, "shape": [*source.shape, 1],
        **summary(found), "passes": model.n_passes_, "objective": model.objective_,
        "gradient": model.gradient_norm_, "valid": model.gradient_norm_ <= 1e-4,
    }  # fmt: skip
    request.config.stash[ROWS].append(made)
    assert made["valid"]
