"""Disks that fail, processes that are killed: no corrupt file, no wrong model, one clear line."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from accel import LogisticRegression, Status
from accel.disk import read_arrays
from accel.files import load_model, save_model
from accel.sources import DataError, npy


@pytest.fixture
def folder(tmp_path, rng):
    """Rows on disk with labels beside them, in several blocks of the strict backend."""
    X = rng.normal(size=(6000, 8)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] + rng.logistic(size=6000) > 0).astype(int)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", y)
    return tmp_path


def model_of(backend, **options):
    return LogisticRegression(backend=backend.name, placement="stream", tol=1e-6, **options)


# --- reading ---------------------------------------------------------------------------------


def test_short_reads_are_completed(folder, backend, monkeypatch, rng):
    """The kernel may return less than was asked for: nobody must notice."""
    whole = model_of(backend).fit(folder, None)
    read_at = npy._read_at

    def short(descriptor, view, position):
        return read_at(descriptor, view[: max(1, len(view) // 3)], position)

    monkeypatch.setattr(npy, "_read_at", short)
    again = model_of(backend).fit(folder, None)
    assert (again.coef_ == whole.coef_).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_disk_that_fails_is_one_sentence(folder, backend, monkeypatch, share):
    """At the first read, among those of the sample, at the last of all."""
    read_at, n, at = npy._read_at, [0], [float("inf")]

    def failing(descriptor, view, position):
        n[0] += 1
        if n[0] >= at[0]:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_at(descriptor, view, position)

    monkeypatch.setattr(npy, "_read_at", failing)
    model_of(backend).fit(folder, None)
    at[0], n[0] = max(1, int(share * n[0])), 0
    model = model_of(backend)
    with pytest.raises(DataError, match=r"X\.npy: X\[\d+\] cannot be read \(Input/output error\)"):
        model.fit(folder, None)
    assert not hasattr(model, "coef_")


def test_a_file_that_shrinks_during_the_fit(folder, backend):
    def shrink(progress):
        os.truncate(folder / "X.npy", 100_000)

    model = model_of(backend, callback=shrink)
    wanted = r"X\.npy (has changed since it was opened|: X\[\d+\] is missing)"
    with pytest.raises(DataError, match=wanted):
        model.fit(folder, None)
    assert not hasattr(model, "coef_")


def test_a_failed_refit_keeps_the_old_model_whole(folder, backend, monkeypatch):
    model = model_of(backend).fit(folder, None)
    kept = model.coef_.copy(), model.classes_.copy()
    monkeypatch.setattr(npy, "_read_at", lambda *_: 0)
    with pytest.raises(DataError, match="has become shorter"):
        model.fit(folder, np.arange(6000) % 3)
    assert (model.coef_ == kept[0]).all()
    assert (model.classes_ == kept[1]).all()


# --- writing ---------------------------------------------------------------------------------


def test_a_full_disk_keeps_what_was_learned(folder, backend, monkeypatch, tmp_path):
    fsync, n = os.fsync, [0]

    def full(descriptor):
        n[0] += 1
        if n[0] > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    store = tmp_path / "store"
    model = model_of(backend, checkpoint=store)
    with pytest.raises(OSError, match=r"No space left on device.*last\.npz"):
        model.fit(folder, None)
    assert model.status_ is Status.UNSAVED
    assert np.isfinite(model.coef_).all()
    assert os.listdir(store) == ["last.npz"]
    with pytest.raises(OSError, match=r"No space left on device.*m\.npz"):
        save_model(model, tmp_path / "m.npz")
    assert not [name for name in os.listdir(tmp_path) if "m.npz" in name]
    monkeypatch.undo()
    again = model_of(backend, checkpoint=store).fit(folder, None)
    assert (again.coef_ == model_of(backend).fit(folder, None).coef_).all()


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(folder, backend, tmp_path):
    (tmp_path / "file").touch()
    reads = []
    model = model_of(backend, checkpoint=tmp_path / "file" / "store", callback=reads.append)
    with pytest.raises(OSError, match="file"):
        model.fit(folder, None)
    assert not reads


# --- killed ----------------------------------------------------------------------------------

# One process that has imported everything forks the fits that are killed.
KILLED = """
import os, random, signal, sys, time, warnings
import numpy as np
from pathlib import Path
import accel
from accel.files import load_model, save_model
import accel.estimators.linear_fit, sklearn.metrics, sklearn.utils

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
random.seed(seed)

def fit(name, store):
    model = accel.LogisticRegression(backend="numpy", placement="stream", tol=1e-9, solver="lbfgs",
                                     checkpoint=store)
    model.fit(folder, None)
    save_model(model, folder / name)

def forked(*arguments):
    child = os.fork()
    if child == 0:
        try:
            fit(*arguments)
        finally:
            os._exit(0 if sys.exc_info()[0] is None else 1)
    return child

def ended(child):
    return os.waitpid(child, 0)[1]

started = time.perf_counter()
assert ended(forked("whole.npz", folder / "whole")) == 0
span = time.perf_counter() - started
whole, kills, complete = load_model(folder / "whole.npz"), 0, 0
while kills < 50:
    child = forked("m.npz", folder / "store")
    time.sleep(random.uniform(0, span))
    os.kill(child, signal.SIGKILL)
    kills += os.WIFSIGNALED(ended(child))
    if (folder / "m.npz").exists():  # whole, or not there
        assert (load_model(folder / "m.npz").coef_ == whole.coef_).all()
        (folder / "m.npz").unlink()
        for file in (folder / "store").iterdir():
            file.unlink()
        complete += 1
    elif (folder / "store" / "last.npz").exists():
        dict(np.load(folder / "store" / "last.npz"))
assert ended(forked("m.npz", folder / "store")) == 0
assert (load_model(folder / "m.npz").coef_ == whole.coef_).all()
assert (load_model(folder / "m.npz").loss_curve_ == whole.loss_curve_).all()
left = sorted(os.listdir(folder / "store"))
assert left == ["last.npz"], left
print("kills", kills, "complete", complete)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_kill_9_at_fifty_random_moments(folder):
    """No corrupt file, no wrong model, and the same bits in the end."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), "7"],
        capture_output=True,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("kills 50")


SIGINT_IN = {"foreground": signal.SIG_DFL, "background": signal.SIG_IGN}


@pytest.mark.parametrize("where", SIGINT_IN)
def test_sigterm_ends_in_one_line_with_the_model_so_far(folder, tmp_path, where):
    """In the background of a shell too, where SIGINT is ignored."""
    arguments = ("train", "--data", folder, "--out", tmp_path / "out", "--placement", "stream",
                 "--solver", "gd", "--learning-rate", "1e-9", "--max-iter", "10000000",
                 "--tol", "0", "--backend", "numpy")  # fmt: skip
    command = [sys.executable, "-m", "accel", *map(str, arguments), "--every", "10"]
    with subprocess.Popen(
        [*command, "--checkpoint", tmp_path / "store"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, SIGINT_IN[where]),
    ) as process:
        until = time.monotonic() + 60
        while not (tmp_path / "store" / "last.npz").exists() and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert [line for line in err.splitlines() if line.startswith("accel: interrupted, the model")]
    assert load_model(tmp_path / "out" / "model.npz").status_ is Status.INTERRUPTED
    assert set(read_arrays(tmp_path / "store" / "last.npz")) >= {"header", "params"}
