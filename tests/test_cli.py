"""The command line through its real entry point, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from typer.testing import CliRunner

from accel.__main__ import main
from accel.cli import app
from accel.progress import seconds_left
from accel.solvers import Progress


def accel(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "accel", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "COLUMNS": "80",
            "NO_COLOR": "1",
            "ACCEL_BACKEND": "auto",
            **environment,
        },
        timeout=120,
    )


@pytest.fixture
def accel_here(monkeypatch, capsys):
    """The same entry point in this process, for the many ways to fail: seconds sooner."""

    def run(*arguments, cwd):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["accel", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code, out, err)

    return run


def failed(done):
    """Exit code 2, one line on stderr, no traceback."""
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    return done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    done = accel("train", "--backend", "numpy", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_train_on_the_bundled_digits(trained):
    folder, out = trained
    accuracy = float(out.partition("test accuracy")[2].split("%")[0])
    assert accuracy >= 95
    for text in ("1797, 64", "Confusion matrix", "precision", "CONVERGED", "ran on numpy"):
        assert text in out
    for stage in ("load", "transfer", "train", "predict"):
        assert f"{stage} " in out.splitlines()[-2]
    assert sorted(os.listdir(folder / "accel-out")) == [
        "confusion.png",
        "cost.png",
        "model.npz",
        "report.txt",
    ]
    assert "\x1b[" not in out


def test_train_explains_itself_and_takes_the_l1_penalty(accel_here, tmp_path):
    done = accel_here("train", "--l1-ratio", "1", "--C", "0.1", "--explain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stdout.split())
    assert "C=0.1, l1_ratio=1" in words
    assert "exact zeros" in words
    assert "Hessian" in words
    with np.load(tmp_path / "accel-out" / "model.npz") as model:
        assert (model["coef"] == 0).mean() > 0.3


def test_predict_with_the_trained_model(trained, tmp_path):
    from sklearn.datasets import load_digits

    folder, _ = trained
    X, y = load_digits(return_X_y=True)
    np.save(tmp_path / "X.npy", X / 16)
    model = folder / "accel-out" / "model.npz"
    for out in ("p.csv", "p.npy"):
        done = accel("predict", "--model", model, "--data", "X.npy", "--out", out, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "1797 rows labelled" in done.stdout
    labels = np.load(tmp_path / "p.npy")
    assert (labels == y).mean() > 0.95
    lines = (tmp_path / "p.csv").read_text().splitlines()
    assert lines[0].split(",")[:2] == ["label", "p(0)"]
    assert [int(line.split(",")[0]) for line in lines[1:]] == labels.tolist()
    assert sum(map(float, lines[1].split(",")[1:])) == pytest.approx(1, abs=1e-6)


def test_csv_by_column_names(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(a, b, "yes" if a > b else "no") for a, b in rng.normal(size=(80, 2))]
    text = "\n".join(f"{a},{c},{b}" for a, b, c in rows)
    (tmp_path / "d.csv").write_text("left,answer,right\n" + text)
    done = accel("train", "--data", "d.csv", "--target", "answer", "--C", 100, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "new.csv").write_text("right,extra,left\n0,7,3\n3,7,0\n")
    arguments = ("predict", "--model", "accel-out/model.npz", "--data", "new.csv", "--out", "p.csv")
    done = accel(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    labels = [line.split(",")[0] for line in (tmp_path / "p.csv").read_text().splitlines()]
    assert labels == ["label", "yes", "no"]
    (tmp_path / "new.csv").write_text("right,extra\n0,7\n")
    assert "no column 'left'" in failed(accel(*arguments, cwd=tmp_path))


def test_backends_table_and_json(tmp_path):
    table = accel("backends", cwd=tmp_path)
    assert table.returncode == 0
    assert "numpy" in table.stdout
    assert '"auto" runs on' in table.stdout
    reports = json.loads(accel("backends", "--json", cwd=tmp_path).stdout)
    assert {report["name"] for report in reports} >= {"numpy", "cupy"}
    for report in reports:
        assert report["usable"] or report["reason"] in table.stdout


def test_tutorial_without_data(tmp_path):
    done = accel("tutorial", "--iterations", 20, "--backend", "numpy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Cost after iteration 10: " in done.stdout
    assert (tmp_path / "accel-tutorial" / "summary.md").exists()


def test_labels_with_markup_and_mathematics_and_unseen_ones(tmp_path, accel_here, capsys):
    labels = ["[/b]", "$a_{$", "[red]c[/red]", *"defghi"]
    text = "\n".join(f"{i},{label}" for i, label in enumerate(labels * 2))
    (tmp_path / "d.csv").write_text("x,kind\n" + text + "\n99,never seen in training\n")
    for seed in (0, 1, 2):
        done = accel_here("train", "--data", "d.csv", "--seed", seed, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "[red]c[/red]" in done.stdout


def test_a_csv_is_labelled_whole_by_a_model_without_names(tmp_path, accel_here):
    np.save(tmp_path / "X.npy", np.arange(24.0).reshape(12, 2))
    np.save(tmp_path / "Y.npy", np.arange(12) % 2)
    assert accel_here("train", "--data", ".", cwd=tmp_path).returncode == 0
    (tmp_path / "new.csv").write_text("a,b\n1,2\n3,4\n")
    options = ("--model", "accel-out/model.npz", "--data", "new.csv", "--out", "p.npy")
    done = accel_here("predict", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "p.npy").shape == (2,)


def test_the_fallback_is_said(tmp_path):
    out = accel("train", "--max-iter", 200, cwd=tmp_path).stdout
    usable = json.loads(accel("backends", "--json", cwd=tmp_path).stdout)[0]["usable"]
    assert usable or "cupy cannot be used" in out


def test_backends_reports_even_where_the_variable_asks_the_impossible(tmp_path):
    done = accel("backends", cwd=tmp_path, ACCEL_BACKEND="cupy:99")
    assert done.returncode == 0
    assert "ACCEL_BACKEND requires it" in done.stdout


def test_version(tmp_path):
    import accel as package

    assert accel("--version", cwd=tmp_path).stdout == f"accel {package.__version__}\n"


def test_a_fit_that_does_not_converge_says_so(tmp_path):
    done = accel("train", "--max-iter", 3, cwd=tmp_path)
    assert done.returncode == 0
    assert "warning: MAX_ITER after 3 iterations" in done.stderr


@pytest.fixture
def data(tmp_path):
    np.save(tmp_path / "X.npy", np.random.default_rng(0).normal(size=(30, 4)))
    np.save(tmp_path / "Y.npy", np.arange(30) % 2)
    return tmp_path


TRAIN_ERRORS = {
    "missing file": (["--data", "nothing.npy"], "nothing.npy does not exist"),
    "unknown kind": (["--data", "d.xls"], "d.xls"),
    "empty file": (["--data", "empty.npy"], "empty.npy is not a NumPy file"),
    "nan": (["--data", "nan/X.npy"], "X[2, 1] is nan"),
    "one class": (["--data", "one/X.npy"], "only one class"),
    "lengths": (["--data", "short/X.npy"], "X has 30 rows but the target has 29"),
    "text": (["--data", "text.csv"], "holds the text 'red'"),
    "no labels": (["--data", "alone/X.npy"], "has no labels"),
    "target": (["--data", "text.csv", "--target", "kind"], "no column 'kind'"),
    "solver": (["--data", "X.npy", "--solver", "sgd"], "solver='sgd' must be one of"),
    "model": (["--model", "tree"], "model='tree' must be one of"),
    "backend": (["--backend", "tpu"], "backend='tpu' names no backend"),
    "device": (["--backend", "cupy:99"], "cupy:99 cannot be used"),
    "test size": (["--test-size", "1.5"], "test-size=1.5 must lie between 0 and 1"),
    "C": (["--C", "-1"], "C=-1.0 must be a number above 0"),
    "out is a file": (["--out", "X.npy"], "X.npy"),
}


@pytest.mark.parametrize("case", TRAIN_ERRORS)
def test_train_errors_are_one_line_and_exit_code_2(data, case, accel_here):
    X, y = np.load(data / "X.npy"), np.load(data / "Y.npy")
    broken = X.copy()
    broken[2, 1] = np.nan
    for name, rows, labels in (
        ("nan", broken, y),
        ("one", X, y * 0),
        ("short", X, y[1:]),
        ("alone", X, None),
    ):
        (data / name).mkdir()
        np.save(data / name / "X.npy", rows)
        if labels is not None:
            np.save(data / name / "Y.npy", labels)
    (data / "empty.npy").touch()
    (data / "d.xls").touch()
    (data / "text.csv").write_text("colour,y\nred,0\nblue,1\n")
    arguments, message = TRAIN_ERRORS[case]
    assert message in failed(accel_here("train", *arguments, cwd=data))


def test_predict_errors_are_one_line_and_exit_code_2(data, trained, accel_here):
    model = trained[0] / "accel-out" / "model.npz"
    (data / "bad.npz").write_bytes(model.read_bytes()[:500])
    for arguments, message in (
        ((model, "X.npy", "p.csv"), "X has 4 features"),
        (("bad.npz", "X.npy", "p.csv"), "bad.npz is not an accel model"),
        (("X.npy", "X.npy", "p.csv"), "X.npy is not an accel model"),
        (("none.npz", "X.npy", "p.csv"), "none.npz: No such file"),
        ((model, "X.npy", "p.txt"), "must end in .csv or .npy"),
    ):
        names = ("--model", "--data", "--out")
        options = [text for pair in zip(names, arguments, strict=True) for text in pair]
        assert message in failed(accel_here("predict", *options, cwd=data))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(data):
    data.chmod(0o500)
    try:
        assert "Permission denied" in failed(accel("train", cwd=data))
    finally:
        data.chmod(0o700)


def test_full_disk(data):
    """/dev/full stands for it where the machine has one."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from accel.__main__ import main; sys.argv = ['accel', 'train']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=data, capture_output=True, text=True)
    assert done.returncode == 2
    assert "test accuracy" in done.stdout  # the figures come before the files
    lines = done.stderr.splitlines()
    assert all(line.startswith("accel: warning: ") for line in lines)
    assert "model.npz cannot be written (File too large), nor anywhere else" in lines[0]
    assert not list((data / "accel-out").glob("*.npz"))


