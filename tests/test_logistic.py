from __future__ import annotations

import pickle
import re
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as Peer
from sklearn.preprocessing import scale

import accel
from accel import LogisticRegression, Status
from tests.closeness import assert_close


def scaled_breast_cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return scale(X), y


DATA = {
    "iris": lambda: load_iris(return_X_y=True),
    "breast cancer, scaled": scaled_breast_cancer,
    "digits, scaled": lambda: (load_digits().data / 16, load_digits().target),
}


@pytest.fixture
def blobs(rng):
    y = rng.integers(0, 3, 150)
    X = rng.normal(size=(150, 4)) + y[:, None] * np.array([1.0, -0.5, 0.0, 0.3])
    return X, y


@pytest.mark.parametrize("name", DATA)
def test_coefficients_are_scikit_learns(name):
    X, y = DATA[name]()
    ours = LogisticRegression(tol=1e-10, max_iter=20_000).fit(X, y)
    theirs = Peer(tol=1e-10, max_iter=100_000, solver="newton-cg").fit(X, y)
    assert ours.status_ is Status.CONVERGED
    assert ours.gradient_norm_ <= 1e-10
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-5)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    assert (ours.predict(X) == theirs.predict(X)).all()


HYPER_PARAMETERS = {
    "C small": {"C": 0.01},
    "C large": {"C": 100.0},
    "no intercept": {"fit_intercept": False},
    "class_weight dict": {"class_weight": {0: 5.0, 2: 0.5}},
    "class_weight balanced": {"class_weight": "balanced"},
    "default": {},
}


