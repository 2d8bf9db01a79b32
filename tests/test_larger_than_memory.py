"""X four times the memory that a process may take: the same model, and the limit is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

resource = pytest.importorskip("resource", reason="no limits on this system")

LIMIT = 112 << 20  # far from where a block (96) or a sample (128) is halved
ROWS, COLUMNS = 4 * LIMIT // (4 * 256), 256

# argv: file, limit in bytes or 0, free bytes to plan with or 0; prints what came of it
RUN = """
import gc, json, resource, sys
import numpy as np
from accel import LogisticRegression
from accel.backends import get_backend, memory

def status(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))

path, limit, free = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
y = np.arange(ROWS) % 2 == 0
y[::3] = True
get_backend("numpy").load_kernels()
small = np.random.default_rng(0).normal(size=(70000, 256)).astype(np.float32)  # compiles, warms up
LogisticRegression(placement="stream").fit(small, y[:70000])
del small
gc.collect()
X = np.load(path) if not limit else path
options = {"tol": 1e-6}
if limit:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + limit, hard))
    free = memory.free_bytes()
    try:
        np.ones(2 * limit, dtype=np.uint8)
        raise SystemExit("the limit does not hold")
    except MemoryError:
        pass
elif free:
    memory.free_bytes = lambda: free
    options["placement"] = "stream"
open("/proc/self/clear_refs", "w").write("5")  # the peak starts anew
before = status("VmRSS")
model = LogisticRegression(backend="numpy", **options).fit(X, y)
print(json.dumps({
    "free": free, "taken": status("VmHWM") - before, "first": model.account_.reasons[0],
    "error": model.gradient_norm_, "coef": model.coef_.tolist(), "passes": model.n_passes_,
}))
""".replace("ROWS", str(ROWS))


def run(path, limit=0, free=0):
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(path), str(limit), str(free)],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "2", "MALLOC_ARENA_MAX": "2"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peaks are read from /proc")
def test_four_times_the_memory(tmp_path):
    rng = np.random.default_rng(1)
    X = np.lib.format.open_memmap(
        tmp_path / "X.npy", mode="w+", dtype=np.float32, shape=(ROWS, COLUMNS)
    )
    for k in range(0, ROWS, 8192):
        X[k : k + 8192] = rng.normal(size=(min(8192, ROWS - k), COLUMNS))
    X.flush()
    size = X.nbytes
    del X
    limited = run(tmp_path / "X.npy", limit=LIMIT)
    assert size == 4 * LIMIT
    assert "X is streamed from disk" in limited["first"]
    assert limited["taken"] < LIMIT
    assert limited["error"] <= 1e-6
    same_blocks = run(tmp_path / "X.npy", free=limited["free"])
    assert "streamed from memory" in same_blocks["first"]
    assert limited["coef"] == same_blocks["coef"]
    in_memory = run(tmp_path / "X.npy")
    assert "streamed" not in in_memory["first"]
    np.testing.assert_allclose(limited["coef"], in_memory["coef"], rtol=1e-3, atol=1e-5)
    assert limited["passes"] < in_memory["passes"] / 2
