"""Checkpoints: a run that was cut short goes on to bitwise the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from accel import MLPClassifier, MLPRegressor, Status
from accel.checkpoint import CheckpointError, digest

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
OPTIONS = {"hidden_layer_sizes": (6,), "batch_size": 10, "max_iter": 12, "random_state": 4}
CASES = {
    "adam": {},
    "adamw, dropout": {"solver": "adamw", "dropout": 0.3},
    "sgd, adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0,
                      "n_iter_no_change": 1, "learning_rate_init": 0.1},
    "cosine, gelu": {"learning_rate": "cosine", "activation": "gelu"},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 40},
    "in order": {"shuffle": False},
    "centred": {"center": True, "early_stopping": True},
    "any seed": {"random_state": None},
}  # fmt: skip


def data():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(73, 5))
    return X, (X[:, :3] * [1, 2, -1]).argmax(axis=1)


def stop_after(epochs):
    return lambda progress: progress.n_iter >= epochs


def assert_bitwise(one, two):
    for a, b in zip(one.coefs_ + one.intercepts_, two.coefs_ + two.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("loss_curve_", "validation_scores_", "n_iter_", "t_", "loss_", "best_loss_",
                 "best_validation_score_", "status_"):  # fmt: skip
        assert getattr(one, name) == getattr(two, name), name


@pytest.mark.parametrize("case", CASES)
def test_resuming_is_bitwise_the_whole_run(backend, case, tmp_path):
    X, y = data()
    options = {**OPTIONS, "backend": backend.name, **CASES[case]}
    cut = MLPClassifier(checkpoint=tmp_path, callback=stop_after(3), **options).fit(X, y)
    assert cut.status_ is Status.STOPPED
    rest = MLPClassifier(checkpoint=tmp_path, **options).fit(X, y)
    assert rest.n_iter_ > 3
    assert "from epoch 3 of the checkpoint on" in rest.account_.ending
    if options["random_state"] is None:
        assert rest.loss_curve_[:3] == cut.loss_curve_
        return
    whole = MLPClassifier(**options).fit(X, y)
    assert_bitwise(rest, whole)
    again = MLPClassifier(checkpoint=tmp_path, **options).fit(X, y)  # nothing is left to do
    assert_bitwise(again, whole)
    assert again.account_.passes == {"epoch": 0}


def test_a_longer_run_goes_on_from_a_finished_one(tmp_path):
    X, y = data()
    options = {**OPTIONS, "backend": "numpy", "checkpoint": tmp_path}
    MLPClassifier(**options).fit(X, y)
    longer = MLPClassifier(**{**options, "max_iter": 20}).fit(X, y)
    whole = MLPClassifier(**{**OPTIONS, "backend": "numpy", "max_iter": 20}).fit(X, y)
    assert_bitwise(longer, whole)


def test_every_n_epochs_and_the_best(tmp_path):
    X, y = data()
    writes = []

    def note(progress):
        writes.append((tmp_path / "last.npz").exists())
        return progress.n_iter == 5

    options = {**OPTIONS, "backend": "numpy", "checkpoint": tmp_path, "checkpoint_every": 3}
    MLPClassifier(callback=note, **options).fit(X, y)
    assert writes == [False, False, True, True, True]
    model = MLPClassifier(**options).fit(X, y)
    assert "from epoch 3" in model.account_.ending
    with np.load(tmp_path / "best.npz") as best:
        assert best["params"].shape == (6 * 6 + 7 * 3,)
    assert sorted(os.listdir(tmp_path)) == ["best.npz", "last.npz"]


@pytest.mark.parametrize("change", [
    {"alpha": 0.5}, {"random_state": 9}, {"solver": "sgd"}, {"hidden_layer_sizes": (6, 2)},
    {"X": 1}, {"y": 1}, {"sample_weight": 1},
], ids=str)  # fmt: skip
def test_another_run_is_refused_and_named(tmp_path, change):
    X, y = data()
    MLPClassifier(backend="numpy", checkpoint=tmp_path, **OPTIONS).fit(X, y)
    before = (tmp_path / "last.npz").read_bytes()
    X, y = (X + 1 if "X" in change else X), ((y + 1) % 3 if "y" in change else y)
    weight = np.full(73, 2.0) if "sample_weight" in change else None
    options = {
        **OPTIONS,
        **{k: v for k, v in change.items() if k in OPTIONS or k in ("alpha", "solver")},
    }
    name = "data" if set(change) & {"X", "y", "sample_weight"} else next(iter(change))
    with pytest.raises(CheckpointError, match=rf"last.npz is of another run \({name} differ\)"):
        MLPClassifier(backend="numpy", checkpoint=tmp_path, **options).fit(X, y, weight)
    assert (tmp_path / "last.npz").read_bytes() == before


def test_the_same_values_of_other_types_are_the_same_run(tmp_path):
    X, y = data()
    options = {**OPTIONS, "backend": "numpy", "checkpoint": tmp_path}
    MLPClassifier(callback=stop_after(3), **options).fit(X, y)
    options |= {"hidden_layer_sizes": [np.int64(6)], "alpha": np.float64(1e-4), "verbose": 0}
    assert "from epoch 3" in MLPClassifier(**options).fit(X, y).account_.ending


def test_a_foreign_best_is_refused_before_any_work(tmp_path):
    X, y = data()
    MLPClassifier(backend="numpy", checkpoint=tmp_path, **OPTIONS).fit(X, y)
    (tmp_path / "last.npz").unlink()
    seen = []
    model = MLPClassifier(
        backend="numpy", checkpoint=tmp_path, alpha=9.0, callback=seen.append, **OPTIONS
    )
    with pytest.raises(CheckpointError, match=r"best.npz is of another run \(alpha differ\)"):
        model.fit(X, y)
    assert not seen


@pytest.mark.parametrize("is_fused", [True, False])
def test_kernels_are_chosen_whatever_the_number_of_epochs(is_fused, tmp_path, monkeypatch):
    """So a longer run goes on bitwise as it would have begun."""
    from accel.backends import numpy_backend

    X, y = data()
    options, (n_params, steps) = {**OPTIONS, "backend": "numpy"}, (6 * 6 + 7 * 3, 8)
    monkeypatch.setattr(numpy_backend, "FUSED_UPDATES", n_params * steps + (not is_fused))
    MLPClassifier(checkpoint=tmp_path, **options).fit(X, y)
    options["max_iter"] = 20
    rest = MLPClassifier(checkpoint=tmp_path, **options).fit(X, y)
    assert_bitwise(rest, MLPClassifier(**options).fit(X, y))


def test_what_a_killed_writer_left_is_cleared(tmp_path):
    X, y = data()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / f".last.npz.{dead.pid}.tmp").write_bytes(b"half")
    MLPClassifier(backend="numpy", checkpoint=tmp_path, **{**OPTIONS, "max_iter": 1}).fit(X, y)
    assert sorted(os.listdir(tmp_path)) == ["best.npz", "last.npz"]


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "another format"])
def test_a_damaged_file_is_one_sentence(tmp_path, damage):
    X, y = data()
    MLPClassifier(backend="numpy", checkpoint=tmp_path, **OPTIONS).fit(X, y)
    path = tmp_path / "last.npz"
    content = path.read_bytes()
    if damage == "another format":
        np.savez(path, a=np.zeros(3))
    else:
        path.write_bytes(
            {"cut": content[:-300], "garbage": b"PK" + os.urandom(900), "empty": b""}[damage]
        )
    with pytest.raises(CheckpointError, match="is not a checkpoint of this version, or it is dam"):
        MLPClassifier(backend="numpy", checkpoint=tmp_path, **OPTIONS).fit(X, y)


def test_a_folder_that_cannot_be_written_is_said_before_training(tmp_path):
    X, y = data()
    (tmp_path / "file").touch()
    seen = []
    model = MLPClassifier(backend="numpy", checkpoint=tmp_path / "file", callback=seen.append)
    with pytest.raises(OSError, match="file"):
        model.fit(X, y)
    assert not seen


def test_a_full_disk_leaves_the_last_state_whole(tmp_path, monkeypatch):
    import accel.disk

    X, y = data()
    options = {**OPTIONS, "backend": "numpy", "checkpoint": tmp_path}
    MLPClassifier(callback=stop_after(4), **options).fit(X, y)
    before = (tmp_path / "last.npz").read_bytes()

    def full(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(accel.disk.np, "savez", full)
    model = MLPClassifier(**options)
    with pytest.raises(OSError, match="No space left"):
        model.fit(X, y)
    monkeypatch.undo()
    assert model.status_ is Status.UNSAVED
    assert model.n_iter_ == 5  # what was learned is kept
    model.predict(X)
    assert (tmp_path / "last.npz").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["best.npz", "last.npz"]
    whole = MLPClassifier(**{**OPTIONS, "backend": "numpy"}).fit(X, y)
    assert_bitwise(MLPClassifier(**options).fit(X, y), whole)


def test_refused_where_it_has_no_meaning(tmp_path):
    X, y = data()
    with pytest.raises(ValueError, match="random_state=None holds out other rows"):
        MLPClassifier(early_stopping=True, checkpoint=tmp_path).fit(X, y)
    with pytest.raises(ValueError, match="set warm_start=False"):
        MLPClassifier(warm_start=True, checkpoint=tmp_path).fit(X, y)
    with pytest.raises(ValueError, match="checkpoint is for fit"):
        MLPRegressor(checkpoint=tmp_path).partial_fit(X, y)
    for wrong in (3, "", b"x"):
        with pytest.raises(ValueError, match=r"checkpoint=.* must be the path of a folder"):
            MLPClassifier(checkpoint=wrong).fit(X, y)
    with pytest.raises(ValueError, match="checkpoint_every=0 must be an integer, 1 or more"):
        MLPClassifier(checkpoint_every=0).fit(X, y)


def test_digest_sees_values_shapes_and_types(rng):
    import scipy.sparse

    X = rng.normal(size=(30, 4))
    kinds = [X, X.astype(np.float32), X.reshape(60, 2), X + 1e-15, scipy.sparse.csr_array(X)]
    assert len({digest(kind) for kind in kinds}) == len(kinds)
    narrow = scipy.sparse.csr_array(X)
    wider = scipy.sparse.csr_array((narrow.data, narrow.indices, narrow.indptr), (30, 5))
    assert digest(wider) != digest(narrow)
    assert digest(X, None) == digest(X.copy(order="F"))


RUN = """
import sys, warnings, numpy as np
warnings.simplefilter("ignore")
from accel import MLPClassifier
rng = np.random.default_rng(0)
X = rng.normal(size=(3000, 40)).astype(np.float32)
y = (X[:, :4] @ rng.normal(size=(4, 4))).argmax(axis=1)
model = MLPClassifier((64, 32), max_iter=60, dropout=0.1, random_state=1, backend="numpy",
                      checkpoint=sys.argv[1] or None, n_iter_no_change=100)
