from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.backends import get_backend
from accel.conditioning import Standardised
from accel.solvers import SOLVERS, Status, minimize, plan
from accel.solvers.gd import GradientDescent
from accel.solvers.lbfgs import LBFGS
from accel.solvers.line_search import CURVATURE, SUFFICIENT_DECREASE, Point, wolfe_search
from accel.solvers.newton_cg import conjugate_gradients
from tests.closeness import assert_close
from tests.strict import StrictBackend, hidden_synchronisations
from tests.test_objective import make, problem

NEWTON = ("newton-cg", "newton-cholesky", "orthant")


class Function:
    """An objective given as a NumPy function, on a backend."""

    effort = (0, 0)
    is_convex = False  # judged by its gradient alone

    def __init__(self, backend, value, gradient):
        self.backend, self.value, self.gradient = backend, value, gradient

    def value_and_grad(self, params):
        x = self.backend.to_numpy(params)
        asarray = self.backend.asarray
        return asarray(np.asarray(self.value(x))), asarray(np.asarray(self.gradient(x)))

    def error(self, params, gradient):
        return self.backend.xp.max(self.backend.xp.abs(gradient))

    def certify(self, params, value, gradient):
        error = self.error(params, gradient)
        return value, error, error

    def expand(self, params):
        return params


def rosenbrock(backend):
    return Function(
        backend,
        lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
        lambda x: np.r_[
            -400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)
        ],
    )


def quadratic(backend, eigenvalues):
    return Function(backend, lambda x: 0.5 * np.sum(eigenvalues * x**2), lambda x: eigenvalues * x)


def test_lbfgs_reaches_the_minimum_of_rosenbrock(backend):
    start = backend.asarray(np.array([-1.2, 1.0]))
    solution = minimize(rosenbrock(backend), start, LBFGS(), tol=1e-9, max_iter=200)
    assert solution.status is Status.CONVERGED
    assert_close(backend, solution.params, [1.0, 1.0])
    assert solution.n_iter < 60  # Newton-like, not steepest descent (thousands)


@given(seed=st.integers(0, 1000), condition=st.floats(1, 1e5), n=st.integers(1, 12))
def test_lbfgs_on_random_quadratics(seed, condition, n):
    eigenvalues = np.geomspace(1, condition, n)
    start = np.random.default_rng(seed).normal(size=n)
    solution = minimize(
        quadratic(get_backend("numpy"), eigenvalues), start, LBFGS(), tol=1e-8, max_iter=2000
    )
    assert solution.status is Status.CONVERGED
    assert np.abs(solution.params).max() <= 1e-8


def test_gradient_descent_is_its_formula(backend):
    eigenvalues = np.array([1.0, 3.0])
    solution = minimize(
        quadratic(backend, eigenvalues),
        backend.asarray(np.array([1.0, 1.0])),
        GradientDescent(0.1),
        tol=0.0,
        max_iter=5,
    )
    assert_close(backend, solution.params, [0.9**5, 0.7**5], kind="elementwise")
    assert solution.n_iter == len(solution.history) == 5
    assert solution.n_evals == 6
    wanted = [0.5 * (0.9 ** (2 * i) + 3 * 0.7 ** (2 * i)) for i in range(6)]
    np.testing.assert_allclose([*solution.history, solution.value], wanted, rtol=1e-14)
    assert solution.error == pytest.approx(max(0.9**5, 3 * 0.7**5))


def test_line_search_interpolates(monkeypatch):
    """On a quartic the cubic steps need fewer evaluations than bisection would."""
    seen = []

    def phi(t):
        seen.append(t)
        return Point(t, (t - 0.01) ** 4 + (t - 0.01) ** 2, 4 * (t - 0.01) ** 3 + 2 * (t - 0.01))

    found = wolfe_search(phi, phi(0.0), phi(1.0), rounding=0.0)
    assert abs(found.slope) <= CURVATURE * 0.02
    assert len(seen) <= 5  # bisection: 8


