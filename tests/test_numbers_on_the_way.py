"""Numbers that must not change on the way: predictions, scorers, models that were refused a fit."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
from sklearn.datasets import load_iris, make_multilabel_classification
from sklearn.linear_model import LogisticRegression as Peer
from sklearn.linear_model import LogisticRegressionCV as PeerCV
from sklearn.metrics import accuracy_score, make_scorer

from accel import LogisticRegression, LogisticRegressionCV, MLPClassifier, MLPRegressor
from accel.datasets import Dataset
from accel.estimators.scoring import strongest_of_best
from accel.files import ModelFileError, check_storable, load_model, save_model
from accel.train import split

RNG = np.random.default_rng(0)


def _dates():
    """Rows of a date, a minute and a cell: exact in float32, with a large common offset."""
    n, rng = 4000, np.random.default_rng(0)
    day = 738_000 + rng.integers(0, 60, n)
    minute = 12_000_000 + rng.integers(0, 1440, n)
    cell = 15_000_000 + rng.integers(0, 8, n)
    score = (day - 738_030) / 10 + (minute - 12_000_700) / 300 + (cell - 15_000_004)
    return np.c_[day, minute, cell].astype(float), (score + rng.logistic(size=n) > 0).astype(int)


@pytest.mark.parametrize("kind", ["dense", "sparse", "torch"])
def test_the_same_numbers_get_the_same_answer_in_float32(kind):
    X, y = _dates()
    model = LogisticRegression(backend="numpy").fit(X, y)
    X32 = X.astype(np.float32)
    if kind == "sparse":
        X32 = sp.csr_matrix(X32)
    if kind == "torch":
        X32 = pytest.importorskip("torch").tensor(X32)
    exact = X @ model.coef_.T + model.intercept_
    np.testing.assert_allclose(
        np.asarray(model.decision_function(X32)), exact[:, 0], rtol=1e-9, atol=1e-8
    )
    np.testing.assert_array_equal(np.asarray(model.predict(X32)), model.predict(X))


def test_a_float64_network_is_not_rounded_to_its_rows():
    X = RNG.normal(size=(80, 3)) + 3e4
    model = MLPRegressor(
        hidden_layer_sizes=(4,), max_iter=3, backend="numpy", random_state=0, tol=1.0
    )
    with pytest.warns(sklearn.exceptions.ConvergenceWarning):
        model.fit(X, X[:, 0] - 3e4)
    rounded = X.astype(np.float32)
    np.testing.assert_array_equal(model.predict(rounded), model.predict(rounded.astype(float)))


def test_a_float32_model_keeps_float32_rows_in_float32():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(backend="numpy").fit(X.astype(np.float32), y)
    assert model.decision_function(X.astype(np.float32)).dtype == model.coef_.dtype


def test_a_scorer_sees_the_C_that_it_scores():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4))
    y = (X[:, 0] + rng.logistic(size=120) > 0).astype(int)

    def prefer_simple(model, X, y):
        return model.score(X, y) - 0.05 * np.log10(model.C)

    ours = LogisticRegressionCV(backend="numpy", Cs=[0.01, 1, 100], cv=4, scoring=prefer_simple)
    peer = PeerCV(
        Cs=[0.01, 1, 100], cv=4, scoring=prefer_simple, l1_ratios=(0,), use_legacy_attributes=False
    )
    ours.fit(X, y)
    peer.fit(X, y)
    assert ours.C_ == peer.C_ == 0.01
    np.testing.assert_allclose(ours.scores_, peer.scores_.reshape(4, 3), atol=1e-12)


def test_equal_scores_go_to_the_strongest_penalty():
    scores = np.array([0.5, 0.9 - 1e-9, 0.9, 0.9 + 1e-9])
    assert strongest_of_best(scores, np.array([1e-3, 10.0, 1.0, 100.0]), 1e-4) == 2
    assert strongest_of_best(np.array([np.nan, 0.3]), np.array([1.0, 2.0]), 1e-4) == 1
    assert strongest_of_best(np.array([np.nan, np.nan]), np.array([1.0, 2.0]), 1e-4) == 0


def test_a_scorer_that_refused_weights_is_not_given_them_silently():
    X, y = load_iris(return_X_y=True)
    scorer = make_scorer(accuracy_score)
    with sklearn.config_context(enable_metadata_routing=True):
        scorer.set_score_request(sample_weight=False)
        own = LogisticRegressionCV(backend="numpy", Cs=[1], cv=2, scoring=scorer).fit(X, y)
        peer = PeerCV(
            Cs=[1], cv=2, scoring=scorer, l1_ratios=(0,), use_legacy_attributes=False
        ).fit(X, y)
        for model in (own, peer):
            with pytest.raises(TypeError, match="sample_weight"):
                model.score(X, y, sample_weight=np.ones(150))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["linear", "network"])
def test_a_refused_fit_leaves_the_old_model_whole(tmp_path, kind):
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(backend="numpy")
    if kind == "network":
        model = MLPClassifier((3,), max_iter=2, tol=1.0, backend="numpy")
    model.fit(X, y)
    before, old = model.predict(X), dict(vars(model))
    np.save(tmp_path / "five.npy", np.full((20, 5), np.nan))
    bad = [np.full((20, 5), np.nan), np.ones((20, 5)), str(tmp_path / "five.npy")]
    for rows, labels in zip(bad, [np.arange(20) % 2, np.zeros(7), np.arange(20) % 2], strict=True):
        with pytest.raises((ValueError, TypeError)):
            model.fit(rows, labels)
        assert vars(model).keys() == old.keys()
        np.testing.assert_array_equal(model.predict(X), before)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64", ">i4", "int8", "bool"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_labels_of_any_integer_come_back(dtype, library):
    X = RNG.normal(size=(60, 3))
    y = (X[:, 0] > 0).astype(dtype)
    rows = pytest.importorskip("torch").tensor(X) if library == "torch" else X
    model = LogisticRegression(backend="numpy").fit(X, y)
    predicted = np.asarray(model.predict(rows))
    assert set(np.unique(predicted)) <= {0, 1}
    assert np.mean(predicted == y) > 0.9


def test_sparsify_and_densify():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(backend="numpy", l1_ratio=1.0, C=0.1).fit(X, y)
    dense, expected = model.coef_, model.predict_proba(X)
    assert sp.issparse(model.sparsify().coef_)
    assert model.sparsify() is model
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    np.testing.assert_array_equal(model.densify().coef_, dense)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        LogisticRegression().sparsify()


def test_a_sparse_model_is_saved_and_goes_on_warm(tmp_path):
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(backend="numpy", l1_ratio=1.0, C=0.1, warm_start=True).fit(X, y)
    expected = model.predict_proba(X)
    save_model(model.sparsify(), tmp_path / "m.npz")
    np.testing.assert_array_equal(load_model(tmp_path / "m.npz").predict_proba(X), expected)
    assert model.fit(X, y).coef_.shape == (3, 4)


def test_an_intercept_set_by_hand():
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(backend="numpy").fit(X, y)
    model.intercept_ = 0.0
    peer = Peer()
    peer.coef_, peer.intercept_, peer.classes_ = model.coef_, 0.0, model.classes_
    np.testing.assert_allclose(model.decision_function(X), peer.decision_function(X), rtol=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_sparse_targets_of_several_labels():
    X, Y = make_multilabel_classification(60, 5, n_classes=3, random_state=0)
    fits = [
        MLPClassifier((4,), max_iter=3, random_state=0, backend="numpy").fit(X, targets)
        for targets in (Y, sp.csr_matrix(Y))
    ]
    np.testing.assert_array_equal(fits[0].coefs_[0], fits[1].coefs_[0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_network_of_one_class_predicts_it(solver, tmp_path):
    X = RNG.normal(size=(30, 4))
    model = MLPClassifier((3,), solver=solver, max_iter=2, backend="numpy").fit(X, ["a"] * 30)
    assert list(model.predict(X)) == ["a"] * 30
    np.testing.assert_array_equal(model.predict_proba(X), np.ones((30, 1)))
    save_model(model, tmp_path / "one.npz")
    assert list(load_model(tmp_path / "one.npz").predict(X)) == ["a"] * 30


def _saved(tmp_path, model):
    from accel.disk import read_with_header
    from accel.files import FORMAT, VERSION

    path = tmp_path / "model.npz"
    save_model(model, path)
    return path, *read_with_header(path, FORMAT, VERSION)


DAMAGE = {
    "input_scale NaN": lambda h: h.update(input_scale=float("nan")),
    "input_scale zero": lambda h: h.update(input_scale=0.0),
    "input_scale infinite": lambda h: h.update(input_scale=float("inf")),
    "reasons of numbers": lambda h: h["account"].update(reasons=3),
    "seconds of words": lambda h: h["account"].update(seconds={"fit": "long"}),
    "no ending": lambda h: h["account"].update(ending=None),
    "account of another": lambda h: h["account"].pop("what"),
    "libraries": lambda h: h["backend"].update(libraries=7),
    "status": lambda h: h.update(status="FINE"),
    "an argument out of range": lambda h: h["parameters"].update(tol=-1.0),
    "an unknown argument": lambda h: h["parameters"].update(rate=1.0),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("kind", ["linear", "network"])
def test_a_damaged_header_is_refused_when_it_is_read(tmp_path, kind, damage):
    from accel.disk import write_with_header

    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(backend="numpy")
    if kind == "network":
        model = MLPClassifier((3,), max_iter=2, backend="numpy")
    path, header, arrays = _saved(tmp_path, model.fit(X, y))
    DAMAGE[damage](header)
    write_with_header(path, header, arrays)
    with pytest.raises(ModelFileError):
        load_model(path)


@pytest.mark.filterwarnings("ignore")
def test_an_unknown_activation_is_refused(tmp_path):
    from accel.disk import write_with_header

    X, y = load_iris(return_X_y=True)
    model = MLPClassifier((3,), max_iter=2, backend="numpy").fit(X, y)
    path, header, arrays = _saved(tmp_path, model)
    header["parameters"]["activation"] = "sigmoid of mine"
    write_with_header(path, header, arrays)
    with pytest.raises(ModelFileError, match="activation"):
        load_model(path)


def test_date_labels_are_written_and_read(tmp_path):
    X, y = load_iris(return_X_y=True)
    dates = np.array(["2024-01-01", "2025-01-01", "2026-06-01"], dtype="datetime64[D]")[y]
    model = LogisticRegression(backend="numpy").fit(X, dates)
    save_model(model, tmp_path / "m.npz")
    assert load_model(tmp_path / "m.npz").predict(X[:1])[0] == np.datetime64("2024-01-01")


def test_labels_that_no_file_holds_are_refused_before_a_fit():
    with pytest.raises(ModelFileError, match="Python objects"):
        check_storable(np.array([dt.date(2024, 1, 1), dt.date(2025, 1, 1)], dtype=object))


def _labelled(y):
    return Dataset(name="d", X=np.zeros((len(y), 1)), y=np.asarray(y))


def test_every_class_has_its_share_of_both_parts():
    y = np.array(["rare"] * 4 + ["common"] * 196)
    for seed in range(20):
        train, test = split(_labelled(y), test_size=0.25, seed=seed)
        assert sorted(np.concatenate([train, test])) == list(range(200))
        assert np.sum(y[test] == "rare") == 1
        assert np.sum(y[train] == "rare") == 3


def test_the_only_row_of_a_class_is_trained_on_and_that_is_said():
    y = np.array(["single"] + ["a", "b"] * 20)
    with pytest.warns(UserWarning, match="1 of 3 classes have one row only, such as single"):
        train, test = split(_labelled(y), test_size=0.25, seed=0)
    assert 0 in train
    assert set(y[test]) == {"a", "b"}


def test_too_few_rows_for_a_share_of_each_class():
    with pytest.warns(UserWarning, match="too few for a share"):
        train, test = split(_labelled(list("aabbccdd")), test_size=0.25, seed=0)
    assert len(train) + len(test) == 8
