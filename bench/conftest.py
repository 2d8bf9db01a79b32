"""The row of a benchmark, and the file that keeps the rows of a run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from accel.backends import BackendUnavailable, get_backend
from accel.benchmark.machine import facts

RESULTS = Path(__file__).parent / "results"


def pytest_addoption(parser):
    """Options of this folder."""
    parser.addoption(
        "--record", metavar="NAME", help="write the rows to bench/results/NAME-<commit>.json"
    )


@pytest.fixture
def usable():
    """Skips with the reason where a backend cannot be used."""

    def check(name):
        try:
            return get_backend(name)
        except BackendUnavailable as error:
            pytest.skip(str(error))

    return check


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session):
    """Write one JSON for the run."""
    name = session.config.getoption("--record")
    measured = getattr(session.config, "_benchmarksession", None)
    rows = [] if measured is None else [_row(b) for b in measured.benchmarks if not b.has_error]
    if not name or not rows:
        return
    machine = facts()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{machine['commit'].rstrip('+') or 'nocommit'}.json"
    record = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "rows": rows,
    }
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"\n{len(rows)} rows written to {path}")


def _row(measured):
    stats = measured.stats
    return {
        **measured.extra_info,
        "warm_median_s": stats.median,
        "warm_iqr_s": stats.iqr,
        "rounds": stats.rounds,
    }