@pytest.mark.parametrize("case", HYPER_PARAMETERS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_every_backend_agrees_for_every_hyper_parameter(backend, blobs, case, n_classes):
    X, y = blobs
    X, y = X[y < n_classes][:-7], y[y < n_classes][:-7]
    weight = np.linspace(0.5, 2, len(X))
    params = {"tol": 1e-9, **HYPER_PARAMETERS[case]}
    if n_classes == 2 and case == "class_weight dict":
        params["class_weight"] = {0: 5.0}
    model = LogisticRegression(backend=backend.name, **params).fit(X, y, weight)
    theirs = Peer(max_iter=10_000, solver="newton-cg", **{**params, "tol": 1e-12})
    theirs.fit(X, y, weight)
    assert model.backend_.name == backend.name
    np.testing.assert_allclose(model.coef_, theirs.coef_, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(model.intercept_, theirs.intercept_, rtol=1e-6, atol=1e-7)
    if case != "default":  # the case depends on its hyper-parameter
        plain = LogisticRegression(backend=backend.name, tol=1e-9).fit(X, y, weight)
        assert np.abs(plain.coef_ - model.coef_).max() > 1e-3


LOOP_PARAMETERS = {
    "learning_rate": ({"solver": "gd", "max_iter": 20}, {"learning_rate": 0.5}),
    "max_iter": ({"solver": "gd", "learning_rate": 0.1}, {"max_iter": 7}),
    "tol": ({}, {"tol": 1e-1}),
    "solver": ({"max_iter": 5}, {"solver": "gd"}),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", LOOP_PARAMETERS)
def test_every_backend_walks_the_same_way(backend, blobs, name):
    X, y = blobs
    base, change = LOOP_PARAMETERS[name]
    here = LogisticRegression(backend=backend.name, **base, **change).fit(X, y)
    reference = LogisticRegression(backend="numpy", **base, **change).fit(X, y)
    other = LogisticRegression(backend="numpy", **base).fit(X, y)
    assert here.n_iter_ == reference.n_iter_
    np.testing.assert_allclose(here.loss_curve_, reference.loss_curve_, rtol=1e-10)
    np.testing.assert_allclose(here.coef_, reference.coef_, rtol=1e-7, atol=1e-9)
    assert np.abs(other.coef_ - reference.coef_).max() > 1e-3


def test_a_wrong_backend_would_be_caught(blobs, monkeypatch):
    """A backend that rounds X to float16 fails the agreement above."""
    from accel.backends.numpy_backend import NumpyBackend

    X, y = blobs
    wanted = LogisticRegression(tol=1e-9, backend="numpy").fit(X, y).coef_
    right = NumpyBackend.asarray
    monkeypatch.setattr(
        NumpyBackend,
        "asarray",
        lambda self, array, dtype=None: (
            right(self, array, dtype).astype(np.float16).astype(np.float64)
        ),
    )
    got = LogisticRegression(tol=1e-9, backend="numpy").fit(X, y).coef_
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions_come_back_where_X_lies(backend, blobs, dtype):
    X, y = blobs
    X = X.astype(dtype)
    for labels in (y, y == 1, y * 10 - 3, (y > 1) * 2.0):
        model = LogisticRegression(backend="numpy").fit(X, labels)
        there = backend.asarray(X)
        for name in ("decision_function", "predict_proba", "predict_log_proba"):
            assert_close(backend, getattr(model, name)(there), getattr(model, name)(X), dtype=dtype)
        predicted = model.predict(there)
        assert (backend.to_numpy(predicted) == model.predict(X)).all()
        assert model.score(there, backend.asarray(labels)) == model.score(X, labels)
    strings = np.array(["a", "b", "c"])[y]
    model = LogisticRegression().fit(X, strings)
    assert (model.predict(backend.asarray(X)) == model.predict(X)).all()
    assert model.score(backend.asarray(X), strings) == model.score(X, strings)


def test_device_arrays_are_trained_where_they_lie(backend, blobs, monkeypatch):
    monkeypatch.delenv("ACCEL_BACKEND")
    X, y = blobs
    wanted = LogisticRegression(backend="numpy", tol=1e-9).fit(X, y)
    model = LogisticRegression(tol=1e-9).fit(backend.asarray(X), backend.asarray(y))
    if backend.name != "numpy":
        assert model.backend_.name == backend.name
    np.testing.assert_allclose(model.coef_, wanted.coef_, rtol=1e-6, atol=1e-8)
    assert isinstance(model.coef_, np.ndarray)
    elsewhere = LogisticRegression(backend="numpy", tol=1e-9).fit(backend.asarray(X), y)
    np.testing.assert_allclose(elsewhere.coef_, wanted.coef_, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_kept(backend, blobs, dtype):
    X, y = blobs
    model = LogisticRegression(backend=backend.name).fit(X.astype(dtype), y)
    assert model.coef_.dtype == model.intercept_.dtype == dtype
    assert model.status_ is Status.CONVERGED
    assert model.predict_proba(X.astype(dtype)).dtype == dtype


def test_any_labels(blobs):
    X, y = blobs
    wanted = LogisticRegression().fit(X, y)
    for labels in (
        np.array([-5, 7, 100])[y],
        np.array(["ant", "bee", "cat"])[y],
        np.array(["ant", "bee", "cat"], dtype=object)[y],
        pd.Series(np.array(["ant", "bee", "cat"])[y], dtype="category"),
        list(y),
        y.astype(np.uint8),
        y.astype(float),
    ):
        model = LogisticRegression().fit(X, labels)
        assert (model.coef_ == wanted.coef_).all()
        assert model.score(X, labels) == wanted.score(X, y)
    binary = LogisticRegression().fit(X, y > 0)
    assert binary.classes_.dtype == bool
    assert binary.predict(X).dtype == bool
    assert binary.coef_.shape == (1, 4)


def test_data_frames_lists_and_other_orders(blobs):
    X, y = blobs
    wanted = LogisticRegression().fit(X, y)
    frame = pd.DataFrame(X, columns=list("abcd"))
    model = LogisticRegression().fit(frame, y)
    assert model.feature_names_in_.tolist() == list("abcd")
    np.testing.assert_allclose(model.coef_, wanted.coef_, rtol=1e-6)
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"a": "z"}))
    np.testing.assert_allclose(LogisticRegression().fit(X.tolist(), y).coef_, wanted.coef_)
    fortran = LogisticRegression().fit(np.asfortranarray(X), y)
    np.testing.assert_allclose(fortran.coef_, wanted.coef_, rtol=1e-6)


@given(seed=st.integers(0, 100))
def test_weight_two_is_the_row_twice_and_zero_is_no_row(seed):
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(30, 3)), rng.integers(0, 2, 30)
    y[:2] = 0, 1
    weight = rng.integers(0, 4, 30)
    weight[:2] = 1
    weighted = LogisticRegression(tol=1e-9).fit(X, y, weight)
    repeated = LogisticRegression(tol=1e-9).fit(np.repeat(X, weight, 0), np.repeat(y, weight))
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-6, atol=1e-7)
    assert weighted.objective_ == pytest.approx(repeated.objective_, rel=1e-12)


