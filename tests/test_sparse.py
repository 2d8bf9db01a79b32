from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from accel import LogisticRegression, Status
from accel.backends import get_backend, numpy_backend
from accel.backends.interchange import take_rows


def text_like(rng, n=400, d=60, density=0.1):
    X = sparse.random_array((n, d), density=density, rng=rng, format="csr")
    z = X @ rng.normal(size=d) * 3
    return X, (z + 0.3 * rng.logistic(size=n) > np.median(z)).astype(int)


OPTIONS = {
    "default": {},
    "few": {"solver": "newton-cholesky"},
    "lbfgs": {"solver": "lbfgs"},
    "newton-cg": {"solver": "newton-cg"},
    "no intercept": {"fit_intercept": False},
    "l1": {"l1_ratio": 1.0},
    "scaled": {"input_scale": 3.0},
    "gd": {"solver": "gd", "max_iter": 20, "learning_rate": 1.0},
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", OPTIONS)
@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csr_matrix, sparse.coo_array])
def test_sparse_and_dense_give_the_same_model(rng, case, form):
    X, y = text_like(rng)
    options = {"tol": 1e-9, **OPTIONS[case]}
    here = LogisticRegression(**options).fit(form(X), y)
    there = LogisticRegression(**options).fit(X.toarray(), y)
    np.testing.assert_allclose(here.coef_, there.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(here.predict_proba(form(X)), there.predict_proba(X.toarray()))
    assert (here.predict(X) == there.predict(X.toarray())).all()


def test_three_classes_and_float32(rng):
    X, _ = text_like(rng)
    y = np.arange(400) % 3
    here = LogisticRegression(tol=1e-6).fit(X.astype(np.float32), y)
    there = LogisticRegression(tol=1e-6).fit(X.toarray(), y)
    assert here.coef_.dtype == np.float32
    np.testing.assert_allclose(here.coef_, there.coef_, atol=1e-3)


def test_it_is_never_made_dense(rng):
    """20,000 x 50,000 would be 8 GB; the fit stays within a small multiple of the stored part."""
    X = sparse.random_array((20_000, 50_000), density=2e-4, rng=rng, format="csr")
    y = (X[:, :200].sum(axis=1) > np.median(X[:, :200].sum(axis=1))).astype(int)
    tracemalloc.start()
    model = LogisticRegression(C=0.1).fit(X, y)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert model.status_ is Status.CONVERGED
    assert peak_bytes < 200e6


def test_an_offset_column_is_centred_without_touching_X(rng):
    X, y = text_like(rng)
    X = sparse.hstack([X, sparse.csr_array(np.full((400, 1), 1e3))], format="csr")
    model = LogisticRegression(tol=1e-8).fit(X, y)
    assert model.status_ is Status.CONVERGED
    assert "Centred columns" in model.explain()


def test_rows_are_views(rng):
    X, _ = text_like(rng)
    block = take_rows(X, slice(10, 30), np.float64, xp=np)
    np.testing.assert_array_equal(block.toarray(), X.toarray()[10:30])
    assert np.shares_memory(block.data, X.data)
    every = take_rows(X, slice(3, 100, 7), np.float64, xp=np)
    np.testing.assert_array_equal(every.toarray(), X.toarray()[3:100:7])


def test_large_matrices_go_block_by_block(rng, monkeypatch):
    monkeypatch.setattr(numpy_backend, "WHOLE_BYTES", 1 << 10)
    monkeypatch.setattr(numpy_backend, "BLOCK_BYTES", 1 << 12)
    X, y = text_like(rng)
    here = LogisticRegression(tol=1e-9).fit(X, y)
    monkeypatch.undo()
    there = LogisticRegression(tol=1e-9).fit(X, y)
    np.testing.assert_allclose(here.coef_, there.coef_, rtol=1e-7, atol=1e-9)


def test_bad_values_are_refused_in_a_sentence(rng):
    X, y = text_like(rng)
    broken = X.copy()
    broken.data[3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        LogisticRegression().fit(broken, y)
    assert get_backend("numpy").asarray(X) is X