print("go", flush=True)
model.fit(X, y)
np.savez(sys.argv[2], *model.coefs_, *model.intercepts_, np.array(model.loss_curve_))
"""


def started(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    with process.stdout:
        assert process.stdout.readline() == "go\n"
    return process


def test_kill_9_at_any_moment(tmp_path, rng):
    """Killed again and again at random moments, the run ends bitwise where it would have."""
    whole, rest, store = tmp_path / "whole.npz", tmp_path / "rest.npz", tmp_path / "store"
    assert started("", whole).wait() == 0
    kills = 0
    for _ in range(40):
        process = started(store, rest)
        try:
            process.wait(timeout=rng.uniform(0.01, 0.15))
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            if kills > 12:
                process = started(store, rest)
                assert process.wait() == 0
                break
    assert kills > 2
    with np.load(whole) as one, np.load(rest) as two:
        assert one.files == two.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], two[name])


# --- Ctrl-C ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["callback", "signal"])
def test_control_c_keeps_a_model_that_works(how):
    X, y = data()

    def interrupt(progress):
        if progress.n_iter == 3:
            if how == "callback":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        model = MLPClassifier(backend="numpy", callback=interrupt, **OPTIONS)
        with pytest.raises(KeyboardInterrupt, match="INTERRUPTED after 3 epochs, loss"):
            model.fit(X, y)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    three = MLPClassifier(backend="numpy", **{**OPTIONS, "max_iter": 3}).fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], three.coefs_[0])
    assert model.status_ is Status.INTERRUPTED
    model.predict(X)


def test_a_second_control_c_acts_at_once():
    X, y = data()

    def twice(progress):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        raise AssertionError("the second one was not acted on")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt, match="INTERRUPTED after 1 epochs"):
            MLPClassifier(backend="numpy", callback=twice, **OPTIONS).fit(X, y)
    finally:
        signal.signal(signal.SIGINT, before)