@given(
    curvature=st.floats(1e-3, 1e3),
    minimum=st.floats(1e-2, 50),
    wiggle=st.floats(0, 0.4),
    frequency=st.floats(0.1, 5),
)
def test_line_search_gives_strong_wolfe_points(curvature, minimum, wiggle, frequency):
    def phi(t):
        value = curvature * (t - minimum) ** 2 + wiggle * np.sin(frequency * t)
        slope = 2 * curvature * (t - minimum) + wiggle * frequency * np.cos(frequency * t)
        return Point(t, value, slope)

    start = phi(0.0)
    if start.slope >= -1e-6:
        return
    found = wolfe_search(phi, start, phi(1.0), rounding=0.0)
    assert found is not None
    assert found.value <= start.value + SUFFICIENT_DECREASE * found.step * start.slope
    assert abs(found.slope) <= CURVATURE * abs(start.slope) + 1e-12


def test_line_search_walks_back_from_infinity():
    def phi(t):
        if t > 0.01:
            return Point(t, float("inf"), float("nan"))
        return Point(t, (t - 0.008) ** 2, 2 * (t - 0.008))

    found = wolfe_search(phi, phi(0.0), phi(1.0), rounding=0.0)
    assert found is not None
    assert found.step <= 0.01


def test_line_search_says_when_there_is_no_decrease():
    assert (
        wolfe_search(
            lambda t: Point(t, 1.0 + t, 1.0),
            Point(0.0, 1.0, -1.0),
            Point(1.0, 2.0, 1.0),
            rounding=0,
        )
        is None
    )


def run(solver, objective, start, **limits):
    return minimize(objective, np.asarray(start), solver, **{"tol": 1e-6, "max_iter": 50, **limits})


def test_status_max_iter_and_diverged_and_stalled():
    numpy = get_backend("numpy")
    steep = quadratic(numpy, np.array([1.0, 100.0]))
    assert run(GradientDescent(1e-3), steep, [1.0, 1.0]).status is Status.MAX_ITER
    grown = run(GradientDescent(0.021), steep, [1.0, 1.0])
    assert grown.status is Status.DIVERGED
    exploded = run(GradientDescent(1e3), steep, [1.0, 1.0], max_iter=10_000)
    assert exploded.status is Status.DIVERGED
    assert np.isfinite(exploded.params).all()
    assert np.isfinite(exploded.value)
    liar = Function(numpy, lambda x: np.sum(x**2), lambda x: -2 * x)
    stalled = run(LBFGS(), liar, [1.0, 1.0])
    assert (stalled.status, stalled.n_iter, stalled.history) == (Status.STALLED, 0, ())
    nan = Function(numpy, lambda x: np.nan, lambda x: x * np.nan)
    for solver in (LBFGS(), GradientDescent(0.1)):
        assert run(solver, nan, [1.0]).status is Status.DIVERGED


def test_status_converged_before_the_first_step():
    solution = run(LBFGS(), quadratic(get_backend("numpy"), np.ones(3)), np.zeros(3))
    assert (solution.status, solution.n_iter, solution.history) == (Status.CONVERGED, 0, ())


def test_callback_sees_every_update_and_may_stop():
    seen = []

    def callback(progress):
        seen.append((progress.n_iter, progress.value))
        return progress.n_iter == 3

    objective = quadratic(get_backend("numpy"), np.ones(2))
    solution = run(GradientDescent(0.1), objective, [1.0, 2.0], callback=callback)
    assert solution.status is Status.STOPPED
    assert [n for n, _ in seen] == [0, 1, 2, 3]
    assert [value for _, value in seen] == [*solution.history, solution.value]


def test_keyboard_interrupt_keeps_the_last_state():
    def callback(progress):
        if progress.n_iter == 4:
            raise KeyboardInterrupt

    objective = quadratic(get_backend("numpy"), np.ones(2))
    solution = run(GradientDescent(0.1), objective, [1.0, 2.0], callback=callback)
    assert solution.status is Status.INTERRUPTED
    np.testing.assert_allclose(solution.params, 0.9**4 * np.array([1.0, 2.0]), rtol=1e-14)


