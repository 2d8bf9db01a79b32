"""Products with rounded factors: the rounding, its error in a training, and the call to cuBLAS."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel import MLPClassifier
from accel.backends.cuda import tensor_cores
from accel.backends.cuda.tensor_cores import TensorCoreProduct
from accel.backends.precision import BITS, rounded

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@given(x=st.floats(2.0**-100, 2.0**100, width=32), negative=st.booleans())
def test_rounding_is_to_the_nearest(x, negative):
    x = np.array([-x if negative else x], dtype=np.float32)
    for bits in BITS.values():
        got = rounded(x, bits)[0]
        spacing = 2.0 ** (np.floor(np.log2(abs(float(x[0])))) - bits + 1)
        assert abs(float(got) - float(x[0])) <= spacing / 2
        assert float(got) / spacing == round(float(got) / spacing)  # so many digits, no more


def test_bfloat16_is_ml_dtypes_but_for_ties(rng):
    x = (rng.normal(size=10_000) * 10.0 ** rng.integers(-20, 20, 10_000)).astype(np.float32)
    np.testing.assert_array_equal(rounded(x, 8), x.astype(ml_dtypes.bfloat16).astype(np.float32))


@pytest.mark.parametrize("precision", BITS)
def test_products_have_the_error_of_their_factors(backend, precision, rng):
    a, b = (rng.normal(size=shape).astype(np.float32) for shape in ((40, 60), (60, 20)))
    out = backend.asarray(np.empty((40, 20), dtype=np.float32))
    backend.product(precision)(backend.asarray(a), backend.asarray(b), out)
    bound = 2 * 2.0 ** -BITS[precision] * (abs(a) @ abs(b))
    error = abs(backend.to_numpy(out) - a.astype(float) @ b.astype(float))
    assert np.all(error <= bound * 1.01)
    assert error.max() > 2.0 ** -(BITS[precision] + 6)  # it is rounded at all


def test_a_training_follows_float32_as_closely_as_it_says():
    """Measured: the curves part by 1e-4 (TF32) and 1e-3 (bfloat16) of the loss."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 20)).astype(np.float32)
    y = (X[:, :3] @ rng.normal(size=(3, 3))).argmax(axis=1)
    curves = {}
    for precision in ("float32", *BITS):
        model = MLPClassifier(
            (32, 16), max_iter=20, random_state=0, precision=precision, backend="numpy"
        )
        curves[precision] = np.array(model.fit(X, y).loss_curve_)
        assert model.coefs_[0].dtype == np.float32
        assert ("emulated" in model.explain()) == (precision != "float32")
    for precision, most in (("tf32", 1e-3), ("bfloat16", 1e-2)):
        apart = np.max(abs(curves[precision] / curves["float32"] - 1))
        assert most / 1000 < apart < most


class FakeCublas:
    """cublasGemmEx as its manual states it, on host memory: column-major, C = op(A) op(B)."""

    def __init__(self):
        self.calls = []

    def gemmEx(self, handle, transa, transb, m, n, k, alpha, A, Atype, lda, B, Btype, ldb,
               beta, C, Ctype, ldc, compute, algorithm):  # fmt: skip
        self.calls.append((Atype, Btype, Ctype, compute))

        def matrix(address, kind, rows, columns, lead):
            dtype = {tensor_cores.CUDA_R_32F: np.dtype(np.float32),
                     tensor_cores.CUDA_R_16BF: np.dtype(ml_dtypes.bfloat16)}[kind]  # fmt: skip
            n_bytes = lead * columns * dtype.itemsize
            memory = (ctypes.c_char * n_bytes).from_address(address)
            return np.frombuffer(memory, dtype=dtype).reshape(columns, lead).T[:rows]

        left = matrix(A, Atype, *((k, m) if transa else (m, k)), lda).astype(np.float32)
        right = matrix(B, Btype, *((n, k) if transb else (k, n)), ldb).astype(np.float32)
        one, zero = (ctypes.c_float.from_address(address).value for address in (alpha, beta))
        out = matrix(C, Ctype, m, n, ldc)
        out[...] = one * (left.T if transa else left) @ (right.T if transb else right) + zero


class Pointed(np.ndarray):
    """An array whose data has a ptr, as CuPy's has."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)


def fake_cupy():
    cublas = FakeCublas()
    return SimpleNamespace(
        ascontiguousarray=lambda a: np.ascontiguousarray(a).view(Pointed),
        cuda=SimpleNamespace(cublas=cublas, device=SimpleNamespace(get_cublas_handle=lambda: 0)),
    )


@pytest.mark.parametrize("precision", BITS)
@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 4, 2), (4, 1, 3), (6, 2, 1), (1, 1, 1)])
@pytest.mark.parametrize("a_transposed", [False, True])
@pytest.mark.parametrize("b_transposed", [False, True])
def test_the_call_to_cublas(precision, shape, a_transposed, b_transposed, rng):
    m, k, n = shape
    cupy = fake_cupy()
    a = rng.integers(-8, 8, (k, m) if a_transposed else (m, k)).astype(np.float32).view(Pointed)
    b = rng.integers(-8, 8, (n, k) if b_transposed else (k, n)).astype(np.float32).view(Pointed)
    a, b = a.T if a_transposed else a, b.T if b_transposed else b
    whole = np.zeros((m + 2, n), dtype=np.float32).view(Pointed)
    TensorCoreProduct(cupy, precision)(a, b, whole[:m])
    np.testing.assert_array_equal(whole[:m], np.asarray(a) @ np.asarray(b))
    assert not whole[m:].any()
    kinds = {"tf32": (0, 0, 0, 77), "bfloat16": (14, 14, 0, 68)}
    assert cupy.cuda.cublas.calls == [kinds[precision]]


def test_precision_is_for_dense_float32(rng):
    X, y = rng.normal(size=(20, 3)), np.arange(20) % 2
    with pytest.raises(ValueError, match="precision='tf32' is for dense float32 X, not float64"):
        MLPClassifier(precision="tf32", backend="numpy").fit(X, y)
    with pytest.raises(ValueError, match="precision='half' must be one of 'float32'"):
        MLPClassifier(precision="half", backend="numpy").fit(X, y)
