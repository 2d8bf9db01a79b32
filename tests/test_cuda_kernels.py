"""The CUDA sources without a GPU: compiled for every architecture, and run on the host."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.backends.cuda import adam, columns, linear_pass, reduction, rows_layout, tiles_layout
from accel.backends.cuda.device import REGISTERS, Device, load_bytes_of, registers_of
from accel.backends.cuda.layout import pass_layout
from accel.backends.cuda.linear_pass import NULL, CudaPass
from accel.backends.cuda.rows_layout import RowsLayout
from accel.backends.cuda.source import STORAGE, macros_of, options_of, text_of
from accel.backends.cuda.tiles_layout import TilesLayout
from accel.backends.linear_model import LinearModel
from accel.conditioning.columns import column_sums as _column_sums
from accel.losses import LOSSES
from accel.network import Network
from accel.passes import FormulaPass
from accel.solvers.rules import Adam
from tests.cuda_host import HostCupy, has_compiler, library, program, run_program
from tests.storage import DTYPES, answer, arrays, assert_is_answer

ARCHITECTURES = (70, 75, 80, 86, 89, 90, 100, 120)
# What CuPy itself adds to the options of a RawModule (cupy/cuda/compiler.py).
CUPY_FLAGS = ("-ftz=true",)
HEADERS = ("numbers.cuh", "losses.cuh")

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="no g++ on this machine")


# What a block may have of shared memory: of the architectures without a line, 99 KiB.
SHARED_KIBIBYTES = {70: 96, 75: 64, 80: 163, 90: 227, 100: 227}


def device_like(architecture):
    shared_bytes = SHARED_KIBIBYTES.get(architecture, 99) << 10
    return Device(architecture, 132, shared_bytes, 50 << 20)


# --- compilation -----------------------------------------------------------------------------


@functools.cache
def nvrtc():
    """libnvrtc of NVIDIA's package, which needs neither GPU nor driver; None where missing."""
    if importlib.util.find_spec("nvidia") is None:
        return None
    import nvidia

    found = [path for root in nvidia.__path__ for path in Path(root).rglob("libnvrtc.so.*")]
    # the oldest: 13, which torch brings, no longer compiles for sm_70
    return ctypes.CDLL(str(min(found, key=lambda path: path.name))) if found else None


def compile_cubin(source, *options):
    """Return code and log of a compilation to machine code, registers included."""
    library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    texts = [option.encode() for option in options]
    code = library.nvrtcCompileProgram(program, len(texts), (ctypes.c_char_p * len(texts))(*texts))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return code, log.value.decode()


def assert_compiles(architecture, source, options):
    flags = (f"-arch=sm_{architecture}", "--ptxas-options=-v", *CUPY_FLAGS)
    code, log = compile_cubin(source, *flags, *options)
    assert code == 0, log
    spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert spills
    assert set(spills) == {("0", "0")}, log


# dtype of X, of the arithmetic, columns, outputs, loss: what the benchmarks name, and odd ones; the
# last ones spilled where the registers of a layout were counted too low
SPECIALISATIONS = [
    ("float32", "float32", 784, 1, "logistic"),
    ("float32", "float32", 100, 1, "logistic"),
    ("float32", "float32", 4096, 1, "logistic"),
    ("float32", "float32", 10, 1, "logistic"),
    ("float32", "float32", 785, 1, "logistic quadratic"),
    ("float32", "float32", 8192, 1, "logistic"),
    ("float32", "float32", 20_000, 1, "logistic"),
    ("float32", "float64", 784, 1, "logistic"),
    ("float64", "float64", 784, 1, "logistic"),
    ("float64", "float64", 50, 3, "softmax"),
    ("float16", "float32", 784, 1, "logistic"),
    ("bfloat16", "float32", 784, 1, "logistic"),
    ("uint8", "float32", 784, 1, "logistic"),
    ("uint8", "float32", 4096, 1, "logistic quadratic"),
    ("int8", "float32", 99, 1, "logistic"),
    ("int8", "float64", 784, 1, "logistic"),
    ("float32", "float32", 784, 3, "softmax"),
    ("float32", "float32", 784, 10, "softmax"),
    ("float32", "float32", 784, 10, "softmax quadratic"),
    ("float32", "float32", 100, 16, "softmax"),
    ("float32", "float64", 64, 10, "softmax"),
    ("float16", "float32", 784, 10, "softmax"),
    ("bfloat16", "float32", 784, 5, "softmax quadratic"),
    ("uint8", "float32", 784, 10, "softmax"),
    ("uint8", "float32", 77, 16, "softmax"),
    ("float64", "float64", 100, 5, "softmax"),
    ("float32", "float32", 1299, 5, "softmax"),
    ("float32", "float32", 1406, 7, "softmax quadratic"),
    ("bfloat16", "float32", 2042, 4, "softmax"),
]


