"""The commands on networks: accel train --model mlp, its checkpoints, accel tutorial --hidden."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.datasets import load_digits

from accel import datasets, tutorial
from accel.files import load_model
from accel.progress import words
from accel.solvers.epochs import EpochProgress
from tests.test_cli import accel, accel_here, failed

__all__ = ["accel_here"]  # a fixture
MLP = ("train", "--model", "mlp", "--backend", "numpy")


def test_train_a_network_and_predict_with_it(tmp_path):
    done = accel(*MLP, "--hidden", "48,24", "--max-iter", "80", "--explain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    accuracy = float(done.stdout.partition("test accuracy")[2].split("%")[0])
    assert accuracy >= 96
    assert "layers 64-48-24-10 (relu)" in " ".join(done.stdout.split())
    assert "epochs, loss" in done.stdout
    X, y = load_digits(return_X_y=True)
    np.save(tmp_path / "X.npy", X / 16)
    model = tmp_path / "accel-out" / "model.npz"
    done = accel("predict", "--model", model, "--data", "X.npy", "--out", "p.npy", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (np.load(tmp_path / "p.npy") == y).mean() > 0.96


def test_the_same_seed_is_the_same_network(accel_here, tmp_path):
    for folder in ("a", "b", "c"):
        few = ("--hidden", "8", "--max-iter", "3", "--seed", "7" if folder == "c" else "0")
        done = accel_here(*MLP, *few, "--out", folder, cwd=tmp_path)
        assert done.returncode == 0
        assert "MAX_EPOCHS" in done.stderr
    a, b, c = (load_model(tmp_path / k / "model.npz") for k in "abc")
    np.testing.assert_array_equal(a.coefs_[0], b.coefs_[0])
    assert np.abs(a.coefs_[0] - c.coefs_[0]).max() > 0.01


OPTIONS = ("--hidden", "16", "--activation", "gelu", "--alpha", "0.01", "--batch-size", "50",
           "--schedule", "cosine", "--dropout", "0.1", "--initialization", "he", "--solver",
           "adamw", "--early-stopping", "--learning-rate", "0.003", "--max-iter", "5",
           "--precision", "float32", "--center")  # fmt: skip


def test_every_option_arrives(accel_here, tmp_path):
    assert accel_here(*MLP, *OPTIONS, cwd=tmp_path).returncode == 0
    model = load_model(tmp_path / "accel-out" / "model.npz").get_params()
    wanted = {
        "hidden_layer_sizes": (16,), "activation": "gelu", "alpha": 0.01, "batch_size": 50,
        "learning_rate": "cosine", "dropout": 0.1, "initialization": "he", "solver": "adamw",
        "early_stopping": True, "learning_rate_init": 0.003, "max_iter": 5, "backend": "numpy",
        "random_state": 0, "precision": "float32", "center": True,
    }  # fmt: skip
    assert {name: model[name] for name in wanted} == wanted


@pytest.mark.parametrize(("arguments", "message"), [
    (("--model", "cnn"), "model='cnn' must be one of logistic, mlp"),
    (("--hidden", "5"), "hidden=(5,) is an option of --model mlp, not logistic"),
    (("--model", "mlp", "--C", "2"), "C=2.0 is an option of --model logistic, not mlp"),
    (("--model", "mlp", "--hidden", "5;4"), "hidden='5;4' must be widths with commas between"),
    (("--model", "mlp", "--solver", "newton-cg"), "solver='newton-cg' must be one of 'sgd'"),
    (("--model", "mlp", "--dropout", "1"), "dropout=1.0 must be a number at least 0 and below 1"),
    (("--model", "mlp", "--every", "5"), "every=5 does nothing without --checkpoint DIR"),
])  # fmt: skip
def test_wrong_options_are_one_line(accel_here, tmp_path, arguments, message):
    assert message in failed(accel_here("train", *arguments, cwd=tmp_path))


def interrupted(folder, *arguments, after_s, number):
    """A run that is sent a signal."""
    process = subprocess.Popen(
        [sys.executable, "-m", "accel", *MLP, *arguments], cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        assert "X (1797, 64)" in process.stdout.readline()
        time.sleep(after_s)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, err


def test_control_c_keeps_the_model_and_says_so(tmp_path):
    endless = ("--max-iter", "1000000", "--tol", "0", "--out", "o")
    code, out, err = interrupted(tmp_path, *endless, after_s=3.0, number=signal.SIGINT)
    assert code == 130
    assert err.strip().splitlines()[-1] == "accel: interrupted, the model so far is in o"
    assert "Traceback" not in err
    assert "INTERRUPTED after" in out
    model = load_model(tmp_path / "o" / "model.npz")
    assert model.n_iter_ > 0
    assert model.predict(load_digits().data / 16).shape == (1797,)


def test_killed_and_started_again_it_ends_the_same(tmp_path):
    run = ("--hidden", "32", "--max-iter", "60", "--tol", "0", "--checkpoint", "store",
           "--every", "2")  # fmt: skip
    (tmp_path / "whole").mkdir()
    assert accel(*MLP, *run, cwd=tmp_path / "whole").returncode == 0
    code, _, _ = interrupted(tmp_path, *run, after_s=0.6, number=signal.SIGKILL)
    assert code == -signal.SIGKILL
    done = accel(*MLP, *run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    one, two = (
        load_model(folder / "accel-out" / "model.npz") for folder in (tmp_path, tmp_path / "whole")
    )
    for a, b in zip(one.coefs_, two.coefs_, strict=True):
        np.testing.assert_array_equal(a, b)
    assert one.loss_curve_ == two.loss_curve_
    assert sorted(os.listdir(tmp_path / "store")) == ["best.npz", "last.npz"]
    other = accel(*MLP, *run, "--alpha", "3", cwd=tmp_path)
    assert "last.npz is of another run (alpha differ)" in failed(other)


def test_the_progress_line_of_epochs():
    first, now = (
        EpochProgress(k, 0.5 / k, score, 0.1, 1.0 * k, max_iter=11, params=lambda: None)
        for k, score in ((1, None), (6, 0.75))
    )
    assert words(first, first) == ("epoch 1: loss 0.500000", float("inf"))
    text, left_s = words(now, first)
    assert text == "epoch 6: loss 0.083333, validation 0.7500"
    assert left_s == pytest.approx(5.0)


def test_the_lesson_goes_on_to_layers(backend, tmp_path):
    lines = []
    lesson = tutorial.run(
        datasets.load_digits(), (3, 8), tmp_path, learning_rate=0.1, iterations=30, hidden=6,
        backend=backend.name, say=lines.append,
    )  # fmt: skip
    text = "\n".join(lines)
    assert max(map(len, text.splitlines())) <= 80
    for word in ("8. From one neuron to layers: 6", "chain rule", "Glorot", "tanh", "13. Predict"):
        assert word in text
    by_rule, _, by_difference = lines[next(
        i for i, line in enumerate(lines) if line.startswith("10.")) + 1].split()  # fmt: skip
    assert float(by_rule) == pytest.approx(float(by_difference), abs=2e-9)
    gd, adam = (lesson.layers.models[name] for name in ("gd", "adam"))
    assert gd.backend_.name == adam.backend_.name == backend.name
    assert len(gd.loss_curve_) == len(adam.loss_curve_) == 30
    assert gd.loss_curve_[-1] < gd.loss_curve_[0]
    summary = (tmp_path / "summary.md").read_text()
    assert f"| 6 hidden, Adam | {100 * lesson.layers.correct['adam'][0] / 295:.6f} %" in summary
    for picture in ("layers.png", "hidden.png"):
        assert picture in summary
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_the_lesson_on_layers_says_the_same_numbers_on_every_backend(backend, tmp_path):
    """To the six digits that are printed, in float64."""

    def costs(name):
        lines = []
        tutorial.run(datasets.load_digits(), (0, 1), tmp_path / name, learning_rate=0.05,
                     iterations=20, hidden=4, backend=name, say=lines.append)  # fmt: skip
        return [line for line in lines if "Cost" in line or "accuracy" in line]

    assert costs(backend.name) == costs("numpy")
