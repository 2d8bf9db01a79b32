"""Options, what a benchmark needs, and the file that keeps the rows of a run."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from accel.benchmark import rows
from accel.benchmark.device_calls import DeviceCall, device_samples
from accel.benchmark.machine import facts
from accel.benchmark.needs import Absent
from accel.benchmark.timer import first_call, rounds_for

RESULTS = Path(__file__).parent / "results"
SUITE = "test_convergence.py"
ROWS = pytest.StashKey[list]()


def pytest_addoption(parser):
    """Options of this folder."""
    parser.addoption("--quick", action="store_true", help="fewer cases: under 2 minutes on 2 cores")
    parser.addoption("--convergence", action="store_true", help="run test_convergence.py as well")
    parser.addoption(
        "--budget", type=float, metavar="S", help="seconds a contender has on a convergence case"
    )
    parser.addoption(
        "--record", metavar="NAME", help="write the rows to bench/results/NAME-<commit>.json"
    )


def pytest_configure(config):
    """Rows of the run, and pytest-benchmark's own table kept to what the rows do not say."""
    config.stash[ROWS] = []


def pytest_ignore_collect(collection_path, config):
    """The convergence suite takes its time: it runs where it is asked for."""
    asked = config.getoption("--convergence") or any(SUITE in name for name in config.args)
    return True if collection_path.name == SUITE and not asked else None


def pytest_collection_modifyitems(config, items):
    """--quick leaves the cases that are marked as full out."""
    if config.getoption("--quick"):
        for item in items:
            if item.get_closest_marker("full"):
                item.add_marker(pytest.mark.skip(reason="not in --quick"))


@pytest.fixture
def row(request, benchmark):
    """Measure a contender on pytest-benchmark and keep its row.

    row(prepare, build): prepare() gives the call, build(result, cold_s, samples) the row.
    """

    def measure(prepare, build):
        try:
            call = prepare()
        except Absent as reason:
            pytest.skip(str(reason))
        result, cold_s = first_call(call)
        _, warm_s = first_call(call)
        budget_s = 0.4 if request.config.getoption("--quick") else 2.0
        benchmark.pedantic(call, rounds=rounds_for(warm_s, budget_s))
        made = build(result, cold_s, list(benchmark.stats.stats.data))
        if isinstance(call, DeviceCall):
            device = device_samples(call, warm_s, budget_s)
            made = rows.with_device_times(made, made["bytes"], device)
        benchmark.extra_info.update(made)
        request.config.stash[ROWS].append(made)
        return made

    return measure


def pytest_sessionfinish(session):
    """Write one JSON for the run."""
    rows, name = session.config.stash[ROWS], session.config.getoption("--record")
    if not name or not rows:
        return
    machine = facts()
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{machine['commit'].rstrip('+') or 'nocommit'}.json"
    date = datetime.now(UTC).isoformat(timespec="seconds")
    path.write_text(json.dumps({"date": date, "machine": machine, "rows": rows}, indent=1) + "\n")
    print(f"\n{len(rows)} rows written to {path}")
