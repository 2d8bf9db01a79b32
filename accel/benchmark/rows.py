"""The rows of a run: what was measured, with its check, as JSON holds it."""

from __future__ import annotations

from typing import Any

import numpy as np

from accel.benchmark.cases import (
    CVCase,
    FitCase,
    LessonCase,
    Trained,
    TrainingCase,
)
from accel.benchmark.ceilings import CEILINGS
from accel.benchmark.pass_cases import (
    LARGEST_ERROR,
    PassCase,
)
from accel.benchmark.timer import summary

LESSON_COST = 1e-6  # largest relative difference of the last cost


def ceiling_row(name: str, backend: str, samples: list[float]) -> dict[str, Any]:
    """A ceiling: amount over median time."""
    _, amount, unit = CEILINGS[name]
    times = summary(samples)
    return {
        "kind": "ceiling", "case": name, "contender": backend, **times,
        "rate": amount / times["median_s"], "unit": unit,
    }  # fmt: skip


def pass_row(
    case: PassCase, contender: str, result: Any, cold_s: float, samples: list[float]
) -> dict[str, Any]:
    """One pass, with its error against float64 NumPy."""
    times, error = summary(samples), case.error(result)
    return {
        "kind": "pass", "case": str(case), "contender": contender, "dtype": case.dtype,
        "shape": [case.n_samples, case.n_features, case.n_outputs], "cold_s": cold_s, **times,
        "bytes": case.n_bytes, "gigabytes_per_s": case.n_bytes / times["median_s"] / 1e9,
        "gigaflops": case.flops / times["median_s"] / 1e9,
        "error": error, "valid": error <= LARGEST_ERROR[case.dtype],
    }  # fmt: skip


def with_device_times(row: dict[str, Any], n_bytes: int, samples: list[float]) -> dict[str, Any]:
    """A row with its times by the GPU's own clock, nothing fetched."""
    times = summary(samples)
    return {
        **row, "device_median_s": times["median_s"], "device_iqr_s": times["iqr_s"],
        "device_rounds": times["rounds"],
        "device_gigabytes_per_s": n_bytes / times["median_s"] / 1e9,
    }  # fmt: skip


def cold_row(contender: str, seconds: dict[str, float]) -> dict[str, Any]:
    """A first fit in a new process whose kernels were never compiled, and the second."""
    return {
        "kind": "cold", "case": "digits 1797 x 64, 10 classes", "contender": contender, **seconds,
        "median_s": seconds["first_s"], "iqr_s": 0.0, "valid": True,
    }  # fmt: skip


def fit_row(
    case: FitCase, contender: str, model: Any, cold_s: float, samples: list[float]
) -> dict[str, Any]:
    """One fit, with its distance to the minimum."""
    X, _ = case.data
    gap = case.gap_of(model.coef_, model.intercept_)
    return {
        "kind": "fit", "case": str(case), "contender": contender, "dtype": str(X.dtype),
        "shape": [*X.shape, len(model.intercept_)], "cold_s": cold_s, **summary(samples),
        "iterations": int(np.max(model.n_iter_)), "objective": gap * case.minimum + case.minimum,
        "gap": gap, "valid": gap <= case.gap,
    }  # fmt: skip


def cv_row(
    case: CVCase, contender: str, model: Any, cold_s: float, samples: list[float]
) -> dict[str, Any]:
    """One cross-validation, with its best mean score against that of the optima."""
    X, _ = case.data
    score = float(np.max(np.mean(np.reshape(model.scores_, (case.n_folds, -1)), axis=0)))
    return {
        "kind": "cv", "case": str(case), "contender": contender, "dtype": str(X.dtype),
        "shape": [*X.shape, len(model.intercept_)], "cold_s": cold_s, **summary(samples),
        "score": score, "valid": abs(score - case.score) <= case.gap,
    }  # fmt: skip


def memory_row(name: str, X_bytes: int, peak_bytes: int) -> dict[str, Any]:
    """Peak memory of a fit beyond X: at most a tenth of it, or 64 MiB."""
    allowed = max(X_bytes // 10, 64 << 20)
    return {
        "kind": "memory", "case": name, "contender": "accel numpy", "X_bytes": X_bytes,
        "peak_bytes": peak_bytes, "valid": peak_bytes <= allowed,
    }  # fmt: skip


def lesson_row(
    case: LessonCase, contender: str, cost: float, wanted: float, cold_s: float,
    samples: list[float],
) -> dict[str, Any]:  # fmt: skip
    """The lesson's fit, with its last cost against the loop as printed."""
    error = abs(cost / wanted - 1)
    return {
        "kind": "lesson", "case": str(case), "contender": contender, "dtype": "float64",
        "shape": [348, 4096, 1], "cold_s": cold_s, **summary(samples), "objective": cost,
        "error": error, "valid": error <= LESSON_COST,
    }  # fmt: skip


def predict_row(
    case: PassCase, contender: str, labels: Any, wanted: Any, cold_s: float, samples: list[float]
) -> dict[str, Any]:
    """Labels of all rows, with the share that differs from scikit-learn's."""
    times, error = summary(samples), float(np.mean(np.asarray(labels) != wanted))
    return {
        "kind": "predict", "case": str(case), "contender": contender, "dtype": case.dtype,
        "shape": [case.n_samples, case.n_features, case.n_outputs], "cold_s": cold_s, **times,
        "gigabytes_per_s": case.n_bytes / times["median_s"] / 1e9, "error": error,
        "valid": error <= 1e-3,
    }  # fmt: skip


def training_row(
    case: TrainingCase, contender: str, trained: Trained, cold_s: float, samples: list[float]
) -> dict[str, Any]:
    """A training by batches, with its loss against scikit-learn's in float64."""
    times = summary(samples)
    return {
        "kind": "training", "case": str(case), "contender": contender, "dtype": case.dtype,
        "precision": trained.precision, "shape": [*case.data[0].shape, case.layers[-1]],
        "epochs": case.n_epochs, "cold_s": cold_s, **times,
        "samples_per_s": case.n_rows / times["median_s"],
        "gigaflops": case.flops / times["median_s"] / 1e9,
        "objective": trained.loss, "error": trained.error(case), "valid": trained.is_valid(case),
    }  # fmt: skip
