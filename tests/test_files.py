from __future__ import annotations

import contextlib
import errno
import os

import numpy as np
import pandas as pd
import pytest

from accel import LogisticRegression, MLPClassifier, MLPRegressor, Status
from accel.disk import prepare_folder, write_atomically
from accel.files import ModelFileError, load_model, save_model


@pytest.fixture
def model():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(60, 3)), np.array(["ant", "bee", "cat"])[rng.integers(0, 3, 60)]
    return LogisticRegression(C=np.inf, solver="lbfgs").fit(pd.DataFrame(X, columns=list("abc")), y)


def test_round_trip(model, tmp_path):
    save_model(model, tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz")
    for name in ("coef_", "intercept_", "classes_", "loss_curve_", "n_iter_", "feature_names_in_"):
        assert (getattr(again, name) == getattr(model, name)).all(), name
    assert again.coef_.dtype == model.coef_.dtype
    assert again.get_params()["C"] == np.inf
    assert again.status_ is Status.CONVERGED
    assert (again.objective_, again.gradient_norm_) == (model.objective_, model.gradient_norm_)
    assert again.backend_ == model.backend_
    X = np.random.default_rng(2).normal(size=(9, 3))
    frame = pd.DataFrame(X, columns=list("abc"))
    assert (again.predict(frame) == model.predict(frame)).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_parameter_survives(tmp_path):
    X, y = np.arange(8.0)[:, None], np.arange(8) % 2
    params = {
        "C": np.float32(0.5), "solver": "gd", "fit_intercept": np.True_, "max_iter": np.int64(7),
        "class_weight": {0: 2.0, 1: np.float64(1.5)}, "tol": 1e-3, "learning_rate": 0.25,
        "warm_start": True, "random_state": 3, "verbose": 0, "input_scale": 0.5,
        "backend": "numpy", "penalty": "deprecated", "l1_ratio": 0.0, "dual": False,
        "intercept_scaling": 1.0, "n_jobs": None, "placement": "resident", "checkpoint_every": 2,
    }  # fmt: skip
    model = LogisticRegression(**params, callback=lambda progress: False)
    model.fit(X, y)
    save_model(model, tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz").get_params()
    assert set(again) - {"callback", "checkpoint"} == set(params)
    assert {name: again[name] for name in params} == params


NETWORKS = {
    "classes": (MLPClassifier, {"hidden_layer_sizes": (4, 2), "early_stopping": True}),
    "no hidden layer": (MLPClassifier, {"hidden_layer_sizes": []}),
    "lbfgs": (MLPClassifier, {"solver": "lbfgs", "max_iter": 5}),
    "numbers": (MLPRegressor, {"activation": "gelu", "n_iter_no_change": np.inf, "dropout": 0.2}),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("case", NETWORKS)
def test_networks_round_trip(case, tmp_path, rng):
    kind, options = NETWORKS[case]
    X, y = rng.normal(size=(50, 3)), np.arange(50) % 3
    frame = pd.DataFrame(X, columns=list("abc"))
    labels = np.array(["ant", "bee", "cat"])[y] if kind is MLPClassifier else y
    model = kind(**{"max_iter": 3, "backend": "numpy", "checkpoint_every": 2, **options})
    model.fit(frame, labels)
    save_model(model, tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz")
    assert type(again) is kind
    np.testing.assert_array_equal(again.predict(frame), model.predict(frame))
    for name in ("n_iter_", "t_", "loss_", "best_loss_", "loss_curve_", "validation_scores_",
                 "best_validation_score_", "status_", "out_activation_", "n_layers_",
                 "n_outputs_", "backend_", "input_scale_"):  # fmt: skip
        assert getattr(again, name) == getattr(model, name), name
    assert again.explain() == model.explain()
    for name, value in model.get_params().items():
        assert again.get_params()[name] == (tuple(value) if value == [] else value), name


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("change", [
    {"coef_1": np.ones((7, 3))}, {"intercept_0": np.ones(5)}, {"coef_0": np.full((3, 4), np.nan)},
    {"coef_9": np.ones((3, 3))}, {"classes": np.array([1, 1, 2])}, {"loss_curve": None},
    {"coef_0": np.ones((3, 4), "i8")}, {"classes": np.arange(9)},
], ids=lambda change: next(iter(change)))  # fmt: skip
def test_tampered_networks_are_refused(change, tmp_path, rng):
    X, y = rng.normal(size=(50, 3)), np.arange(50) % 3
    save_model(MLPClassifier((4,), max_iter=2).fit(X, y), tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as stored:
        arrays = {**stored, **change}
    np.savez(tmp_path / "m.npz", **{k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(ModelFileError, match="is not an accel model"):
        load_model(tmp_path / "m.npz")


TAMPERED = {
    "complex": {"coef": np.ones((3, 3)) * 1j},
    "datetime": {"coef": np.ones((3, 3)).astype("M8[s]")},
    "repeated classes": {"classes": np.array(["a", "a", "b"])},
    "deep classes": {"classes": np.array([["a", "b", "c"]])},
    "nan classes": {"classes": np.array([np.nan, np.nan, 1.0])},
    "shapes": {"intercept": np.ones(2)},
    "nan": {"coef": np.full((3, 3), np.nan)},
    "extra": {"other": np.ones(1)},
    "deep header": {"header": np.frombuffer(b"[" * 200_000, dtype=np.uint8)},
}


@pytest.mark.parametrize("case", TAMPERED)
def test_tampered_models_are_refused(model, tmp_path, case):
    save_model(model, tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as file:
        arrays = {**file, **TAMPERED[case]}
    np.savez(tmp_path / "m.npz", **arrays)
    with pytest.raises(ModelFileError):
        load_model(tmp_path / "m.npz")


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "link", lambda file: file.write(b"new"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_errors_name_the_file_and_not_its_temporary(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_atomically(tmp_path / "none" / "f", lambda file: None)
    assert caught.value.filename == str(tmp_path / "none" / "f")


@pytest.mark.parametrize("labels", [[1, 5], [True, False], ["a", "b"], [0.0, 2.0]])
def test_any_labels_survive(tmp_path, labels):
    y = np.array(labels)[[0, 1, 0, 1]]
    fitted = LogisticRegression().fit(np.arange(4.0)[:, None], y)
    save_model(fitted, tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz")
    assert again.classes_.dtype == fitted.classes_.dtype
    assert (again.classes_ == fitted.classes_).all()


def test_object_labels_of_strings_are_stored_as_text(tmp_path):
    y = np.array(["x", "y", "x", "y"], dtype=object)
    save_model(LogisticRegression().fit(np.arange(4.0)[:, None], y), tmp_path / "m.npz")
    assert load_model(tmp_path / "m.npz").classes_.tolist() == ["x", "y"]


def test_damaged_and_foreign_files(model, tmp_path):
    path = tmp_path / "m.npz"
    save_model(model, path)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    for trial in range(400):
        damaged = bytearray(good[: rng.integers(len(good))] if trial % 2 else good)
        for position in rng.integers(0, max(1, len(damaged)), 3):
            if len(damaged):
                damaged[position] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        with contextlib.suppress(ModelFileError):
            assert np.isfinite(load_model(path).coef_).all()
    for content in (b"", b"hello", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match="not an accel model"):
            load_model(path)
    np.savez(path, X=np.ones(3))
    with pytest.raises(ModelFileError, match="not an accel model"):
        load_model(path)
    np.savez(path, header=np.array([{}], dtype=object))
    with pytest.raises(ModelFileError, match="not an accel model"):
        load_model(path)
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none.npz")


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f"
    write_atomically(path, lambda file: file.write(b"old"))

    def full(file):
        file.write(b"ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, full)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"old"


def test_prepare_folder(tmp_path):
    prepare_folder(tmp_path / "a" / "b")
    assert os.listdir(tmp_path / "a" / "b") == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        prepare_folder(tmp_path / "file")
