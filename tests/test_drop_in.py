"""Code written for scikit-learn's LogisticRegression runs with the import changed."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression as Peer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from accel import LogisticRegression
from accel.estimators.options import NEAREST


@pytest.fixture
def iris():
    return load_iris(return_X_y=True)


SOLVERS = [name for name in NEAREST if name not in ("auto", "gd")]


@pytest.mark.parametrize("solver", SOLVERS)
def test_scikit_learns_solver_names_reach_the_same_optimum(iris, solver):
    X, y = iris
    X, y = (X[50:], y[50:]) if solver == "liblinear" else (X, y)
    wanted = LogisticRegression(tol=1e-9).fit(X, y)
    model = LogisticRegression(solver=solver, tol=1e-9).fit(X, y)
    np.testing.assert_allclose(model.coef_, wanted.coef_, rtol=1e-5, atol=1e-7)
    if solver in ("liblinear", "sag", "saga"):
        assert f"solver={solver!r} is scikit-learn's name" in model.explain().replace("\n", " ")
    assert "Solver " in model.explain()


def test_every_argument_of_scikit_learn_is_taken():
    theirs = Peer().get_params()
    ours = LogisticRegression().get_params()
    assert set(theirs) <= set(ours)
    same = set(theirs) - {"solver", "max_iter"}
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}


WRONG = {
    "l1 with lbfgs": {"l1_ratio": 1.0, "solver": "lbfgs"},
    "l1 with newton-cg": {"l1_ratio": 1.0, "solver": "newton-cg"},
    "l1 with sag": {"l1_ratio": 1.0, "solver": "sag"},
    "elastic net with liblinear": {"l1_ratio": 0.5, "solver": "liblinear"},
    "dual with lbfgs": {"dual": True, "solver": "lbfgs"},
    "no penalty with liblinear": {"C": np.inf, "solver": "liblinear"},
    "l1_ratio above one": {"l1_ratio": 1.5},
    "unknown solver": {"solver": "sgd"},
    "negative C": {"C": -1.0},
}


@pytest.mark.parametrize("case", WRONG)
def test_what_scikit_learn_refuses_is_refused(iris, case):
    X, y = iris[0][50:], iris[1][50:]
    with pytest.raises(ValueError, match=r"\w"):
        Peer(**WRONG[case]).fit(X, y)
    with pytest.raises(ValueError, match=re.escape(next(iter(WRONG[case])))):
        LogisticRegression(**WRONG[case]).fit(X, y)


def test_liblinear_takes_two_classes_only(iris):
    with pytest.raises(ValueError, match="OneVsRestClassifier"):
        LogisticRegression(solver="liblinear").fit(*iris)


PENALTY = {"l1": (1.0, 1.0), "l2": (1.0, 0.0), "elasticnet": (1.0, 0.4), None: (np.inf, 0.0)}


@pytest.mark.parametrize("penalty", PENALTY)
def test_the_old_penalty_argument_means_what_it_meant(iris, penalty):
    X, y = iris[0][50:], iris[1][50:]
    C, ratio = PENALTY[penalty]
    wanted = LogisticRegression(C=C, l1_ratio=ratio, tol=1e-8).fit(X, y)
    given = 0.4 if penalty == "elasticnet" else 0.0
    with pytest.warns(FutureWarning, match="l1_ratio"):
        model = LogisticRegression(penalty, l1_ratio=given, tol=1e-8).fit(X, y)
    np.testing.assert_allclose(model.coef_, wanted.coef_)


def test_pipeline_grid_search_and_cross_validation(iris):
    X, y = iris
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    theirs = make_pipeline(StandardScaler(), Peer())
    assert cross_val_score(pipeline, X, y).mean() == pytest.approx(
        cross_val_score(theirs, X, y).mean(), abs=0.01
    )
    grid = {"logisticregression__C": [0.1, 1.0, 10.0], "logisticregression__l1_ratio": [0, 0.5]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, y)
    assert search.best_score_ > 0.9
    assert "logisticregression" in search.best_estimator_.named_steps
    pipeline.set_output(transform="pandas").fit(pd.DataFrame(X, columns=list("abcd")), y)
    assert list(pipeline[-1].feature_names_in_) == list("abcd")


def test_calibration_and_one_versus_rest(iris):
    X, y = iris
    calibrated = CalibratedClassifierCV(LogisticRegression(), cv=3).fit(X, y)
    assert calibrated.predict_proba(X).shape == (150, 3)
    rest = OneVsRestClassifier(LogisticRegression()).fit(X, y)
    assert rest.score(X, y) > 0.9


@pytest.mark.parametrize("prefer", ["processes", "threads"])
def test_joblib_workers(iris, prefer):
    X, y = iris
    models = joblib.Parallel(n_jobs=2, prefer=prefer)(
        joblib.delayed(LogisticRegression(C=C).fit)(X, y) for C in (0.1, 1.0, 10.0)
    )
    for C, model in zip((0.1, 1.0, 10.0), models, strict=True):
        np.testing.assert_allclose(model.coef_, LogisticRegression(C=C).fit(X, y).coef_)


def test_one_estimator_may_predict_in_many_threads(iris):
    X, y = iris
    model = LogisticRegression().fit(X, y)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: model.predict(X), range(32)))
    assert all((answer == answers[0]).all() for answer in answers)


def test_metadata_routing_carries_sample_weight(iris):
    X, y = iris
    weight = np.where(y == 0, 5.0, 1.0)
    with config_context(enable_metadata_routing=True):
        model = LogisticRegression().set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, model).fit(X, y, sample_weight=weight)
    scaled = StandardScaler().fit_transform(X)
    wanted = LogisticRegression().fit(scaled, y, weight)
    np.testing.assert_allclose(pipeline[-1].coef_, wanted.coef_)


def test_clone_parameters_and_html(iris):
    model = LogisticRegression(C=3.0, l1_ratio=0.5, callback=print)
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    assert twin is not model
    assert model.set_params(C=4.0).C == 4.0
    assert "C=4.0" in repr(model)
    assert "LogisticRegression" in model._repr_html_()


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_penalties_that_contradict_each_other_are_said():
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="l1_ratio must be specified"):
        LogisticRegression(penalty="elasticnet", l1_ratio=None, backend="numpy").fit(X, y)
    with pytest.warns(UserWarning, match="C has no effect with penalty=None"):
        LogisticRegression(penalty=None, C=0.1, backend="numpy").fit(X, y)
    with pytest.warns(UserWarning, match="l1_ratio=0.5 has no effect with penalty='l2'"):
        LogisticRegression(penalty="l2", l1_ratio=0.5, backend="numpy").fit(X, y)


def test_liblinears_penalty_of_the_intercept_is_spoken_of():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(solver="liblinear", backend="numpy").fit(X[:100], y[:100])
    assert "it penalises the intercept there, here it is free" in " ".join(model.explain().split())