def source_and_options(layout, dtype, real, loss, n_outputs, what="GRADIENT", shift=0, streams=1):
    macros = {**macros_of(dtype, real, loss, n_outputs), **layout.macros,
              "WHAT": what, "SHIFT": shift, "STREAMS": streams}  # fmt: skip
    return text_of(*HEADERS, f"{layout.name}.cu"), options_of(macros)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_passes_compile_everywhere_without_spilling_registers(architecture):
    """In the layout that they have on such a GPU."""
    if nvrtc() is None:
        pytest.skip("no NVRTC: it comes with the extra test on Linux")
    device, n_tiles = device_like(architecture), 0
    for dtype, real, d, n_outputs, loss in SPECIALISATIONS:
        itemsize = STORAGE[dtype][2]
        layout = pass_layout(dtype, real, d, n_outputs, load_bytes_of(itemsize, d, d, 256), device)
        if layout is None:
            continue
        n_tiles += isinstance(layout, TilesLayout)
        assert_compiles(architecture, *source_and_options(layout, dtype, real, loss, n_outputs))
        if "quadratic" not in loss and architecture in (70, 90):
            for what in ("GRADIENT", "CURVATURE"):
                shifted = pass_layout(dtype, real, d, n_outputs, 4, device, is_shifted=True)
                if shifted is not None and itemsize <= 4:
                    options = source_and_options(shifted, dtype, real, loss, n_outputs, what, 1, 0)
                    assert_compiles(architecture, *options)
            options = source_and_options(layout, dtype, real, loss, n_outputs, "CURVATURE")
            assert_compiles(architecture, *options)
    assert (n_tiles > 0) == (architecture >= tiles_layout.TENSOR_CORES)


def test_layouts_of_any_shape_compile_without_spilling_registers(rng):
    """Of shapes that nobody chose."""
    if nvrtc() is None:
        pytest.skip("no NVRTC: it comes with the extra test on Linux")
    for architecture in (80, 90):
        device = device_like(architecture)
        for _ in range(12):
            dtype = str(rng.choice(["float32", "float16", "bfloat16", "uint8", "int8", "float64"]))
            real = "float64" if dtype == "float64" else "float32"
            d, n_outputs = int(np.exp(rng.uniform(0, 8.5))), int(rng.integers(1, 17))
            loss = "logistic" if n_outputs == 1 else "softmax"
            load_bytes = load_bytes_of(STORAGE[dtype][2], d, d, 256)
            layout = pass_layout(dtype, real, d, n_outputs, load_bytes, device)
            if layout is not None:
                options = source_and_options(layout, dtype, real, loss, n_outputs)
                assert_compiles(architecture, *options)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_goes_around_them_compiles_everywhere(architecture):
    if nvrtc() is None:
        pytest.skip("no NVRTC: it comes with the extra test on Linux")
    for real in ("float32", "float64"):
        for peaks in (0, 1):
            macros = {**macros_of(None, real, None, 3), "PEAKS": peaks}
            assert_compiles(architecture, text_of("reduce.cu"), options_of(macros))
        for loss, lanes in (("logistic", 1), ("softmax", 8), ("softmax", 32),
                            ("softmax quadratic", 32), ("logistic quadratic", 1)):  # fmt: skip
            for what in ("GRADIENT", "CURVATURE") if "quad" not in loss else ("GRADIENT",):
                macros = {**macros_of(None, real, loss, 3), "WHAT": what, "THREADS": 256,
                          "POINT_LANES": lanes}  # fmt: skip
                assert_compiles(architecture, text_of(*HEADERS, "points.cu"), options_of(macros))
        assert_compiles(architecture, text_of("adam.cu"), adam.options(real))
    assert_compiles(architecture, text_of("reading.cu"), ("-DTHREADS=256",))
    for dtype, d in (("float32", 784), ("uint8", 4096), ("float64", 50), ("float16", 3)):
        device, itemsize = device_like(architecture), STORAGE[dtype][2]
        layout = columns.layout_of(dtype, d, load_bytes_of(itemsize, d, d, 0), device)
        for what in ("MOMENTS", "SPREAD"):
            macros = {**macros_of(dtype, "float64", None, 1), **layout.macros,
                      "WHAT": what, "SHIFT": 0, "STREAMS": 0}  # fmt: skip
            source = text_of(*HEADERS, "rows.cu")
            assert_compiles(architecture, source, options_of(macros))


def test_subnormal_numbers_are_not_flushed_where_x_is_used():
    """With CuPy's -ftz=true a plain product takes them for zero; those of X are written out."""
    if nvrtc() is None:
        pytest.skip("no NVRTC: it comes with the extra test on Linux")
    layout = RowsLayout(16, 2, 4, rows=2)
    source, options = source_and_options(layout, "float32", "float32", "logistic", 1)
    for text, exact in ((source, True), (source.replace("fma.rn.f32", "fma.rn.ftz.f32"), False)):
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        nvrtc().nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"k.cu", 0, None, None)
        flags = [o.encode() for o in ("-arch=compute_90", *CUPY_FLAGS, *options)]
        array = (ctypes.c_char_p * len(flags))(*flags)
        assert nvrtc().nvrtcCompileProgram(program, len(flags), array) == 0
        nvrtc().nvrtcGetPTXSize(program, ctypes.byref(size))
        ptx = ctypes.create_string_buffer(size.value)
        nvrtc().nvrtcGetPTX(program, ptx)
        wanted = 2 * 2 * 8  # rows x columns of a lane, forward and backward
        assert (ptx.value.decode().count("fma.rn.f32") >= wanted) == exact


# --- layouts ---------------------------------------------------------------------------------


