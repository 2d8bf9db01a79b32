"""Paths and searches with an l1 part: the same optima as single fits, scikit-learn's shapes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegressionCV as Peer
from sklearn.preprocessing import StandardScaler

from accel import LogisticRegression, LogisticRegressionCV, Status, logistic_path


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("l1_ratio", [0.3, 1.0])
def test_a_path_is_separate_fits(dtype, l1_ratio):
    X, y = load_breast_cancer(return_X_y=True)
    X = X.astype(dtype)
    path = logistic_path(X, y, 6, l1_ratio=l1_ratio, backend="numpy")
    assert set(path.status) == {Status.CONVERGED}
    for k, C in enumerate(path.Cs):
        options = {"C": C, "l1_ratio": l1_ratio, "backend": "numpy", "tol": 1e-9}
        one = LogisticRegression(**options).fit(X, y)
        assert path.objective[k] == pytest.approx(one.objective_, rel=1e-4)
        rounded = 1e-9 if dtype == np.float64 else 1e-7  # weights in float32
        assert path.objective[k] - one.objective_ <= path.gap[k] + rounded
    if l1_ratio == 1:
        zeros = [np.mean(coef == 0) for coef in path.coef]
        assert zeros[0] > 0.9 > zeros[-1]


@pytest.mark.parametrize("name", ["iris", "breast cancer"])
@pytest.mark.parametrize("refit", [True, False])
def test_a_search_over_shares_is_scikit_learns(name, refit):
    X, y = (load_iris if name == "iris" else load_breast_cancer)(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    ratios, Cs = np.array([0.0, 0.5, 1.0]), [0.1, 1.0, 3.0]
    common = {"Cs": Cs, "l1_ratios": ratios, "cv": 3, "refit": refit, "scoring": "neg_log_loss"}
    ours = LogisticRegressionCV(**common, backend="numpy", tol=1e-8).fit(X, y)
    peer = Peer(
        **common, solver="saga", tol=1e-5, max_iter=5000, use_legacy_attributes=False,
        random_state=0,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(X, y)
    assert ours.scores_.shape == peer.scores_.shape == (3, 3, 3)
    np.testing.assert_allclose(ours.scores_, peer.scores_, atol=1e-2)
    assert ours.coefs_paths_.shape == peer.coefs_paths_.shape
    assert ours.n_iter_.shape == (3, 3, 3)
    assert pytest.approx(peer.C_) == ours.C_
    assert ours.l1_ratio_ == pytest.approx(peer.l1_ratio_)
    np.testing.assert_allclose(ours.coef_, peer.coef_, atol=0.2)


def test_one_share_and_no_list():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegressionCV(Cs=3, l1_ratios=[1.0], cv=3, backend="numpy").fit(X, y)
    assert model.scores_.shape == (3, 1, 3)
    assert model.l1_ratio_ == 1.0
    plain = LogisticRegressionCV(Cs=3, cv=3, backend="numpy").fit(X, y)
    assert plain.scores_.shape == (3, 3)
    assert plain.l1_ratio_ == 0.0
    with pytest.warns(FutureWarning, match="penalty is deprecated"):
        old = LogisticRegressionCV(Cs=3, cv=3, penalty="l1", backend="numpy").fit(X, y)
    np.testing.assert_array_equal(old.coef_, model.coef_)


def test_attributes_of_before():
    X, y = load_iris(return_X_y=True)
    common = {"Cs": 3, "cv": 3, "l1_ratios": [0.0, 1.0], "use_legacy_attributes": True}
    ours = LogisticRegressionCV(**common, backend="numpy").fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = Peer(**common, solver="saga", max_iter=2000).fit(X, y)
    assert set(ours.scores_) == set(peer.scores_) == {0, 1, 2}
    for key in (0, 1, 2):
        assert ours.scores_[key].shape == peer.scores_[key].shape
        assert ours.coefs_paths_[key].shape == peer.coefs_paths_[key].shape
    assert ours.C_.shape == peer.C_.shape
    assert ours.n_iter_.shape == peer.n_iter_.shape
    assert ours.score(X, y) > 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l1_ratios": [2.0]}, r"l1_ratios\[0\]=2.0 must be a number between 0"),
        ({"l1_ratios": []}, "must be a list"),
        ({"l1_ratios": 0.5}, "must be a list"),
        ({"l1_ratios": [0.5], "solver": "lbfgs"}, "does not support the elastic net"),
        ({"solver": "gd"}, "must be one of"),
        ({"dual": True}, "supports only dual=False"),
        ({"intercept_scaling": 0}, "intercept_scaling"),
        ({"use_legacy_attributes": "warn"}, "must be True or False"),
    ],
)
def test_wrong_arguments(options, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=message):
        LogisticRegressionCV(**options, backend="numpy").fit(X, y)
