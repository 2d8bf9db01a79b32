"""What a fit tells while it runs: passes over X, bytes, rate, time left."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from accel import LogisticRegression
from accel.progress import words
from accel.solvers import Progress, minimize, plan
from tests.test_objective import make, problem


@pytest.mark.parametrize("coordinates", ["users", "standardised", "row space"])
def test_progress_tells_passes_over_X_and_their_bytes(backend, rng, coordinates):
    n, d = (24, 90) if coordinates == "row space" else (120, 5)
    X, labels = problem(rng, n=n, d=d)
    objective = make(backend, X, labels, alpha=0.01, dtype="float32")
    zero = backend.asarray(np.zeros(objective.network.n_params, np.float32))
    name = "gd" if coordinates == "users" else "lbfgs"
    way = plan(objective, zero, name, learning_rate=0.1, max_iter=1000)
    seen = []

    def look(progress):
        passes = sum(objective.passes.values())
        seen.append((progress.n_passes, progress.bytes_read) == (passes, passes * n * d * 4))

    minimize(way.problem, way.start, way.solver, tol=1e-9, max_iter=3, callback=look)
    assert len(seen) == 3
    assert all(seen)


def test_bytes_of_a_sparse_matrix_are_those_stored(rng):
    X, y = problem(rng, n=80)
    X = sparse.csr_array(np.where(X > 1, X, 0))
    seen = []
    LogisticRegression(callback=seen.append).fit(X, y)
    stored = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    assert seen[-1].bytes_read == seen[-1].n_passes * stored > 0


def test_the_line_of_a_large_fit_tells_its_rate_in_80_columns():
    def at(n_iter, elapsed_s, n_passes, bytes_read, error=1e-2):
        return Progress(n_iter, 0.198934, error, elapsed_s, tol=1e-4, max_iter=10_000,
                        params=lambda: None, n_passes=n_passes, bytes_read=bytes_read)  # fmt: skip

    first = at(0, 100.0, 2, 2 << 30, error=1.0)
    text, left_s = words(at(1234, 103.0, 4321, (2 << 30) + 63_900_000_000), first)
    assert text == "1234: 0.198934, |g| 1.0e-02, 4321 passes, 21.3 GB/s"
    assert left_s == pytest.approx(3.0)
    assert len(f"{text}, 120 min left") + 15 <= 80
    assert "639 MB/s" in words(at(9, 200.0, 40, (2 << 30) + 63_900_000_000), first)[0]
    assert words(at(9, 103.0, 40, (2 << 30) + 1000), first)[0] == "9: 0.198934, gradient 1.0e-02"
    assert words(first, first)[0] == "0: 0.198934, gradient 1.0e+00"
