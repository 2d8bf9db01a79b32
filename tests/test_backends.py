from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

import accel
from accel.backends import BACKENDS, BackendUnavailable, backend_for, cupy_backend, get_backend
from accel.backends.base import row_blocks
from accel.backends.interchange import is_device_array, like, namespace, to_host
from tests import strict


class CUDARuntimeError(RuntimeError):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class OutOfMemoryError(MemoryError):
    pass


def fake_cupy(*, count=1, count_error=None, driver=12080, ones=None, kernel=None, matmul=None):
    """A cupy that works on the host, or fails where it is told to."""

    class Device:
        def __init__(self, index=0):
            self.id = index

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            return None

    class Array(np.ndarray):
        def __matmul__(self, other):
            if matmul:
                raise matmul
            return np.matmul(np.asarray(self), np.asarray(other)).view(Array)

    def make_ones(shape, dtype):
        if ones:
            raise ones
        return np.ones(shape, dtype).view(Array)

    class RawKernel:
        def __init__(self, source, name):
            self.name = name

        def __call__(self, grid, block, arguments):
            if kernel:
                raise kernel
            arguments[0][:] *= 2

    def device_count():
        if count_error:
            raise count_error
        return count

    runtime = SimpleNamespace(
        CUDARuntimeError=CUDARuntimeError,
        getDeviceCount=device_count,
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 12090,
        getDeviceProperties=lambda index: {"name": b"Fake GPU", "totalGlobalMem": 2**33},
    )
    return SimpleNamespace(
        __version__="14.0",
        float32=np.float32,
        ones=make_ones,
        RawKernel=RawKernel,
        cuda=SimpleNamespace(
            runtime=runtime,
            Device=Device,
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        ),
    )


def probe(index=0, missing=None, **options):
    def import_module(name):
        if missing:
            raise missing
        return fake_cupy(**options)

    return cupy_backend.probe(index, import_module)


FAILURES = {
    "cupy not installed": (
        {"missing": ModuleNotFoundError("No module named 'cupy'", name="cupy")},
        "CuPy is not installed",
        "accel[cuda12]",
    ),
    "cupy broken": (
        {"missing": ImportError("libcudart.so.12: cannot open shared object file")},
        "libcudart.so.12",
        "accel[cuda12]",
    ),
    "no driver": (
        {"count_error": CUDARuntimeError(35, "insufficient"), "driver": 0},
        "no NVIDIA driver",
        "install or update the NVIDIA driver",
    ),
    "driver too old": (
        {"count_error": CUDARuntimeError(35, "insufficient"), "driver": 11040},
        "it serves CUDA 11.4, CuPy needs 12.9",
        "install or update the NVIDIA driver",
    ),
    "driver broken": (
        {"count_error": CUDARuntimeError(999, "cudaErrorUnknown: unknown error")},
        "cudaErrorUnknown",
        "NVIDIA driver",
    ),
    "no device (status)": (
        {"count_error": CUDARuntimeError(100, "no CUDA-capable device")},
        "sees no GPU",
        "CUDA_VISIBLE_DEVICES",
    ),
    "no device (count)": ({"count": 0}, "sees no GPU", "CUDA_VISIBLE_DEVICES"),
    "out of range": ({"index": 2, "count": 2}, "there is no device 2", "CUDA_VISIBLE_DEVICES"),
    "out of memory": (
        {"ones": OutOfMemoryError("Out of memory allocating 512 bytes")},
        "no free memory",
        "nvidia-smi",
    ),
    "out of memory (runtime)": (
        {"ones": CUDARuntimeError(2, "cudaErrorMemoryAllocation: out of memory")},
        "no free memory",
        "nvidia-smi",
    ),
    "allocation": ({"ones": CUDARuntimeError(46, "busy")}, "refuses memory (busy)", "driver"),
    "nvrtc missing": (
        {"kernel": ImportError("libnvrtc.so.12 not found\nmore lines")},
        "NVRTC may be missing (libnvrtc.so.12 not found)",
        "accel[cuda12]",
    ),
    "cublas missing": (
        {"matmul": ImportError("libcublas.so.12 not found")},
        "cuBLAS may be missing",
        "accel[cuda12]",
    ),
}


@pytest.mark.parametrize("case", FAILURES)
def test_every_failure_of_the_probe_has_its_reason_and_its_mend(case):
    options, reason, mend = FAILURES[case]
    with pytest.raises(BackendUnavailable) as caught:
        probe(**options)
    error = caught.value
    assert reason in error.reason
    assert mend in error.mend
    assert error.reason in str(error)
    assert error.mend in str(error)
    assert "\n" not in str(error)


def test_probe_that_succeeds_reports_the_gpu():
    backend = probe(1, count=2)
    report = backend.report()
    assert (report.name, report.device, report.usable) == ("cupy:1", "Fake GPU", True)
    assert report.memory_bytes == 2**33
    assert report.libraries["cuda driver"] == "12.8"


def test_wrong_arithmetic_is_refused():
    cupy = fake_cupy()
    cupy.RawKernel = lambda source, name: lambda grid, block, arguments: None
    with pytest.raises(BackendUnavailable, match="does not compile and run"):
        cupy_backend.probe(0, lambda name: cupy)