@given(
    dtype=st.sampled_from(list(STORAGE)),
    d=st.integers(1, 30_000),
    n_outputs=st.integers(1, 16),
    is_double=st.booleans(),
    architecture=st.sampled_from(ARCHITECTURES),
    address=st.integers(0, 64),
)
@settings(max_examples=300)
def test_every_layout_covers_the_columns_and_fits(
    dtype, d, n_outputs, is_double, architecture, address
):
    device, itemsize = device_like(architecture), STORAGE[dtype][2]
    real = "float64" if is_double or dtype == "float64" else "float32"
    load_bytes = load_bytes_of(itemsize, d, d, address * itemsize)
    assert load_bytes in (1, 2, 4, 8, 16)
    assert d * itemsize % load_bytes == 0
    assert address * itemsize % load_bytes == 0
    layout = pass_layout(dtype, real, d, n_outputs, load_bytes, device)
    if layout is None:
        return
    real_bytes = 8 if real == "float64" else 4
    assert layout.shared_bytes(itemsize, n_outputs, real_bytes) <= device.shared_bytes
    assert layout.threads <= 1024
    assert layout.blocks * layout.threads <= 2048
    assert layout.cluster == 1 or architecture >= rows_layout.HOPPER
    elements = layout.load_bytes // itemsize
    assert load_bytes % layout.load_bytes == 0
    if isinstance(layout, RowsLayout):
        held = layout.loads * layout.lanes * layout.slices
        assert held * elements >= d
        assert (layout.loads - 1) * layout.lanes * layout.slices * elements < d
        assert layout.cluster <= rows_layout.MOST_CLUSTER
        assert n_outputs == 1 or layout.rows * 32 // layout.lanes <= 32
    else:
        assert layout.groups * layout.workers * 16 >= d
        assert architecture >= tiles_layout.TENSOR_CORES
    for n_rows in (1, 10, 10**6, 10**10):
        blocks = layout.grid(n_rows, device)
        assert blocks % layout.cluster == 0
        assert 1 <= blocks <= max(layout.cluster, device.processors * layout.blocks)
        teams = blocks // layout.cluster
        assert (teams - 1) * layout.rows_of_a_block < n_rows  # none without a row


def test_measured_layouts_are_taken_and_the_rest_is_near_them():
    """What an H200 liked best: one warp a row up to 784 float32, four warps for 4,096."""
    h200 = Device(90, 132, 227 << 10, 60 << 20)

    def rows(dtype, d, load_bytes=16):
        real = "float64" if dtype == "float64" else "float32"
        return pass_layout(dtype, real, d, 1, load_bytes, h200)

    for (dtype, d, _), layout in rows_layout.MEASURED.items():
        assert rows(dtype, d, layout.load_bytes) == layout
    best = rows("float32", 784)
    assert (best.lanes, best.rows, best.warps * best.blocks, best.slices) == (32, 4, 8, 1)
    assert rows("float32", 4096).slices == 4
    assert rows("float32", 4096).rows in (2, 4)
    narrow = rows("float32", 10, 8)
    assert (narrow.lanes, narrow.loads, narrow.rows) == (1, 5, 1)
    assert (rows("float32", 785, 4).rows, rows("float32", 785, 4).slices) == (2, 1)
    assert (rows("float64", 784).slices, rows("float64", 784).rows) == (2, 1)
    assert isinstance(rows("uint8", 784), TilesLayout)  # bytes: bound by instructions in registers
    assert rows("uint8", 4096).rows == 4
    assert rows("float32", 20_000).cluster == 2
    assert rows("float32", 10**6) is None


def test_registers_are_given_out_in_quarters():
    assert registers_of(8) == 255
    assert registers_of(12) == 168
    assert registers_of(16) == 128
    assert 32 * 64 * registers_of(64) <= REGISTERS


# --- on the host -----------------------------------------------------------------------------


def given_layout(monkeypatch, layout):
    monkeypatch.setattr(linear_pass, "pass_layout", lambda *arguments, **options: layout)


def sides(dtype, shape, n_outputs, cupy, seed=0):
    """X, labels, weights, W, b and what a pass takes of them."""
    X, labels, s, W, b = arrays(dtype, shape, n_outputs, seed)
    loss = LOSSES["logistic" if n_outputs == 1 else "softmax"]
    Y = cupy.asarray(loss.encode_target(labels))
    return (X, labels, s, W, b), loss, Y


def assert_right(run, parts, loss, Y, cupy):
    """Value and gradient are those of float64, the same bits in two runs."""
    X, labels, s, W, b = parts
    params = cupy.asarray(np.concatenate([W.reshape(-1), b]))
    there = cupy.asarray(X) if type(X) is np.ndarray else X
    value, gradient = run(params, there, Y, cupy.asarray(s), None)
    host = np.asarray(gradient)
    got = np.asarray(value), host[: W.size], host[W.size :]
    assert_is_answer(got, np.asarray(X), labels, s, W, b)
    again, same = run(params, there, Y, cupy.asarray(s), None)
    assert np.asarray(again) == got[0]
    assert (np.asarray(same) == host).all()


# Small blocks, so that the host need not run many threads; what varies is how a row is shared.
ROW_LAYOUTS = {
    "a lane a row": RowsLayout(4, 9, 1, rows=2, warps=2),
    "a lane a row, one in flight": RowsLayout(4, 9, 1, rows=1, warps=2),
    "eight lanes a row": RowsLayout(4, 2, 8, rows=4, warps=2),
    "more rows than lanes": RowsLayout(4, 5, 2, rows=8, warps=2),
    "a warp a row": RowsLayout(4, 1, 32, rows=4, warps=2),
    "one row in flight": RowsLayout(4, 1, 32, rows=1, warps=2),
    "two warps a row": RowsLayout(4, 1, 32, warps_of_a_row=2, rows=2, warps=2),
    "three warps a row": RowsLayout(4, 1, 32, warps_of_a_row=3, rows=8, warps=3),
    "two blocks a row": RowsLayout(4, 1, 32, warps_of_a_row=2, cluster=2, rows=2, warps=2),
    "four blocks a row": RowsLayout(4, 1, 32, warps_of_a_row=2, cluster=4, rows=1, warps=2),
}


