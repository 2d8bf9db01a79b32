"""The convergence suite's cases: real and synthetic, easy and hard, each with its stored minimum.

The minima are in optima.json, written by ``python -m bench optima``. Data is never stored here:
scikit-learn brings its own, the synthetic cases are drawn from a seed, and the sign-language digits
are looked for in $ACCEL_SIGN_DIGITS and in shared/ beside the repository.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn import datasets

from accel.benchmark.cases import (
    FitCase,
)
from accel.benchmark.needs import Absent
from accel.datasets import Dataset, load_sign_digits, two_digits

Array = Any
Rows = tuple[Array, Array]
ROOT = Path(__file__).resolve().parents[1]
OPTIMA = Path(__file__).with_name("optima.json")


def stored() -> dict[str, dict[str, Any]]:
    """optima.json: the value at each case's minimum, its max|gradient|, and how it was found."""
    return json.loads(OPTIMA.read_text()) if OPTIMA.exists() else {}


def _sklearn(load: Callable[..., Rows], scale: float = 1.0) -> Callable[[], Rows]:
    def loaded() -> Rows:
        X, y = load(return_X_y=True)
        return X * scale, y

    return loaded


def sign_digits() -> Dataset:
    """The sign-language digits; `Absent` says where they were looked for."""
    beside = ROOT.parent / "shared" / "data" / "sign-language-digits-dataset"
    folder = Path(os.environ.get("ACCEL_SIGN_DIGITS", beside))
    if not (folder / "X.npy").exists():
        raise Absent(f"{folder} holds no X.npy: set ACCEL_SIGN_DIGITS to the sign digits")
    return load_sign_digits(folder)


def _signs(scale: float, digits: tuple[int, int] | None = None) -> Callable[[], Rows]:
    def loaded() -> Rows:
        data = sign_digits()
        if digits:
            data = two_digits(data, digits)
        return data.X * np.float64(scale), data.y

    return loaded


def _drawn(z: Array, rng: np.random.Generator) -> Array:
    """Labels of the logistic model at these log-odds."""
    return (rng.random(len(z)) < 1 / (1 + np.exp(-z))).astype(int)


def _ill_conditioned() -> Rows:
    rng = np.random.default_rng(1)
    rotation, _ = np.linalg.qr(rng.normal(size=(50, 50)))
    X = 10 * (rng.normal(size=(5000, 50)) * np.logspace(0, -6, 50)) @ rotation
    return X, _drawn(X @ rng.normal(size=50), rng)


def _near_separable() -> Rows:
    rng = np.random.default_rng(2)
    X = rng.normal(size=(2000, 20))
    z = X @ (3 * rng.normal(size=20))
    return X, (z + 0.3 * rng.logistic(size=len(z)) > 0).astype(int)


def _imbalanced() -> Rows:
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(50_000, 20)), np.zeros(50_000, dtype=int)
    rare = rng.choice(len(X), len(X) // 1001, replace=False)
    y[rare] = 1
    X[rare] += 0.7 * rng.normal(size=20)
    return X, y


def _wide() -> Rows:
    rng = np.random.default_rng(4)
    X = rng.normal(size=(500, 20_000))
    X[:, :50] *= 3
    z = X[:, :50] @ rng.normal(size=50) / 10
    return X, (z + rng.logistic(size=len(z)) > 0).astype(int)


def _tall() -> Rows:
    rng = np.random.default_rng(5)
    mixing = np.eye(50) + rng.normal(size=(50, 50)) / 7
    X = rng.normal(size=(300_000, 50)) @ mixing + rng.normal(size=50)
    z = X @ rng.normal(size=50) / 4
    return X, _drawn(z - z.mean(), rng)


_LOADERS: dict[str, Callable[[], Rows]] = {
    "breast cancer": _sklearn(datasets.load_breast_cancer),
    "wine": _sklearn(datasets.load_wine),
    "iris": _sklearn(datasets.load_iris),
    "digits raw": _sklearn(datasets.load_digits),
    "digits /16": _sklearn(datasets.load_digits, 1 / 16),
    "sign 0/1 raw": _signs(255, (0, 1)),
    "sign 0/1": _signs(1, (0, 1)),
    "sign ten raw": _signs(255),
    "sign ten": _signs(1),
    "ill-conditioned": _ill_conditioned,
    "near-separable": _near_separable,
    "imbalanced": _imbalanced,
    "wide": _wide,
    "tall": _tall,
}
# tol=0: how far a fit goes is measured, not asked for.
SUITE = tuple(
    FitCase(name, load, stored().get(name, {}).get("value", float("nan")), tol=0.0)
    for name, load in _LOADERS.items()
)
