"""NumPy in the role of CuPy, with the CUDA kernels compiled by g++ and run on the host.

Kernels run as tests/cuda_shim.h says: on fibers in turn, or under the sanitizers a thread for
each CUDA thread. Every function of the array
namespace, every operator and every launch is counted, and so is what comes to the host.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import struct
import subprocess
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from accel.backends.cupy_backend import CupyBackend
from tests.fake_cupy import CUDARuntimeError, OutOfMemoryError

HERE = Path(__file__).parent
FOLDER = Path(tempfile.gettempdir()) / "accel-cuda-host"
SHARED = "extern __shared__ __align__(16) unsigned char shared[];"
ON_THE_HOST = "unsigned char* shared = shim_block->shared;"
FLAGS = ("-std=c++20", "-O1", "-w", "-pthread", "-ffp-contract=off", f"-I{HERE}")
KERNEL = re.compile(r'extern "C" __global__[^{;]*?\b(\w+)\(\s*([^()]*?)\)\s*{', re.DOTALL)


def has_compiler():
    return shutil.which("g++") is not None


def signatures(code):
    """Name of each kernel -> (type, name) of its parameters."""
    found = {}
    for name, text in KERNEL.findall(code):
        text = " ".join(re.sub(r"//.*", "", text).split()).replace("__restrict__ ", "")
        found[name] = [
            re.match(r"(.*[ *])(\w+)$", part.strip()).groups() for part in text.split(",")
        ]
    return found


def host_source(code, plant=None):
    """The text for g++: the shim, the kernels, a launcher for each of them."""
    if plant:
        wrong, right = plant
        assert right in code, right
        code = code.replace(right, wrong, 1)
    found = signatures(code)
    code = code.replace(SHARED, ON_THE_HOST)
    parts = ['#include "cuda_shim.h"', code]
    for name, kinds in found.items():
        declared = ", ".join(f"{kind} {name}" for kind, name in kinds)
        passed = ", ".join(name for _, name in kinds)
        parts.append(
            f'extern "C" void launch_{name}(int grid, int threads, int cluster, int shared_bytes, '
            f"{declared}) {{\n    shim_launch(grid, threads, cluster, shared_bytes, "
            f"[=] {{ {name}({passed}); }});\n}}"
        )
    return "\n".join(parts)


def built(text, options, flags, suffix):
    """The file that g++ makes of a text, made once."""
    macros = [option for option in options if option.startswith("-D")]
    shim = (HERE / "cuda_shim.h").read_text()
    key = hashlib.sha256(repr((text, shim, macros, flags)).encode()).hexdigest()[:24]
    target = FOLDER / f"{key}{suffix}"
    if not target.exists():
        FOLDER.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            source, made = Path(folder) / "kernel.cpp", Path(folder) / "made"
            source.write_text(text)
            command = ["g++", *FLAGS, *flags, *macros, str(source), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-4000:]
            shutil.move(made, target)
    return target


def library(code, options, plant=None):
    """Launchers for ctypes."""
    text = host_source(code, plant)
    return ctypes.CDLL(str(built(text, options, ("-shared", "-fPIC"), ".so")))


def program(code, name, options, flags, plant=None):
    """A program for the sanitizers: arguments from standard input, arrays to standard output."""
    kinds = signatures(code)[name]
    reads = [
        f"auto* {name} = ({kind})take_array();" if "*" in kind else f"auto {name} = take<{kind}>();"
        for kind, name in kinds
    ]
    passed = ", ".join(name for _, name in kinds)
    main = f"""