def test_certificate_is_true(blobs):
    X, y = blobs
    model = LogisticRegression(C=2.0, tol=1e-6).fit(X, y)
    z = X @ model.coef_.T + model.intercept_
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    alpha = 1 / (2.0 * len(X))
    R = (p - np.eye(3)[y]) / len(X)
    gradient = np.r_[(X.T @ R + alpha * model.coef_.T).ravel(), R.sum(0)]
    value = -np.mean(np.log(p[np.arange(len(y)), y])) + alpha / 2 * np.sum(model.coef_**2)
    assert model.objective_ == pytest.approx(value, rel=1e-12)
    assert model.gradient_norm_ == pytest.approx(np.abs(gradient).max(), rel=1e-6)
    assert model.gradient_norm_ <= 1e-6
    assert len(model.loss_curve_) == model.n_iter_[0]
    assert model.loss_curve_[0] == pytest.approx(np.log(3))
    assert (np.diff(model.loss_curve_) <= 0).all()


def test_no_penalty():
    X, y = load_iris(return_X_y=True)
    X, y = X[50:], y[50:]
    ours = LogisticRegression(C=np.inf, tol=1e-8, max_iter=10_000).fit(X, y)
    theirs = Peer(C=np.inf, tol=1e-10, max_iter=100_000, solver="newton-cg").fit(X, y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-4)


def test_warm_start_and_given_start(blobs):
    X, y = blobs
    model = LogisticRegression(tol=1e-8, warm_start=True).fit(X, y)
    again = model.n_iter_[0]
    model.fit(X, y)
    assert model.n_iter_[0] == 0 < again
    start = LogisticRegression(tol=1e-8).fit(X, y, None, model.coef_, model.intercept_)
    assert start.n_iter_[0] == 0
    assert (start.coef_ == model.coef_).all()
    model.fit(X, y > 0)  # other shape: starts anew
    assert model.coef_.shape == (1, 4)
    cold = LogisticRegression(tol=1e-8).fit(X, y)
    assert cold.fit(X, y).n_iter_[0] == again


def test_max_iter_warns_with_the_certificate(blobs):
    X, y = blobs
    with pytest.warns(ConvergenceWarning, match=r"MAX_ITER after 3 .*max\|gradient\| .*raise"):
        model = LogisticRegression(max_iter=3).fit(X, y)
    assert model.status_ is Status.MAX_ITER


def test_exploding_learning_rate_is_no_silent_nan(blobs):
    X, y = blobs
    for learning_rate in (1e3, 1e200):
        model = LogisticRegression(solver="gd", learning_rate=learning_rate, C=1e-3)
        with pytest.warns(ConvergenceWarning, match="DIVERGED.*lower learning_rate"):
            model.fit(X, y)
        assert model.status_ is Status.DIVERGED
        assert np.isfinite(model.coef_).all()
        assert np.isfinite(model.objective_)


