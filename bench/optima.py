"""``python -m bench optima``: each case's minimum in float64, by a method of its own.

NumPy and SciPy only, none of accel's solvers: Newton's method, its steps by conjugate gradients
with one exact diagonal block of the Hessian per class as the preconditioner (Nocedal & Wright,
Numerical Optimization, 2nd ed., Algorithms 7.1 and 5.3). Centred columns, and for n < d the
coordinates of the row space, change nothing in the minimum and much in the conditioning.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.linalg import qr

from accel.benchmark.cases import (
    FitCase,
)
from accel.benchmark.needs import Absent
from bench.suite import OPTIMA, SUITE, stored

Array = Any
WANTED = 1e-10  # max|gradient| in the user's coordinates
FLOOR = 1e-14  # where the steps stop: far below what is wanted, because the columns are large
MAX_STEPS = 100
MAX_PRODUCTS = 400  # with the Hessian, in one step


class Smooth:
    """Objective, gradient and Hessian of a case; Theta is W with b as its last row."""

    def __init__(self, case: FitCase) -> None:
        self.case = case
        X, y = case.data
        self.alpha = 1 / (case.C * len(X))
        self.X = np.column_stack([X, np.ones(len(X))])
        # Two classes are a softmax with the first score fixed at 0: only the last column moves.
        self.outputs = len(np.unique(y)) if y.max() > 1 else 1
        self.Y = np.eye(y.max() + 1)[y][:, -self.outputs :]

    def value(self, Theta: Array) -> float:
        """The case's own objective."""
        return self.case.objective(Theta[:-1].T, Theta[-1])

    def probabilities(self, Theta: Array) -> Array:
        """P, without the fixed first column of two classes."""
        z = self.X @ Theta
        z = np.hstack([np.zeros_like(z), z]) if self.outputs == 1 else z
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return (e / e.sum(axis=1, keepdims=True))[:, -self.outputs :]

    def gradient(self, Theta: Array, P: Array) -> Array:
        """X'(P - Y) / n + alpha W."""
        return self._join(P - self.Y, Theta)

    def product(self, P: Array, V: Array) -> Array:
        """The Hessian at P times V."""
        z = self.X @ V
        return self._join(P * (z - (P * z).sum(axis=1, keepdims=True)), V)

    def _join(self, R: Array, Theta: Array) -> Array:
        G = self.X.T @ R / len(R)
        G[:-1] += self.alpha * Theta[:-1]
        return G

    def preconditioner(self, P: Array) -> Callable[[Array], Array]:
        """The inverse of the Hessian's diagonal blocks, one for each column of Theta."""
        penalty = np.diag([*np.full(self.X.shape[1] - 1, self.alpha), 0.0])
        inverses = []
        for p in P.T:
            half = self.X * np.sqrt(p * (1 - p) / len(p))[:, None]
            inverses.append(np.linalg.inv(half.T @ half + penalty))
        return lambda R: np.column_stack(
            [inverse @ r for inverse, r in zip(inverses, R.T, strict=True)]
        )


def conjugate_gradients(
    product: Callable[[Array], Array], right: Array, solve: Callable[[Array], Array], rtol: float
) -> tuple[Array, int]:
    """The solution of H x = right, to `rtol` in the preconditioner's norm, and the products."""
    x, r = np.zeros_like(right), right
    z = solve(r)
    p, rz = z, np.vdot(r, z)
    wanted = rtol**2 * rz
    for count in range(1, MAX_PRODUCTS + 1):  # noqa: B007
        h = product(p)
        step = rz / np.vdot(p, h)
        x, r = x + step * p, r - step * h
        z = solve(r)
        rz, before = np.vdot(r, z), rz
        if rz <= wanted:
            break
        p = z + (rz / before) * p
    return x, count


def newton(problem: Smooth) -> tuple[Array, int, int]:
    """Theta at the minimum, steps and products; it ends where float64 allows no better."""
    Theta = np.zeros((problem.X.shape[1], problem.outputs))
    value, P = problem.value(Theta), problem.probabilities(Theta)
    G = problem.gradient(Theta, P)
    first, products = np.linalg.norm(G), 0
    for steps in range(MAX_STEPS):  # noqa: B007
        size = np.linalg.norm(G)
        if size <= FLOOR:
            break
        direction, count = conjugate_gradients(
            lambda V, P=P: problem.product(P, V),
            -G,
            problem.preconditioner(P),
            float(np.clip(size / first, 1e-2, 0.1)),
        )
        products += count
        for length in 0.5 ** np.arange(12):
            Next = Theta + length * direction
            next_value, next_P = problem.value(Next), problem.probabilities(Next)
            next_G = problem.gradient(Next, next_P)
            decrease = 1e-4 * length * np.vdot(G, direction)
            # At the end the value no longer tells steps apart, but the gradient does.
            if next_value <= value + decrease or np.linalg.norm(next_G) <= size / 2:
                break
        else:
            break
        Theta, value, P, G = Next, next_value, next_P, next_G
    return Theta, steps, products


def minimum(case: FitCase) -> dict[str, Any]:
    """The value at the minimum of a case, its max|gradient| in the user's coordinates, and how."""
    X, y = case.data
    mean = X.mean(axis=0)
    centred, basis, how = X - mean, None, "centred"
    if X.shape[0] < X.shape[1]:
        basis, triangle = qr(centred.T, mode="economic")
        centred, how = triangle.T, "centred, in the row space"
    Theta, steps, products = newton(Smooth(replace(case, load=lambda: (centred, y))))
    W = Theta[:-1] if basis is None else basis @ Theta[:-1]
    Theta = np.vstack([W, Theta[-1] - mean @ W])
    whole = Smooth(case)
    largest = float(np.abs(whole.gradient(Theta, whole.probabilities(Theta))).max())
    how = f"Newton-CG, {steps} steps, {products} products with the Hessian, {how}"
    if largest > WANTED:
        how += f"; float64 allowed no gradient below this for columns up to {np.abs(X).max():.0f}"
    shape = [*X.shape, whole.outputs]
    return {"value": whole.value(Theta), "gradient": largest, "shape": shape, "how": how}


def write(names: list[str]) -> None:
    """Find and store the minima of these cases, all where none is named."""
    known = [str(case) for case in SUITE]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"{unknown[0]!r} is no case: choose from {', '.join(known)}.")
    for case in SUITE:
        if names and str(case) not in names:
            continue
        started = time.perf_counter()
        try:
            found = minimum(case)
        except Absent as reason:
            print(f"{case}: kept as stored, {reason}")
            continue
        finally:
            vars(case).pop("data", None)
        spent_s = time.perf_counter() - started
        print(
            f"{case}: {found['value']!r}, max|gradient| {found['gradient']:.1e}, {spent_s:.1f} s",
            flush=True,
        )
        table = stored() | {str(case): found}
        order = {name: table[name] for name in known if name in table}
        OPTIMA.write_text(json.dumps(order, indent=1) + "\n")
