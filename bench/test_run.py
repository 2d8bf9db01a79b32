"""Ceilings, passes, fits, trainings, the lesson, predictions: in one run, on all cores."""

from __future__ import annotations

import tracemalloc
import warnings
from functools import cache

import numpy as np
import pytest

from accel import LogisticRegression
from accel.backends import BackendUnavailable, get_backend
from accel.benchmark import rows
from accel.benchmark.cases import FITS, TRAININGS, CVCase, LessonCase
from accel.benchmark.ceilings import CEILINGS, ONLY_DEVICES
from accel.benchmark.cold_start import cold_start
from accel.benchmark.fit_contenders import CV_CONTENDERS, FIT_CONTENDERS, LESSONS
from accel.benchmark.needs import Absent
from accel.benchmark.network_contenders import COMPILED_TRAINING_CONTENDERS, TRAINING_CONTENDERS
from accel.benchmark.pass_cases import DEVICE_PASSES, FULL_PASSES, QUICK_PASSES
from accel.benchmark.pass_contenders import (
    COMPILED_PASSES,
    DEVICE_CONTENDERS,
    PASSES,
    PREDICTIONS,
)
from bench.accuracy import DIGITS, SIGNS, accuracy_row
from bench.conftest import ROWS

full = pytest.mark.full
LESSON = LessonCase()
CV = CVCase()
SLOW = ("scikit-learn",)  # 25 s where its BLAS threads meet other processes


def passes():
    for case in FULL_PASSES:
        for contender in PASSES:
            marks = () if case in QUICK_PASSES else (full,)
            yield pytest.param(case, contender, id=f"{case}-{contender}", marks=marks)
        for contender in COMPILED_PASSES:
            yield pytest.param(case, contender, id=f"{case}-{contender}", marks=(full,))
    for case in DEVICE_PASSES:
        for contender in DEVICE_CONTENDERS:
            yield pytest.param(case, contender, id=f"{case}-{contender}")


def fits():
    for case in FITS:
        for contender in FIT_CONTENDERS:
            yield pytest.param(case, contender, id=f"{case}-{contender}")


def _forget(case):
    """Large arrays live for one case only."""
    for name in ("arrays", "one_lot", "reference"):
        vars(case).pop(name, None)


@pytest.mark.parametrize("backend_name", ["numpy", "cupy"])
@pytest.mark.parametrize("name", CEILINGS)
def test_ceiling(row, name, backend_name):
    if backend_name == "numpy" and name in ONLY_DEVICES:
        pytest.skip("nothing is transferred to the CPU")

    def prepare():
        try:
            return CEILINGS[name][0](get_backend(backend_name))
        except BackendUnavailable as error:
            raise Absent(str(error)) from error

    row(prepare, lambda result, cold_s, samples: rows.ceiling_row(name, backend_name, samples))


@pytest.mark.parametrize(("case", "contender"), list(passes()))
def test_pass(row, case, contender):
    for other in (*FULL_PASSES, *DEVICE_PASSES):
        if other != case:
            _forget(other)
    made = row(
        lambda: {**PASSES, **COMPILED_PASSES}[contender](case),
        lambda result, cold_s, samples: rows.pass_row(case, contender, result, cold_s, samples),
    )
    assert made["valid"] or not contender.startswith("accel")


@pytest.mark.parametrize("backend_name", ["numpy", "cupy"])
def test_cold_start(request, backend_name):
    """One run: what is compiled once cannot be measured twice."""
    try:
        made = rows.cold_row(f"accel {backend_name}", cold_start(backend_name))
    except Absent as reason:
        pytest.skip(str(reason))
    request.config.stash[ROWS].append(made)


@pytest.mark.parametrize(("case", "contender"), list(fits()))
def test_fit(row, case, contender):
    made = row(
        lambda: FIT_CONTENDERS[contender](case),
        lambda result, cold_s, samples: rows.fit_row(case, contender, result, cold_s, samples),
    )
    assert made["valid"] or not contender.startswith("accel")


def trainings():
    for case in TRAININGS:
        for contender in TRAINING_CONTENDERS:
            yield pytest.param(case, contender, id=f"{case}-{contender}")
        for contender in COMPILED_TRAINING_CONTENDERS:
            yield pytest.param(case, contender, id=f"{case}-{contender}", marks=(full,))


@pytest.mark.parametrize(("case", "contender"), list(trainings()))
def test_training(row, case, contender):
    made = row(
        lambda: {**TRAINING_CONTENDERS, **COMPILED_TRAINING_CONTENDERS}[contender](case),
        lambda result, cold_s, samples: rows.training_row(case, contender, result, cold_s, samples),
    )
    assert made["valid"] or not contender.startswith("accel")


@pytest.mark.parametrize("backend_name", ["numpy", "cupy"])
@pytest.mark.parametrize("case", [DIGITS, pytest.param(SIGNS, marks=full)], ids=str)
def test_accuracy(request, case, backend_name):
    """One fit: its curve is the measurement, its seconds are beside it."""
    try:
        made = accuracy_row(case, backend_name)
    except Absent as reason:
        pytest.skip(str(reason))
    request.config.stash[ROWS].append(made)
    assert made["valid"]


def cross_validations():
    for contender in CV_CONTENDERS:
        yield pytest.param(contender, marks=(full,) if contender in SLOW else ())


@pytest.mark.parametrize("contender", list(cross_validations()))
def test_cross_validation(row, contender):
    made = row(
        lambda: CV_CONTENDERS[contender](CV),
        lambda result, cold_s, samples: rows.cv_row(CV, contender, result, cold_s, samples),
    )
    assert made["valid"] or not contender.startswith("accel")


@pytest.mark.parametrize("case", QUICK_PASSES[3:6], ids=str)
def test_memory(request, case):
    """NumPy's allocations while a fit runs, X itself not counted."""
    X, y, _ = case.arrays
    model = LogisticRegression(max_iter=2, backend="numpy", input_scale=case.input_scale)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)  # numba's compilation is not memory of a fit
        tracemalloc.start()
        model.fit(X, y)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    made = rows.memory_row(str(case), X.nbytes, peak_bytes)
    request.config.stash[ROWS].append(made)
    assert made["valid"]


@cache
def last_cost():
    return LESSONS["as printed"](LESSON)()


@pytest.mark.parametrize("contender", LESSONS)
def test_lesson(row, contender):
    made = row(
        lambda: LESSONS[contender](LESSON),
        lambda result, cold_s, samples: rows.lesson_row(
            LESSON, contender, result, last_cost(), cold_s, samples
        ),
    )
    assert made["valid"]


@pytest.mark.parametrize("case", QUICK_PASSES[3:5], ids=str)
@pytest.mark.parametrize("contender", PREDICTIONS)
def test_predict(row, case, contender):
    X, _, params = case.arrays
    W = params[:-1].astype(np.float64)

    def wanted():
        z = np.concatenate(
            [X[i : i + 4096] @ (W * case.input_scale) for i in range(0, len(X), 4096)]
        )
        return (z + params[-1] > 0).astype(np.int64)

    made = row(
        lambda: PREDICTIONS[contender](case),
        lambda result, cold_s, samples: rows.predict_row(
            case, contender, result, wanted(), cold_s, samples
        ),
    )
    assert made["valid"]