EXTREMES = {
    (1e-150, "float64"): (Status.CONVERGED,),
    (1e4, "float64"): (Status.CONVERGED,),
    (1e15, "float32"): (Status.ROUNDING, Status.CONVERGED),
    (1e160, "float64"): (Status.ROUNDING, Status.CONVERGED),
}


@pytest.mark.parametrize(("magnitude", "dtype"), EXTREMES)
def test_extreme_scales_end_in_words_not_nan(blobs, magnitude, dtype):
    X, y = blobs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression().fit((X * magnitude).astype(dtype), y)
    assert np.isfinite(model.coef_).all()
    assert model.status_ in EXTREMES[magnitude, dtype]
    assert model.objective_ <= np.log(3) * (1 + 1e-6)
    if magnitude >= 1e4:
        assert model.objective_ < 1.0


def test_log_probabilities_never_minus_infinity_of_zero():
    X = np.array([[-1.0], [1.0]])
    model = LogisticRegression(C=1e6).fit(X, [0, 1])
    assert np.isfinite(model.predict_log_proba(X * 1e4)).all()


def test_verbose_prints_as_the_lesson_does(blobs, capsys):
    X, y = blobs
    LogisticRegression(verbose=1, tol=1e-8, solver="lbfgs").fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Training on numpy on")
    assert lines[1] == "Cost after iteration 0: 1.098612"
    assert lines[2].startswith("Cost after iteration 10: ")
    assert lines[-1].startswith("CONVERGED after")