#include <memory>
template <typename T> static T take() {{
    T value;
    if (fread(&value, sizeof(T), 1, stdin) != 1) std::abort();
    return value;
}}
static std::vector<std::unique_ptr<std::vector<unsigned char>>> arrays;
static void* take_array() {{
    const long long bytes = take<long long>();
    if (bytes < 0) return nullptr;
    arrays.push_back(std::make_unique<std::vector<unsigned char>>(bytes));
    if (fread(arrays.back()->data(), 1, bytes, stdin) != (size_t)bytes) std::abort();
    return arrays.back()->data();
}}
int main() {{
    const int grid = take<int>(), threads = take<int>();
    const int cluster = take<int>(), shared = take<int>();
    {" ".join(reads)}
    launch_{name}(grid, threads, cluster, shared, {passed});
    for (const auto& array : arrays) fwrite(array->data(), 1, array->size(), stdout);
}}
"""
    return built(host_source(code, plant) + main, options, ("-DSHIM_THREADS", *flags), ".exe")


def run_program(path, launch, arguments):
    """Run it; the arrays among the arguments are written over where it ends well."""
    data = struct.pack("4i", *launch)
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            data += struct.pack("q", argument.nbytes) + argument.tobytes()
        elif argument.dtype == np.uint64:
            data += struct.pack("q", -1)
        else:
            data += argument.tobytes()
    done = subprocess.run([str(path)], input=data, capture_output=True)
    start = 0
    if done.returncode == 0:
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                part = done.stdout[start : start + argument.nbytes]
                argument[...] = np.frombuffer(part, argument.dtype).reshape(argument.shape)
                start += argument.nbytes
    return done


def c_value(argument):
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(argument.ctypes.data)
    kinds = {"uint64": ctypes.c_void_p, "int64": ctypes.c_longlong, "int32": ctypes.c_int,
             "float64": ctypes.c_double}  # fmt: skip
    return kinds[argument.dtype.name](argument.item())


class HostArray(np.ndarray):
    """Lies on the fake GPU; what is asked of it is counted."""

    calls: ClassVar[Counter] = Counter()
    inside = 0  # depth of functions of the namespace, whose own operators do not count

    @property
    def data(self):
        return SimpleNamespace(ptr=self.ctypes.data)

    @property
    def device(self):
        return SimpleNamespace(id=0)

    def get(self):
        HostArray.calls["to the host"] += 1
        return np.array(self.view(np.ndarray))

    def astype(self, dtype, copy=True):
        if not copy and self.dtype == dtype:
            return self
        HostArray.calls["astype"] += 1
        return super().astype(dtype, copy=copy)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if not HostArray.inside:
            HostArray.calls[ufunc.__name__] += 1
        plain = [np.asarray(x) if isinstance(x, HostArray) else x for x in inputs]
        if out is not None:
            options["out"] = tuple(np.asarray(x) for x in out)
        result = getattr(ufunc, method)(*plain, **options)
        if out is not None:
            return out[0]
        return np.asarray(result).view(HostArray)

    def __float__(self):
        raise AssertionError("a number of the device was taken without `scalars`")

    __bool__ = __int__ = __float__


class HostDevice:
    id = 0

    def __init__(self, capability):
        self.compute_capability = str(capability)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass


class HostCupy:
    """The module."""

    def __init__(self, processors=2, capability=90, plant=None):
        self.launched = []  # name, grid, threads, shared bytes
        self.compiled = []  # options of each module
        self.plant = plant
        facts = {
            "major": capability // 10, "minor": capability % 10, "multiProcessorCount": processors,
            "sharedMemPerBlockOptin": (227 if capability >= 90 else 99) << 10,
            "l2CacheSize": 50 << 20, "name": b"Host", "totalGlobalMem": 8 << 30,
        }  # fmt: skip
        self.cuda = SimpleNamespace(
            runtime=SimpleNamespace(
                getDeviceProperties=lambda index: facts,
                memoryTypeHost=1,
                pointerGetAttributes=lambda place: SimpleNamespace(type=0),
                CUDARuntimeError=CUDARuntimeError,
                memGetInfo=lambda: (6 << 30, 8 << 30),
                driverGetVersion=lambda: 13000,
                runtimeGetVersion=lambda: 13000,
            ),
            memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
            get_current_stream=lambda: SimpleNamespace(synchronize=lambda: None),
        )
        self.__version__ = "host"

    def get_default_memory_pool(self):
        none = dict.fromkeys(
            ("free_bytes", "get_limit", "used_bytes", "free_all_blocks"), lambda: 0
        )
        return SimpleNamespace(**none)

    get_default_pinned_memory_pool = get_default_memory_pool

    def asarray(self, array, dtype=None, blocking=False):
        return np.asarray(array, dtype=dtype).view(HostArray)

    def asnumpy(self, array):
        return array.get()

    def astype(self, array, dtype, copy=True):
        return array.astype(dtype, copy=copy)

    def __getattr__(self, name):
        member = getattr(np, name)
        if not callable(member) or isinstance(member, type):
            return member

        def called(*arguments, device=None, **options):
            HostArray.calls[name] += 1
            HostArray.inside += 1
            try:
                result = member(*arguments, **options)
            finally:
                HostArray.inside -= 1
            if isinstance(result, np.ndarray | np.generic):
                return np.asarray(result).view(HostArray)
            return result

        return called

    def RawModule(self, code, options):
        self.compiled.append(options)
        made = library(code, options, self.plant if self.plant and self.plant[1] in code else None)
        cluster = next((int(o[10:]) for o in options if o.startswith("-DCLUSTER=")), 1)
        return SimpleNamespace(get_function=lambda name: HostFunction(self, made, name, cluster))


class HostFunction:
    """A kernel to be launched; asking for more shared memory than it may have fails."""

    def __init__(self, cupy, made, name, cluster):
        self.cupy, self.name, self.cluster = cupy, name, cluster
        self._launch = getattr(made, f"launch_{name}")
        self.max_dynamic_shared_size_bytes = 48 << 10

    def __call__(self, grid, block, arguments, shared_mem=0):
        assert shared_mem <= self.max_dynamic_shared_size_bytes
        assert grid[0] % self.cluster == 0
        HostArray.calls[f"launch {self.name}"] += 1
        self.cupy.launched.append((self.name, grid[0], block[0], shared_mem))
        values = [c_value(argument) for argument in arguments]
        self._launch(grid[0], block[0], self.cluster, shared_mem, *values)


def host_backend(**options):
    """The real CupyBackend on the fake GPU."""
    cupy = HostCupy(**options)
    device = HostDevice(options.get("capability", 90))
    return CupyBackend("cupy", cupy, cupy, device)


@contextmanager
def counted():
    """A Counter of what is asked of the fake GPU inside."""
    before = Counter(HostArray.calls)
    found = Counter()
    yield found
    found.update(HostArray.calls - before)