def columns_for(layout, itemsize):
    """As many columns as leave some of the last load empty."""
    elements = layout.load_bytes // itemsize
    return max(elements, (layout.loads * layout.lanes * layout.slices - 1) * elements)


@needs_compiler
@pytest.mark.parametrize("name", ROW_LAYOUTS)
@pytest.mark.parametrize(("dtype", "n_outputs"), [("float32", 1), ("uint8", 1), ("float32", 3)])
def test_rows_in_every_layout(monkeypatch, name, dtype, n_outputs):
    layout = ROW_LAYOUTS[name]
    if n_outputs > 1 and layout.rows > layout.lanes:
        pytest.skip("with several outputs a lane has at most as many rows as share it")
    given_layout(monkeypatch, layout)
    d = columns_for(layout, STORAGE[dtype][2])
    for n in (1, 2, 37):
        cupy = HostCupy()
        parts, loss, Y = sides(dtype, (n, d), n_outputs, cupy)
        model = LinearModel(loss.name, d, n_outputs, bias=True, real=parts[3].dtype.name)
        assert_right(CudaPass(cupy, 0, model), parts, loss, Y, cupy)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_odd_shapes_in_their_own_layout(dtype, n_outputs):
    for shape in [(1, 1), (5, 1), (23, 130)] if n_outputs == 1 else [(5, 1), (37, 31)]:
        cupy = HostCupy(processors=1)
        parts, loss, Y = sides(dtype, shape, n_outputs, cupy)
        model = LinearModel(loss.name, shape[1], n_outputs, bias=True, real=parts[3].dtype.name)
        assert_right(CudaPass(cupy, 0, model), parts, loss, Y, cupy)


TILES = {
    "float32": TilesLayout(16, 1, 2, 1, 3, 1, "TF32"),
    "bfloat16": TilesLayout(8, 2, 1, 2, 2, 1, "TF32"),
    "float16": TilesLayout(4, 1, 2, 3, 3, 1, "F16"),
    "uint8": TilesLayout(8, 3, 1, 2, 4, 1, "F16"),
    "int8": TilesLayout(4, 1, 2, 1, 3, 1, "F16"),
}


