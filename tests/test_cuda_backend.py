"""The real CupyBackend and its kernels on a GPU that is the host: fits, budgets, times."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from accel import LogisticRegression
from accel.backends import BACKENDS, cupy_backend, get_backend
from accel.backends.cuda import linear_pass, products, reading, reduction
from accel.backends.cuda.device import Device, load_bytes_of
from accel.backends.cuda.layout import pass_layout
from accel.backends.cuda.linear_pass import CudaPass
from accel.backends.cuda.source import STORAGE
from accel.conditioning.columns import look
from accel.losses import LOSSES
from accel.network import Network
from accel.objective import Objective
from accel.passes import FormulaPass
from accel.proofs import _PROVEN
from accel.solvers import Status
from tests.cuda_host import counted, has_compiler, host_backend

pytestmark = pytest.mark.skipif(not has_compiler(), reason="no g++ on this machine")


@pytest.fixture
def gpu(monkeypatch):
    """The fake GPU in the place of a real one."""
    backend = host_backend(processors=1)
    monkeypatch.setattr(BACKENDS["cupy"], "open_backend", lambda index: backend)
    return backend


def objective_on(backend, X, labels, n_outputs, **options):
    loss = LOSSES["logistic" if n_outputs == 1 else "softmax"]
    real = backend.xp.float64 if X.dtype == np.float64 else backend.xp.float32
    options = {"alpha": 0.1, **options}
    return Objective(
        backend.asarray(X),
        backend.asarray(loss.encode_target(labels)),
        backend.asarray(np.full(len(X), 1 / len(X)), dtype=real),
        loss=loss,
        network=Network(X.shape[1], n_outputs),
        backend=backend,
        **options,
    )


def some_rows(rng, dtype, n_outputs, n=40, d=12):
    X = rng.normal(size=(n, d)) * 30 + 90 if dtype == "uint8" else rng.normal(size=(n, d))
    return X.astype(dtype), rng.integers(0, max(2, n_outputs), n)


# --- budgets ---------------------------------------------------------------------------------

# Around its two launches a pass asks for the two arrays that it writes and two that it returns: the
# penalty, the factor of X and the sums of the value are in the kernels.
AROUND = 8
PRODUCTS_AROUND = 12  # beyond 16 outputs: three products of cuBLAS, views, and W with X's factor


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64"])
@pytest.mark.parametrize("n_outputs", [1, 3, 5, 20])
def test_a_pass_is_two_launches_and_few_calls(gpu, rng, dtype, n_outputs):
    X, labels = some_rows(rng, dtype, n_outputs)
    objective = objective_on(gpu, X, labels, n_outputs, input_scale=0.01)
    params = gpu.asarray(np.zeros(objective.network.n_params), dtype=objective.dtype)
    objective.value_and_grad(params)
    model = objective.quadratic(params)
    for one in (objective, model):
        one.value_and_grad(params)
        with counted() as calls:
            one.value_and_grad(params)
        launches = sum(n for name, n in calls.items() if name.startswith("launch"))
        assert launches == 2
        assert sum(calls.values()) - launches <= (AROUND if n_outputs < 20 else PRODUCTS_AROUND)
        assert calls["to the host"] == 0
    with counted() as calls:
        objective.curvature(params)
    assert calls["to the host"] == 0
    assert sum(calls.values()) <= AROUND


@pytest.mark.parametrize("n_outputs", [1, 5, 20])
def test_functions_are_looked_up_once(gpu, rng, monkeypatch, n_outputs):
    X, labels = some_rows(rng, "float32", n_outputs)
    objective = objective_on(gpu, X, labels, n_outputs)
    params = gpu.asarray(np.zeros(13 * n_outputs), dtype=np.float32)
    objective.value_and_grad(params)
    for module, name in (
        (linear_pass, "function_of"), (linear_pass, "pass_layout"), (products, "function_of"),
        (reduction, "function_of"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, None)
    objective.value_and_grad(params)


def test_rows_are_cut_for_memory_only(gpu, monkeypatch):
    blocks = list(gpu.map_blocks(lambda rows: rows, 10**9, 0))
    assert blocks == [slice(0, 10**9)]
    part = gpu.block_bytes
    assert part == (8 << 30) // cupy_backend.WORKING_PART
    assert len(list(gpu.map_blocks(lambda rows: rows, part // 100, 100))) == 1
    assert len(list(gpu.map_blocks(lambda rows: rows, part, 100))) in (100, 101)
    assert len(list(gpu.with_smaller_blocks().map_blocks(lambda rows: rows, part // 100, 100))) in (
        4,
        5,
    )
    assert gpu.temporary_bytes(1000, 8) == 8000
    assert gpu.temporary_bytes(10**9, 10**3) == part
    assert get_backend("numpy").temporary_bytes(10**9, 10**3) == 0


# --- the same numbers ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "uint8", "int8"])
@pytest.mark.parametrize("n_outputs", [1, 2, 6])
def test_an_objective_is_that_of_the_cpu(gpu, rng, dtype, n_outputs):
    X, labels = some_rows(rng, dtype, n_outputs)
    options = {"input_scale": 0.02, "l1": 0.01}
    there = objective_on(gpu, X, labels, n_outputs, **options)
    here = objective_on(get_backend("numpy"), X, labels, n_outputs, **options)
    params = 0.3 * rng.normal(size=here.network.n_params)
    eps = 1e-12 if dtype == "float64" else 2e-6
    cases = [(there, here), (there.in_float64(), here.in_float64())]
    params32 = params.astype(here.dtype)
    cases.append((there.quadratic(gpu.asarray(params32)), here.quadratic(params32)))
    for one, two in cases:
        v, g = one.value_and_grad(gpu.asarray(params, dtype=one.dtype))
        value, gradient = two.value_and_grad(params.astype(two.dtype))
        tolerance = 1e-12 if two.dtype == np.float64 else eps
        np.testing.assert_allclose(np.asarray(v), value, rtol=max(tolerance, 1e-6))
        assert np.asarray(g).dtype == gradient.dtype
        missed = np.linalg.norm(np.asarray(g) - gradient)
        assert missed <= 4 * tolerance * np.linalg.norm(gradient)


@pytest.mark.parametrize("solver", ["auto", "lbfgs", "newton-cg", "newton-cholesky", "gd"])
@pytest.mark.parametrize("n_classes", [2, 5])
def test_fits_are_those_of_the_cpu(gpu, rng, solver, n_classes):
    X = rng.normal(size=(60, 8)).astype(np.float32)
    y = np.argmax(X[:, :n_classes] + rng.gumbel(size=(60, n_classes)), axis=1)
    options = {"solver": solver, "max_iter": 30 if solver == "gd" else 300}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(backend="cupy", **options).fit(X, y)
        wanted = LogisticRegression(backend="numpy", **options).fit(X, y)
    assert model.status_ is wanted.status_
    assert model.status_ is (Status.MAX_ITER if solver == "gd" else Status.CONVERGED)
    np.testing.assert_allclose(model.coef_, wanted.coef_, atol=2e-5)
    assert {name for name, *_ in gpu.cupy.launched} >= {
        "reduce_teams",
        "linear_rows" if n_classes == 2 else "linear_tiles",
    }


def test_a_view_of_a_larger_array_is_fitted_as_it_lies(gpu, rng):
    whole = rng.normal(size=(50, 9)).astype(np.float32)
    y = (whole[:, 3] > 0).astype(int)
    there = gpu.asarray(whole)[:, 1:8]
    objective = objective_on(gpu, there, y, 1)
    assert objective.X.ctypes.data == there.ctypes.data
    params = np.linspace(-1, 1, 8).astype(np.float32)
    _, g = objective.value_and_grad(gpu.asarray(params))
    here = objective_on(get_backend("numpy"), whole[:, 1:8].copy(), y, 1)
    np.testing.assert_allclose(np.asarray(g), here.value_and_grad(params)[1], atol=1e-6)


# --- off, and wrong --------------------------------------------------------------------------


def test_the_variable_turns_the_kernels_off(gpu, rng, monkeypatch):
    X, labels = some_rows(rng, "float32", 1)
    assert isinstance(objective_on(gpu, X, labels, 1)._pass, CudaPass)
    assert gpu.step_kernels(gpu.asarray(np.zeros(3, np.float32)), 1).adam is not None
    monkeypatch.setenv(cupy_backend.KERNELS_VARIABLE, "0")
    assert type(objective_on(gpu, X, labels, 1)._pass) is FormulaPass
    assert gpu.step_kernels(gpu.asarray(np.zeros(3, np.float32)), 1).adam is None
    assert gpu.column_sums(gpu.asarray(X), gpu.asarray(np.full(40, 1 / 40))) is None


# what is wrong -> (wrong, right) in the source
PLANTS = {
    "gradient": ("z[0] = sign *", "z[0] = -sign *"),
    "value": ("return {e, margin < (REAL)0 ? margin :", "return {e, margin < (REAL)0 ? -margin :"),
    "curvature": ("z[0] = e / ((REAL)1 + e);", "z[0] = e / (((REAL)1 + e) * ((REAL)1 + e));"),
    "columns": ("largest[q] = fmin(largest[q], fabs(x))", "largest[q] = fmax(largest[q], fabs(x))"),
    "a device that refuses": None,
}


@pytest.fixture
def unproven():
    """No kernel is proven yet, and what a wrong one leaves is forgotten."""
    before = dict(_PROVEN)
    _PROVEN.clear()
    yield
    _PROVEN.clear()
    _PROVEN.update(before)


@pytest.mark.parametrize("how", PLANTS)
def test_a_kernel_that_is_wrong_or_fails_is_replaced_aloud(rng, how, unproven):
    """At its first use in a process it is held against the formula on a few rows."""
    backend = host_backend(processors=1, plant=PLANTS[how])
    if PLANTS[how] is None:

        def refuse(code, options):
            raise RuntimeError("CUDA_ERROR_INVALID_IMAGE: device kernel image is invalid")

        backend.cupy.RawModule = refuse
    X, labels = some_rows(rng, "float32", 1)
    params = 0.1 * rng.normal(size=13).astype(np.float32)
    here = objective_on(get_backend("numpy"), X, labels, 1)

    def everything():
        there = objective_on(backend, X, labels, 1)
        value, gradient = there.value_and_grad(backend.asarray(params))
        columns = look(there)
        return there, value, gradient, there.curvature(backend.asarray(params)), columns

    with pytest.warns(RuntimeWarning, match="formulas run instead, more slowly") as caught:
        there, *found = everything()
    assert len(caught) == (2 if PLANTS[how] is None else 1)
    assert (type(there._pass) is FormulaPass) == (how not in ("curvature", "columns"))
    with warnings.catch_warnings():  # once
        warnings.simplefilter("error")
        everything()
    wanted = (*here.value_and_grad(params), here.curvature(params), look(here))
    for one, two in zip(found[:3], wanted[:3], strict=True):
        np.testing.assert_allclose(np.asarray(one), two, atol=1e-6)
    np.testing.assert_allclose(np.asarray(found[3].largest), wanted[3].largest, rtol=1e-6)


def test_the_kernel_that_is_proven_is_the_one_that_runs(gpu, rng, unproven, monkeypatch):
    """Also where X is larger than the L2 cache, and what was read is not kept there."""
    X, labels = some_rows(rng, "float32", 1, n=9000, d=40)
    monkeypatch.setattr(linear_pass, "device_of", lambda *_: H200._replace(l2_bytes=1000))
    objective = objective_on(gpu, X, labels, 1)
    params = gpu.asarray(np.zeros(41), dtype=np.float32)
    before = set(objective._pass._kernels)
    objective.value_and_grad(params)
    assert before == set(objective._pass._kernels)
    assert any("STREAMS=1" in str(options) for options in gpu.cupy.compiled)


@pytest.mark.parametrize("n_outputs", [1, 6, 20])
def test_arrays_that_lie_or_count_otherwise_are_made_ready(gpu, rng, n_outputs):
    """A kernel reads by addresses: a view with steps, or another dtype, would be read as noise."""
    X, labels = some_rows(rng, "float32", n_outputs)
    objective = objective_on(gpu, X, labels, n_outputs, input_scale=0.02)
    params = rng.normal(size=2 * objective.network.n_params)
    wanted = objective.value_and_grad(gpu.asarray(params[::2].astype(np.float32)))
    for other in (params.astype(np.float32)[::2], params[::2]):
        found = objective.value_and_grad(gpu.asarray(other))
        for one, two in zip(found, wanted, strict=True):
            np.testing.assert_allclose(np.asarray(one), np.asarray(two), rtol=1e-6)


@pytest.mark.parametrize("n_outputs", [1, 6])
def test_a_quadratic_in_float64_has_curvatures_in_float64(gpu, rng, n_outputs):
    X, labels = some_rows(rng, "float32", n_outputs)
    objective = objective_on(gpu, X, labels, n_outputs)
    params = 0.1 * rng.normal(size=objective.network.n_params)
    model = objective.quadratic(gpu.asarray(params, dtype=np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exact = model.in_float64().value_and_grad(gpu.asarray(params))
    rough = model.value_and_grad(gpu.asarray(params, dtype=np.float32))
    for one, two in zip(exact, rough, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(two), rtol=1e-5, atol=1e-7)


def test_the_ceiling_reads_every_word_once(gpu):
    """A word that the kernel looks for shows wherever it lies; twice, it would hide itself."""
    n = 4 * 2 * reading.THREADS * reading.BLOCKS + 700
    for place in (0, 5, n // 2, n - 1):
        X = np.zeros((n, 4), dtype=np.uint32)
        X[place, 2] = 0x5EED5EED
        there = gpu.asarray(X)
        call = reading.reader(gpu.cupy, 0, there)
        never = next(c.cell_contents for c in call.__closure__
                     if getattr(c.cell_contents, "shape", None) == (1,))  # fmt: skip
        call()
        assert np.asarray(never)[0] == 0x5EED5EED


# --- a model of time -------------------------------------------------------------------------

CALL_S, READ_GB_S = 6e-6, 4550.0  # of an H200, measured 2026-11-27
H200 = Device(90, 132, 227 << 10, 60 << 20)
TABLE = [
    (200_000, 784, 1, "float32"),
    (2_000_000, 100, 1, "float32"),
    (100_000, 4096, 1, "float32"),
    (20_000_000, 10, 1, "float32"),
    (200_001, 785, 1, "float32"),
    (200_000, 784, 1, "float64"),
    (400_000, 784, 1, "float16"),
    (400_000, 784, 1, "bfloat16"),
    (800_000, 784, 1, "uint8"),
    (800_000, 784, 1, "int8"),
    (200_000, 4096, 1, "uint8"),
    (100_000, 784, 10, "float32"),
    (400_000, 784, 10, "float32"),
    (200_000, 784, 3, "float32"),
    (2_000_000, 100, 10, "float32"),
]


@pytest.mark.parametrize(("n", "d", "n_outputs", "dtype"), TABLE)
def test_every_shape_of_the_table_is_read_once(n, d, n_outputs, dtype):
    """Calls x 6 us + bytes / bandwidth: what an H200 needs at best, printed with -s."""
    itemsize, real = STORAGE[dtype][2], "float64" if dtype == "float64" else "float32"
    layout = pass_layout(dtype, real, d, n_outputs, load_bytes_of(itemsize, d, d, 0), H200)
    assert layout is not None
    read_s = n * d * itemsize / READ_GB_S / 1e9
    calls_s = 6 * CALL_S  # four arrays and two launches
    print(f"{1e3 * read_s:.3f} ms to read X, {1e3 * calls_s:.3f} ms of calls: {layout}")
    assert calls_s < read_s  # the calls of a pass run while the pass before still reads
    assert layout.grid(n, H200) >= H200.processors - H200.processors % layout.cluster
