"""The convergence suite: its stored minima, what it measures, and what its page says of a run."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Peer

from accel.benchmark import machine
from accel.benchmark.cases import (
    FitCase,
)
from accel.benchmark.needs import Absent
from bench import __main__ as bench
from bench import optima
from bench.convergence import (
    CONTENDERS,
    DEFAULTS,
    PATIENT_TO,
    convergence_row,
    default_row,
    reached,
    trajectory,
)
from bench.convergence_report import STYLES, Results, fastest, pictures, summary, targets
from bench.report import newest
from bench.suite import SUITE, stored

CASES = {str(case): case for case in SUITE}
SLOW = {"digits raw", "sign ten raw", "sign ten", "sign 0/1", "sign 0/1 raw", "wide", "tall"}


@pytest.mark.parametrize("name", [name for name in CASES if name not in SLOW])
def test_the_stored_minimum_is_the_minimum(name):
    case = CASES[name]
    best = Peer(solver="newton-cholesky", tol=1e-12, max_iter=1000).fit(*case.data)
    assert case.gap_of(best.coef_, best.intercept_) == pytest.approx(0, abs=1e-9)


def test_every_case_has_a_minimum_to_a_gradient_of_1e_10():
    table = stored()
    assert list(table) == list(CASES)
    for entry in table.values():
        assert entry["gradient"] <= optima.WANTED or "float64 allowed" in entry["how"]


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("shape", [(200, 5), (30, 60)])
def test_the_reference_finds_the_minimum(shape, classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=shape) * np.logspace(0, 2, shape[1]) + 10
    y = np.arange(shape[0]) % classes
    case = FitCase("drawn", lambda: (X, y), 1.0)
    found = optima.minimum(case)
    best = Peer(solver="newton-cg", tol=1e-10, max_iter=10_000).fit(X, y)
    assert found["value"] == pytest.approx(case.objective(best.coef_, best.intercept_), rel=1e-9)
    assert found["gradient"] <= optima.WANTED
    assert ("row space" in found["how"]) == (shape[0] < shape[1])


def test_optima_are_stored_in_order_and_kept_where_the_data_is_missing(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(optima, "OPTIMA", tmp_path / "optima.json")
    monkeypatch.setattr(optima, "stored", lambda: {"sign ten": {"value": 1.0}})
    monkeypatch.setenv("ACCEL_SIGN_DIGITS", str(tmp_path))
    assert bench.main(["optima", "iris", "sign ten"]) == 0
    assert "sign ten: kept as stored" in capsys.readouterr().out
    assert list(json.loads(optima.OPTIMA.read_text())) == ["iris", "sign ten"]
    assert bench.main(["optima", "irs"]) == 2
    with pytest.raises(Absent, match="ACCEL_SIGN_DIGITS"):
        CASES["sign 0/1"].load()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CONTENDERS)
def test_every_contender_obeys_max_iter_and_goes_on_to_the_minimum(name):
    case = CASES["iris"]
    try:
        fit = CONTENDERS[name](case)
    except (Absent, ImportError) as reason:
        pytest.skip(str(reason))
    short, long = (case.gap_of(m.coef_, m.intercept_) for m in (fit(2), fit(300)))
    assert short > 1e-6
    assert long < (0.2 if "saga" in name else 1e-5)


def test_newton_cholesky_is_not_asked_for_a_large_hessian():
    X = np.zeros((4, 500))
    with pytest.raises(Absent):
        CONTENDERS["scikit-learn newton-cholesky"](FitCase("x", lambda: (X, np.arange(4)), 1.0))
    CONTENDERS["scikit-learn newton-cholesky"](FitCase("x", lambda: (X, np.arange(4) % 2), 1.0))


def run_with_gaps(gap_at, budget_s=10.0):
    """A trajectory of fits whose gap is gap_at(max_iter)."""
    case = SimpleNamespace(gap_of=lambda coef, intercept: gap_at(coef))
    fit = lambda n: SimpleNamespace(coef_=n, intercept_=0, n_passes_=np.int64(3 * n))  # noqa: E731
    return trajectory(fit, case, budget_s)


def test_a_trajectory_ends_at_the_minimum_without_progress_or_with_its_time(monkeypatch):
    monkeypatch.setattr("bench.convergence.REPEATS_S", 0.0)
    points = run_with_gaps(lambda n: 10.0**-n)
    assert [point.max_iter for point in points] == [1, 2, 3, 5, 8, 12]
    assert points[-1].passes == 36
    stuck = run_with_gaps(lambda n: 1.0)
    assert PATIENT_TO <= stuck[-1].max_iter < 4 * PATIENT_TO
    assert run_with_gaps(lambda n: 1.0, budget_s=0.0) == []


def test_reached_is_the_fastest_that_is_close_enough():
    points = [[1, 0.5, 1e-2, 4], [2, 0.9, 1e-7, 8], [3, 0.7, 1e-7, 9]]
    assert reached(points, 1e-6).seconds == 0.7
    assert reached(points, 1e-6).passes == 9
    assert reached(points, 1e-1).seconds == 0.5
    assert reached(points, 1e-9) is None


def test_a_fit_below_the_stored_minimum_is_invalid():
    case = CASES["iris"]
    row = convergence_row(case, "accel", run_with_gaps(lambda n: 10.0**-n))
    assert row["valid"]
    assert row["to_gap_s"]["1e-8"] == reached(row["trajectory"], 1e-8).seconds
    assert not convergence_row(case, "accel", run_with_gaps(lambda n: -1e-3))["valid"]


def test_default_rows_count_warnings():
    rows = {name: default_row(CASES["wine"], name) for name in DEFAULTS}
    assert rows["accel"]["convergence_warnings"] == 0
    assert rows["scikit-learn lbfgs"]["convergence_warnings"] == 1
    assert json.loads(json.dumps(rows))["accel"]["status"] == "CONVERGED"


def row(case, contender, seconds, gap=1e-9):
    return {
        "kind": "convergence", "case": case, "contender": contender, "valid": True,
        "trajectory": [[1, seconds / 9, 0.5, 3], [2, seconds, gap, 7]],
    }  # fmt: skip


@pytest.fixture
def rows():
    """Accel four and sixteen times faster than its best peer, and one case it does not reach."""
    made = [row("sign ten", "accel", 0.1), row("sign ten", "accel float32", 0.1, 1e-4)]
    made += [row("sign ten", "scikit-learn lbfgs", 3.0), row("sign ten", "PyTorch LBFGS", 0.4)]
    made += [row("wine", "accel", 0.01), row("wine", "scikit-learn newton-cholesky", 0.16)]
    made += [row("tall", "accel", 0.1, 1e-2), row("tall", "scikit-learn newton-cg", 1.0)]
    for case, warnings in (("sign ten", 0), ("wine", 1)):
        made.append({"kind": "default", "case": case, "contender": "accel",
                     "convergence_warnings": warnings})  # fmt: skip
    return made


def test_summary_compares_with_the_best_peer(rows):
    text = summary(rows)
    assert max(map(len, text.splitlines())) <= 100
    line = next(line for line in text.splitlines() if line.startswith("sign ten"))
    assert " ".join(line.split()) == "sign ten 100 100 100 7 - PyTorch LBFGS 400 4"
    line = next(line for line in text.splitlines() if line.startswith("tall"))
    assert " ".join(line.split()) == "tall - - - - - newton-cg 1000 -"


def test_targets_are_met_or_missed_by_how_much(rows):
    found = targets(Results(rows))
    assert found[0] == "met: sign ten to 1e-4, times as fast as scikit-learn's lbfgs: 30, 20 wanted"
    assert found[1].startswith("met: ")
    assert found[2] == "met: geometric mean of the ratio at 1e-6 over 2 cases: 8, 4 wanted"
    assert found[3].endswith("not there: tall")
    assert found[4].startswith("missed: no ConvergenceWarning by default: 1 of 2 cases warn (wine)")
    assert found[5] == "missed: float32 reaches 1e-5: 1 cases do not (sign ten)"
    rows[2]["trajectory"] = [[1, 1.0, 1.0, None], [9, 1.9, 0.5, None]]
    assert targets(Results(rows))[0].startswith("open: ")
    assert ": above 19, it ran out of time, 20 wanted" in targets(Results(rows))[0]
    rows[2] = row("sign ten", "scikit-learn lbfgs", 3.0)
    rows[0]["trajectory"] = [[1, 1.0, 0.5, 3]]
    assert targets(Results(rows))[0].startswith("missed: ")
    assert targets(Results(rows[4:]))[0].startswith("not measured: ")


def test_pictures(rows, tmp_path):
    written = pictures(rows, tmp_path / "plots")
    assert [path.name for path in written] == [
        "sign-ten.png",
        "wine.png",
        "tall.png",
        "overview.png",
    ]
    for path in written:
        assert path.read_bytes().startswith(b"\x89PNG")
    assert STYLES.keys() == CONTENDERS.keys()


def test_a_curve_runs_through_the_fastest_runs():
    points = [(3.0, 1e-1), (1.0, 1e-2), (2.0, 1e-2), (4.0, 1e-5), (9.0, 1e-4)]
    assert fastest(points) == [(1.0, 1e-2), (4.0, 1e-5)]


def test_command(rows, tmp_path, capsys):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"date": "now", "machine": machine.facts(), "rows": rows}))
    assert bench.main(["convergence", str(path), "--plots", str(tmp_path / "plots")]) == 0
    printed = capsys.readouterr().out
    assert "4 pictures written" in printed
    assert max(map(len, printed.replace(str(tmp_path), "").splitlines())) <= 100
    assert bench.main(["report", str(path), "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "report.md").read_text()
    assert "sign ten to 1e-4" in page
    assert "(overview.png)" in page
    path.write_text(json.dumps({"date": "now", "machine": machine.facts(), "rows": rows[-1:]}))
    assert bench.main(["convergence", str(path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_the_newest_run_of_a_kind_is_found(rows, monkeypatch, tmp_path):
    monkeypatch.setattr("bench.report.RESULTS", tmp_path)
    for name, date, kept in (("old", "2026-01", rows), ("new", "2026-02", rows[-1:])):
        run = {"date": date, "machine": machine.facts(), "rows": kept}
        (tmp_path / f"{name}.json").write_text(json.dumps(run))
    assert newest("default", "bench")["date"] == "2026-02"
    assert newest("convergence", "bench")["date"] == "2026-01"
    with pytest.raises(ValueError, match="pytest bench --quick --record"):
        newest("pass", "bench")
