from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError

from accel import LogisticRegression
from accel.files import load_model, save_model
from tests.test_objective import problem

sklearn_callback = pytest.importorskip("sklearn.callback", reason="scikit-learn 1.9 has callbacks")


def flat(model):
    return re.sub(r"\s+", " ", model.explain())


def test_it_says_what_was_chosen_why_where_and_how_it_ended():
    X, y = load_digits(return_X_y=True)
    model = LogisticRegression().fit(X, y)
    text = model.explain()
    assert max(map(len, text.splitlines())) <= 80
    words = flat(model)
    assert "1797 x 64 float64, 10 classes, C=1" in words
    assert "Solver newton-cg: 65 x 10 parameters" in words
    assert "Centred columns" in words
    assert f"passes {model.n_passes_} (" in words
    assert "Hessian product" in words
    assert "time " in words
    assert "numpy on" in words
    assert "CONVERGED after" in words


def test_the_passes_add_up(backend, rng):
    X, y = problem(rng, n=300, n_classes=3)
    for solver in ("lbfgs", "newton-cg", "newton-cholesky", "gd"):
        model = LogisticRegression(backend=backend.name, solver=solver, tol=1e-2).fit(X, y)
        assert model.n_passes_ == sum(model.account_.passes.values())
        assert model.n_passes_ >= model.n_iter_[0]
        assert f"Solver {solver}: asked for" in flat(model)


def test_a_row_space_is_told_apart_from_X(rng):
    X, y = rng.normal(size=(30, 4000)), np.arange(30) % 2
    model = LogisticRegression().fit(X, y)
    words = flat(model)
    assert "Row space: 30 rows" in words
    assert "over the reduced rows" in words
    assert model.n_passes_ <= 10 < sum(model.account_.small_passes.values())


def test_a_fallback_is_told(monkeypatch):
    monkeypatch.delenv("ACCEL_BACKEND")
    model = LogisticRegression().fit(*load_iris(return_X_y=True))
    if model.backend_.fallback:
        assert model.backend_.fallback.split(";")[0][:40] in flat(model)


def test_an_unfitted_model_has_nothing_to_explain():
    with pytest.raises(NotFittedError):
        LogisticRegression().explain()


def test_the_account_survives_the_model_file(tmp_path):
    model = LogisticRegression().fit(*load_iris(return_X_y=True))
    save_model(model, tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz")
    assert again.explain() == model.explain()
    assert again.n_passes_ == model.n_passes_
    assert again.account_ == model.account_


class Recorder:
    def __init__(self, stop_after=None):
        self.begun, self.ended, self.scores, self.stop_after = [], [], [], stop_after

    def setup(self, estimator, context):
        self.set_up = True

    def teardown(self, estimator, context):
        self.torn_down = True

    def on_fit_task_begin(self, estimator, context, *, X, y):
        self.begun.append(context.task_name)

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.ended.append(context.task_name)
        self.scores.append(fitted_estimator.score(X, y))
        return self.stop_after is not None and len(self.ended) >= self.stop_after


def test_scikit_learns_callbacks_see_every_update():
    X, y = load_iris(return_X_y=True)
    recorder = Recorder()
    model = LogisticRegression(solver="lbfgs").set_callbacks(recorder).fit(X, y)
    assert recorder.begun[0] == recorder.ended[-1] == "fit"
    assert recorder.begun.count("update") == recorder.ended.count("update")
    assert recorder.begun.count("update") >= model.n_iter_[0]
    assert recorder.scores[-1] == model.score(X, y)
    assert recorder.set_up
    assert recorder.torn_down
    assert model.coef_.shape == (3, 4)


def test_a_scikit_learn_callback_may_stop_the_fit():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(solver="lbfgs").set_callbacks(Recorder(stop_after=3)).fit(X, y)
    assert model.status_.name == "STOPPED"
    assert model.n_iter_[0] <= 4


def test_scikit_learns_progress_bar_draws(capsys):
    X, y = load_iris(return_X_y=True)
    LogisticRegression().set_callbacks(sklearn_callback.ProgressBar()).fit(X, y)
    assert "fit" in capsys.readouterr().out
