"""One pass and one full fit: accel on every usable backend against NumPy and scikit-learn."""

from __future__ import annotations

import time

import pytest

from accel.benchmark.cases import PassCase, digits_fit
from accel.benchmark.contenders import accel_fit, accel_pass, scikit_learn_fit, two_pass_numpy

PASSES = {
    "accel numpy": lambda case: accel_pass(case, "numpy"),
    "accel cupy": lambda case: accel_pass(case, "cupy"),
    "two-pass NumPy": two_pass_numpy,
}
FITS = {
    "accel numpy": lambda case: accel_fit(case, "numpy"),
    "accel cupy": lambda case: accel_fit(case, "cupy"),
    "scikit-learn lbfgs": lambda case: scikit_learn_fit(case, "lbfgs"),
}
CASES = [
    PassCase(348, 4096, dtype="float64"),
    PassCase(50_000, 784),
    PassCase(50_000, 784, dtype="float64"),
    PassCase(50_000, 784, n_outputs=10),
]
LARGEST_ERROR = {"float32": 1e-4, "float64": 1e-10}
LARGEST_GAP = 1e-3


@pytest.mark.parametrize("contender", PASSES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_pass(benchmark, usable, case, contender):
    if contender.startswith("accel "):
        usable(contender.partition(" ")[2])
    call = PASSES[contender](case)
    started = time.perf_counter()
    error = case.error(call())
    cold_s = time.perf_counter() - started
    benchmark.pedantic(call, rounds=11, warmup_rounds=2)
    median_s = benchmark.stats.stats.median
    benchmark.extra_info.update(
        case=str(case),
        contender=contender,
        dtype=case.dtype,
        shape=[case.n_samples, case.n_features, case.n_outputs],
        cold_s=cold_s,
        gigabytes_per_s=case.n_bytes / median_s / 1e9,
        gigaflops=case.flops / median_s / 1e9,
        relative_error=error,
        valid=error <= LARGEST_ERROR[case.dtype],
    )
    assert error <= LARGEST_ERROR[case.dtype]


@pytest.mark.parametrize("contender", FITS)
def test_fit(benchmark, usable, contender):
    if contender.startswith("accel "):
        usable(contender.partition(" ")[2])
    case = digits_fit()
    call = FITS[contender](case)
    model = benchmark.pedantic(call, rounds=5, warmup_rounds=1)
    objective = case.objective(model.coef_, model.intercept_)
    gap = objective / case.minimum - 1
    benchmark.extra_info.update(
        case=str(case),
        contender=contender,
        dtype="float64",
        shape=[*case.X.shape, len(model.classes_)],
        iterations=int(model.n_iter_[0]),
        objective=objective,
        gap=gap,
        valid=gap <= LARGEST_GAP,
    )
    assert gap <= LARGEST_GAP