@pytest.fixture
def no_gpu(monkeypatch):
    """Probes that fail and count."""
    calls = []

    def failing(index, import_module):
        calls.append(index)
        raise BackendUnavailable("cupy", "this is a test", "end the test")

    cupy_backend._probe_once.cache_clear()
    monkeypatch.setattr(cupy_backend, "probe", failing)
    yield calls
    cupy_backend._probe_once.cache_clear()


def test_auto_falls_back_and_keeps_the_sentence(no_gpu):
    backend = get_backend()
    assert backend.name == "numpy"
    sentence = "cupy cannot be used: this is a test; to mend it: end the test."
    assert backend.report().fallback == sentence
    assert sentence in str(backend.report())
    assert get_backend("numpy").report().fallback == ""


def test_a_name_requires_and_the_probe_runs_once(no_gpu):
    for _ in range(3):
        with pytest.raises(BackendUnavailable, match="this is a test"):
            get_backend("cupy")
    get_backend()
    assert no_gpu == [0]
    with pytest.raises(BackendUnavailable):
        get_backend("cupy:1")
    assert no_gpu == [0, 1]


def test_fitted_model_carries_the_reason(no_gpu):
    model = accel.LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    assert "this is a test" in model.backend_.fallback


def test_auto_prefers_a_usable_gpu(monkeypatch):
    monkeypatch.setitem(BACKENDS, "cupy", strict)
    assert get_backend().name == "strict"


def test_environment_variable_replaces_auto_only(monkeypatch, no_gpu):
    monkeypatch.setenv("ACCEL_BACKEND", "strict")
    assert get_backend().name == get_backend("auto").name == "strict"
    assert get_backend("numpy").name == "numpy"
    assert backend_for("auto", np.zeros((1, 1))).name == "strict"
    monkeypatch.setenv("ACCEL_BACKEND", "cupy")
    with pytest.raises(BackendUnavailable):
        get_backend()
    monkeypatch.setenv("ACCEL_BACKEND", "gpu")
    with pytest.raises(ValueError, match="ACCEL_BACKEND='gpu' names no backend"):
        get_backend()


@pytest.mark.parametrize("name", ["gpu", "cupy:", "cupy:x", "cupy:-1", "NumPy", "", None, 3])
def test_unknown_names(name):
    with pytest.raises(ValueError, match=r"'auto'.*'numpy'"):
        get_backend(name)


def test_there_is_one_cpu():
    with pytest.raises(BackendUnavailable, match="one CPU"):
        get_backend("numpy:1")


def test_backends_lists_everything(no_gpu):
    reports = accel.backends()
    assert [report.name for report in reports][:2] == ["cupy", "numpy"]
    assert not reports[0].usable
    assert reports[0].reason
    numpy = reports[1]
    assert numpy.usable
    assert numpy.device
    assert numpy.libraries["numpy"] == np.__version__
    json.dumps(numpy.libraries)


def test_auto_stays_where_the_array_lies(no_gpu):
    backend = get_backend("strict")
    assert backend_for("auto", backend.asarray(np.ones((2, 2)))).name == "strict"
    assert backend_for("numpy", backend.asarray(np.ones((2, 2)))).name == "numpy"


def test_doors(backend):
    values = np.arange(6.0).reshape(2, 3)
    there = backend.asarray(values)
    assert is_device_array(there) == (backend.name != "numpy")
    assert backend.asarray(there) is there or backend.name == "strict"
    assert (backend.to_numpy(there) == values).all()
    half = backend.asarray(values, dtype=backend.xp.float32)
    assert half.dtype == backend.xp.float32
    xp = backend.xp
    assert backend.scalars(xp.sum(there), xp.max(half)) == (15.0, 5.0)
    backend.synchronize()
    with backend.context():
        pass
    assert backend.report().usable
    assert backend.with_fallback("because").report().fallback == "because"


def test_to_host_and_like(backend):
    values = np.arange(4.0)
    there = backend.asarray(values)
    assert namespace(there).__name__.rpartition(".")[2] == backend.xp.__name__.rpartition(".")[2]
    assert (to_host(there) == values).all()
    assert (backend.to_numpy(like(values, there)) == values).all()


def test_torch_comes_in_and_predictions_leave_as_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    y = (X[:, 0] > 0).astype(int)
    wanted = accel.LogisticRegression().fit(X, y)
    tensor = torch.tensor(X)
    model = accel.LogisticRegression().fit(tensor, torch.tensor(y))
    assert (model.coef_ == wanted.coef_).all()
    for name in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        got = getattr(model, name)(tensor)
        assert isinstance(got, torch.Tensor)
        np.testing.assert_allclose(got.numpy(), getattr(wanted, name)(X), rtol=1e-12)
    graph = torch.tensor(X, requires_grad=True)
    assert (accel.LogisticRegression().fit(graph, y).coef_ == wanted.coef_).all()


def test_row_blocks_cover_rows_in_order():
    for n, row_bytes, block_bytes in ((10, 8, 24), (10, 100, 24), (1, 8, 10**9), (7, 1, 7)):
        blocks = row_blocks(n, row_bytes, block_bytes)
        covered = np.concatenate([np.arange(n)[block] for block in blocks])
        assert covered.tolist() == list(range(n))
        assert all(b.stop - b.start <= max(1, block_bytes // row_bytes) for b in blocks)


def test_real_probe_says_something_true():
    """Whatever this machine has: cupy works, or the reason is one sentence."""
    report = accel.backends()[0]
    assert report.memory_bytes if report.usable else report.reason.endswith(".")
