"""While scikit-learn's array API dispatch is on, fitted attributes live where the rows lay."""

from __future__ import annotations

import os
import warnings

import array_api_compat as compat
import array_api_strict
import numpy as np
import pytest
from sklearn import config_context

from accel import LogisticRegression, LogisticRegressionCV, MLPClassifier, MLPRegressor
from accel.backends.interchange import to_host
from accel.files import load_model, save_model

pytestmark = [
    pytest.mark.skipif(
        os.environ.get("SCIPY_ARRAY_API") != "1",
        reason="scikit-learn dispatches where SCIPY_ARRAY_API=1 is set before scipy is imported",
    ),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

ESTIMATORS = [
    LogisticRegression(tol=1e-8),
    LogisticRegression(l1_ratio=1.0, C=0.1),
    LogisticRegressionCV(Cs=3, cv=2),
    MLPClassifier((4,), max_iter=3, random_state=0),
    MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=0),
    MLPClassifier((4,), solver="lbfgs", max_iter=5, random_state=0),
]


def on_strict(array):
    return array_api_strict.asarray(array, device=array_api_strict.Device("device1"))


def on_torch(array):
    return pytest.importorskip("torch").from_numpy(array)


NAMESPACES = {"strict": on_strict, "torch": on_torch}


def data(rng, n_classes):
    X = rng.normal(size=(60, 5))
    return X, np.argmax(X[:, :n_classes] + rng.gumbel(size=(60, n_classes)), axis=1)


def fitted_arrays(model):
    """Name -> the arrays of every fitted attribute but the labels."""
    found = {}
    for name, value in vars(model).items():
        parts = value if isinstance(value, list) else [value]
        if name.endswith("_") and name != "classes_" and parts and hasattr(parts[0], "shape"):
            found[name] = parts
    return found


@pytest.mark.parametrize("where", NAMESPACES)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_attributes_follow_the_rows_and_predict_the_same(estimator, n_classes, where, rng):
    X, y = data(rng, n_classes)
    there = NAMESPACES[where]
    plain = type(estimator)(**estimator.get_params()).fit(there(X), there(y))
    with config_context(array_api_dispatch=True):
        moved = type(estimator)(**estimator.get_params()).fit(there(X), there(y))
        predicted = moved.predict(there(X))
    assert fitted_arrays(plain).keys() == fitted_arrays(moved).keys() != set()
    for name, parts in fitted_arrays(moved).items():
        for part, wanted in zip(parts, fitted_arrays(plain)[name], strict=True):
            assert isinstance(wanted, np.ndarray), name
            assert compat.device(part) == compat.device(there(X)), name
            assert type(part) is type(there(X)), name
            np.testing.assert_array_equal(to_host(part), wanted, err_msg=name)
    np.testing.assert_array_equal(to_host(predicted), to_host(plain.predict(there(X))))
    # with the dispatch off the same model predicts wherever the rows lie
    np.testing.assert_array_equal(to_host(moved.predict(X)), plain.predict(X))


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=str)
def test_rows_from_elsewhere_are_refused_while_it_is_on(estimator, rng):
    X, y = data(rng, 2)
    for fit_on, predict_on in ((on_strict, np.asarray), (np.asarray, on_strict)):
        model = type(estimator)(**estimator.get_params())
        with config_context(array_api_dispatch=True):
            model.fit(fit_on(X), fit_on(y))
            with pytest.raises(ValueError, match=r"predict\(\) must use the same namespace"):
                model.predict(predict_on(X))
            with pytest.raises(ValueError, match=r"predict\(\) must use the same namespace"):
                model.score(predict_on(X), predict_on(y))


@pytest.mark.parametrize("estimator", [ESTIMATORS[0], ESTIMATORS[3]], ids=str)
def test_a_moved_model_goes_on_and_is_written(estimator, rng, tmp_path):
    X, y = data(rng, 3)
    with config_context(array_api_dispatch=True):
        model = type(estimator)(**estimator.get_params()).set_params(warm_start=True)
        model.fit(on_strict(X), on_strict(y))
        model.fit(on_strict(X), on_strict(y))
        labels = to_host(model.predict(on_strict(X)))
    if isinstance(model, LogisticRegression):
        assert model.n_iter_[0] == 0
    save_model(model, tmp_path / "model.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load_model(tmp_path / "model.npz").predict(X), labels)
