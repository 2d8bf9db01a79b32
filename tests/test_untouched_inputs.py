"""Other people's data: no array, matrix or frame of the user is ever written to."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from accel import LogisticRegression, LogisticRegressionCV, MLPClassifier, logistic_path

RNG = np.random.default_rng(0)
DENSE = RNG.normal(size=(60, 5)) * (RNG.random((60, 5)) < 0.6)
LABELS = (DENSE @ [1, -1, 2, 0, 0.5] + 0.3 * RNG.normal(size=60) > 0).astype(int)


def _csr(shuffled: bool, doubled: bool):
    """The matrix with its places in any order, some of them split in two."""
    indices, data, indptr = [], [], [0]
    rng = np.random.default_rng(1)
    for row in DENSE:
        places = np.flatnonzero(row)
        values = row[places]
        if doubled:
            places, values = np.repeat(places, 2), np.repeat(values / 2, 2)
        order = rng.permutation(len(places)) if shuffled else np.arange(len(places))
        indices += list(places[order])
        data += list(values[order])
        indptr.append(len(indices))
    return sp.csr_matrix((np.array(data), np.array(indices), np.array(indptr)), shape=DENSE.shape)


KINDS = {
    "float64": lambda: DENSE.copy(),
    "fortran": lambda: np.asfortranarray(DENSE),
    "float32": lambda: DENSE.astype(np.float32),
    "float16": lambda: DENSE.astype(np.float16),
    "big-endian": lambda: DENSE.astype(">f8"),
    "frame": lambda: pd.DataFrame(DENSE, columns=list("abcde")),
    "csr": lambda: sp.csr_matrix(DENSE),
    "csr array": lambda: sp.csr_array(DENSE),
    "unsorted": lambda: _csr(True, False),
    "doubled": lambda: _csr(False, True),
    "unsorted and doubled": lambda: _csr(True, True),
    "csc": lambda: sp.csc_matrix(DENSE),
    "coo": lambda: sp.coo_matrix(DENSE),
}
METHODS = {
    "logistic": lambda X: LogisticRegression(backend="numpy").fit(X, LABELS).coef_,
    "l1": lambda X: LogisticRegression(backend="numpy", l1_ratio=1.0).fit(X, LABELS).coef_,
    "CV": lambda X: LogisticRegressionCV(backend="numpy", Cs=2, cv=3).fit(X, LABELS).coef_,
    "path": lambda X: logistic_path(X, LABELS, 3, backend="numpy").coef,
    "mlp": lambda X: (
        MLPClassifier((4,), max_iter=2, random_state=0, backend="numpy").fit(X, LABELS).coefs_[0]
    ),
}


def _arrays(X):
    if sp.issparse(X):
        names = [name for name in ("data", "indices", "indptr", "row", "col") if hasattr(X, name)]
        return {name: getattr(X, name) for name in names}
    return {"values": X.to_numpy()} if isinstance(X, pd.DataFrame) else {"values": X}


def _freeze(X):
    for array in _arrays(X).values():
        array.flags.writeable = False
    return X


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_read_only_rows_are_fitted_and_stay_as_they_were(kind, method):
    X = _freeze(KINDS[kind]())
    before = copy.deepcopy(_arrays(X))
    found = METHODS[method](X)
    for name, array in _arrays(X).items():
        np.testing.assert_array_equal(array, before[name])
    expected = METHODS[method](DENSE)
    # one optimum and one start: as close as the storage and the tolerance of a fit allow
    tolerance = 0.02 if kind in ("float16", "float32") else 2e-3
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "endian" not in kind])
def test_predictions_leave_rows_as_they_were(kind):
    model = LogisticRegression(backend="numpy").fit(DENSE, LABELS)
    X = _freeze(KINDS[kind]())
    if kind == "frame":
        model.feature_names_in_ = np.array(list("abcde"), dtype=object)
    before = copy.deepcopy(_arrays(X))
    tolerance = {"float16": 1e-2, "float32": 1e-6}.get(kind, 1e-12)
    np.testing.assert_allclose(
        model.predict_proba(X),
        model.predict_proba(
            pd.DataFrame(DENSE, columns=list("abcde")) if kind == "frame" else DENSE
        ),
        atol=tolerance,
    )
    for name, array in _arrays(X).items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.filterwarnings("ignore")
def test_labels_and_weights_stay_as_they_were():
    y, weight = LABELS.copy(), RNG.random(60)
    y.flags.writeable = weight.flags.writeable = False
    before = weight.copy()
    LogisticRegression(backend="numpy", class_weight="balanced").fit(DENSE, y, weight)
    MLPClassifier((3,), max_iter=1, backend="numpy", tol=1.0).fit(DENSE, y, weight)
    np.testing.assert_array_equal(weight, before)
    np.testing.assert_array_equal(y, LABELS)


def test_threads_that_share_a_matrix_get_what_one_alone_gets():
    X = _csr(True, True)
    alone = LogisticRegression(backend="numpy").fit(_csr(True, True), LABELS).coef_
    before = copy.deepcopy(_arrays(X))
    with ThreadPoolExecutor(4) as pool:
        fits = pool.map(
            lambda _: LogisticRegression(backend="numpy").fit(X, LABELS).coef_, range(12)
        )
    for coef in fits:
        np.testing.assert_allclose(coef, alone, rtol=1e-6)
    for name, array in _arrays(X).items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("damage", ["beyond", "negative", "pointers"])
def test_a_damaged_sparse_matrix_is_refused(damage):
    X = sp.csr_matrix(DENSE)
    model = LogisticRegression(backend="numpy").fit(X, LABELS)
    if damage == "pointers":
        X.indptr[3] = X.indptr[-1] + 1000
    else:
        X.indices[7] = {"beyond": 10**6, "negative": -5}[damage]
    with pytest.raises(ValueError, match="damaged sparse matrix"):
        LogisticRegression(backend="numpy").fit(X, LABELS)
    with pytest.raises(ValueError, match="damaged sparse matrix"):
        model.predict(X)
