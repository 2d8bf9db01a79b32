"""Compact X: trained on as it lies, with the numbers of the expanded one and no copy of it."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from accel import LogisticRegression
from accel.backends import numpy_backend
from tests.storage import DTYPES

COMPACT = [name for name in DTYPES if "32" not in name and "64" not in name]


@pytest.fixture
def pixels(rng):
    y = rng.integers(0, 3, 200)
    X = rng.integers(0, 100, (200, 12)) + 40 * (y[:, None] == np.arange(12) % 3)
    return X, y


def stored(X, dtype):
    return (X / 200 if "float" in dtype else X).astype(DTYPES[dtype])


@pytest.mark.parametrize("dtype", COMPACT)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_equals_the_expanded_float32_computation(backend, pixels, dtype, n_classes):
    if backend.name == "strict" and "float16" in dtype:
        pytest.skip("array_api_strict has no 16-bit floats")
    X, y = pixels
    X, y = stored(X, dtype)[y < n_classes], y[y < n_classes]
    scale = 1.0 if "float" in dtype else 1 / 255
    expanded = (X.astype(np.float32) * np.float32(scale)).astype(np.float32)
    compact = LogisticRegression(input_scale=scale, backend=backend.name).fit(X, y)
    wanted = LogisticRegression(backend="numpy").fit(expanded, y)
    assert compact.coef_.dtype == np.float32
    assert compact.objective_ == pytest.approx(wanted.objective_, rel=1e-5)
    np.testing.assert_allclose(compact.coef_, wanted.coef_, rtol=2e-2, atol=2e-3)
    p = compact.predict_proba(X)
    np.testing.assert_allclose(p, compact.predict_proba(X), rtol=1e-6)
    np.testing.assert_allclose(p, wanted.predict_proba(expanded), atol=2e-3)
    same = LogisticRegression(backend="numpy").fit(expanded, y)
    same.coef_, same.intercept_ = compact.coef_, compact.intercept_
    np.testing.assert_allclose(p, same.predict_proba(expanded), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", COMPACT)
def test_one_step_equals_the_expanded_one_to_rounding(pixels, dtype):
    """Before line searches amplify anything: one gradient step from the same start."""
    X, y = pixels
    X, y = stored(X, dtype), y > 0
    options = {"solver": "gd", "max_iter": 1, "learning_rate": 0.1, "backend": "numpy"}
    scale = 1.0 if "float" in dtype else 1 / 255
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        compact = LogisticRegression(input_scale=scale, **options).fit(X, y)
        wanted = LogisticRegression(**options).fit(X.astype(np.float32) * np.float32(scale), y)
    np.testing.assert_allclose(compact.coef_, wanted.coef_, rtol=1e-5, atol=1e-7)


def test_input_scale_is_a_factor_of_X(pixels):
    X, y = pixels
    scaled = LogisticRegression(tol=1e-9).fit(X / 255.0, y)
    factor = LogisticRegression(tol=1e-9, input_scale=1 / 255).fit(X.astype(float), y)
    np.testing.assert_allclose(factor.coef_, scaled.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(
        factor.decision_function(X.astype(float)), scaled.decision_function(X / 255.0), atol=1e-6
    )
    assert factor.objective_ == pytest.approx(scaled.objective_, rel=1e-10)


def test_the_factor_of_a_fitted_model_is_the_one_it_learned_with(pixels):
    X, y = pixels
    model = LogisticRegression(input_scale=1 / 255).fit(X.astype(np.uint8), y)
    before = model.predict_proba(X.astype(np.uint8))
    model.set_params(input_scale=1.0)
    assert (model.predict_proba(X.astype(np.uint8)) == before).all()


def test_a_factor_beyond_float32_is_refused(pixels):
    with pytest.raises(ValueError, match=r"input_scale=1e\+39 is beyond float32"):
        LogisticRegression(input_scale=1e39).fit(*pixels)


def test_float16_with_infinity_is_refused(pixels):
    X, y = pixels
    for dtype in ("float16", "bfloat16"):
        broken = stored(X, dtype)
        broken[150, 3] = np.inf
        with pytest.raises(ValueError, match="NaN or infinity"):
            LogisticRegression().fit(broken, y)


CASES = {
    "uint8, one output": ("uint8", 2),
    "float16, one output": ("float16", 2),
    "uint8, ten outputs": ("uint8", 10),
    "float32, one output": ("float32", 2),
    "float32, ten outputs": ("float32", 10),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_needs_little_memory_beyond_X(case):
    """10 % of X or 64 MiB, whichever is larger; an expanded copy would be many times that."""
    dtype, n_classes = CASES[case]
    shape = (50_000, 3000) if np.dtype(dtype).itemsize == 1 else (30_000, 3000)
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2, shape, dtype=np.uint8)
    X = X if dtype == "uint8" else X.astype(dtype)
    y = np.arange(len(X)) % n_classes
    model = LogisticRegression(max_iter=2, backend="numpy")
    small = X[: numpy_backend.FUSED_BYTES // shape[1] + 1]
    model.fit(small, y[: len(small)])  # numba's compilation is not memory of a fit
    tracemalloc.start()
    model.fit(X, y)
    model.predict(X)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    allowed = max(X.nbytes // 10, 64 << 20)
    assert peak_bytes <= allowed
    assert allowed < X.size * 4 / 2  # a float32 copy, even of half of X, would show
