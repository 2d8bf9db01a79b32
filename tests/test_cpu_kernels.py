"""The fused CPU pass against float64 NumPy: every storage dtype, odd shapes, stated bounds."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from threading import Thread

import mpmath
import numpy as np
import pytest

from accel.backends import get_backend, numpy_backend, threads
from accel.losses import LOSSES
from accel.network import Network
from accel.objective import Objective
from tests.storage import DTYPES, SHAPES, arrays, assert_is_answer

if importlib.util.find_spec("numba") is None:
    pytest.skip("numba is not installed: row blocks run instead", allow_module_level=True)

import numba as nb

from accel.backends.kernels import cpu, elementwise


def over(function, x):
    out = np.empty_like(x)

    @nb.njit
    def loop(x, out):
        for i in range(len(x)):
            out[i] = function(x[i])

    loop(x, out)
    return out


@pytest.mark.parametrize(
    ("function", "dtype", "bound"),
    [(elementwise.exp_float32, "float32", 2e-7), (elementwise.exp_float64, "float64", 5e-16)],
)
def test_exp_has_its_stated_error(function, dtype, bound):
    lowest = -87.0 if dtype == "float32" else -708.0
    rng = np.random.default_rng(0)
    x = np.concatenate([[0.0, -0.0, lowest], rng.uniform(lowest, 0, 2000), -rng.random(2000)])
    x = np.concatenate([x, -(np.arange(0, 100) + 0.5) * np.log(2)]).clip(lowest, 0).astype(dtype)
    got = over(function, x)
    exact = [mpmath.exp(mpmath.mpf(float(value))) for value in x]
    error = max(abs(mpmath.mpf(float(g)) / e - 1) for g, e in zip(got, exact, strict=True))
    assert error < bound
    assert over(function, np.array([-1e4, -np.inf, lowest * 1.001], dtype=dtype)).max() == 0


@pytest.mark.parametrize(
    ("function", "dtype", "bound"),
    [(elementwise.log1p_float32, "float32", 3e-7), (elementwise.log1p_float64, "float64", 8e-16)],
)
def test_log1p_has_its_stated_error(function, dtype, bound):
    rng = np.random.default_rng(0)
    e = np.concatenate([[1.0, 1e-30, 1e-8], rng.random(2000), 10.0 ** rng.uniform(-30, 0, 2000)])
    e = e.astype(dtype)
    got = over(function, e)
    exact = [mpmath.log1p(mpmath.mpf(float(value))) for value in e]
    error = max(abs(mpmath.mpf(float(g)) / w - 1) for g, w in zip(got, exact, strict=True))
    assert error < bound
    assert over(function, np.zeros(1, dtype=dtype))[0] == 0


def test_every_float16_is_decoded_exactly():
    bits = np.arange(2**16, dtype=np.uint16)
    numbers = bits.view(np.float16)
    finite = np.isfinite(numbers)
    got = np.empty(2**16, dtype=np.float32)

    @nb.njit
    def loop(bits, out):
        for i in range(len(bits)):
            out[i] = elementwise.half_as_float32(bits[i])

    loop(bits, got)
    assert (got[finite] == numbers[finite].astype(np.float32)).all()


def test_every_bfloat16_is_decoded_exactly():
    bits = np.arange(2**16, dtype=np.uint16)
    numbers = bits.view(DTYPES["bfloat16"]).astype(np.float32)
    got = np.empty(2**16, dtype=np.float32)

    @nb.njit
    def loop(bits, out):
        for i in range(len(bits)):
            out[i] = elementwise.bfloat_as_float32(bits[i])

    loop(bits, got)
    assert (got.view(np.uint32) == numbers.view(np.uint32))[np.isfinite(numbers)].all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES[:3], (513, 100)], ids=str)
@pytest.mark.parametrize("n_outputs", [1, 3, 10])
def test_hessian_product_is_that_of_the_generic_formula_in_float64(dtype, shape, n_outputs):
    X, _, s, W, b = arrays(dtype, shape, n_outputs)
    loss = LOSSES["logistic" if n_outputs == 1 else "softmax"]
    wide = X.astype(np.float64)
    Y = loss.curvature(wide @ W.astype(np.float64) + b, xp=np).astype(s.dtype)
    got = cpu.PASSES[loss.quadratic.name](X, Y, s, W, b)
    network = Network(X.shape[1], n_outputs)
    params = np.concatenate([W.ravel(), b]).astype(np.float64)
    raw, backprop = network.forward(params, wide, xp=np)
    value, residual = loss.quadratic.loss_gradient(Y.astype(np.float64), raw, xp=np)
    wanted = backprop(residual * s.astype(np.float64)[:, None])
    tolerance = 1e-12 if s.dtype == np.float64 else 2e-5
    scale = np.abs(wanted).max() + 1e-30
    assert got[0] == pytest.approx(np.sum(value * s), rel=tolerance, abs=tolerance * scale)
    np.testing.assert_allclose(
        np.concatenate(got[1:]), wanted, rtol=tolerance, atol=tolerance * scale
    )
    assert got[1].dtype == got[2].dtype == W.dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (513, 100)], ids=str)
@pytest.mark.parametrize("n_outputs", [1, 2, 3, 5, 10, 16])
def test_pass_is_the_answer(dtype, shape, n_outputs):
    X, labels, s, W, b = arrays(dtype, shape, n_outputs)
    name = "logistic" if n_outputs == 1 else "softmax"
    Y, run = LOSSES[name].encode_target(labels), cpu.PASSES[name]
    before = X.copy()
    got = run(X, Y, s, W, b)
    assert got[1].dtype == got[2].dtype == W.dtype
    assert_is_answer(got, X, labels, s, W, b)
    assert_is_answer(run(X, Y, s, W, None), X, labels, s, W, 0 * b)
    again = run(X, Y, s, W, b)
    assert [np.abs(one - two).max() for one, two in zip(got, again, strict=True)] == [0, 0, 0]
    assert np.array_equal(X, before)


def test_extreme_margins_stay_finite():
    X = np.array([[1.0], [-1.0]], dtype=np.float32)
    Y = np.array([[1], [1]], dtype=np.int8)
    s = np.array([0.5, 0.5], dtype=np.float32)
    value, g_W, _ = cpu.logistic_pass(X, Y, s, np.array([[1e4]], dtype=np.float32), None)
    assert value == pytest.approx(5e3)
    assert g_W[0] == pytest.approx(0.5)


@pytest.fixture
def everything_is_large(monkeypatch):
    """Small test data takes the road of large data: blocks on threads, fused where possible."""
    monkeypatch.setattr(numpy_backend, "FUSED_BYTES", 0)
    monkeypatch.setattr(numpy_backend, "WHOLE_BYTES", 0)
    monkeypatch.setattr(numpy_backend, "BLOCK_BYTES", 2048)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("n_outputs", [1, 4, 17])
def test_objective_on_the_road_of_large_data(everything_is_large, dtype, bias, n_outputs):
    backend = get_backend("numpy")
    X, labels, s, W, b = arrays(dtype, (301, 17), n_outputs)
    loss = LOSSES["logistic" if n_outputs == 1 else "softmax"]
    objective = Objective(
        X,
        loss.encode_target(labels),
        s,
        loss=loss,
        network=Network(17, n_outputs, bias=bias),
        alpha=0.0,
        backend=backend,
        input_scale=0.5,
    )
    fused = backend.block_pass(loss.name, X, n_outputs)
    assert fused is (None if n_outputs == 17 else cpu.PASSES[loss.name])
    params = np.concatenate([2 * W.ravel(), b]) if bias else 2 * W.ravel()
    value, gradient = objective.value_and_grad(params)
    assert gradient.dtype == W.dtype
    g_b = gradient[W.size :] if bias else None
    if not bias:
        wanted = np.zeros(n_outputs)
        got = (value, 2 * gradient, _bias_gradient(X, labels, s, W, 0 * b))
        assert_is_answer(got, X, labels, s, W, wanted)
    else:
        assert_is_answer((value, 2 * gradient[: W.size], g_b), X, labels, s, W, b)
    again = objective.value_and_grad(params)
    assert (again[0], again[1].tobytes()) == (value, gradient.tobytes())


def _bias_gradient(X, labels, s, W, b):
    from tests.storage import answer

    return answer(X, labels, s, W, b)[2]


def test_the_result_does_not_depend_on_the_number_of_threads(everything_is_large):
    from threadpoolctl import threadpool_limits

    backend = get_backend("numpy")
    X, labels, s, W, b = arrays("float32", (501, 40))
    loss = LOSSES["logistic"]
    objective = Objective(
        X, loss.encode_target(labels), s, loss=loss, network=Network(40, 1), alpha=0.0,
        backend=backend,
    )  # fmt: skip
    params = np.concatenate([W.ravel(), b])
    many = objective.value_and_grad(params)
    with threadpool_limits(1, user_api="blas"):
        one = objective.value_and_grad(params)
    assert many[0] == one[0]
    assert many[1].tobytes() == one[1].tobytes()


def test_compiled_code_is_found_on_disk_by_the_next_process(tmp_path):
    code = """
