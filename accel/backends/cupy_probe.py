"""The proof that a GPU computes through CuPy, or what is wrong and what mends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from accel.backends.base import BackendUnavailable, first_line

INSTALL = 'pip install "accel[cuda12]" (or "accel[cuda13]" where nvidia-smi shows CUDA 13)'
DRIVER = "install or update the NVIDIA driver until nvidia-smi shows CUDA 12 or newer"

# cudaError_t, from the CUDA runtime API's driver_types.h.
INSUFFICIENT_DRIVER, NO_DEVICE = 35, 100
# What refuses memory, and its codes: of cuBLAS "not initialized", as where a handle has no room,
# and "alloc failed" (cublas_api.h); a probe has proven that it is there.
OUT_OF_MEMORY = {"CUDARuntimeError": (2,), "CUDADriverError": (2,), "CUBLASError": (1, 3)}


class Proven(NamedTuple):
    """What a `CupyBackend` is made of.

    Parameters
    ----------
    name : str
        "cupy", or "cupy:1" and so on.
    cupy, xp : module
        CuPy, and its namespace of the array API.
    device : cupy.cuda.Device
        The GPU.
    """

    name: str
    cupy: Any
    xp: Any
    device: Any


def prove(index: int, import_module: Callable[[str], Any]) -> Proven:
    """Prove that a GPU computes: an allocation, a run-time compilation and a matrix product.

    Parameters
    ----------
    index : int
        Device number.
    import_module : callable
        `importlib.import_module`, or a stand-in.

    Returns
    -------
    Proven
        Usable.

    Raises
    ------
    BackendUnavailable
        With the first thing that failed and what mends it.

    Notes
    -----
    ``import cupy`` succeeds without a driver, and a driver whose libraries do not fit shows only
    at the first allocation, compilation (NVRTC) or matrix product (cuBLAS): so all are done here.
    """
    name = f"cupy:{index}" if index else "cupy"
    try:
        cupy = import_module("cupy")
        xp = import_module("array_api_compat.cupy")
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == "cupy"
        reason = "CuPy is not installed" if missing else f"CuPy does not load ({first_line(error)})"
        raise BackendUnavailable(name, reason, INSTALL) from None
    count = _device_count(cupy, name)
    if index >= count:
        raise BackendUnavailable(
            name,
            f"there is no device {index}: the driver shows {count}, counted from 0",
            "use 'cupy' for device 0, or check CUDA_VISIBLE_DEVICES",
        )
    device = cupy.cuda.Device(index)
    with device:
        _run_steps(cupy, name)
    return Proven(name, cupy, xp, device)


def _device_count(cupy: Any, name: str) -> int:
    runtime = cupy.cuda.runtime
    try:
        count = int(runtime.getDeviceCount())
    except runtime.CUDARuntimeError as error:
        if error.status == NO_DEVICE:
            count = 0
        elif error.status == INSUFFICIENT_DRIVER and runtime.driverGetVersion() == 0:
            raise BackendUnavailable(name, "no NVIDIA driver is installed", DRIVER) from None
        elif error.status == INSUFFICIENT_DRIVER:
            driver = cuda_version(runtime.driverGetVersion())
            needed = cuda_version(runtime.runtimeGetVersion())
            reason = f"the NVIDIA driver is too old (it serves CUDA {driver}, CuPy needs {needed})"
            raise BackendUnavailable(name, reason, DRIVER) from None
        else:
            raise BackendUnavailable(name, first_line(error), DRIVER) from None
    if count == 0:
        mend = "check that nvidia-smi lists a GPU and that CUDA_VISIBLE_DEVICES does not hide it"
        raise BackendUnavailable(name, "the driver sees no GPU", mend)
    return count


def _allocate(cupy: Any) -> None:
    cupy.empty(4, dtype=cupy.float32)  # empty: filling it would compile a kernel


def _compile(cupy: Any) -> None:
    source = 'extern "C" __global__ void probe(float* x) { x[threadIdx.x] *= 2.0f; }'
    x = cupy.ones(4, dtype=cupy.float32)
    cupy.RawKernel(source, "probe")((1,), (4,), (x,))
    if float(x.sum()) != 8.0:
        raise RuntimeError(f"a kernel computed {x} instead of 2")


def _multiply(cupy: Any) -> None:
    x = cupy.ones((32, 32), dtype=cupy.float32)
    if float((x @ x).sum()) != 32.0**3:
        raise RuntimeError("a matrix product came out wrong")


# What is done, what it means when it fails, what mends it.
PROBE_STEPS = (
    (_allocate, "the GPU refuses memory", DRIVER),
    (_compile, "a kernel does not compile and run, NVRTC may be missing", INSTALL),
    (_multiply, "a matrix product does not run, cuBLAS may be missing", INSTALL),
)


def _run_steps(cupy: Any, name: str) -> None:
    """Run the steps of the probe; whatever one raises becomes the refusal."""
    for step, reason, mend in PROBE_STEPS:
        try:
            step(cupy)
        except Exception as error:
            is_lasting = not is_out_of_memory(cupy, error)
            if not is_lasting:
                reason = "the GPU has no free memory"
                mend = "end other programs that use it (nvidia-smi lists them)"
            reason = f"{reason} ({first_line(error)})"
            raise BackendUnavailable(name, reason, mend, is_lasting) from None


def is_out_of_memory(cupy: Any, error: BaseException) -> bool:
    """Whether CuPy or a CUDA library refuses memory with this error."""
    return isinstance(error, cupy.cuda.memory.OutOfMemoryError) or getattr(
        error, "status", None
    ) in OUT_OF_MEMORY.get(type(error).__name__, ())


def cuda_version(number: int) -> str:
    """CUDA counts 1000 * major + 10 * minor."""
    return f"{number // 1000}.{number % 1000 // 10}"
