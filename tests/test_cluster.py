"""Rows on a dask cluster: the local fit's optimum, the same bits, nothing left behind."""

from __future__ import annotations

import pickle
import sys
import time
import warnings

import numpy as np
import pytest

from accel import LogisticRegression, LogisticRegressionCV, MLPClassifier, Status, logistic_path
from accel.backends import get_backend
from accel.cluster import distributed, partitions, spread
from accel.cluster.partitions import grouped
from accel.estimators.checks import Targets
from accel.estimators.linear import linear_objective
from accel.rows import Streamed
from accel.sources import ArraySource, DataError

dask = pytest.importorskip("distributed", reason="the extra dask is not installed")
da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")
pd = pytest.importorskip("pandas")

QUIET = {"dashboard_address": ":0", "silence_logs": 50}


@pytest.fixture(scope="module")
def processes():
    """Two worker processes of one thread."""
    with (
        dask.LocalCluster(n_workers=2, threads_per_worker=1, **QUIET) as cluster,
        dask.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def threads():
    """Two workers in this process: for what needs no processes, and can be watched."""
    with (
        dask.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, **QUIET) as cluster,
        dask.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def client(threads):
    with threads.as_current():
        yield threads


def data(n=3000, d=8, n_classes=2, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    X[:, 1:] += X[:, :-1]
    y = (X @ rng.normal(size=(d, n_classes)) + rng.gumbel(size=(n, n_classes))).argmax(axis=1)
    if dtype == "uint8":
        X = np.clip(np.round(20 * X + 100), 0, 255)
    return X.astype(dtype), y


def chunked(X, rows=400):
    return da.from_array(X, chunks=(rows, *X.shape[1:]))


def held(client):
    """Keys that workers still hold, once they had the time to forget."""
    for _ in range(50):
        keys = [key for worker in client.run(lambda dask_worker: list(dask_worker.data)).values()
                for key in worker]  # fmt: skip
        if not keys:
            break
        time.sleep(0.1)
    return keys


CASES = {
    "binary": {},
    "classes": {"n_classes": 4},
    "float32": {"dtype": "float32", "tol": 1e-6},
    "uint8": {"dtype": "uint8", "tol": 1e-6, "input_scale": 1 / 255},
    "weights": {"weighted": True},
    "balanced": {"class_weight": "balanced", "n_classes": 3, "weighted": True},
    "class weights": {"class_weight": {0: 1.0, 1: 3.0}},
    "l1": {"l1_ratio": 1.0, "C": 0.05},
    "elastic net": {"l1_ratio": 0.5, "C": 0.05},
    "no intercept": {"fit_intercept": False},
    "newton-cg": {"solver": "newton-cg", "n_classes": 3},
    "newton-cholesky": {"solver": "newton-cholesky"},
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_the_local_optimum(client, name, monkeypatch):
    monkeypatch.setattr("accel.placement.FEWEST_SAMPLE_ROWS", 200)  # not all of them
    options = {"tol": 1e-10, **CASES[name]}
    X, y = data(n_classes=options.pop("n_classes", 2), dtype=options.pop("dtype", "float64"))
    weight = np.random.default_rng(1).uniform(0, 3, len(X)) if options.pop("weighted", 0) else None
    if weight is not None:
        weight[400:800] = 0  # the whole of a part
    local = LogisticRegression(backend="numpy", **options).fit(X, y, weight)
    far = LogisticRegression(**options).fit(
        chunked(X), chunked(y), None if weight is None else chunked(weight)
    )
    assert far.status_ is Status.CONVERGED
    assert far.coef_.dtype == local.coef_.dtype
    exact = far.coef_.dtype == np.float64
    np.testing.assert_allclose(far.coef_, local.coef_, rtol=0, atol=1e-8 if exact else 1e-3)
    np.testing.assert_allclose(
        far.intercept_, local.intercept_, rtol=0, atol=1e-8 if exact else 1e-3
    )
    assert far.objective_ == pytest.approx(local.objective_, rel=1e-12 if exact else 1e-6)
    assert "8 partitions on 2 workers (numpy)" in far.account_.reasons[0]
    if name == "newton-cholesky":
        assert "needs all rows at hand" in far.explain()


def test_gradient_descent_makes_the_same_iterates(client):
    X, y = data()
    options = {"solver": "gd", "learning_rate": 0.05, "max_iter": 15, "tol": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        local = LogisticRegression(backend="numpy", **options).fit(X, y)
        far = LogisticRegression(**options).fit(chunked(X), chunked(y))
    np.testing.assert_allclose(far.loss_curve_, local.loss_curve_, rtol=1e-13)
    np.testing.assert_allclose(far.coef_, local.coef_, rtol=1e-12)


def test_processes_labels_that_are_strings_and_a_callback(processes):
    X, y = data(n_classes=3)
    names = np.array(["pear", "apple", "fig"])[y]
    seen = []
    with processes.as_current():
        far = LogisticRegression(tol=1e-9, callback=lambda p: seen.append(p.n_iter)).fit(
            chunked(X, 500), chunked(names, 700)
        )
        assert held(processes) == []
        lazy = far.predict(chunked(X))
        assert isinstance(lazy, da.Array)
        assert (lazy.compute() == far.predict(X)).all()
        np.testing.assert_allclose(far.predict_proba(chunked(X)).compute(), far.predict_proba(X))
        assert far.score(chunked(X), chunked(names)) == far.score(X, names)
    local = LogisticRegression(tol=1e-9, backend="numpy").fit(X, names)
    np.testing.assert_allclose(far.coef_, local.coef_, atol=1e-8)
    assert list(far.classes_) == ["apple", "fig", "pear"]
    assert far.n_passes_ > 0
    assert seen == list(range(len(seen)))
    far.callback = None
    assert (pickle.loads(pickle.dumps(far)).coef_ == far.coef_).all()


def slow_down(seconds):
    """Run on a worker: its passes take longer from now on."""
    module = sys.modules["accel.cluster.distributed"]
    module._fast_sums = getattr(module, "_fast_sums", module._sums)

    def _sums(*arguments):
        time.sleep(seconds)
        return module._fast_sums(*arguments)

    module._sums = _sums if seconds else module._fast_sums


def test_the_same_bits_whoever_answers_first_and_wherever_the_rows_are(processes):
    X, y = data(n=6000, n_classes=3, dtype="float32")
    one, other = processes.nthreads()
    fits = []
    with processes.as_current():
        for slow in (None, one, other):
            if slow:
                processes.run(slow_down, 0.02, workers=[slow])
            fits.append(LogisticRegression(tol=1e-6).fit(chunked(X), chunked(y)))
            processes.run(slow_down, 0)
        alone = processes.persist(chunked(X), workers=[one])
        fits.append(LogisticRegression(tol=1e-6).fit(alone, y))
    for fit in fits[1:]:
        assert (fit.coef_ == fits[0].coef_).all()
        assert fit.loss_curve_.tolist() == fits[0].loss_curve_.tolist()


def as_frames(X, y):
    names = [f"c{k}" for k in range(X.shape[1])]
    frame = dd.from_pandas(pd.DataFrame(X, columns=names).assign(y=y, z="z"), npartitions=5)
    return frame[names], frame["y"]


CUTS = {
    "column chunks": lambda X, y: (da.from_array(X, chunks=(500, 3)), y),
    "misaligned": lambda X, y: (chunked(X, 700), chunked(y, 450)),
    "unknown chunks": lambda X, y: (chunked(X)[chunked(X)[:, 0] > -1e9], chunked(y)),
    "frames": as_frames,
    "frame and array": lambda X, y: (as_frames(X, y)[0], chunked(y, 999)),
    "empty blocks": lambda X, y: (
        da.concatenate([chunked(X)[:0], chunked(X)[:800], chunked(X)[:0], chunked(X)[800:]]),
        list(y),
    ),
}


@pytest.mark.parametrize("cut", CUTS)
def test_however_the_rows_are_cut(client, cut):
    X, y = data()
    local = LogisticRegression(tol=1e-9, backend="numpy").fit(X, y)
    far = LogisticRegression(tol=1e-9).fit(*CUTS[cut](X, y))
    np.testing.assert_allclose(far.coef_, local.coef_, atol=1e-8)
    assert hasattr(far, "feature_names_in_") == ("frame" in cut)
    if "frame" in cut:
        frame = as_frames(X, y)[0]
        assert list(far.feature_names_in_) == list(frame.columns)
        assert (far.predict(frame).compute() == far.predict(frame.compute())).all()
    assert held(client) == []


def test_many_small_neighbours_are_merged(client, monkeypatch):
    assert grouped([5, 0, 3], 8) == [[0], [2]]
    monkeypatch.setattr(partitions, "FEW_PARTS", 4)
    monkeypatch.setattr(partitions, "PART_BYTES", 100)
    assert grouped([5, 5, 0, 5, 40, 5], 10) == [[0, 1], [3, 4], [5]]
    X, y = data()
    monkeypatch.setattr(partitions, "PART_BYTES", 1000 * 8 * 8)
    far = LogisticRegression(tol=1e-9).fit(chunked(X, 100), chunked(y, 130))
    assert "3 partitions" in far.account_.reasons[0]
    local = LogisticRegression(tol=1e-9, backend="numpy").fit(X, y)
    np.testing.assert_allclose(far.coef_, local.coef_, atol=1e-8)


@pytest.mark.parametrize("placement", ["auto", "stream"])
def test_a_file_that_all_workers_see(processes, tmp_path, placement):
    X, y = data(dtype="float32")
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", y)
    local = LogisticRegression(tol=1e-6, backend="numpy").fit(tmp_path, None)
    with processes.as_current():
        far = LogisticRegression(tol=1e-6, placement=placement).fit(spread(tmp_path), None)
    np.testing.assert_allclose(far.coef_, local.coef_, atol=1e-4)
    assert "on 2 workers" in far.account_.reasons[0]


def test_only_small_things_travel(client, monkeypatch):
    X, y = data(n=100_000, d=20, dtype="float32")
    came = []
    gather = dask.Client.gather

    def spy(self, futures, *arguments, **options):
        results = gather(self, futures, *arguments, **options)
        came.extend((type(item).__name__, len(pickle.dumps(item))) for item in results)
        return results

    monkeypatch.setattr(dask.Client, "gather", spy)
    LogisticRegression(solver="newton-cg").fit(chunked(X, 10_000), chunked(y, 10_000))
    sampled = sum(size for name, size in came if name == "Rows")
    rest = [size for name, size in came if name != "Rows"]
    assert 0 < sampled < X.nbytes / 8
    assert max(rest) < 2000
    assert sum(rest) < 50_000


def with_nan(X):
    X = X.copy()
    X[1234, 3] = np.nan
    return X


REFUSED = {
    r"X, partition 3: X\[1234, 3\] is nan": lambda X, y: (chunked(with_nan(X)), y),
    "only one class, 0": lambda X, y: (chunked(X), chunked(0 * y)),
    "y has 2999 labels but X has 3000 rows": lambda X, y: (chunked(X), y[1:]),
    "sample_weight is zero for every row": lambda X, y: (chunked(X), y, 0 * y),
    "Negative values in data passed to `sample_weight`": lambda X, y: (chunked(X), y, -1.0 - y),
    "Unknown label type": lambda X, y: (chunked(X), chunked(X[:, 0])),
    "y to be passed": lambda X, y: (chunked(X), None),
    "object values": lambda X, y: (chunked(X.astype(str)).astype(object), y),
    "column 'z': X holds object": lambda X, y: (as_frames(X, y)[0].assign(z="z"), y),
    "must be": lambda X, y: (chunked(X)[:, 0], y),
}


@pytest.mark.parametrize("why", REFUSED)
def test_refusals_are_one_sentence(client, why):
    with pytest.raises(ValueError, match=why) as refusal:
        LogisticRegression().fit(*REFUSED[why](*data()))
    assert "\n" not in str(refusal.value)
    assert held(client) == []


def test_who_takes_no_dask_collections_says_so():
    X, y = data(n=100)
    for fit in (MLPClassifier().fit, LogisticRegressionCV().fit, logistic_path):
        with pytest.raises(TypeError, match="only LogisticRegression fits on a cluster"):
            fit(chunked(X, 50), y)


def test_no_client_is_an_error_and_nothing_is_computed_here():
    with pytest.raises(ValueError, match="no client is active: start one first"):
        LogisticRegression().fit(chunked(data()[0]), data()[1])


def test_files_in_order_are_refused(tmp_path):
    pd.DataFrame({"a": [1.0, 2.0], "b": [0, 1]}).to_csv(tmp_path / "d.csv", index=False)
    with pytest.raises(DataError, match="read in order"):
        spread(tmp_path / "d.csv")


def test_interrupted_it_keeps_what_it_has(client):
    def interrupt(progress):
        if progress.n_iter == 1:
            raise KeyboardInterrupt

    X, y = data(n_classes=3)
    model = LogisticRegression(tol=1e-12, callback=interrupt, solver="gd")
    with pytest.raises(KeyboardInterrupt):
        model.fit(chunked(X), chunked(y))
    assert model.status_ is Status.INTERRUPTED
    assert np.abs(model.coef_).max() > 0
    assert held(client) == []


def test_a_checkpoint_goes_on_to_the_same_bits(client, tmp_path):
    X, y = data(n_classes=3)
    options = {"tol": 1e-10, "solver": "newton-cg"}
    whole = LogisticRegression(**options).fit(chunked(X), chunked(y))
    stopped = LogisticRegression(
        checkpoint=tmp_path / "c", callback=lambda p: p.n_iter == 2, **options
    ).fit(chunked(X), chunked(y))
    assert stopped.status_ is Status.STOPPED
    resumed = LogisticRegression(checkpoint=tmp_path / "c", **options).fit(chunked(X), chunked(y))
    assert (resumed.coef_ == whole.coef_).all()
    with pytest.raises(ValueError, match="data"):
        LogisticRegression(checkpoint=tmp_path / "c", **options).fit(chunked(X + 1), chunked(y))


def test_warm_start_begins_at_the_last_fit(client):
    X, y = data()
    model = LogisticRegression(tol=0.03, solver="gd", warm_start=True, learning_rate=1.0)
    model.fit(chunked(X), chunked(y))
    assert model.fit(chunked(X), chunked(y)).n_iter_ <= 2


@pytest.mark.parametrize("is_streamed", [False, True])
def test_objectives_are_pickled_without_their_pass(is_streamed):
    X, y = data()
    backend = get_backend("numpy")
    rows = Streamed(ArraySource(X), 500, backend) if is_streamed else X
    objective = linear_objective(
        rows, Targets(np.arange(2), y, np.ones(len(y))), backend, fit_intercept=True, input_scale=1
    )
    copy = pickle.loads(pickle.dumps(objective))
    params = np.linspace(-1, 1, 9)
    assert copy.value_and_grad(params)[0] == objective.value_and_grad(params)[0]
    assert sys.getsizeof(copy) > (0 if is_streamed else X.nbytes)


def test_workers_compute_on_their_own_backend(client, monkeypatch):
    """On a device that is not the CPU, as a GPU would be: nothing but sums leaves it."""
    X, y = data(n_classes=3, dtype="float32")
    options = {"solver": "newton-cg", "tol": 1e-6}
    local = LogisticRegression(backend="numpy", **options).fit(X, y)
    far = LogisticRegression(backend="strict", **options).fit(chunked(X), chunked(y))
    np.testing.assert_allclose(far.coef_, local.coef_, atol=1e-3)
    assert "on 2 workers (strict)" in far.account_.reasons[0]


def test_parameters_that_are_large_are_a_task_of_their_own(client, monkeypatch):
    X, y = data(n_classes=3)
    small = LogisticRegression(tol=1e-9).fit(chunked(X), y)
    monkeypatch.setattr(distributed, "EMBEDDED_BYTES", 0)
    large = LogisticRegression(tol=1e-9).fit(chunked(X), y)
    assert (large.coef_ == small.coef_).all()


def test_what_other_processes_cannot_open_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        rows = file.create_dataset("X", data=data()[0])
        with pytest.raises(DataError, match="cannot be opened by other processes"):
            spread(rows, data()[1])