def test_callback_stops_and_interrupt_leaves_a_model(blobs):
    X, y = blobs
    model = LogisticRegression(callback=lambda progress: progress.n_iter >= 2).fit(X, y)
    assert (model.status_, model.n_iter_[0]) == (Status.STOPPED, 2)

    def interrupt(progress):
        if progress.n_iter == 2:
            raise KeyboardInterrupt

    model.set_params(callback=interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert model.status_ is Status.INTERRUPTED
    assert model.predict(X).shape == (150,)


BAD = {
    "C": ({"C": 0}, "C=0 must be a number above 0"),
    "C text": ({"C": "1"}, "C='1' must be"),
    "C nan": ({"C": float("nan")}, "C=nan must be"),
    "tol": ({"tol": -1}, "tol=-1 must be a number at least 0"),
    "max_iter": ({"max_iter": 1.5}, "max_iter=1.5 must be an integer"),
    "learning_rate": ({"solver": "gd", "learning_rate": 0}, "learning_rate=0 must be"),
    "solver": ({"solver": "sgd"}, "solver='sgd' must be one of 'auto', 'lbfgs', 'newton-cg'"),
    "backend": ({"backend": "gpu"}, "backend='gpu' names no backend"),
    "huge integer": ({"tol": 10**400}, "must be a number at least 0"),
    "learning_rate inf": ({"learning_rate": float("inf")}, "learning_rate=inf must be a number"),
    "fit_intercept": ({"fit_intercept": "False"}, "fit_intercept='False' must be True or False"),
    "input_scale": ({"input_scale": 0}, "input_scale=0 must be a number above 0"),
    "class_weight": ({"class_weight": {0: -1.0}}, "class_weight[0]=-1.0 must be a number"),
    "class_weight nan": ({"class_weight": {0: float("nan")}}, "class_weight[0]=nan must be"),
    "weights overflow": ({"class_weight": {0: 1e308, 1: 1e308}}, "overflow"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters_name_themselves(blobs, case):
    params, message = BAD[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        LogisticRegression(**params).fit(*blobs)


def test_bad_arrays_name_themselves(backend, blobs):
    X, y = blobs
    model = LogisticRegression(backend=backend.name)
    there = backend.asarray(X)
    broken = X.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="X contains NaN"):
        model.fit(backend.asarray(broken), y)
    with pytest.raises(ValueError, match=r"y has 149 labels but X has 150 rows|inconsistent"):
        model.fit(there, y[:-1])
    with pytest.raises(ValueError, match="only one class"):
        model.fit(there, np.zeros(150))
    with pytest.raises(ValueError, match="coef_init has shape"):
        model.fit(there, y, coef_init=np.zeros((2, 4)))
    with pytest.raises(ValueError, match="intercept_init contains NaN"):
        model.fit(there, y, intercept_init=[0, 0, np.nan])
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(there, y, -np.ones(150))
    with pytest.raises(ValueError, match=r"non-zero|zero for every row"):
        model.fit(there, y, np.zeros(150))
    with pytest.raises(ValueError, match=r"2D|n_samples, n_features"):
        model.fit(backend.asarray(X[:, 0]), y)
    model.fit(there, y)
    with pytest.raises(ValueError, match="X has 3 features, but LogisticRegression is expecting 4"):
        model.predict(backend.asarray(X[:, :3]))


def test_a_refused_refit_leaves_the_fitted_model_whole(blobs):
    X, y = blobs
    model = LogisticRegression().fit(X, y)
    before = model.predict(X)

    def broken(progress):
        raise RuntimeError("a bug of the caller")

    for change in ({"C": -1}, {"C": 1.0, "callback": broken}):
        model.set_params(**change)
        with pytest.raises((ValueError, RuntimeError)):
            model.fit(X, np.array(["a", "b"])[(y > 0).astype(int)])
        assert (model.predict(X) == before).all()


def test_refit_on_a_device_array_forgets_the_names_of_a_data_frame(blobs):
    X, y = blobs
    from accel.backends import get_backend

    model = LogisticRegression().fit(pd.DataFrame(X, columns=list("abcd")), y)
    model.fit(get_backend("strict").asarray(X[:, :2]), y)
    assert not hasattr(model, "feature_names_in_")
    assert model.predict(X[:, :2]).shape == (150,)


def test_complex_device_arrays_are_refused(blobs):
    from accel.backends import get_backend

    with pytest.raises(ValueError, match="complex128 values: pass real numbers"):
        LogisticRegression().fit(get_backend("strict").asarray(blobs[0] * 1j), blobs[1])


def test_a_whole_fit_moves_arrays_once_and_synchronises_once_an_evaluation(blobs, monkeypatch):
    """Counted over fit, not over the solver alone: X, Y, weights, penalty, start go in."""
    from tests import strict

    backend = strict.StrictBackend()
    monkeypatch.setattr(strict, "open_backend", lambda index: backend)
    X, y = blobs
    with strict.hidden_synchronisations(monkeypatch) as hidden:
        model = LogisticRegression(backend="strict", tol=1e-6, solver="lbfgs").fit(X, y)
    assert not hidden
    assert backend.count["asarray"] == 5
    assert backend.count["to_numpy"] == 1
    assert backend.count["scalars"] <= 1.3 * model.n_iter_[0] + 5
    assert backend.count["passes"] <= 1.3 * model.n_iter_[0] + 3


def test_pickle_loads_and_predicts_where_cupy_is_not_installed(backend, blobs, tmp_path):
    X, y = blobs
    model = LogisticRegression(backend=backend.name).fit(backend.asarray(X), y)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    np.save(tmp_path / "X.npy", X)
    code = f"""
import pickle, sys
import numpy as np

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("cupy", "array_api_strict", "torch"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NotInstalled())
with open({str(tmp_path / "model.pickle")!r}, "rb") as file:
    model = pickle.load(file)
np.save({str(tmp_path / "p.npy")!r}, model.predict_proba(np.load({str(tmp_path / "X.npy")!r})))
print(model.backend_.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == backend.name
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), model.predict_proba(X), rtol=1e-12)


def test_public_names():
    assert {"LogisticRegression", "get_backend", "backends"} <= set(accel.__all__)
    assert all(hasattr(accel, name) for name in accel.__all__)