def test_every_status_says_what_to_do():
    assert all(status.value.endswith(".") and len(status.value) > 20 for status in Status)


# prox-newton minimises its quadratic on the host
@pytest.mark.parametrize("name", [name for name in SOLVERS if name != "prox-newton"])
def test_one_synchronisation_and_one_pass_an_evaluation_and_none_hidden(name, monkeypatch, rng):
    """An evaluation, a Hessian product and the norm of a Newton system: one transfer each."""
    backend = StrictBackend()
    X, labels = problem(rng, n_classes=3)
    objective = make(backend, X, labels, alpha=0.01)
    start = backend.asarray(np.zeros(objective.network.n_params))
    here = Standardised(objective, objective, start, None, None)
    backend.count.clear()
    with hidden_synchronisations(monkeypatch) as hidden:
        solution = minimize(here, start, SOLVERS[name](0.1), tol=1e-5, max_iter=30)
    assert solution.n_iter >= 3
    assert not hidden
    passes = objective.passes
    products = passes["Hessian product"]
    assert set(backend.count) == {"scalars", "passes"} | ({"to_numpy"} if products else set())
    assert backend.count["to_numpy"] == products  # which problems go on: one here
    assert backend.count["passes"] == sum(passes.values())
    assert passes["value and gradient"] == solution.n_evals <= 1.3 * solution.n_iter + 3
    assert passes["curvature"] == (solution.n_iter if name in NEWTON else 0)
    norms = solution.n_iter if name in ("newton-cg", "orthant") else 0
    # the certificate, and before it the gap where what was foretold is not enough
    assert backend.count["scalars"] - solution.n_evals - norms in (1, 2)


def test_the_hidden_synchronisation_counter_can_see_one(monkeypatch):
    backend = StrictBackend()
    with hidden_synchronisations(monkeypatch) as hidden:
        float(backend.xp.sum(backend.asarray(np.ones(3))))
    assert hidden == {"__float__": 1}


@pytest.mark.parametrize("name", SOLVERS)
def test_start_is_not_modified(backend, rng, name):
    X, labels = problem(rng)
    objective = make(backend, X, labels, alpha=0.01)
    wanted = rng.normal(size=8)
    start = backend.asarray(wanted)
    here = Standardised(objective, objective, start, None, None)
    minimize(here, start, SOLVERS[name](0.1), tol=1e-6, max_iter=5)
    assert_close(backend, start, wanted, kind="elementwise")


@pytest.mark.parametrize("name", ["lbfgs", "newton-cg", "newton-cholesky"])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_solvers_agree_where_columns_differ_by_a_million(backend, rng, name, n_classes):
    """Judged by the gradient in the user's coordinates, which is zero at one point only."""
    X, labels = problem(rng, n=200, n_classes=n_classes)
    X = X * np.geomspace(1e-3, 1e3, X.shape[1])
    objective = make(backend, X, labels, alpha=1e-3, n_classes=n_classes)
    start = backend.asarray(np.zeros(objective.network.n_params))
    way = plan(objective, start, name, learning_rate=1.0, max_iter=2000)
    solution = minimize(way.problem, way.start, way.solver, tol=1e-9, max_iter=2000)
    assert solution.status is Status.CONVERGED
    _, gradient = objective.value_and_grad(way.problem.expand(solution.params))
    assert np.abs(backend.to_numpy(gradient)).max() <= 1.001e-9


def test_a_flat_or_overflowing_system_still_gives_a_direction_of_descent():
    """Conjugate gradients on a Hessian of zeros, and on one that overflows."""
    numpy = get_backend("numpy")
    g = np.array([1.0, -2.0])
    for scale in (0.0, 1e308):
        model = Function(numpy, lambda v, c=scale: c * (v @ v), lambda v, c=scale: 2 * c * v)
        with np.errstate(all="ignore"):
            p = conjugate_gradients(model, g, g, lambda r: r, 0.1, 20)
        assert np.isfinite(p).all()
        assert p @ g <= 0
