"""What a pass costs on a cluster beside the computing: milliseconds, by number of partitions.

``python -m bench.distributed [WORKERS]`` starts workers of one thread on this machine and lets
gradient descent pass over rows that take no time to speak of.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings

import numpy as np

from accel import LogisticRegression

PARTITIONS = (1, 2, 8, 16, 64)
PASSES = 30


def overhead_ms(n_partitions: int, n_features: int = 20) -> tuple[float, float]:
    """Median and largest time from one update to the next."""
    import dask.array as da

    rng = np.random.default_rng(0)
    X = rng.normal(size=(100 * n_partitions, n_features)).astype(np.float32)
    y = rng.integers(0, 2, len(X))
    seen: list[float] = []
    model = LogisticRegression(
        solver="gd", max_iter=PASSES, tol=0.0, callback=lambda _: seen.append(time.perf_counter())
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it does not converge
        model.fit(da.from_array(X, chunks=(100, -1)), y)
    times = 1e3 * np.diff(seen)
    return statistics.median(times), float(np.max(times))


def main(n_workers: int) -> None:
    """Print a line for each number of partitions."""
    from dask.distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        overhead_ms(2)  # imports
        for n_partitions in PARTITIONS:
            median, largest = overhead_ms(n_partitions)
            print(f"{n_partitions:4} partitions: {median:6.1f} ms a pass, at most {largest:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
