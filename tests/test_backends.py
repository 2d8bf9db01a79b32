from __future__ import annotations

import builtins
import json
import os
import signal
import sys

import numpy as np
import pytest

import accel
from accel.backends import (
    BACKENDS,
    BackendUnavailable,
    backend_for,
    cupy_backend,
    get_backend,
    numpy_backend,
)
from accel.backends.base import row_blocks
from accel.backends.interchange import is_device_array, like, namespace, to_host
from tests import strict
from tests.fake_cupy import CUDARuntimeError, OutOfMemoryError, fake_cupy, import_fake


def probe(index=0, missing=None, **options):
    def import_missing(name):
        raise missing

    return cupy_backend.probe(
        index, import_missing if missing else import_fake(fake_cupy(**options))
    )


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
        {"empty": OutOfMemoryError("Out of memory allocating 512 bytes")},
        "no free memory",
        "nvidia-smi",
    ),
    "out of memory (runtime)": (
        {"empty": CUDARuntimeError(2, "cudaErrorMemoryAllocation: out of memory")},
        "no free memory",
        "nvidia-smi",
    ),
    "allocation": ({"empty": CUDARuntimeError(46, "busy")}, "refuses memory (busy)", "driver"),
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
        cupy_backend.probe(0, import_fake(cupy))


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


def test_an_unusable_gpu_array_library_falls_back_with_the_reason(no_gpu, monkeypatch):
    """A torch CUDA tensor without CuPy: "auto" uses the CPU and says why."""
    monkeypatch.setattr(cupy_backend, "owner", lambda array: 0)
    backend = backend_for("auto", np.zeros((1, 1)))
    assert backend.name == "numpy"
    assert "this is a test" in backend.report().fallback


def test_environment_variable_wins_over_where_the_array_lies(monkeypatch):
    there = get_backend("strict").asarray(np.ones((2, 2)))
    assert backend_for("auto", there).name == "strict"
    monkeypatch.setenv("ACCEL_BACKEND", "numpy")
    assert backend_for("auto", there).name == "numpy"


def test_no_free_memory_is_asked_again_but_a_missing_driver_is_not(monkeypatch):
    outcomes = [
        {"empty": OutOfMemoryError("full")},
        {"count_error": CUDARuntimeError(35, "x"), "driver": 0},
    ]
    calls = []

    def failing(index, import_module):
        calls.append(index)
        return real(index, import_fake(fake_cupy(**outcomes[min(len(calls) - 1, 1)])))

    real = cupy_backend.probe
    cupy_backend._probe_once.cache_clear()
    monkeypatch.setattr(cupy_backend, "probe", failing)
    for message in ("no free memory", "no NVIDIA driver", "no NVIDIA driver"):
        with pytest.raises(BackendUnavailable, match=message):
            get_backend("cupy")
    assert len(calls) == 2
    cupy_backend._probe_once.cache_clear()


def test_cupy_backend_on_a_stand_in():
    """Every door of CupyBackend itself, on device 1 while device 0 is current."""
    cupy = fake_cupy(count=2)
    backend = cupy_backend.probe(1, import_fake(cupy))
    values = np.arange(6.0).reshape(2, 3)
    there = backend.asarray(values, dtype=np.float32)
    assert (there.home, there.dtype) == (1, np.float32)
    back = backend.to_numpy(there)
    assert type(back) is np.ndarray
    assert (back == values).all()
    with backend.context():
        assert cupy.current[-1] == 1
        assert backend.scalars(there.sum(), there.max()) == (15.0, 5.0)
    assert cupy.current == [0]
    assert backend.scalars(there.sum()) == (15.0,)
    backend.synchronize()
    part = 2**33 // cupy_backend.WORKING_PART  # of the memory of the fake
    blocks = list(backend.map_blocks(lambda rows: rows, 10, part // 4))
    assert [(b.start, b.stop) for b in blocks] == [(0, 4), (4, 8), (8, 10)]
    assert backend.with_fallback("why").report().fallback == "why"


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
    assert backend.name == "strict" or backend.asarray(there) is there
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


def test_copies_from_pinned_memory_are_waited_for():
    """CuPy's are asynchronous: the caller may write over the array as soon as it has the other."""
    plain, pinned = np.zeros(4), np.zeros(4)
    cupy = fake_cupy(pinned=(pinned.ctypes.data,))
    backend = cupy_backend.probe(0, import_fake(cupy))
    there = backend.asarray(plain)
    for array in (pinned, there, [1.0]):
        backend.asarray(array)
    assert cupy.blocked == [False, True, False, False]


def test_the_folder_is_a_package_and_can_be_called():
    import accel.backends.cupy_backend as by_path

    assert by_path is cupy_backend
    assert accel.backends.numpy_backend is numpy_backend
    assert accel.backends() == accel.list_backends()


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


def test_control_c_does_not_cut_the_import_of_numba_in_two(monkeypatch):
    """Half imported it could not be imported again: the signal waits until it is whole."""
    numpy_backend._kernels.cache_clear()
    real, seen = builtins.__import__, []

    def interrupted(name, *arguments, **options):
        if name == "accel.backends.kernels" and not seen:
            seen.append(name)
            os.kill(os.getpid(), signal.SIGINT)
        return real(name, *arguments, **options)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "__import__", interrupted)
            with pytest.raises(KeyboardInterrupt):
                numpy_backend._kernels()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen
    assert "accel.backends.kernels.cpu" in sys.modules
    assert numpy_backend._kernels()[1] == ""