def test_a_second_place_is_tried_and_named(data, monkeypatch, capsys):
    """The folder can no longer be written once the fit is done."""
    from accel import files, written

    real, kept = files.save_model, []

    def save(model, path, feature_names=None):
        if path.parent.name == "accel-out":
            raise OSError(28, "No space left on device", str(path))
        kept.append(path)
        real(model, path, feature_names)

    monkeypatch.setattr(written, "save_model", save)
    monkeypatch.chdir(data)
    done = CliRunner().invoke(app, ["train", "--backend", "numpy"])
    assert done.exit_code == 2
    assert "test accuracy" in done.output
    assert f"No space left on device): the model is in {kept[0]}." in " ".join(done.output.split())
    assert files.load_model(kept[0]).n_features_in_ == 64
    kept[0].unlink()


def test_a_model_that_is_there_is_kept_or_left_alone(data, monkeypatch):
    monkeypatch.chdir(data)
    run = CliRunner()
    for _ in range(3):
        done = run.invoke(app, ["train", "--backend", "numpy"])
        assert done.exit_code == 0, done.output
    found = sorted(path.name for path in (data / "accel-out").glob("*.npz"))
    assert found == ["model-1.npz", "model-2.npz", "model.npz"]
    assert "the model that was in accel-out is now accel-out/model-2.npz" in done.output
    (data / "accel-out" / "model.npz").chmod(0o444)
    done = run.invoke(app, ["train", "--backend", "numpy"])
    assert done.exit_code == 2
    assert "model.npz is read-only" in done.output