@needs_compiler
@pytest.mark.parametrize("n_outputs", [1, 4, 8, 11, 13])
@pytest.mark.parametrize("dtype", TILES)
def test_tiles(monkeypatch, dtype, n_outputs):
    """1, 4: high and low terms in one product; 8: in two; 11, 13: whole outputs and a rest."""
    layout = TILES[dtype]
    given_layout(monkeypatch, layout)
    step = max(1, layout.load_bytes // STORAGE[dtype][2])
    d = layout.groups * layout.workers * 16 - step  # the last copy finds no column
    for n in (1, 16 * layout.tiles * 3 + 5):
        cupy = HostCupy(processors=1)
        parts, loss, Y = sides(dtype, (n, d), n_outputs, cupy)
        model = LinearModel(loss.name, d, n_outputs, bias=True, real="float32")
        assert_right(CudaPass(cupy, 0, model), parts, loss, Y, cupy)


@needs_compiler
def test_tiles_are_as_exact_as_float32(monkeypatch):
    """Units with 11 digits that cut off what is beyond, and errors of the size of float32's own."""
    for dtype in ("float32", "uint8"):
        given_layout(monkeypatch, TILES[dtype])
        cupy = HostCupy(processors=1)
        d = 32 if dtype == "float32" else 48
        (X, labels, s, W, b), loss, Y = sides(dtype, (200, d), 5, cupy, seed=3)
        run = CudaPass(cupy, 0, LinearModel(loss.name, d, 5, bias=True, real="float32"))
        params = cupy.asarray(np.concatenate([W.reshape(-1), b]))
        _, gradient = run(params, cupy.asarray(X), Y, cupy.asarray(s), None)
        wanted = answer(X, labels, s, W, b)[1].reshape(-1)
        error = np.linalg.norm(np.asarray(gradient)[: W.size] - wanted) / np.linalg.norm(wanted)
        assert error < 5e-7


@needs_compiler
@pytest.mark.parametrize("n_outputs", [1, 3, 20, 40])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_two_products(monkeypatch, dtype, n_outputs):
    if n_outputs < 20:
        given_layout(monkeypatch, None)
    cupy = HostCupy(processors=1)
    for shape in ((1, 3), (45, 9)):
        parts, loss, Y = sides(dtype, shape, n_outputs, cupy)
        model = LinearModel(loss.name, shape[1], n_outputs, bias=True, real=parts[3].dtype.name)
        run = CudaPass(cupy, 0, model)
        assert_right(run, parts, loss, Y, cupy)
    columns_first = cupy.asarray(np.asfortranarray(parts[0]))
    assert_right(run, (columns_first, *parts[1:]), loss, Y, cupy)


# Values that the lanes of a row share out unevenly, so that some lane has none, and others too.
SHARED_OUT = [2, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16]


@needs_compiler
@pytest.mark.parametrize("order", ["forwards", "backwards"])
@pytest.mark.parametrize("name", ["eight lanes a row", "a warp a row", "two warps a row"])
@pytest.mark.parametrize("n_outputs", SHARED_OUT)
def test_lanes_write_their_own_sums_only(monkeypatch, order, name, n_outputs):
    """In either order of the lanes: what the last one to write gets right is a race."""
    layout = ROW_LAYOUTS[name]
    given_layout(monkeypatch, layout)
    if order == "backwards":
        monkeypatch.setenv("SHIM_BACKWARDS", "1")
    d = columns_for(layout, 4)
    cupy = HostCupy(processors=1)
    parts, loss, Y = sides("float32", (19, d), n_outputs, cupy)
    model = LinearModel(loss.name, d, n_outputs, bias=True, real="float32")
    run = CudaPass(cupy, 0, model)
    assert_right(run, parts, loss, Y, cupy)
    X, _, _, W, b = parts
    raw = X.astype(np.float64) @ W.astype(np.float64) + b
    got = np.asarray(
        run.curvature(cupy.asarray(np.concatenate([W.reshape(-1), b])), cupy.asarray(X))
    )
    np.testing.assert_allclose(got, loss.curvature(raw, xp=np), rtol=1e-4, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("n_outputs", [1, 2, 5, 20])
def test_raw_predictions_that_are_not_finite(n_outputs):
    """Value and gradient are NaN or infinite where the formula's are, and only there."""
    X = np.array([[1.0], [2.0], [1e30]], dtype=np.float32)
    loss = LOSSES["logistic" if n_outputs == 1 else "softmax"]
    for large in (1e10, -1e10, np.nan):
        for label in (0, 1):
            cupy = HostCupy(processors=1)
            W = np.full((1, n_outputs), 0.1, dtype=np.float32)
            W[0, 0] = large
            Y = loss.encode_target(np.full(3, label))
            s = np.full(3, 1 / 3, dtype=np.float32)
            model = LinearModel(loss.name, 1, n_outputs, bias=False, real="float32")
            given_all = (W.reshape(-1), X, Y, s)
            run, there = CudaPass(cupy, 0, model), map(cupy.asarray, given_all)
            network = Network(1, n_outputs, bias=False)
            formula = FormulaPass(loss, network, np.float32, None, None, 8, np)
            with np.errstate(all="ignore"):
                value, gradient = run(*there, None)
                right, slope = formula(*given_all, None)
            assert np.isfinite(np.asarray(value)) == np.isfinite(right)
            assert np.isfinite(np.asarray(gradient)).all() == np.isfinite(slope).all()


@needs_compiler
@pytest.mark.parametrize("n_outputs", [1, 5])
def test_strides_that_are_no_elements_and_no_rows_at_all(n_outputs):
    cupy = HostCupy(processors=1)
    raw = np.zeros(1000, dtype=np.uint8)
    X = np.ndarray((9, 3), np.float32, raw, strides=(14, 4))
    X[:] = np.random.default_rng(0).normal(size=(9, 3))
    (_, labels, s, W, b), loss, Y = sides("float32", (9, 3), n_outputs, cupy)
    run = CudaPass(cupy, 0, LinearModel(loss.name, 3, n_outputs, bias=True, real="float32"))
    params = cupy.asarray(np.concatenate([W.reshape(-1), b]))
    there = X.view(type(cupy.asarray(labels)))
    value, gradient = run(params, there, Y, cupy.asarray(s), None)
    host = np.asarray(gradient)
    got = np.asarray(value), host[: W.size], host[W.size :]
    assert_is_answer(got, X.copy(), labels, s, W, b)
    assert columns.column_sums(cupy, 0, there, cupy.asarray(s.astype(np.float64))) is None
    value, gradient = run(params, there[:0], Y[:0], cupy.asarray(s[:0]), None)
    assert np.asarray(value) == 0
    assert (np.asarray(gradient) == 0).all()


EXTRAS = {
    "nothing": {},
    "no intercept": {"bias": False},
    "factor": {"factor": True},
    "shift": {"shift": True},
    "ridge": {"ridge": True},
    "all": {"bias": False, "factor": True, "shift": True, "ridge": True},
}
KINDS = {
    "rows": (RowsLayout(4, 1, 32, rows=2, warps=2), 1, "float32"),
    "rows of several outputs": (RowsLayout(4, 1, 32, rows=2, warps=2), 3, "float32"),
    "blocks share rows": (
        RowsLayout(4, 1, 32, warps_of_a_row=2, cluster=2, rows=1, warps=2),
        2,
        "float32",
    ),
    "tiles": (TilesLayout(4, 1, 2, 1, 3, 1, "TF32"), 5, "float32"),
    "tiles of bytes": (TilesLayout(4, 1, 2, 1, 3, 1, "F16"), 9, "uint8"),
    "products": (None, 5, "float32"),
    "products of one output": (None, 1, "uint8"),
}


def formula_of(loss, network, factor):
    scale = np.ones(network.n_params)
    n_weights = network.n_in * network.n_out
    if factor is not None:
        scale[:n_weights] = np.repeat(factor, network.n_out)
    return FormulaPass(loss, network, np.float64, scale, None, 0, np)


@needs_compiler
@pytest.mark.parametrize("extra", EXTRAS)
@pytest.mark.parametrize("kind", KINDS)
def test_penalty_scale_shift_and_intercept_are_those_of_the_formula(monkeypatch, kind, extra, rng):
    layout, n_outputs, dtype = KINDS[kind]
    options = EXTRAS[extra]
    if isinstance(layout, TilesLayout) and options.get("shift"):
        pytest.skip("the tensor cores take X as it is stored: shifted rows go elsewhere")
    given_layout(monkeypatch, layout)
    cupy, d, bias = HostCupy(processors=1), 24, options.get("bias", True)
    parts, loss, Y = sides(dtype, (21, d), n_outputs, cupy)
    X, labels, s, _, _ = parts
    network = Network(d, n_outputs, bias=bias)
    params = (rng.normal(size=network.n_params) / np.abs(X.astype(float)).sum(1).max()).astype("f4")
    factor = rng.uniform(0.5, 2, d).astype("f4") if options.get("factor") else None
    shift = rng.normal(size=d).astype("f4") if options.get("shift") else None
    ridge = rng.uniform(0, 1, network.n_params).astype("f4") if options.get("ridge") else None
    model = LinearModel(loss.name, d, n_outputs, bias=bias, real="float32")
    there = [None if a is None else cupy.asarray(a) for a in (factor, shift, ridge)]
    run = CudaPass(cupy, 0, model, *there[:2])
    got = run(cupy.asarray(params), cupy.asarray(X), Y, cupy.asarray(s), there[2])
    moved = X.astype(np.float64) - (0 if shift is None else shift)
    formula = formula_of(loss, network, factor)
    wanted = formula(params.astype(float), moved, loss.encode_target(labels), s, ridge)
    assert abs(np.asarray(got[0]) - wanted[0]) < 1e-5 * abs(wanted[0])
    error = np.asarray(got[1]) - wanted[1]
    assert np.linalg.norm(error) < 2e-5 * np.linalg.norm(wanted[1])
    curvature = run.curvature(cupy.asarray(params), cupy.asarray(X))
    np.testing.assert_allclose(
        np.asarray(curvature), formula.curvature(params.astype(float), moved), atol=1e-5
    )


@needs_compiler
@pytest.mark.parametrize("kind", KINDS)
def test_a_hessian_product_is_a_pass(monkeypatch, kind, rng):
    layout, n_outputs, dtype = KINDS[kind]
    given_layout(monkeypatch, layout)
    cupy, d = HostCupy(processors=1), 24
    (X, _, s, _, _), loss, _ = sides(dtype, (21, d), n_outputs, cupy)
    network, quadratic = Network(d, n_outputs), loss.quadratic
    point = rng.normal(size=network.n_params) / np.abs(X.astype(float)).sum(1).max()
    C = formula_of(loss, network, None).curvature(point, X.astype(float)).astype("f4")
    v = (rng.normal(size=network.n_params)).astype("f4")
    run = CudaPass(cupy, 0, LinearModel(quadratic.name, d, n_outputs, bias=True, real="float32"))
    got = run(cupy.asarray(v), cupy.asarray(X), cupy.asarray(C), cupy.asarray(s), None)
    wanted = formula_of(quadratic, network, None)(v.astype(float), X.astype(float), C, s, None)
    assert abs(np.asarray(got[0]) - wanted[0]) < 1e-4 * abs(wanted[0])
    error = np.asarray(got[1]) - wanted[1]
    assert np.linalg.norm(error) < 1e-4 * np.linalg.norm(wanted[1])


@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64"])
def test_views_at_odd_addresses_and_of_some_columns(dtype):
    for first, last in ((1, None), (0, -1), (3, 10)):
        cupy = HostCupy(processors=1)
        whole, loss, Y = sides(dtype, (19, 24), 1, cupy)
        view = cupy.asarray(whole[0])[:, first:last]
        d = view.shape[1]
        parts = (view, *whole[1:3], whole[3][:d], whole[4])
        run = CudaPass(cupy, 0, LinearModel("logistic", d, 1, bias=True, real=whole[3].dtype.name))
        assert_right(run, parts, loss, Y, cupy)
        every_third = cupy.asarray(whole[0])[::3, first:last]
        parts = (every_third, whole[1][::3], whole[2][::3].copy(), whole[3][:d], whole[4])
        assert_right(run, parts, loss, Y[::3].copy(), cupy)


@needs_compiler
def test_subnormal_x_counts_as_on_the_cpu(monkeypatch):
    given_layout(monkeypatch, RowsLayout(4, 1, 32, rows=2, warps=2))
    cupy = HostCupy(processors=1)
    (X, labels, s, W, b), _, Y = sides("float32", (9, 20), 1, cupy)
    X, W = (X * np.float32(1e-39)), W * np.float32(1e38)
    assert 0 < np.abs(X).max() < np.finfo(np.float32).tiny
    run = CudaPass(cupy, 0, LinearModel("logistic", 20, 1, bias=True, real="float32"))
    params = cupy.asarray(np.concatenate([W.reshape(-1), b]))
    value, _ = run(params, cupy.asarray(X), Y, cupy.asarray(s), None)
    wanted, _, _ = answer(X, labels, s, W, b)
    nothing, _, _ = answer(0 * X, labels, s, W, b)
    assert abs(np.asarray(value) - wanted) < 1e-6
    assert abs(wanted - nothing) > 1e-4


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_look_at_the_columns(dtype, rng):
    for shape, step in (((50, 13), 3), ((7, 1), 1), ((40, 300), 2)):
        cupy = HostCupy(processors=1)
        X = (rng.normal(size=shape) * 30 + 60).astype(DTYPES[dtype])
        X[:, 0] = 0
        s = rng.uniform(size=len(X[::step]))
        s /= s.sum()
        got = columns.column_sums(cupy, 0, cupy.asarray(X)[::step, :], cupy.asarray(s))
        wanted = _column_sums(X[::step].astype(np.float64), s, np)
        for one, two in zip(got, wanted, strict=True):
            np.testing.assert_allclose(np.asarray(one), two, rtol=1e-12, atol=1e-300)


@needs_compiler
def test_a_column_of_subnormal_numbers_has_a_finite_spread():
    cupy = HostCupy(processors=1)
    X = np.array([[1e-309, 1.0], [3e-309, 2.0]])
    found = columns.column_sums(cupy, 0, cupy.asarray(X), cupy.asarray(np.full(2, 0.5)))
    assert all(np.isfinite(np.asarray(array)).all() for array in found)


# --- sanitizers ------------------------------------------------------------------------------

SANITIZERS = {
    "address": ["-fsanitize=address,undefined", "-g"],
    "thread": ["-fsanitize=thread", "-g"],
}
SANE = {
    "rows": (RowsLayout(4, 1, 32, rows=2, warps=2), "float32", 1),
    "rows of several outputs": (RowsLayout(4, 1, 32, rows=2, warps=2), "uint8", 3),
    "rows in double precision": (RowsLayout(8, 1, 8, rows=4, warps=2), "float64", 5),
    "rows of halves": (RowsLayout(4, 1, 32, rows=2, warps=2), "float16", 1),
    "warps share rows": (RowsLayout(4, 1, 32, warps_of_a_row=2, rows=2, warps=2), "float32", 2),
    "blocks share rows": (
        RowsLayout(4, 1, 32, warps_of_a_row=1, cluster=2, rows=2, warps=1),
        "float32",
        1,
    ),
    "tiles": (TilesLayout(8, 1, 1, 1, 2, 1, "TF32"), "float32", 5),
    "tiles of bytes": (TilesLayout(4, 1, 1, 1, 3, 1, "F16"), "uint8", 2),
}


def launched(layout, dtype, n_outputs, shape, path=None, **options):
    """Run a kernel as a program of its own; what it said, and its results."""
    n, d = shape
    X, labels, s, W, b = arrays(dtype, shape, n_outputs)
    loss = LOSSES["logistic" if n_outputs == 1 else "softmax"]
    real = W.dtype.name
    source, macros = source_and_options(layout, dtype, real, loss.name, n_outputs)
    made = path or program(source, f"linear_{layout.name}", macros, **options)
    blocks = 2 * layout.cluster
    partial_value = np.full(blocks, np.nan)
    partial = np.full((2, (d + 1) * n_outputs), np.nan, dtype=real)
    params = np.concatenate([W.reshape(-1), b])
    sizes = np.int64(n), np.int64(d), np.int32(d), np.int32(1)
    Y = loss.encode_target(labels)
    shared = layout.shared_bytes(STORAGE[dtype][2], n_outputs, W.dtype.itemsize)
    done = run_program(
        made,
        (blocks, layout.threads, layout.cluster, shared),
        (X, Y, s, params, NULL, NULL, NULL, *sizes, partial_value, partial, NULL),
    )
    gradient = partial.sum(axis=0, dtype=np.float64)
    got = partial_value.sum(), gradient[: W.size], gradient[W.size :]
    return done, lambda: assert_is_answer(got, X, labels, s, W, b)


def shape_for(layout, dtype):
    if isinstance(layout, RowsLayout):
        return 13, columns_for(layout, STORAGE[dtype][2])
    return 37, 16 * layout.groups * layout.workers - layout.load_bytes // STORAGE[dtype][2]


@needs_compiler
@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize("kind", SANE)
def test_kernels_run_clean_under_sanitizers(kind, sanitizer):
    layout, dtype, n_outputs = SANE[kind]
    done, check = launched(
        layout, dtype, n_outputs, shape_for(layout, dtype), flags=SANITIZERS[sanitizer]
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    check()


def around():
    """What goes around a pass: source, kernel, macros, launch, arguments."""
    rng = np.random.default_rng(0)
    n, K, d = 45, 3, 5
    Z, params = rng.normal(size=(n, K)).astype(np.float32), np.ones(d * K + K, np.float32)
    labels, s = np.arange(n, dtype=np.int32) % K, np.full(n, 1 / n, np.float32)
    sizes = np.int64(n), np.int32(K), np.int32(params.size)
    for what, y, lanes in (
        ("GRADIENT", labels, 8),
        ("CURVATURE", NULL, 1),
        ("GRADIENT", labels, 32),
    ):
        macros = {**macros_of(None, "float32", "softmax", K), "WHAT": what, "THREADS": 64,
                  "POINT_LANES": lanes}  # fmt: skip
        values = np.zeros(2) if what == "GRADIENT" else NULL
        arguments = (Z.copy(), y, s, params[-K:].copy(), params, params.copy(), *sizes, values)
        yield text_of(*HEADERS, "points.cu"), "points", macros, (2, 64, 1, 64), arguments
    for peaks in (0, 1):
        macros = {**macros_of(None, "float32", None, K), "PEAKS": peaks}
        counts = map(np.int32, (7, 3, (d + 1) * K, d, 1))
        parts = rng.normal(size=7), rng.normal(size=(3, (d + 1) * K)).astype(np.float32)
        ends = params, np.ones(d, np.float32), params.copy(), np.zeros(1), np.zeros_like(params)
        launch = (1, reduction.THREADS, 1, reduction.SHARED_BYTES)
        yield text_of("reduce.cu"), "reduce_teams", macros, launch, (*parts, *counts, *ends)
    moments = (np.full(300, 0.1, np.float32) for _ in range(4))
    numbers = (*map(np.float64, (0.9, 0.99, 1e-8, 0.1)), np.int64(300))
    macros = {"REAL": "float", "THREADS": 64}
    yield text_of("adam.cu"), "adam", macros, (3, 64, 1, 0), (*moments, *numbers)
    words = np.zeros((501, 4), np.uint32), np.int64(501), np.zeros(1, np.uint32)
    yield text_of("reading.cu"), "reading", {"THREADS": 64}, (3, 64, 1, 0), words
    for what, arrays_ in (("MOMENTS", 2), ("SPREAD", 1)):
        layout, X = (
            RowsLayout(4, 2, 4, rows=2, warps=2),
            rng.normal(size=(13, 7)).astype(np.float32),
        )
        macros = {**macros_of("float32", "float64", None, 1), **layout.macros,
                  "WHAT": what, "SHIFT": 0, "STREAMS": 0}  # fmt: skip
        sizes = np.int64(13), np.int64(7), np.int32(7), np.int32(0)
        sides_ = (NULL, NULL) if what == "MOMENTS" else (np.zeros(7), np.ones(7))
        out = np.zeros((2, arrays_ * 7))
        arguments = (X, NULL, np.full(13, 1 / 13), *sides_, NULL, NULL, *sizes, NULL, out, NULL)
        launch = (2, layout.threads, 1, layout.shared_bytes(4, 1, 8, arrays_))
        yield text_of(*HEADERS, "rows.cu"), "linear_rows", macros, launch, arguments


@needs_compiler
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_what_goes_around_them_runs_clean_under_sanitizers(sanitizer):
    for source, name, macros, launch, arguments in around():
        made = program(source, name, options_of(macros), flags=SANITIZERS[sanitizer])
        done = run_program(made, launch, arguments)
        assert done.returncode == 0, (name, done.stderr.decode()[-3000:])


FAULTS = {  # kind, sanitizer, (wrong, right), what it says
    "a missing barrier between warps": (
        "warps share rows",
        "thread",
        ("#elif WPR > 1\n", "#elif WPR > 1\n        __syncthreads();\n"),
        b"data race",
    ),
    "a missing barrier between blocks": (
        "blocks share rows",
        "thread",
        ("#if CLUSTER > 1\n#elif", "#if CLUSTER > 1\n        cluster_sync();\n#elif"),
        b"data race",
    ),
    "a load beyond the row": (
        "rows",
        "address",
        ("E <= d) raw[i][c]", "E < d) raw[i][c]"),
        b"heap-buffer-overflow",
    ),
}


@needs_compiler
@pytest.mark.parametrize("fault", FAULTS)
def test_sanitizers_find_a_planted_fault(fault):
    kind, sanitizer, plant, message = FAULTS[fault]
    layout, dtype, n_outputs = SANE[kind]
    shape, flags = shape_for(layout, dtype), SANITIZERS[sanitizer]
    found = [
        launched(layout, dtype, n_outputs, shape, flags=flags, plant=plant)[0].stderr
        for _ in range(3)
    ]
    assert any(message in text for text in found)


@needs_compiler
def test_a_copy_that_is_not_waited_for_shows(monkeypatch):
    """The shim copies when it is waited for, not before."""
    layout = TILES["float32"]
    source, options = source_and_options(layout, "float32", "float32", "softmax", 5)
    right, wrong = "wait_but_for<STAGES - 2>();", "wait_but_for<STAGES>();"
    library(source, options)
    given_layout(monkeypatch, layout)
    cupy = HostCupy(processors=1, plant=(wrong, right))
    parts, loss, Y = sides("float32", (40, 28), 5, cupy)
    run = CudaPass(cupy, 1, LinearModel(loss.name, 28, 5, bias=True, real="float32"))
    with pytest.raises(AssertionError):
        assert_right(run, parts, loss, Y, cupy)


# --- Adam ------------------------------------------------------------------------------------


class AdamCupy:
    """NumPy in the role of CuPy, with RawModule running adam.cu on the host."""

    float64, int64 = np.float64, np.int64

    def RawModule(self, code, options):
        made = library(code, options)

        def launch(grid, block, arguments):
            assert block == (adam.THREADS,)
            kinds = [ctypes.c_void_p] * 4 + [ctypes.c_double] * 4 + [ctypes.c_longlong]
            values = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
            values = [kind(v) for kind, v in zip(kinds, values, strict=True)]
            made.launch_adam(grid[0], adam.THREADS, 1, 0, *values)

        return SimpleNamespace(get_function=lambda name: launch)


@needs_compiler
@pytest.mark.parametrize("dtype", adam.REALS)
def test_adam_on_the_host_is_the_rule(dtype, rng, monkeypatch):
    monkeypatch.setattr(adam, "MOST_BLOCKS", 3)
    plain = Adam(0.8, 0.95, 1e-5)
    fused = Adam(0.8, 0.95, 1e-5, fused=adam.AdamUpdate(AdamCupy(), dtype))
    one, two = ([a.astype(dtype) for a in np.zeros((3, 1000))] for _ in range(2))
    for step in (1, 2, 3):
        gradient = rng.normal(size=1000).astype(dtype)
        for rule, (params, *memory) in ((plain, one), (fused, two)):
            rule.update(
                params, gradient.copy(), memory, learning_rate=0.01 * step, step=step, xp=np
            )
    eps = np.finfo(dtype).eps
    for a, b in zip(one[:3], two[:3], strict=True):
        np.testing.assert_allclose(a, b, rtol=16 * eps, atol=4 * eps)  # of gradients about 1
