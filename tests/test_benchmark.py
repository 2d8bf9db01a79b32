"""What is measured is what it says: references agree with independent ones, pages with rows."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as Peer
from threadpoolctl import threadpool_limits

from accel.backends import BACKENDS, BackendUnavailable, get_backend
from accel.benchmark import ceilings, machine, quick, rows, timer
from accel.benchmark.array_api_process import in_array_api_process
from accel.benchmark.cases import (
    FITS,
    TRAININGS,
    FitCase,
    LessonCase,
    Trained,
    TrainingCase,
    drawn_rows,
)
from accel.benchmark.cold_start import cold_start
from accel.benchmark.device_calls import DeviceCall, device_samples
from accel.benchmark.fit_contenders import FIT_CONTENDERS, LESSONS
from accel.benchmark.needs import Absent
from accel.benchmark.network_contenders import TRAINING_CONTENDERS, accel_training, torch_training
from accel.benchmark.pass_cases import PassCase
from accel.benchmark.pass_contenders import PASSES, PREDICTIONS, accel_pass
from accel.datasets import load_digits
from bench import __main__ as bench
from bench import suite
from bench.accuracy import DIGITS, SIGNS, AccuracyCase, accuracy_row
from bench.compare import compare
from bench.gpu_page import device_table, readme_rows
from bench.report import load, readme_table, training_table

CASES = [
    PassCase(300, 17),
    PassCase(300, 17, 4),
    PassCase(300, 17, 4, "float64"),
    PassCase(300, 17, dtype="uint8"),
    PassCase(300, 17, dtype="float16"),
    PassCase(1, 1),
]
# The last batch is shorter; there is enough to learn for a wrong training to show.
TRAINING = [
    TrainingCase((20, 16, 8, 4), 50, 8, partial(drawn_rows, 1970, 20, 4), dtype)
    for dtype in ("float32", "float64")
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_accel_computes_the_case(backend, case):
    if backend.name == "strict" and case.dtype == "float16":
        pytest.skip("array_api_strict has no 16-bit floats")
    tolerance = 1e-12 if case.dtype == "float64" else 1e-5
    assert case.error(accel_pass(case, backend)()) < tolerance


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_contender_computes_the_case(name, case):
    try:
        call = PASSES[name](case)
    except Absent as reason:
        pytest.skip(str(reason))
    assert case.error(call()) < (1e-12 if case.dtype == "float64" else 1e-5)


def test_a_wrong_result_has_an_error_and_an_invalid_row():
    case = CASES[0]
    value, gradient = case.reference
    assert case.error((value, gradient)) == 0
    assert case.error((value * 1.01, gradient)) == pytest.approx(0.01)
    assert case.error((value, gradient * 1.1)) == pytest.approx(0.1)
    assert rows.pass_row(case, "x", (value, gradient), 1.0, [1.0])["valid"]
    assert not rows.pass_row(case, "x", (value, gradient * 1.1), 1.0, [1.0])["valid"]


@pytest.mark.parametrize("case", FITS, ids=str)
def test_the_stored_minimum_is_the_minimum(case):
    X, y = case.data
    solver = "newton-cholesky" if X.shape[1] < 100 else "newton-cg"
    best = Peer(C=case.C, solver=solver, tol=1e-12, max_iter=1000).fit(X, y)
    assert case.objective(best.coef_, best.intercept_) == pytest.approx(case.minimum, rel=1e-9)


def test_objective_of_two_classes_is_scikit_learns():
    X, y = FITS[0].data
    pair = FitCase("pair", lambda: (X, (y == 1).astype(int)), 1.0)
    model = Peer().fit(*pair.data)
    p = model.predict_proba(X)[np.arange(len(y)), pair.data[1]]
    wanted = -np.log(p).mean() + np.sum(model.coef_**2) / (2 * len(p))
    assert pair.objective(model.coef_, model.intercept_) == pytest.approx(wanted)


@pytest.mark.parametrize("name", FIT_CONTENDERS)
def test_every_fit_contender_reaches_the_stated_objective(name):
    case = FITS[1]
    try:
        model = FIT_CONTENDERS[name](case)()
    except Absent as reason:
        pytest.skip(str(reason))
    assert rows.fit_row(case, name, model, 1.0, [1.0])["valid"]


@pytest.mark.parametrize("case", TRAINING, ids=str)
def test_accel_trains_the_case(backend, case):
    made = accel_training(case, backend.name)()
    assert made.precision == case.dtype
    assert made.error(case) < (1e-9 if case.dtype == "float64" else 1e-5)


@pytest.mark.parametrize("name", TRAINING_CONTENDERS)
@pytest.mark.parametrize("case", TRAINING, ids=str)
def test_every_contender_trains_the_case(name, case):
    try:
        made = TRAINING_CONTENDERS[name](case)()
    except Absent as reason:
        pytest.skip(str(reason))
    assert rows.training_row(case, name, made, 1.0, [1.0])["valid"]
    assert made.error(case) < 0.02
    assert made.same_batches == ("PyTorch" not in name)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_other_precisions_train_in_float32_only(precision):
    case, double = TRAINING
    made = accel_training(case, "numpy", precision)()
    assert made.precision == precision
    assert 0 < made.error(case) < 0.01
    with pytest.raises(Absent, match="takes no float64"):
        accel_training(double, "numpy", precision)


def test_a_repeated_call_trains_anew():
    case = TRAINING[0]
    calls = [accel_training(case, "numpy")]
    with suppress(Absent):
        calls.append(torch_training(case, "cpu"))
    for call in calls:
        assert call() == call()


def test_a_training_too_short_or_of_other_data_is_invalid():
    case = TRAINING[0]
    one_less = TrainingCase(case.layers, case.batch_size, case.n_epochs - 1, case.load)
    for precision in ("float32", "tf32", "bfloat16"):
        assert Trained(case.reference, precision).is_valid(case)
        assert not Trained(one_less.reference, precision).is_valid(case)
        assert not Trained(float("nan"), precision).is_valid(case)
    assert not Trained(one_less.reference, "float32", same_batches=False).is_valid(case)
    assert not Trained(case.reference * 1.01, "float32").is_valid(case)
    assert not Trained(case.reference * 0.9, "float32", same_batches=False).is_valid(case)


def test_the_rate_of_a_training_counts_rows_and_products():
    case = TRAINING[0]
    row = rows.training_row(case, "x", Trained(case.reference, "float32"), 1.0, [2.0])
    assert row["samples_per_s"] == 8 * 1970 / 2
    # forward and both gradients of three products, without the gradient in X
    assert row["gigaflops"] == pytest.approx(
        8 * 1970 * 2 * (3 * (20 * 16 + 16 * 8 + 8 * 4) - 20 * 16) / 2e9
    )


def test_the_measured_trainings_are_the_stated_ones():
    large, small = TRAININGS
    assert str(large) == "784-256-128-10 float32, batch 256"
    assert str(small) == "64-100-10 float64, batch 200"
    assert small.data[0].shape == (1797, 64)


@pytest.fixture(scope="module")
def judged():
    """A short training on the bundled digits that no one asked to be good."""
    network = {"hidden_layer_sizes": 30, "max_iter": 12, "random_state": 0}
    case = AccuracyCase("few epochs", load_digits, network, test_size=0.2, seed=0, least=0.99)
    return accuracy_row(case, "numpy")


def test_an_accuracy_row_holds_its_learning_curve(judged):
    row = json.loads(json.dumps(judged))
    assert row["configuration"] == {"hidden_layer_sizes": 30, "max_iter": 12, "random_state": 0}
    assert row["epochs"] == len(row["curve"]["loss"]) == len(row["curve"]["accuracy"]) == 12
    assert row["curve"]["accuracy"][-1] == row["accuracy"]
    assert row["curve"]["loss"][-1] < row["curve"]["loss"][0]
    assert row["linear_accuracy"] == pytest.approx(0.9639, abs=1e-4)  # the README's
    assert row["seconds"] > 0
    assert not row["valid"]  # 0.99 was asked for


def test_the_digits_reach_their_accuracy():
    with threadpool_limits(limits=1):  # half a second, also where others hold a core
        row = accuracy_row(DIGITS, "numpy")
    assert row["accuracy"] >= 0.97
    assert row["valid"]


def test_sign_digits_that_are_not_there_say_so(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCEL_SIGN_DIGITS", str(tmp_path))
    with pytest.raises(Absent, match="set ACCEL_SIGN_DIGITS"):
        accuracy_row(SIGNS, "numpy")
    with pytest.raises(Absent, match=str(tmp_path)):
        suite.sign_digits()


def test_the_lesson_is_the_loop_as_printed():
    case = LessonCase(n_iter=20)
    assert LESSONS["accel numpy"](case)() == pytest.approx(LESSONS["as printed"](case)(), rel=1e-9)


def test_predictions_agree():
    case = PassCase(500, 20)
    assert (PREDICTIONS["accel numpy"](case)() == PREDICTIONS["scikit-learn"](case)()).all()


def test_ceilings_run(monkeypatch, backend):
    monkeypatch.setattr(ceilings, "READ_BYTES", 1 << 20)
    monkeypatch.setattr(ceilings, "TRANSFER_BYTES", 1 << 20)
    monkeypatch.setattr(ceilings, "MATRIX_SIZE", 64)
    for prepare, _, _ in ceilings.CEILINGS.values():
        prepare(backend)()


def test_the_cpu_is_read_whole(monkeypatch):
    from accel.backends.kernels import ceiling

    seen = []
    monkeypatch.setattr(ceiling, "total", lambda X: seen.append(len(X)))
    get_backend("numpy").reader(np.zeros((100_000, 512), dtype=np.float32))()
    assert sum(seen) == 100_000
    assert len(seen) > 1  # by threads


def test_timer():
    calls = []
    found = timer.samples(lambda: calls.append(1), budget_s=0.001)
    assert 3 <= len(found) <= 31
    assert len(calls) == len(found) + 1
    assert timer.summary([1.0, 2.0, 3.0])["median_s"] == 2.0
    assert timer.rounds_for(10.0, 1.0) == 3


def test_machine_facts_are_json():
    facts = json.loads(json.dumps(machine.facts()))
    assert facts["packages"]["numpy"] == np.__version__
    assert facts["cores"] >= 1
    assert any(report["name"] == "numpy" for report in facts["backends"])


@pytest.fixture
def run(judged):
    """A small run with a GPU that wins from 1,000 rows on, and one invalid row."""
    found = [rows.ceiling_row("read bandwidth", name, [0.02, 0.02]) for name in ("numpy", "cupy")]
    found += [rows.ceiling_row("matrix rate", name, [0.1]) for name in ("numpy", "cupy")]
    for n, cpu, gpu in ((100, 1e-4, 2e-4), (1000, 1e-3, 3e-4)):
        case = PassCase(n, 784)
        for name, seconds in (("accel numpy", cpu), ("accel cupy", gpu), ("two-pass NumPy", 2e-3)):
            found.append(rows.pass_row(case, name, case.reference, 1.0, [seconds, seconds]))
    wrong = (case.reference[0] * 2, case.reference[1])
    found.append(rows.pass_row(case, "PyTorch", wrong, 1.0, [1e-9]))
    model = Peer(solver="newton-cholesky").fit(*FITS[0].data)
    found.append(rows.fit_row(FITS[0], "scikit-learn", model, 1.0, [0.1]))
    found.append(rows.lesson_row(LessonCase(), "accel numpy", 1.0, 1.0, 1.0, [0.01]))
    found.append(rows.memory_row("a fit", 1000, 10))
    training, good, own = TRAINING[0], Trained(TRAINING[0].reference, "float32"), False
    for name, seconds, made in (
        ("accel numpy", 0.1, good),
        ("scikit-learn", 0.2, good),
        ("PyTorch", 0.4, Trained(good.loss, "float32", own)),
        ("PyTorch compiled", 0.3, Trained(good.loss, "float32", own)),
        ("PyTorch cuda", 0.01, Trained(2 * good.loss, "float32", own)),
        ("PyTorch compiled cuda bfloat16", 0.01, Trained(good.loss, "bfloat16", own)),
        ("accel cupy", 0.05, good),
        ("accel cupy bfloat16", 0.02, Trained(good.loss, "bfloat16")),
    ):
        found.append(rows.training_row(training, name, made, 1.0, [seconds, seconds]))
    found.append(judged)
    return {"date": "2026-01-01", "machine": machine.facts(), "rows": found}


def test_report_page(run, tmp_path, capsys):
    source = tmp_path / "run.json"
    source.write_text(json.dumps(run))
    assert bench.main(["report", str(source), "--out", str(tmp_path / "page")]) == 0
    page = (tmp_path / "page" / "report.md").read_text()
    assert "The GPU wins from 1,000 rows on." in page
    row = next(line for line in page.splitlines() if "1000 x 784" in line and "accel numpy" in line)
    assert "| 2.00 |" in row  # times two-pass NumPy
    invalid = next(line for line in page.splitlines() if "PyTorch" in line)
    assert "INVALID" in invalid
    assert "| few epochs | accel numpy | hidden_layer_sizes=30, max_iter=12" in page
    for picture in ("roofline.svg", "sizes.svg", "gaps.svg", "learning.svg"):
        assert picture in page
        assert (tmp_path / "page" / picture).read_text().lstrip().startswith("<?xml")


def test_trainings_are_compared_within_the_run(run):
    of = {kind: [row for row in run["rows"] if row["kind"] == kind]
          for kind in ("training", "ceiling")}  # fmt: skip
    table = training_table(of["training"], of["ceiling"])
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    ratios = {row[1]: (row[8], row[9]) for row in cells}
    assert ratios["accel numpy"] == ("2.00", "3.00")  # PyTorch: the faster of its two ways
    assert ratios["accel cupy"] == ("4.00", "")  # an invalid row is no peer
    assert ratios["accel cupy bfloat16"] == ("10.00", "0.50")
    assert all((row[11] == "INVALID") == (row[1] == "PyTorch cuda") for row in cells)


def test_readme_table_is_replaced(run, tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    readme_table(run, page)
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("before\n<!-- bench -->\n| one pass |")
    assert text.endswith("<!-- /bench -->\nafter\n")
    assert "PyTorch" not in text  # its row is invalid


def test_compare_tells_change_from_noise(run):
    after = json.loads(json.dumps(run))
    for row in after["rows"]:
        if row["contender"] == "two-pass NumPy":
            row["median_s"] *= 2
        elif "median_s" in row:
            row["median_s"] *= 1.01
    text = compare(run, after)
    assert "2 rows moved" in text
    assert text.count("+100%") == 2
    for row in after["rows"]:
        row["valid"] = False
    after["rows"] = [row for row in after["rows"] if row["kind"] != "fit"]
    text = compare(run, after)
    assert text.count("INVALID now") >= 6
    assert "1 rows before, 0 rows after" in text


def test_bad_input_is_one_line(tmp_path, capsys):
    (tmp_path / "bad.json").write_text("{")
    for path in ("bad.json", "none.json"):
        assert bench.main(["report", str(tmp_path / path)]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 2
    with pytest.raises(ValueError, match="is not the JSON of a run"):
        load(tmp_path / "bad.json")


def test_accel_bench_measures_every_usable_backend(monkeypatch, tmp_path):
    monkeypatch.delitem(BACKENDS, "strict")
    monkeypatch.setattr(quick, "BUDGET_S", 0.001)
    monkeypatch.setattr(quick, "SIZES", (PassCase(50, 784), PassCase(100, 784)))
    monkeypatch.setattr(quick, "FIT", FITS[0])
    monkeypatch.setattr(ceilings, "READ_BYTES", 1 << 20)
    monkeypatch.setattr(ceilings, "MATRIX_SIZE", 64)
    said = []
    found = quick.measure(said.append)
    assert {row["kind"] for row in found} == {"ceiling", "pass", "fit"}
    assert all(row.get("valid", True) for row in found)
    assert all(len(quick.cells(row)) == 5 for row in found)
    assert quick.winning_size(found).endswith(".")
    quick.picture(tmp_path / "p.png", found)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_winning_size(monkeypatch):
    monkeypatch.setattr(
        quick, "SIZES", tuple(PassCase(n, d) for d in (10, 784) for n in (100, 1000))
    )
    times = {"100 x 10": (1, 9), "1000 x 10": (1, 2), "100 x 784": (1, 2), "1000 x 784": (1, 0.5)}
    found = [
        {"kind": "pass", "case": f"{case} float32", "contender": name, "median_s": seconds}
        for case, pair in times.items()
        for name, seconds in zip(("accel numpy", "accel cupy"), pair, strict=True)
    ]
    assert (
        quick.winning_size(found)
        == "accel cupy is faster than accel numpy from no rows x 10, 1,000 x 784 on."
    )
    only_cpu = [row for row in found if row["contender"] == "accel numpy"]
    assert quick.winning_size(only_cpu).startswith("No GPU is usable here")


class FakeClock:
    """A GPU on which every launch takes a millisecond of its own time."""

    def __init__(self):
        self.now = 0.0

    def event(self):
        event = SimpleNamespace(at=None, synchronize=lambda: None)
        event.record = lambda: setattr(event, "at", self.now)
        return event

    def seconds(self, first, last):
        return last.at - first.at


def test_device_times_are_those_of_its_own_clock():
    clock, fetched = FakeClock(), []

    def launch():
        clock.now += 1e-3
        return clock.now

    call = DeviceCall(launch, lambda result: fetched.append(result) or result, clock)
    assert call() == pytest.approx(1e-3)
    assert len(fetched) == 1
    times = device_samples(call, 1e-3, 0.1)
    assert len(fetched) == 1
    assert len(times) >= 25
    np.testing.assert_allclose(times, 1e-3)
    row = rows.with_device_times({"case": "x"}, 4_000_000, times)
    assert row["device_gigabytes_per_s"] == pytest.approx(4.0)


def test_the_table_of_a_gpu():
    def row(contender, host_s, device_s, valid=True):
        return {"kind": "pass", "case": "100 x 4 float32", "contender": contender, "valid": valid,
                "bytes": 10**9, "median_s": host_s, "device_median_s": device_s}  # fmt: skip

    read = [{"kind": "ceiling", "case": "read bandwidth", "contender": "cupy", "rate": 4000.0}]
    passes = [row("accel cupy", 0.002, 0.00025), row("CuPy, two products", 0.002, 0.0005),
              row("PyTorch cuda", 0.002, 0.001)]  # fmt: skip
    line = device_table(passes, read).splitlines()[-1]
    assert line == (
        "| 100 x 4 float32 | 0.250 | 2.000 | 0.500 | 1.000 | 0.250 | 100% | 2.00 | 4.00 |"
    )
    passes[2]["valid"] = False
    assert device_table(passes[:1], []).splitlines()[-1].count("|") == 10
    assert readme_rows({"rows": [*passes, *read]}) == device_table(passes, read)
    old = {"rows": [{k: v for k, v in row.items() if "device" not in k} for row in passes]}
    assert readme_rows(old).splitlines()[-1] == "| 100 x 4 float32 | 2 ms |  |"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_a_case_of_copies_has_the_loss_of_one_lot(dtype):
    one, many = PassCase(40, 5, 3, dtype), PassCase(120, 5, 3, dtype, copies=3)
    assert many.n_bytes == 3 * one.n_bytes == many.arrays[0].nbytes
    np.testing.assert_allclose(one.reference[1], many.reference[1])
    result = PASSES["two-pass NumPy"](many)()
    assert many.error(result) < 1e-4


def test_a_cold_start_is_a_process_of_its_own():
    seconds = cold_start("numpy")
    assert set(seconds) == {"import_s", "first_s", "second_s"}
    assert min(seconds.values()) > 0
    row = rows.cold_row("accel numpy", seconds)
    assert row["median_s"] == row["first_s"]


def test_scikit_learn_on_cupy_says_what_went_wrong_in_its_process():
    """Where no GPU is; where one is, it is a row of bench/."""
    with suppress(BackendUnavailable):
        get_backend("cupy")
        pytest.skip("a GPU is usable here")
    with pytest.raises(RuntimeError, match="scikit-learn on CuPy: BackendUnavailable"):
        in_array_api_process(FITS[0])
