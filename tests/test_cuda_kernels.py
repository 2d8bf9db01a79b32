"""The CUDA source without a GPU: compiled for every architecture, and run on the host."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from accel.backends import cupy_backend
from accel.backends.kernels import adam_cuda, cuda
from accel.losses import LOSSES
from accel.solvers.rules import Adam
from tests.storage import DTYPES, SHAPES, arrays, assert_is_answer

HERE = Path(__file__).parent
THREADS = 64  # of a block on the host: two warps are enough to be wrong
ARCHITECTURES = (70, 75, 80, 86, 89, 90, 100, 120)
VARIANTS = [*((dtype, 1) for dtype in DTYPES), ("float32", 3), ("float64", 2), ("uint8", 16)]
STAGING = "extern __shared__ __align__(16) unsigned char shared[];"

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")


@functools.cache
def nvrtc():
    """libnvrtc of NVIDIA's package, which needs neither GPU nor driver; None where missing."""
    if importlib.util.find_spec("nvidia") is None:
        return None
    import nvidia

    found = [path for root in nvidia.__path__ for path in Path(root).rglob("libnvrtc.so.*")]
    # the oldest: 13, which torch brings, no longer compiles for sm_70
    return ctypes.CDLL(str(min(found, key=lambda path: path.name))) if found else None


