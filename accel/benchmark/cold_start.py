"""The first fit of a new process, before any kernel was compiled: what a user waits for once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from accel.benchmark.needs import open_backend

# Where CuPy and numba keep what they compiled.
CACHES = ("CUPY_CACHE_DIR", "NUMBA_CACHE_DIR")
TIMEOUT_S = 120
CODE = """
import json, time
began = time.perf_counter()
from sklearn.datasets import load_digits
from accel import LogisticRegression
X, y = load_digits(return_X_y=True)
loaded = time.perf_counter()
model = LogisticRegression(backend={backend!r})
model.fit(X / 16, y)
first = time.perf_counter()
model.fit(X / 16, y)
print(json.dumps({{"import_s": loaded - began, "first_s": first - loaded,
                   "second_s": time.perf_counter() - first}}))
"""


def cold_start(backend_name: str) -> dict[str, float]:
    """Seconds of the import, the first fit and the second, with empty caches of kernels.

    Parameters
    ----------
    backend_name : str
        Backend of the fits.

    Returns
    -------
    dict
        import_s, first_s, second_s.
    """
    open_backend(backend_name)
    with tempfile.TemporaryDirectory() as folder:
        empty = {name: str(Path(folder) / name) for name in CACHES}
        done = subprocess.run(
            [sys.executable, "-c", CODE.format(backend=backend_name)],
            env={**os.environ, **empty}, capture_output=True, text=True, check=True,
            timeout=TIMEOUT_S,
        )  # fmt: skip
    seconds: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return seconds
