"""The cases of a pass: shapes and dtypes, with rows, labels, parameters and the float64 answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = Any
PIXEL_SCALE = 1 / 255
BYTES = {"uint8": (0, 256), "int8": (-128, 128)}
# Largest error of a pass that still counts as the same computation, relative to float64.
LARGEST_ERROR = {"float64": 1e-10} | dict.fromkeys(
    ("float32", "float16", "bfloat16", "uint8", "int8"), 1e-4
)


def stored_dtype(name: str) -> np.dtype[Any]:
    """NumPy's dtype of this name, or ml_dtypes's bfloat16."""
    if name != "bfloat16":
        return np.dtype(name)
    import ml_dtypes

    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


@dataclass(frozen=True)
class PassCase:
    """Value and gradient of the mean loss of a linear model, once.

    Parameters
    ----------
    n_samples, n_features, n_outputs : int
        Shape; one output is the logistic loss, more the softmax.
    dtype : str, default="float32"
        Of X: "float64", "float32", "float16", "bfloat16", "int8", or "uint8" for pixels 0 to 255
        used as 0 to 1.
    copies : int, default=1
        So many times the same rows, one lot after the other: the mean loss is that of one lot, and
        so large an X is quickly made and checked.
    """

    n_samples: int
    n_features: int
    n_outputs: int = 1
    dtype: str = "float32"
    copies: int = 1

    def __str__(self) -> str:
        outputs = f" x {self.n_outputs}" if self.n_outputs > 1 else ""
        return f"{self.n_samples} x {self.n_features}{outputs} {self.dtype}"

    @property
    def n_bytes(self) -> int:
        """Bytes of X: what one pass has to read."""
        return self.n_samples * self.n_features * stored_dtype(self.dtype).itemsize

    @property
    def flops(self) -> int:
        """Floating point operations of the two products."""
        return 4 * self.n_samples * self.n_features * self.n_outputs

    @property
    def input_scale(self) -> float:
        """Factor of X."""
        return PIXEL_SCALE if self.dtype in ("uint8", "int8") else 1.0

    @cached_property
    def arrays(self) -> tuple[Array, Array, Array]:
        """X, label indices, params; the same at every call on every machine."""
        X, labels, params = self.one_lot
        if self.copies > 1:
            X, labels = np.concatenate([X] * self.copies), np.concatenate([labels] * self.copies)
        return X, labels, params

    @cached_property
    def one_lot(self) -> tuple[Array, Array, Array]:
        """The rows that are repeated, their label indices, and params."""
        rng = np.random.default_rng(0)
        shape = (self.n_samples // self.copies, self.n_features)
        if self.dtype in ("uint8", "int8"):
            X = rng.integers(*BYTES[self.dtype], shape, dtype=self.dtype)
        else:
            X = rng.random(shape, dtype=np.float32).astype(stored_dtype(self.dtype), copy=False)
        labels = rng.integers(0, max(2, self.n_outputs), len(X))
        n_params = (self.n_features + 1) * self.n_outputs
        params = rng.normal(size=n_params) / self.n_features**0.5
        real = "float64" if self.dtype == "float64" else "float32"
        return X, labels, params.astype(real)

    @cached_property
    def reference(self) -> tuple[float, Array]:
        """Value and gradient in float64 NumPy, block by block, independent of accel."""
        X, labels, params = self.one_lot
        W = params[: -self.n_outputs].reshape(self.n_features, self.n_outputs).astype(float)
        b = params[-self.n_outputs :].astype(float)
        value, gradient = 0.0, np.zeros((self.n_features + 1, self.n_outputs))
        for start in range(0, len(X), 4096):
            block = X[start : start + 4096].astype(np.float64) * self.input_scale
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
        wrong = float(np.abs(np.asarray(result[1], dtype=np.float64).ravel() - gradient).max())
        return max(
            abs(float(result[0]) - value) / abs(value), wrong / float(np.abs(gradient).max())
        )


QUICK_PASSES = (
    PassCase(1, 1, dtype="float64"),  # the overhead of Python's calls and nothing else
    PassCase(348, 4096, dtype="float64"),
    PassCase(2062, 4096, 10),
    PassCase(200_000, 784),
    PassCase(200_000, 784, dtype="uint8"),
    PassCase(100_000, 784, 10),
    PassCase(2_000_000, 100),
)
FULL_PASSES = (
    *QUICK_PASSES,
    PassCase(348, 4096),
    PassCase(50_000, 4096),
    PassCase(200_000, 784, 10),
    PassCase(200_000, 784, dtype="float64"),
    PassCase(200_000, 784, dtype="float16"),
    PassCase(2_000_000, 100, dtype="uint8"),
    PassCase(50_000, 4096, dtype="uint8"),
    *(PassCase(n, 784) for n in (100, 1_000, 10_000)),
)
# What a GPU is asked for, in --quick as well; on the host they are made once and not kept.
DEVICE_PASSES = (
    PassCase(100_000, 4096, copies=8),
    PassCase(200_001, 785),
    PassCase(400_000, 784, dtype="float16", copies=8),
    PassCase(400_000, 784, dtype="bfloat16", copies=8),
    PassCase(800_000, 784, dtype="uint8", copies=16),
    PassCase(800_000, 784, dtype="int8", copies=16),
    PassCase(200_000, 784, 3, copies=4),
    PassCase(20_000_000, 10, copies=40),
    PassCase(200_000, 4096, dtype="uint8", copies=16),
    PassCase(2_000_000, 100, 10, copies=8),
    PassCase(100_000, 20_000, copies=25),
    PassCase(100_000, 784, 50, copies=4),
)
