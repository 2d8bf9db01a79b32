"""The l1 penalty with few parameters at work: proximal Newton with the exact Hessian on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from accel.penalties import minimum_norm_subgradient
from accel.solvers.certificate import eps_of
from accel.solvers.curvature import hessian
from accel.solvers.line_search import HALVINGS, SUFFICIENT_DECREASE, VALUE_NOISE
from accel.solvers.loop import State, evaluate
from accel.solvers.signs import signed_minimum

Array = Any
JITTER = 5e4  # in units of the last digit: where H is flat, a gradient is rounding


@dataclass(frozen=True)
class ProximalNewton:
    r"""Proximal Newton on a working set for :math:`F = f + \sum_j \lambda_j |w_j|`.

    .. math:: w^+ = \arg\min_w \; g^\top (w - w_0) + \tfrac12 (w - w_0)^\top H (w - w_0)
              + \sum_j \lambda_j |w_j|, \qquad w_0 \leftarrow w_0 + t (w^+ - w_0)

    over the parameters that are not zero or would not stay it, with H exact on them, and t halved
    until F decreases enough. The quadratic is minimised exactly, so columns that depend on each
    other cost nothing.

    Parameters
    ----------
    most : int, default=400
        Parameters that join the working set in one update: those with the largest slopes.

    Notes
    -----
    Lee, Sun & Saunders, SIAM J. Optim. 24 (2014), pages 1420 to 1443; working sets as in Massias,
    Gramfort & Salmon, ICML 2018. An update is one pass for H and one for each trial of t.
    """

    most: int = 400
    may_condition: ClassVar[bool] = True

    def expected_passes(self, max_iter: int) -> int:  # noqa: ARG002
        """None of use to a reduction: the l1 penalty does not survive it."""
        return 0

    def init(self, objective: Any, params: Array) -> State:
        """Objective and gradient at the start."""
        gradient, (value, error) = evaluate(objective, params)
        return State(params, gradient, value, error, n_evals=1)

    def step(self, objective: Any, state: State) -> State:
        """One update."""
        backend, xp = objective.backend, objective.backend.xp
        network, l1 = objective.network, objective.l1
        strengths = backend.to_numpy(xp.zeros_like(state.params) if l1 is None else l1)
        v = minimum_norm_subgradient(
            state.params, state.gradient, backend.asarray(strengths), xp=xp
        )
        here, slopes, excess = (
            backend.to_numpy(array).astype(np.float64)
            for array in (state.params, state.gradient, v)
        )
        working = self._working(here, excess, strengths)
        columns = np.unique(working // network.n_out)
        H = backend.to_numpy(hessian(objective.quadratic(state.params), backend.asarray(columns)))
        inside = np.searchsorted(columns, working // network.n_out) * network.n_out
        inside = inside + working % network.n_out
        H = H[np.ix_(inside, inside)]
        lambdas = strengths[working].astype(np.float64)
        with backend.many_steps(len(working) ** 3):
            jitter = JITTER * eps_of(state.params, xp)
            found = signed_minimum(H, slopes[working], here[working], lambdas, jitter)
        change = np.zeros_like(here)
        change[working] = found - here[working]
        expected = slopes @ change + strengths @ (np.abs(here + change) - np.abs(here))
        target = here + change
        return _search(objective, state, here, target, float(expected))

    def _working(
        self, here: NDArray[Any], excess: NDArray[Any], strengths: NDArray[Any]
    ) -> NDArray[np.intp]:
        """Places of the parameters that are free, and of zeros that would not stay it."""
        size = np.where((here == 0) & (strengths > 0), np.abs(excess), np.inf)
        joining = np.flatnonzero((size > 0) & (size < np.inf))
        if len(joining) > self.most:
            joining = joining[np.argsort(-size[joining])[: self.most]]
        return np.sort(np.append(np.flatnonzero(size == np.inf), joining))


def _search(
    objective: Any, state: State, here: NDArray[Any], target: NDArray[Any], expected: float
) -> State:
    """Halve the step until F decreases in proportion to what the model expects."""
    backend = objective.backend
    step, n_evals, promise = 1.0, state.n_evals, abs(expected)
    rounding = VALUE_NOISE * eps_of(state.params, backend.xp) * abs(state.value)
    for _ in range(HALVINGS):
        if not expected < 0:
            break
        place = target if step == 1 else here + step * (target - here)
        params = backend.asarray(place, dtype=state.params.dtype)
        gradient, (value, error) = evaluate(objective, params)
        n_evals += 1
        if value <= state.value + SUFFICIENT_DECREASE * step * expected + rounding:
            return State(params, gradient, value, error, n_evals, promise=promise)
        step /= 2
    return replace(state, stalled=True, n_evals=n_evals, promise=promise)
