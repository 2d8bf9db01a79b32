"""Many problems over one X: the stack, the path, cross-validation."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegressionCV as Peer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from accel import LogisticRegression, LogisticRegressionCV, Status, logistic_path
from accel.backends import get_backend
from accel.conditioning import Standardised
from accel.losses import LOSSES
from accel.network import Network
from accel.objective import Objective
from accel.solvers.path import solve_path
from accel.solvers.together import minimize_together
from accel.stack import Stack
from tests.closeness import assert_close
from tests.strict import StrictBackend, hidden_synchronisations
from tests.test_objective import problem

C_RANGE = [1e-3, 1.0, 100.0]


def stacked(backend, rng, *, n_classes=3, dtype="float64", storage=None, bias=True, factor=1.0):
    """A stack of five problems over two weightings, and the same as objectives of their own."""
    X, labels = problem(rng, n_classes=n_classes)
    if storage == "uint8":
        X = rng.integers(0, 255, X.shape).astype(np.uint8)
    loss = LOSSES["logistic" if n_classes == 2 else "softmax"]
    weights = rng.uniform(0, 2, (len(X), 2)) * (rng.random((len(X), 2)) > 0.3)
    weights = (weights / weights.sum(axis=0)).astype(dtype)
    which, alphas = np.array([0, 1, 1, 0, 1]), np.array([0.0, 1e-3, 0.1, 1.0, 0.0])

    def objective(s, alpha):
        return Objective(
            backend.asarray(X if storage else X.astype(dtype)),
            backend.asarray(loss.encode_target(labels)),
            backend.asarray(np.ascontiguousarray(s)),
            loss=loss,
            network=Network(X.shape[1], loss.n_outputs(n_classes), bias=bias),
            alpha=alpha,
            backend=backend,
            input_scale=factor,
        )

    stack = Stack(objective(weights.mean(axis=1), 0.1), backend.asarray(weights), which, alphas)
    own = [objective(weights[:, w], alpha) for w, alpha in zip(which, alphas, strict=True)]
    params = rng.normal(size=(5, stack.network.n_params)) / (30 if storage else 3)
    return stack, own, backend.asarray(params.astype(dtype))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize(
    ("dtype", "storage", "factor"),
    [("float64", None, 1.0), ("float32", None, 1.0), ("float32", "uint8", 1 / 255)],
)
def test_a_stack_is_its_problems(backend, rng, n_classes, bias, dtype, storage, factor):
    stack, own, params = stacked(
        backend, rng, n_classes=n_classes, bias=bias, dtype=dtype, storage=storage, factor=factor
    )
    directions = backend.asarray(rng.normal(size=params.shape).astype(dtype))
    found = stack.value_and_grad(params)
    products = stack.quadratic(params).value_and_grad(directions)
    errors = stack.error(params, found[1])
    for b, objective in enumerate(own):
        wanted = objective.value_and_grad(params[b, :])
        model = objective.quadratic(params[b, :]).value_and_grad(directions[b, :])
        for (value, gradient), (right, right_gradient) in ((found, wanted), (products, model)):
            assert_close(backend, value[b], backend.to_numpy(right), scale=10)
            right_gradient = backend.to_numpy(right_gradient)
            assert_close(backend, gradient[b, :], right_gradient, dtype=dtype)
        assert_close(backend, errors[b], np.abs(backend.to_numpy(wanted[1])).max(), dtype=dtype)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_problems_left_out_change_nothing_for_the_others(backend, rng, n_classes):
    stack, _, params = stacked(backend, rng, n_classes=n_classes)
    going = np.array([False, True, False, False, True])
    for whole in (stack, stack.quadratic(params)):
        few = whole.only(going).only(going)
        for all_of_it, part in zip(
            whole.value_and_grad(params), few.value_and_grad(params), strict=True
        ):
            wanted, got = backend.to_numpy(all_of_it), backend.to_numpy(part)
            np.testing.assert_allclose(got[going], wanted[going], rtol=1e-12, atol=1e-14)
            assert not np.allclose(got[0], wanted[0])  # it was not computed
    taken = stack.take(np.array([4, 1]))
    on_device = backend.asarray(np.array([4, 1]))
    value, _ = taken.value_and_grad(backend.xp.take(params, on_device, axis=0))
    wanted = backend.to_numpy(stack.value_and_grad(params)[0])
    np.testing.assert_allclose(backend.to_numpy(value), wanted[[4, 1]], rtol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_change_of_variables_of_a_stack_is_exact(backend, rng, n_classes, bias):
    stack, _, params = stacked(backend, rng, n_classes=n_classes, bias=bias)
    d = stack.network.n_in
    mean = backend.asarray(rng.normal(size=d)) if bias else None
    here = Standardised(stack, stack, params, mean, backend.asarray(rng.uniform(0.1, 3, d)))
    assert_close(backend, here.expand(here.start), backend.to_numpy(params))
    value, gradient = here.value_and_grad(here.start)
    wanted, users = stack.value_and_grad(params)
    assert_close(backend, value, backend.to_numpy(wanted), kind="elementwise", scale=10)
    assert_close(backend, here.users_gradient(gradient), backend.to_numpy(users))
    few = here.take(np.array([2]))
    few_value, _ = few.value_and_grad(here.start[2:3, :])
    assert_close(backend, few_value, backend.to_numpy(wanted)[2:3], kind="elementwise", scale=10)


def test_every_problem_ends_at_its_own_minimum_and_says_how(backend, rng):
    stack, own, _ = stacked(backend, rng)
    start = backend.asarray(np.zeros((5, stack.network.n_params)))
    here = Standardised(stack, stack, start, None, None)
    found = minimize_together(here, here.start, tol=1e-8, max_iter=50)
    assert found.status == [Status.CONVERGED] * 5
    assert len(set(found.n_iter)) > 1
    for b, objective in enumerate(own):
        value, gradient = objective.value_and_grad(found.params[b, :])
        assert np.abs(backend.to_numpy(gradient)).max() <= 1.001e-8
        assert found.values[b] == pytest.approx(float(backend.to_numpy(value)), rel=1e-12)
    stopped = minimize_together(here, here.start, tol=1e-8, max_iter=1)
    assert set(stopped.status) == {Status.MAX_ITER}


def test_numbers_come_to_the_host_for_all_problems_at_once(monkeypatch, rng):
    """A transfer an evaluation, two a Newton system, one a product; none that does not show."""
    backend = StrictBackend()
    stack, _, params = stacked(backend, rng)
    here = Standardised(stack, stack, 0 * params, None, None)
    backend.count.clear()
    with hidden_synchronisations(monkeypatch) as hidden:
        minimize_together(here, here.start, tol=1e-6, max_iter=50)
    assert not hidden
    passes = stack.passes
    assert backend.count["passes"] == sum(passes.values())
    allowed = passes["value and gradient"] + passes["Hessian product"] + 2 * passes["curvature"]
    assert backend.count["to_numpy"] == allowed
    assert backend.count["scalars"] == 0


def test_an_objective_that_overflows_is_diverged_and_spoils_no_other(rng):
    stack, _, params = stacked(get_backend("numpy"), rng)
    start = 0 * params
    start[1] = 1e200
    found = minimize_together(
        Standardised(stack, stack, start, None, None), start, tol=1e-8, max_iter=50
    )
    assert found.status[1] is not Status.CONVERGED
    assert [one for b, one in enumerate(found.status) if b != 1] == [Status.CONVERGED] * 4


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_the_path_is_separate_fits(backend, rng, n_classes, fit_intercept, class_weight):
    X, y = problem(rng, n_classes=n_classes)
    weight = rng.uniform(0.2, 2, len(y))
    options = {"fit_intercept": fit_intercept, "class_weight": class_weight, "tol": 1e-9}
    Cs = [10.0, 1e-3, float("inf"), 0.1]
    path = logistic_path(X, y, Cs, sample_weight=weight, backend=backend.name, **options)
    assert path.coef.shape == (4, 1 if n_classes == 2 else 3, 7)
    assert (path.gradient_norm <= 1e-9).all()
    assert all(one is Status.CONVERGED for one in path.status)
    for k, C in enumerate(Cs):
        own = LogisticRegression(C=C, **options).fit(X, y, weight)
        np.testing.assert_allclose(path.coef[k], own.coef_, atol=1e-6)
        # without penalty the common part of the intercepts is anybody's
        shift = path.intercept[k] - own.intercept_
        np.testing.assert_allclose(shift, shift.mean() if n_classes > 2 else 0, atol=1e-6)
        assert path.objective[k] == pytest.approx(own.objective_, rel=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_the_path_in_other_dtypes(backend, rng, dtype):
    X = rng.integers(0, 255, (120, 6)).astype(dtype)
    y = (X[:, 0] + 30 * rng.normal(size=120) > 120).astype(int)
    path = logistic_path(X, y, C_RANGE, tol=1e-4, input_scale=1 / 255, backend=backend.name)
    assert path.coef.dtype == path.intercept.dtype == np.float32
    wanted = logistic_path(X / 255.0, y, C_RANGE, tol=1e-8)
    np.testing.assert_allclose(path.objective, wanted.objective, rtol=1e-4)


def test_weights_of_zero_are_rows_left_out(rng):
    X, y = problem(rng, n_classes=3)
    train = rng.random(len(y)) > 0.4
    kept = logistic_path(X[train], y[train], C_RANGE, tol=1e-9)
    weighted = logistic_path(X, y, C_RANGE, sample_weight=train.astype(float), tol=1e-9)
    np.testing.assert_allclose(weighted.coef, kept.coef, atol=1e-6)


def test_reads_of_X_do_not_grow_with_the_number_of_problems(rng):
    X, y = problem(rng, n=500)
    one = logistic_path(X, y, [1e4], tol=1e-6).n_passes
    few, many = (logistic_path(X, y, np.logspace(-4, 4, m), tol=1e-6).n_passes for m in (20, 40))
    assert few <= one + 6
    assert many <= few + 2
    folds = LogisticRegressionCV(Cs=10, cv=5, tol=1e-6).fit(X, y)
    assert folds.n_passes_ <= 2 * one + 12  # the folds together, and the refit


def test_a_few_badly_scaled_columns_take_few_passes():
    X, y = load_breast_cancer(return_X_y=True)
    model = LogisticRegressionCV(Cs=20, cv=5).fit(X, y)
    assert model.status_ is Status.CONVERGED
    assert model.n_passes_ <= 120  # 2,198 without the metric


def test_wide_X_has_no_metric_and_converges_still(backend, rng):
    X = rng.normal(size=(40, 60))
    y = (X[:, 0] + rng.normal(size=40) > 0).astype(int)
    path = logistic_path(X, y, C_RANGE, tol=1e-7, backend=backend.name)
    for k, C in enumerate(C_RANGE):
        own = LogisticRegression(C=C, tol=1e-9).fit(X, y)
        np.testing.assert_allclose(path.coef[k], own.coef_, atol=5e-4)


def test_a_fold_learns_nothing_from_the_rows_it_holds_out(backend, rng):
    """Bit by bit: at a loose tolerance too, where the start and the metric show in the result."""
    X, y = problem(rng, n_classes=3)
    changed, held_out = X.copy(), np.arange(len(y)) < 60
    changed[held_out] = 3 * rng.normal(size=(60, 7)) + 1
    paths = []
    for rows in (X, changed):
        loss = LOSSES["softmax"]
        s = np.ones((len(y), 2))
        s[held_out, 0] = 0
        s[~held_out, 1] = 0
        weights = backend.asarray(s / s.sum(axis=0))
        whole = Objective(
            backend.asarray(rows),
            backend.asarray(loss.encode_target(y)),
            backend.asarray(np.where(held_out, 0, 1 / (~held_out).sum())),
            loss=loss,
            network=Network(7, 3),
            alpha=0.0,
            backend=backend,
        )
        path = solve_path(
            whole, weights, s.sum(axis=0), np.logspace(-3, 4, 6), tol=1e-2, max_iter=9
        )
        paths.append(backend.to_numpy(path.params)[:, 0, :])
    np.testing.assert_allclose(paths[0], paths[1], rtol=1e-9, atol=1e-12)


def peer(**options):
    return Peer(
        use_legacy_attributes=False,
        l1_ratios=(0.0,),
        scoring="accuracy",
        max_iter=20_000,
        **options,
    )


def iris():
    return load_iris(return_X_y=True)


def binary_iris():
    X, y = load_iris(return_X_y=True)
    return X[50:], y[50:]


def few_digits():
    X, y = load_digits(return_X_y=True)
    return X[:400] / 16, y[:400]


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("data", [iris, binary_iris, few_digits])
def test_cross_validation_is_scikit_learns(data, refit):
    X, y = data()
    options = {"Cs": [1e-2, 0.1, 1.0, 10.0], "cv": 3, "refit": refit, "fit_intercept": True}
    mine = LogisticRegressionCV(tol=1e-7, **options).fit(X, y)
    theirs = peer(tol=1e-7, **options).fit(X, y)
    assert mine.C_ == theirs.C_
    assert mine.scores_.shape == (3, 4)
    np.testing.assert_allclose(mine.scores_, theirs.scores_[:, 0, :], atol=1e-12)
    assert mine.coefs_paths_.shape == theirs.coefs_paths_[:, 0].shape
    weights = slice(0, X.shape[1])
    np.testing.assert_allclose(
        mine.coefs_paths_[..., weights], theirs.coefs_paths_[:, 0][..., weights], atol=5e-4
    )
    np.testing.assert_allclose(mine.coef_, theirs.coef_, atol=5e-4)
    np.testing.assert_allclose(mine.Cs_, theirs.Cs_)
    assert mine.n_iter_.shape == (3, 4)
    assert mine.coef_.shape == theirs.coef_.shape
    assert mine.intercept_.shape == theirs.intercept_.shape
    assert mine.gradient_norm_ <= 1e-7
    assert mine.status_ is Status.CONVERGED
    assert (mine.predict(X) == theirs.predict(X)).all()


@pytest.mark.parametrize("scoring", ["neg_log_loss", "roc_auc_ovr", "f1_macro"])
def test_other_scores_are_scikit_learns(scoring):
    X, y = iris()
    options = {"Cs": [0.1, 10.0], "cv": StratifiedKFold(4), "tol": 1e-6}
    mine = LogisticRegressionCV(scoring=scoring, **options).fit(X, y)
    theirs = peer(**options).set_params(scoring=scoring).fit(X, y)
    np.testing.assert_allclose(mine.scores_, theirs.scores_[:, 0, :], atol=1e-4)
    assert mine.score(X, y) == pytest.approx(theirs.score(X, y), abs=1e-4)


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 1.0, 1: 3.0, 2: 0.5}])
def test_weights_count_in_fits_and_scores(rng, class_weight):
    X, y = iris()
    X = X + rng.normal(size=X.shape)
    weight = rng.uniform(0, 3, len(y))
    options = {"Cs": [0.01, 1.0], "cv": 3, "class_weight": class_weight, "tol": 1e-8}
    mine = LogisticRegressionCV(**options).fit(X, y, weight)
    theirs = peer(**options).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(mine.scores_, theirs.scores_[:, 0, :], atol=1e-12)
    np.testing.assert_allclose(mine.coef_, theirs.coef_, atol=5e-4)


def test_the_same_on_every_backend(backend):
    X, y = iris()
    mine = LogisticRegressionCV(Cs=3, cv=3, tol=1e-8, backend=backend.name).fit(X, y)
    theirs = LogisticRegressionCV(Cs=3, cv=3, tol=1e-8).fit(X, y)
    np.testing.assert_allclose(mine.scores_, theirs.scores_)
    np.testing.assert_allclose(mine.coef_, theirs.coef_, atol=1e-5)


def test_a_fold_without_one_of_the_classes_works():
    X, y = iris()  # sorted: each of three blocks holds out a whole class
    mine = LogisticRegressionCV(Cs=[0.1, 1.0], cv=KFold(3)).fit(X, y)
    assert (mine.scores_ == 0).all()
    assert mine.coefs_paths_.shape == (3, 2, 3, 5)


def test_no_penalty_is_a_C_like_any_other(rng):
    X, y = problem(rng)
    model = LogisticRegressionCV(Cs=[1.0, float("inf")], cv=3, tol=1e-8).fit(X, y)
    own = LogisticRegression(C=model.C_, tol=1e-8).fit(X, y)
    np.testing.assert_allclose(model.coef_, own.coef_, atol=1e-5)


def test_it_lives_in_scikit_learns_world():
    X, y = iris()
    names = np.array(["no", "yes", "maybe"])
    model = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=4, cv=3)).fit(X, names[y])
    again = pickle.loads(pickle.dumps(model))
    assert (again.predict(X) == model.predict(X)).all()
    assert set(again.predict(X)) == set(names)
    assert clone(model[-1]).get_params() == model[-1].get_params()
    assert not hasattr(clone(model[-1]), "coef_")


def test_max_iter_is_said_aloud():
    X, y = iris()
    with pytest.warns(ConvergenceWarning, match="MAX_ITER.*raise max_iter"):
        LogisticRegressionCV(Cs=2, cv=2, max_iter=1, tol=1e-8).fit(X, y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"Cs": 0}, "Cs=0"),
        ({"Cs": []}, "Cs="),
        ({"Cs": "many"}, "Cs='many'"),
        ({"Cs": [1.0, -1.0]}, r"Cs\[1\]=-1.0"),
        ({"Cs": [float("nan")]}, r"Cs\[0\]=nan"),
        ({"tol": -1}, "tol=-1"),
        ({"max_iter": 1.5}, "max_iter=1.5"),
        ({"refit": "yes"}, "refit='yes'"),
        ({"solver": "gd"}, "solver='gd'"),
        ({"input_scale": 0}, "input_scale=0"),
        ({"fit_intercept": 1}, "fit_intercept=1"),
        ({"cv": [(np.arange(0), np.arange(5))]}, "cv: fold 0"),
    ],
)
def test_bad_arguments_are_named(options, message):
    X, y = iris()
    with pytest.raises(ValueError, match=message):
        LogisticRegressionCV(**options).fit(X, y)


def test_a_path_warns_of_nothing(rng):
    X, y = problem(rng, n_classes=3)
    before = X.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logistic_path(X, y, [1e-300, 1.0, 1e300], tol=1e-6)
    assert (before == X).all()


def test_a_refused_refit_leaves_the_fitted_model_whole(rng):
    X, y = load_iris(return_X_y=True)
    model = LogisticRegressionCV(Cs=3, cv=3).fit(X, y)
    before = model.predict(X)
    model.set_params(scoring=lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.fit(X[:, :2], np.array(["a", "b", "c"])[y])
    model.set_params(scoring=None)
    assert (model.predict(X) == before).all()


def test_a_refit_without_names_forgets_them(rng):
    X, y = load_iris(return_X_y=True)
    model = LogisticRegressionCV(Cs=2, cv=2).fit(pd.DataFrame(X, columns=list("abcd")), y)
    model.fit(X[:, :3], y)
    assert not hasattr(model, "feature_names_in_")
    assert model.predict(X[:, :3]).shape == (150,)


def test_sparse_and_dense_cross_validate_alike(rng):
    X, y = load_digits(return_X_y=True)
    X, y = X[:300], y[:300]
    there = LogisticRegressionCV(Cs=3, cv=3, tol=1e-8).fit(X, y)
    here = LogisticRegressionCV(Cs=3, cv=3, tol=1e-8).fit(sparse.csr_array(X), y)
    np.testing.assert_allclose(here.coefs_paths_, there.coefs_paths_, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(here.scores_, there.scores_, atol=0.011)


def test_a_vanishing_C_is_no_division_by_zero():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegressionCV(Cs=[1e-322], cv=2).fit(X, y, sample_weight=np.full(150, 1e-5))
    np.testing.assert_allclose(model.coef_, 0, atol=1e-6)


def test_a_fold_without_weight_is_named():
    X, y = load_iris(return_X_y=True)
    weight = np.where(np.arange(150) < 75, 0.0, 1.0)
    with pytest.raises(ValueError, match="fold 0"):
        LogisticRegressionCV(cv=KFold(2)).fit(X, y, sample_weight=weight)
