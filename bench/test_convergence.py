"""The convergence suite: time against gap of accel and its peers, on every case.

It runs where this file is named or --convergence given: the whole takes the better part of an hour
on 2 cores, --quick ten minutes.
"""

from __future__ import annotations

import pytest

from accel.benchmark.needs import Absent
from bench.conftest import ROWS
from bench.convergence import CONTENDERS, DEFAULTS, convergence_row, default_row, trajectory
from bench.suite import SUITE

full = pytest.mark.full
# What --quick leaves out: None is a whole case, or a contender on every case.
SLOW = {
    ("sign ten raw", None),
    ("sign ten", "scikit-learn lbfgs"),
    ("sign ten", "PyTorch LBFGS"),
    ("tall", "PyTorch LBFGS"),
    (None, "scikit-learn saga"),
    (None, "scikit-learn lbfgs float32"),
}


def pairs(contenders):
    for case in SUITE:
        for contender in contenders:
            name = str(case)
            slow = SLOW & {(name, None), (name, contender), (None, contender)}
            yield pytest.param(
                case, contender, id=f"{case}-{contender}", marks=(full,) if slow else ()
            )


@pytest.fixture(autouse=True)
def _one_case_at_a_time(case):
    """Large arrays live for one case only."""
    for other in SUITE:
        if other != case:
            vars(other).pop("data", None)
    try:
        assert case.data
    except Absent as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize(("case", "contender"), list(pairs(CONTENDERS)))
def test_convergence(request, case, contender):
    option = request.config.getoption
    budget_s = option("--budget") or (10.0 if option("--quick") else 120.0)
    try:
        fit = CONTENDERS[contender](case)
    except Absent as reason:
        pytest.skip(str(reason))
    row = convergence_row(case, contender, trajectory(fit, case, budget_s))
    request.config.stash[ROWS].append(row)
    assert row["valid"]


@pytest.mark.parametrize(("case", "contender"), list(pairs(DEFAULTS)))
def test_default(request, case, contender):
    """How far the default tolerance goes is a result; the row says so, the run goes on."""
    request.config.stash[ROWS].append(default_row(case, contender))
