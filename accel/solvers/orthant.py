"""The l1 penalty: Newton's method on the orthant where the objective is smooth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, ClassVar

from accel.penalties import minimum_norm_subgradient
from accel.solvers.certificate import eps_of
from accel.solvers.curvature import face_metric
from accel.solvers.line_search import HALVINGS, SUFFICIENT_DECREASE, VALUE_NOISE
from accel.solvers.loop import State, evaluate
from accel.solvers.newton_cg import LARGEST_FORCING, conjugate_gradients

Array = Any
DAMPING = 1e-2


class _Face:
    """The second-order model on the parameters that are free to move, a little damped.

    An l1 penalty alone leaves directions without curvature: columns that repeat each other, all
    outputs moving alike. A damping of `share` of the curvature along the first direction bounds the
    step there, and falls with the gradient, so that convergence stays superlinear.
    """

    def __init__(self, model: Any, free: Array, share: float) -> None:
        self.model, self.free, self.share = model, free, share
        self.backend = model.backend
        self._damping: Any = None

    def value_and_grad(self, direction: Array) -> tuple[Array, Array]:
        """Half of v'Hv, and H v, for a v that is zero off the face; H v is cut to the face."""
        xp = self.backend.xp
        value, product = self.model.value_and_grad(direction)
        square = xp.sum(direction * direction, dtype=xp.float64)
        if self._damping is None:
            self._damping = self.share * 2 * value / square
        value = value + 0.5 * self._damping * square
        damping = xp.astype(self._damping, direction.dtype)
        return value, product * self.free + damping * direction


@dataclass(frozen=True)
class OrthantNewton:
    r"""Orthant-wise truncated Newton for :math:`F = f + \sum_j \lambda_j |w_j|`.

    On the orthant of the present signs, where zeros take the sign of steepest descent, F is
    smooth: its gradient is the subgradient of least norm v. The Newton system is solved on the
    parameters that are not held at zero, and the step is projected back onto the orthant, so that
    parameters that would change sign become exactly zero.

    Parameters
    ----------
    max_products : int, default=20
        Most Hessian products in one update: the face changes before more of them pay.

    Notes
    -----
    Byrd, Chin, Nocedal & Oztoprak, Mathematical Programming 159 (2016), pages 435 to 467; the
    projected line search is that of Andrew & Gao, ICML 2007. Where the projection spoils the Newton
    direction, the step goes along -v.
    """

    max_products: int = 20
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
        xp = objective.backend.xp
        l1 = xp.zeros_like(state.params) if objective.l1 is None else objective.l1
        v = minimum_norm_subgradient(state.params, state.gradient, l1, xp=xp)
        signs = xp.sign(xp.where(state.params != 0, state.params, -v))
        smooth = l1 == 0
        free = xp.astype((signs != 0) | smooth, v.dtype)
        biggest = xp.max(xp.abs(v))
        largest, square = objective.backend.scalars(biggest, (v / biggest) @ (v / biggest))
        norm = largest * sqrt(square) if largest > 0 else 0.0
        first = state.memory or norm or 1.0
        state = replace(state, memory=first)
        model = objective.quadratic(state.params)
        precondition = face_metric(model, free) or (lambda residual: residual)
        newton = conjugate_gradients(
            _Face(model, free, DAMPING * norm / first),
            v,
            precondition(v),
            precondition,
            min(LARGEST_FORCING, sqrt(norm / first)),
            self.max_products,
        )

        def project(params: Array) -> Array:
            return xp.where((params * signs > 0) | smooth, params, xp.zeros_like(params))

        following = _search(objective, state, newton, v, project)
        if following.stalled:
            again = replace(state, n_evals=following.n_evals)
            steepest = _search(objective, again, -v / norm, v, project)
            following = (
                replace(steepest, promise=following.promise) if steepest.stalled else steepest
            )
        return following


def _search(objective: Any, state: State, direction: Array, v: Array, project: Any) -> State:
    """Halve the step until the projected point decreases F in proportion to v'(change)."""
    step, n_evals, promise = 1.0, state.n_evals, 0.0
    for _ in range(HALVINGS):
        params = project(state.params + step * direction)
        expected = v @ (params - state.params)
        gradient, (value, error, slope) = evaluate(objective, params, lambda _, e=expected: e)
        n_evals += 1
        promise = promise or abs(slope) / 2
        rounding = VALUE_NOISE * eps_of(params, objective.backend.xp) * abs(state.value)
        if slope < 0 and value <= state.value + SUFFICIENT_DECREASE * slope + rounding:
            return State(params, gradient, value, error, n_evals, state.memory, promise=promise)
        step /= 2
    return replace(state, stalled=True, n_evals=n_evals, promise=promise)
