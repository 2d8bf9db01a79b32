"""The command line on data that stays on disk: plans, streams, checkpoints, clusters."""

from __future__ import annotations

import numpy as np
import pytest

from accel import LogisticRegression
from accel.files import load_model
from tests.test_cli import accel, accel_here, failed

__all__ = ["accel_here"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same rows as shards, Parquet files and CSV, with labels and weights."""
    pandas = pytest.importorskip("pandas")
    root, rng = tmp_path_factory.mktemp("scale"), np.random.default_rng(3)
    X = rng.normal(size=(5000, 6)).astype(np.float32)
    y = np.array(["no", "yes"])[(X[:, 0] + rng.logistic(size=5000) > 0).astype(int)]
    weight = rng.integers(1, 4, 5000)
    table = pandas.DataFrame(X, columns=list("abcdef"))
    table["weight"], table["answer"] = weight, y
    for name in ("shards", "parquet"):
        (root / name).mkdir()
    for k, rows in enumerate(np.array_split(np.arange(5000), 3)):
        np.save(root / "shards" / f"X_{k}.npy", X[rows])
        np.save(root / "shards" / f"Y_{k}.npy", y[rows])
        np.save(root / "shards" / f"W_{k}.npy", weight[rows])
        table.iloc[rows].to_parquet(root / "parquet" / f"part-{k}.parquet")
    table.to_csv(root / "d.csv", index=False)
    return root


SOURCES = {
    "shards": (),
    "parquet": ("--target", "answer", "--weight", "weight"),
    "d.csv": ("--target", "answer", "--weight", "weight"),
}


def trained(accel_here, folder, out, name, *options):
    done = accel_here(
        "train", "--data", folder / name, *SOURCES[name], "--out", out, "--tol", "1e-6", *options,
        cwd=out.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, load_model(out / "model.npz")


@pytest.mark.parametrize("name", SOURCES)
def test_on_disk_and_in_memory_give_the_same_model(accel_here, folder, tmp_path, name):
    """Labels, weights and the rows held out are the same; columns keep their names."""
    said, whole = trained(accel_here, folder, tmp_path / "one", name, "--explain")
    assert "streamed" not in said
    said, streamed = trained(
        accel_here, folder, tmp_path / "two", name, "--placement", "stream", "--explain"
    )
    assert "X is streamed from disk" in said
    assert "4000 rows" in said
    np.testing.assert_allclose(streamed.coef_, whole.coef_, rtol=2e-3, atol=1e-4)
    assert streamed.classes_.tolist() == ["no", "yes"]
    names = vars(streamed).get("feature_names_in_")
    assert names is None if name == "shards" else list(names) == list("abcdef")


def test_weights_count(accel_here, folder, tmp_path):
    _, weighted = trained(accel_here, folder, tmp_path / "one", "d.csv")
    plain = accel_here(
        "train", "--data", folder / "d.csv", "--target", "answer", "--out", tmp_path / "two",
        cwd=tmp_path,
    )  # fmt: skip
    assert plain.returncode == 0
    assert load_model(tmp_path / "two" / "model.npz").n_features_in_ == 7
    assert weighted.n_features_in_ == 6


def test_plan_tells_and_writes_nothing(accel_here, folder, tmp_path):
    done = accel_here(
        "train", "--data", folder / "shards", "--plan", "--placement", "stream", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "X is streamed from disk in blocks" in done.stdout
    assert "a pass over X" in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert "plan is an option of --model logistic on this machine" in failed(
        accel_here("train", "--model", "mlp", "--plan", cwd=tmp_path)
    )


def test_the_same_command_goes_on_from_its_checkpoint(accel_here, folder, tmp_path):
    options = ("--placement", "stream", "--solver", "gd", "--learning-rate", "0.5",
               "--checkpoint", tmp_path / "store")  # fmt: skip
    _, whole = trained(accel_here, folder, tmp_path / "one", "shards", *options[:-2],
                       "--max-iter", 40)  # fmt: skip
    trained(accel_here, folder, tmp_path / "two", "shards", *options, "--max-iter", 15)
    said, resumed = trained(accel_here, folder, tmp_path / "two", "shards", *options,
                            "--max-iter", 40)  # fmt: skip
    assert "from iteration 15 of the checkpoint on" in said
    assert (resumed.coef_ == whole.coef_).all()
    np.save(tmp_path / "X.npy", np.zeros((9, 2)))
    np.save(tmp_path / "Y.npy", np.arange(9) % 2)
    message = failed(accel_here("train", "--data", tmp_path / "X.npy", *options, cwd=tmp_path))
    assert "is of another run" in message


def test_predictions_of_files(accel_here, folder, tmp_path):
    _, model = trained(accel_here, folder, tmp_path / "one", "parquet")
    del model.feature_names_in_  # the shards below have none
    done = accel_here(
        "predict", "--model", tmp_path / "one" / "model.npz", "--data", folder / "d.csv",
        "--out", tmp_path / "labels.npy", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    shards = np.concatenate([np.load(folder / "shards" / f"X_{k}.npy") for k in range(3)])
    assert (np.load(tmp_path / "labels.npy") == model.predict(shards)).mean() > 0.999


def test_wrong_placement_and_scheduler_are_one_line(accel_here, folder, tmp_path):
    start = ("train", "--data", folder / "shards")
    assert "placement='disk' must be one of" in failed(
        accel_here(*start, "--placement", "disk", cwd=tmp_path)
    )
    pytest.importorskip("distributed")
    assert "scheduler='tcp://127.0.0.1:1' does not answer" in failed(
        accel_here(*start, "--scheduler", "tcp://127.0.0.1:1", cwd=tmp_path)
    )
    assert "scheduler is for --model logistic and --data" in failed(
        accel_here("train", "--scheduler", "tcp://127.0.0.1:1", cwd=tmp_path)
    )


@pytest.mark.parametrize("name", SOURCES)
def test_on_the_workers_of_a_cluster(folder, tmp_path, monkeypatch, name):
    """Of processes that run in another folder; the path is relative."""
    dask = pytest.importorskip("distributed")
    quiet = {"dashboard_address": ":0", "silence_logs": 50}
    with dask.LocalCluster(n_workers=2, threads_per_worker=1, **quiet) as cluster:
        done = accel(
            "train", "--data", name, *SOURCES[name], "--out", tmp_path / "out", "--tol", "1e-6",
            "--scheduler", cluster.scheduler_address, "--explain", cwd=folder,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "on 2 workers (numpy)" in done.stdout
    monkeypatch.chdir(folder)
    done = accel(
        "train", "--data", name, *SOURCES[name], "--out", tmp_path / "here", "--tol", "1e-6",
        cwd=folder,
    )  # fmt: skip
    here, there = (load_model(tmp_path / where / "model.npz") for where in ("here", "out"))
    np.testing.assert_allclose(there.coef_, here.coef_, rtol=2e-3, atol=1e-4)
    assert isinstance(there, LogisticRegression)