def compile_cubin(*options, path=cuda.SOURCE):
    """Return code and log of a compilation to machine code, registers included."""
    library, program, size = nvrtc(), ctypes.c_void_p(), ctypes.c_size_t()
    source = path.read_text().encode()
    library.nvrtcCreateProgram(ctypes.byref(program), source, b"linear_pass.cu", 0, None, None)
    texts = [option.encode() for option in options]
    code = library.nvrtcCompileProgram(program, len(texts), (ctypes.c_char_p * len(texts))(*texts))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return code, log.value.decode()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_compiles_everywhere_without_spilling_registers(architecture):
    if nvrtc() is None:
        pytest.skip("no NVRTC: it comes with the extra test on Linux")
    for dtype, n_outputs in [*VARIANTS, ("float64", 16)]:
        code, log = compile_cubin(
            f"-arch=sm_{architecture}", "--ptxas-options=-v", *cuda.options(dtype, n_outputs)
        )
        assert code == 0, log
        spills = re.findall(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
        assert len(spills) == 2, log
        assert set(spills) == {("0", "0")}, log


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", adam_cuda.REALS)
def test_adam_compiles_everywhere_without_spilling_registers(architecture, dtype):
    if nvrtc() is None:
        pytest.skip("no NVRTC: it comes with the extra test on Linux")
    flags = (f"-arch=sm_{architecture}", "--ptxas-options=-v", *adam_cuda.options(dtype))
    code, log = compile_cubin(*flags, path=adam_cuda.SOURCE)
    assert code == 0, log
    assert re.findall(r"(\d+) bytes spill", log) in ([], ["0", "0"]), log


ADAM_MAIN = """
extern "C" void shim_adam(
    int grid, REAL* params, const REAL* gradient, REAL* m, REAL* v, double beta_1, double beta_2,
    double epsilon, double rate, long long n) {
    shim_launch(grid, 0, [=] { adam(params, gradient, m, v, beta_1, beta_2, epsilon, rate, n); });
}
"""


class AdamCupy:
    """NumPy in the role of CuPy, with RawModule running adam.cu on the host."""

    float64, int64 = np.float64, np.int64

    def __init__(self, folder):
        self.folder = folder

    def RawModule(self, code, options):
        source, target = self.folder / "adam.cpp", self.folder / "adam.so"
        source.write_text(f'#include "cuda_shim.h"\nusing std::sqrt;\n{code}{ADAM_MAIN}')
        flags = ["-std=c++20", "-O1", "-pthread", f"-I{HERE}", "-shared", "-fPIC", *options]
        subprocess.run(["g++", *flags, str(source), "-o", str(target)], check=True)
        library = ctypes.CDLL(str(target))

        def launch(grid, block, arguments):
            assert block == (adam_cuda.THREADS,)
            kinds = [ctypes.c_void_p] * 4 + [ctypes.c_double] * 4 + [ctypes.c_longlong]
            values = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
            library.shim_adam(grid[0], *(kind(v) for kind, v in zip(kinds, values, strict=True)))

        return SimpleNamespace(get_function=lambda name: launch)


@needs_compiler
@pytest.mark.parametrize("dtype", adam_cuda.REALS)
def test_adam_on_the_host_is_the_rule(dtype, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(adam_cuda, "MOST_BLOCKS", 3)
    plain = Adam(0.8, 0.95, 1e-5)
    fused = Adam(0.8, 0.95, 1e-5, fused=adam_cuda.AdamUpdate(AdamCupy(tmp_path), dtype))
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


def host_source(plant):
    source = cuda.SOURCE.read_text()
    assert STAGING in source
    source = source.replace(STAGING, "unsigned char* shared = shim_shared;")
    wrong, right = plant or ("", "")
    assert right in source
    source = source.replace(right, wrong, 1) if plant else source
    return '#include "cuda_shim.h"\n' + source + '\n#include "cuda_shim_main.h"\n'


def build(folder, dtype, n_outputs, *flags, plant=None):
    source, target = folder / "kernel.cpp", folder / f"{dtype}-{n_outputs}"
    source.write_text(host_source(plant))
    macros = cuda.options(dtype, n_outputs, THREADS)
    command = ["g++", "-std=c++20", "-O1", "-pthread", f"-I{HERE}", *macros, *flags]
    done = subprocess.run(
        [*command, str(source), "-o", str(target)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return target


class HostCupy:
    """NumPy in the role of CuPy, with RawModule running the kernels on the host."""

    def __init__(self, library, processors):
        self.library, self.processors = library, processors
        self.cuda = SimpleNamespace(
            Device=lambda: SimpleNamespace(attributes={"MultiProcessorCount": processors})
        )

    def __getattr__(self, name):
        return getattr(np, name)

    def RawModule(self, code, options):
        def get_function(name):
            def launch(grid, block, arguments, shared_mem=0):
                assert block == (cuda.THREADS,)
                values = [
                    ctypes.c_void_p(a.ctypes.data)
                    if isinstance(a, np.ndarray)
                    else (ctypes.c_longlong if a.dtype == np.int64 else ctypes.c_int)(int(a))
                    for a in arguments
                ]
                getattr(self.library, f"shim_{name}")(grid[0], shared_mem, *values)

            return launch

        return SimpleNamespace(get_function=get_function)


@needs_compiler
@pytest.mark.parametrize(("dtype", "n_outputs"), VARIANTS)
def test_launch_and_kernel_on_the_host(dtype, n_outputs, tmp_path, monkeypatch):
    library = ctypes.CDLL(str(build(tmp_path, dtype, n_outputs, "-shared", "-fPIC")))
    monkeypatch.setattr(cuda, "THREADS", THREADS)
    loss = LOSSES["logistic" if n_outputs == 1 else "softmax"]
    for shape in [*SHAPES[:-1], (2, 20_000 // n_outputs)]:
        X, labels, s, W, b = arrays(dtype, shape, n_outputs)
        Y = loss.encode_target(labels)
        for processors in (1, 3):
            run = cuda.LinearPass(HostCupy(library, processors), dtype, n_outputs)
            got = run(X, Y, s, W, b)
            assert_is_answer(got, X, labels, s, W, b)
        again = run(X, Y, s, W, b)
        assert all((one == two).all() for one, two in zip(got, again, strict=True))
        assert got[1].shape == (W.size,)
    assert_is_answer(run(X, Y, s, W, None), X, labels, s, W, 0 * b)


SANITIZERS = {"plain": [], "address": ["-fsanitize=address,undefined", "-g"],
              "thread": ["-fsanitize=thread", "-g"]}  # fmt: skip


def run_program(program, dtype, shape, n_outputs, staged, blocks):
    X, labels, s, W, b = arrays(dtype, shape, n_outputs)
    Y = LOSSES["logistic" if n_outputs == 1 else "softmax"].encode_target(labels)
    head = np.array([*shape, staged, blocks], dtype=np.int64)
    data = b"".join(np.ascontiguousarray(a).tobytes() for a in (head, X, Y, s, W, b))
    done = subprocess.run([str(program)], input=data, capture_output=True)
    if done.returncode == 0:
        gradient = np.frombuffer(done.stdout[8:], dtype=W.dtype)
        value = np.frombuffer(done.stdout[:8])[0]
        assert_is_answer((value, gradient[: W.size], gradient[W.size :]), X, labels, s, W, b)
    return done


@needs_compiler
@pytest.mark.parametrize("sanitizer", SANITIZERS)
@pytest.mark.parametrize(("dtype", "n_outputs"), [("float32", 1), ("uint8", 3)])
def test_runs_clean_under_sanitizers(tmp_path, dtype, n_outputs, sanitizer):
    program = build(tmp_path, dtype, n_outputs, *SANITIZERS[sanitizer])
    for shape in [(1, 1), (5, 1), (3, 33), (13, 70)]:
        for staged in (0, 1):
            done = run_program(program, dtype, shape, n_outputs, staged, blocks=2)
            assert done.returncode == 0, done.stderr.decode()


@needs_compiler
def test_thread_sanitizer_finds_a_missing_barrier(tmp_path):
    program = build(
        tmp_path, "float32", 1, *SANITIZERS["thread"], plant=("", "            __syncthreads();\n")
    )
    data_races = [
        b"data race" in run_program(program, "float32", (13, 70), 1, 1, 2).stderr for _ in range(3)
    ]
    assert any(data_races)


@needs_compiler
def test_address_sanitizer_finds_a_wrong_index(tmp_path):
    plant = ("i <= rows * d", "i < rows * d")
    program = build(tmp_path, "float32", 1, *SANITIZERS["address"], plant=plant)
    assert b"heap-buffer-overflow" in run_program(program, "float32", (13, 70), 1, 1, 1).stderr


def test_the_kernel_is_used_only_where_it_is_asked_for(monkeypatch):
    backend = cupy_backend.CupyBackend(name="cupy", cupy=np, xp=np, device=None)
    X = np.zeros((4, 3), dtype=np.float32)
    assert backend.linear_pass("logistic", X, 1) is None
    monkeypatch.setenv(cupy_backend.KERNELS_VARIABLE, "1")
    assert isinstance(backend.linear_pass("logistic", X, 1), cuda.LinearPass)
    assert isinstance(backend.linear_pass("softmax", X, 16), cuda.LinearPass)
    assert backend.linear_pass("softmax", X, 17) is None
    assert backend.linear_pass("logistic", X.astype(np.int32), 1) is None
    assert backend.linear_pass("logistic", np.asfortranarray(X), 1) is None