@pytest.mark.parametrize("drawing", ["module://matplotlib_inline.backend_inline", "rubbish"])
def test_any_matplotlib_backend_of_the_environment(data, drawing):
    code = "import sys; from accel.__main__ import main; sys.argv = ['accel', 'train']; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=data, capture_output=True, text=True,
        env={**os.environ, "MPLBACKEND": drawing},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (data / "accel-out" / "cost.png").exists()


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from accel.__main__ import main; sys.argv = ['accel', 'train', '-h'];\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({'numpy', 'sklearn', 'matplotlib', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "[default: accel-out]" in done.stdout
    assert "[0.0001]" in done.stdout


def test_help_names_what_there_is():
    from accel import cli
    from accel.estimators.network_options import FULL_BATCH, RULES
    from accel.estimators.options import NEAREST
    from accel.network import ACTIVATIONS
    from accel.solvers.rules import SCHEDULES

    networks = ", ".join([*RULES, *FULL_BATCH])
    assert f"{', '.join(NEAREST)} [auto]; mlp: {networks} [adam]." == cli.SOLVER_HELP
    assert f"mlp: {', '.join(ACTIVATIONS)} [relu]." == cli.ACTIVATION_HELP
    assert f"mlp: {', '.join(SCHEDULES)} [constant]." == cli.SCHEDULE_HELP


def test_control_c_ends_in_one_line(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "accel", "train", "--solver", "gd", "--max-iter", "100000000",
         "--tol", "0"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a test run in the background of a shell ignores Ctrl-C, and its children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert "X (1797, 64)" in process.stdout.readline()
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    try:
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()  # or it would go on for hours
    assert process.returncode == 130
    assert err.strip().splitlines()[-1].startswith("accel: interrupted")
    assert "Traceback" not in err


def test_without_the_extra_one_line_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['typer'] = None; sys.argv = ['accel'];"
        "from accel.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert 'pip install "accel[cli]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_help_names_every_command(tmp_path):
    out = accel("--help", cwd=tmp_path).stdout
    assert all(name in out for name in ("backends", "tutorial", "train", "predict"))


def test_time_left():
    first = Progress(0, 1.0, 1.0, 0.0, tol=1e-4, max_iter=1000, params=lambda: None)
    half = Progress(10, 0.5, 1e-2, 3.0, tol=1e-4, max_iter=1000, params=lambda: None)
    assert seconds_left(first, first) == float("inf")
    assert seconds_left(first, half) == pytest.approx(3.0)  # half the decades in 3 s
    no_tol = Progress(10, 0.5, 1e-2, 3.0, tol=0.0, max_iter=40, params=lambda: None)
    assert seconds_left(first, no_tol) == pytest.approx(9.0)
