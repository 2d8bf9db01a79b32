"""The cases: one forward and backward pass, and one full fit, on data of a stated shape."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = Any


@dataclass(frozen=True)
class PassCase:
    """Value and gradient of the mean loss of a linear model, once.

    Parameters
    ----------
    n_samples, n_features, n_outputs : int
        Shape; one output is the logistic loss, more the softmax.
    dtype : str
        Of X: "float64", "float32".
    """

    n_samples: int
    n_features: int
    n_outputs: int = 1
    dtype: str = "float32"

    def __str__(self) -> str:
        outputs = f" x {self.n_outputs}" if self.n_outputs > 1 else ""
        return f"pass {self.n_samples} x {self.n_features}{outputs} {self.dtype}"

    @property
    def n_bytes(self) -> int:
        """Bytes of X: what one pass has to read."""
        return self.n_samples * self.n_features * np.dtype(self.dtype).itemsize

    @property
    def flops(self) -> int:
        """Floating point operations of the two products."""
        return 4 * self.n_samples * self.n_features * self.n_outputs

    @cached_property
    def arrays(self) -> tuple[Array, Array, Array]:
        """X, label indices, params; the same at every call on every machine."""
        rng = np.random.default_rng(0)
        X = rng.random((self.n_samples, self.n_features), dtype=np.float32).astype(
            self.dtype, copy=False
        )
        labels = rng.integers(0, max(2, self.n_outputs), self.n_samples)
        n_params = (self.n_features + 1) * self.n_outputs
        params = rng.normal(size=n_params) / self.n_features**0.5
        return X, labels, params.astype(self.dtype)

    @cached_property
    def reference(self) -> tuple[float, Array]:
        """Value and gradient in float64 NumPy, block by block, independent of accel."""
        X, labels, params = self.arrays
        W = params[: -self.n_outputs].reshape(self.n_features, self.n_outputs).astype(float)
        b = params[-self.n_outputs :].astype(float)
        value, gradient = 0.0, np.zeros((self.n_features + 1, self.n_outputs))
        for start in range(0, len(X), 4096):
            block = X[start : start + 4096].astype(np.float64)
            y = labels[start : start + 4096]
            z = block @ W + b
            if self.n_outputs == 1:
                value += float(np.sum(np.logaddexp(0, z[:, 0]) - y * z[:, 0]))
                residual = 1 / (1 + np.exp(-z)) - y[:, None]
            else:
                p = np.exp(z - z.max(axis=1, keepdims=True))
                p /= p.sum(axis=1, keepdims=True)
                value -= float(np.sum(np.log(p[np.arange(len(y)), y])))
                residual = p - np.eye(self.n_outputs)[y]
            gradient[:-1] += block.T @ residual
            gradient[-1] += residual.sum(axis=0)
        return value / len(X), gradient.ravel() / len(X)

    def error(self, result: tuple[Array, Array]) -> float:
        """Largest error of value and gradient, relative to the largest component of each."""
        value, gradient = self.reference
        wrong = float(np.abs(np.asarray(result[1], dtype=np.float64) - gradient).max())
        return max(
            abs(float(result[0]) - value) / abs(value), wrong / float(np.abs(gradient).max())
        )


@dataclass(frozen=True)
class FitCase:
    """A full fit of logistic regression to a stated max|gradient|.

    Parameters
    ----------
    name : str
        Of the data.
    X : ndarray (n_samples, n_features)
        Rows.
    y : ndarray (n_samples,)
        Labels 0..n_classes-1.
    C : float
        Inverse strength of the penalty.
    tol : float
        The max|gradient| asked for.
    minimum : float
        The objective at the optimum, found in float64 to max|gradient| 1e-9.
    """

    name: str
    X: Array
    y: Array
    C: float
    tol: float
    minimum: float

    def __str__(self) -> str:
        return f"fit {self.name}"

    def objective(self, coef: Array, intercept: Array) -> float:
        """Scikit-learn's objective of these coefficients, in float64 NumPy."""
        z = self.X @ np.asarray(coef, dtype=np.float64).T + intercept
        z = np.hstack([np.zeros_like(z), z]) if z.shape[1] == 1 else z
        z = z - z.max(axis=1, keepdims=True)
        loss = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(z)), self.y]
        penalty = np.sum(np.square(coef, dtype=np.float64)) / (2 * self.C * len(z))
        return float(loss.mean() + penalty)


def digits_fit() -> FitCase:
    """The bundled digits, pixels 0 to 1, ten classes."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return FitCase("digits/16", X / 16, y, C=1.0, tol=1e-4, minimum=DIGITS_MINIMUM)


# LogisticRegression(tol=1e-9) in float64; checked by a test against scikit-learn's newton-cg.
DIGITS_MINIMUM = 0.1995264038586
