from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from accel import datasets, tutorial

TOLERANCE = {"float64": 1e-6, "float32": 1e-5}


@pytest.fixture(scope="module")
def reference(sign_digits):
    return json.loads((sign_digits / "reference.json").read_text())


@pytest.fixture(scope="module")
def images(sign_digits):
    return datasets.load_sign_digits(sign_digits)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("run", [0, 1])
def test_reference_numbers_on_every_backend(backend, images, reference, tmp_path, dtype, run):
    wanted = reference["runs"][run]
    lines = []
    lesson = tutorial.run(
        replace(images, X=images.X.astype(dtype)),
        (0, 1),
        tmp_path,
        learning_rate=wanted["learning_rate"],
        iterations=wanted["n_iter"],
        backend=backend.name,
        say=lines.append,
    )
    cost = lesson.model.loss_curve_
    assert len(cost) == wanted["n_iter"]
    np.testing.assert_allclose(cost, wanted["cost_stable"], rtol=TOLERANCE[dtype])
    assert lesson.model.backend_.name == backend.name
    assert lesson.model.coef_.dtype == dtype
    assert (lesson.n_train, lesson.n_test) == (348, 62)
    exact = {0.01: (323, 58), 0.009: (326, 59)}[wanted["learning_rate"]]
    assert (lesson.train_correct, lesson.test_correct) == exact
    assert (lesson.sklearn_train_correct, lesson.sklearn_test_correct) == (348, 60)
    assert any("172 training rows show a 0" in line for line in lines)
    said = [line for line in lines if "Cost after iteration" in line]
    assert len(said) == wanted["n_iter"] // 10
    for line in said:
        i, shown = line.rpartition("iteration ")[2].split(": ")
        assert float(shown) == pytest.approx(wanted["cost_stable"][int(i)], rel=2e-5, abs=1e-6)


def test_the_walk_on_the_bundled_digits(tmp_path):
    lines = []
    lesson = tutorial.run(
        datasets.load_digits(),
        (3, 8),
        tmp_path,
        learning_rate=0.5,
        iterations=25,
        backend="numpy",
        say=lines.append,
    )
    text = "\n".join(lines)
    for word in ("Load and look", "inputs x", "weights w", "bias b", "sigmoid", "loss", "cost"):
        assert word in text
    assert max(map(len, text.splitlines())) <= 80
    summary = (tmp_path / "summary.md").read_text()
    for picture in ("samples.png", "cost.png", "weights.png"):
        assert picture in summary
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert f"({lesson.test_correct}/{lesson.n_test})" in summary
    assert lesson.test_correct > 0.85 * lesson.n_test


def test_divergence_is_said(tmp_path):
    lines = []
    tutorial.run(
        replace(datasets.load_digits(), X=datasets.load_digits().X * 1e300),
        (0, 1),
        tmp_path,
        learning_rate=1e300,
        iterations=5,
        backend="numpy",
        say=lines.append,
    )
    assert any("diverged" in line and "learning_rate" in line for line in lines)