import numpy as np
from accel.backends.kernels import cpu
X, s = np.ones((4, 3), np.float32), np.ones(4, np.float32)
cpu.logistic_pass(X, np.ones((4, 1), np.int8), s, np.zeros((3, 1), np.float32), None)
print(sum(cpu._logistic_kernel.stats.cache_hits.values()))
"""
    hits = []
    for _ in range(2):
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=environment,
        )  # fmt: skip
        hits.append(int(done.stdout))
    assert hits == [0, 1]


def test_an_infinite_residual_does_not_come_from_a_clamped_exp():
    X = np.array([[1e36], [-1e36]], dtype=np.float32)
    Y, s = np.array([[1], [-1]], dtype=np.int8), np.full(2, 0.5, dtype=np.float32)
    value, g_W, _ = cpu.logistic_pass(X, Y, s, np.array([[1e-33]], dtype=np.float32), None)
    assert (value, float(g_W[0])) == (0.0, 0.0)


def test_concurrent_fits_share_one_limit_of_blas(monkeypatch):
    """The first in sets it, the last out restores it, whichever leaves first."""
    calls = []

    class Blas:
        def limit(self, **limits):
            calls.append("limit")
            return self

        def __exit__(self, *exception):
            calls.append("restore")

    monkeypatch.setattr(threads, "blas_controller", Blas)
    monkeypatch.setattr(threads, "blas_threads", lambda: [2])
    one = threads.OneBlasThread()
    with one:
        one.__enter__()
        assert calls == ["limit"]
    assert calls == ["limit"]  # one of the two is still inside
    one.__exit__(None, None, None)
    assert calls == ["limit", "restore"]
    with one:
        pass
    assert calls == ["limit", "restore"] * 2


def test_blas_is_limited_from_any_thread():
    """threadpoolctl heeds only the thread that set a limit first, and this one outlives it."""
    found = []

    def inside():
        with threads.OneBlasThread():
            found.append(threads.blas_threads())

    before = threads.blas_threads()
    inside()
    for _ in range(2):
        other = Thread(target=inside)
        other.start()
        other.join()
    inside()
    assert found == [[1] * len(before)] * 4
    assert threads.blas_threads() == before


def test_a_numba_that_does_not_import_is_said_and_done_without(everything_is_large, monkeypatch):
    import accel

    numpy_backend._kernels.cache_clear()
    monkeypatch.setitem(sys.modules, "accel.backends.kernels.cpu", None)
    monkeypatch.delattr(sys.modules["accel.backends.kernels"], "cpu")
    X = np.random.default_rng(0).normal(size=(60, 3))
    model = accel.LogisticRegression(backend="numpy").fit(X, X[:, 0] > 0)
    assert model.status_ is accel.Status.CONVERGED
    report = next(report for report in accel.backends() if report.name == "numpy")
    assert "cannot be imported" in report.libraries["numba"]
    numpy_backend._kernels.cache_clear()


def test_blas_threads_are_restored_and_errors_come_through(everything_is_large):
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    before = [library["num_threads"] for library in blas.info()]

    def fail(rows):
        raise RuntimeError("in a block")

    with pytest.raises(RuntimeError, match="in a block"):
        list(get_backend("numpy").map_blocks(fail, 100, 2048))
    assert [library["num_threads"] for library in blas.info()] == before


def test_fused_pass_only_where_it_can(monkeypatch):
    backend = get_backend("numpy")
    X = np.zeros((8, 4), dtype=np.float32)
    assert backend.block_pass("logistic", X, 1) is None  # too small to pay for numba's import
    monkeypatch.setattr(numpy_backend, "FUSED_BYTES", 0)
    assert backend.block_pass("logistic", X, 1) is cpu.logistic_pass
    assert backend.block_pass("softmax", X, 16) is cpu.softmax_pass
    assert backend.block_pass("softmax", X, 17) is None
    assert backend.block_pass("logistic", np.asfortranarray(X), 1) is None
    assert backend.block_pass("logistic", X.astype(np.int32), 1) is None


def test_without_numba_row_blocks_run_and_the_report_says_so():
    code = """
import sys
import importlib.util, importlib.metadata
class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "numba":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, NotInstalled())
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "numba" else real(name, *a)
version = importlib.metadata.version
def no_version(name):
    if name == "numba":
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)
importlib.metadata.version = no_version
import numpy as np, accel
from accel.backends import numpy_backend
numpy_backend.FUSED_BYTES = 0
X = np.random.default_rng(0).normal(size=(60, 3))
print(accel.LogisticRegression(backend="numpy").fit(X, X[:, 0] > 0).status_.name)
print(accel.backends()[1].libraries["numba"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, numba = done.stdout.splitlines()
    assert status == "CONVERGED"
    assert "row blocks run instead" in numba
