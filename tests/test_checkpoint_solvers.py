"""Checkpoints of full-batch fits: cut short anywhere, they go on to bitwise the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from accel import MLPClassifier, MLPRegressor, Status
from accel.backends import get_backend
from accel.checkpoint import Checkpoint, CheckpointError, digest, pack_snapshot
from accel.conditioning import RowSpace, Standardised
from accel.solvers import SOLVERS, minimize, plan
from accel.solvers.gd import GradientDescent
from accel.solvers.lbfgs import LBFGS
from tests.test_objective import make, problem
from tests.test_solvers import Function, quadratic

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RUN = {"data": "these", "C": "1.0"}


class Cut(Exception):
    """What ends a fit from outside, where no code of it runs any more."""


def cut_at(n_iter):
    def callback(progress):
        if progress.n_iter == n_iter:
            raise Cut

    return callback


def store_in(folder, every=1, **changes):
    store = Checkpoint(folder, every, RUN, {"rows": "one block"})
    return replace(store, **changes)


def keeping(store, objective):
    def keep(snapshot):
        store.save_snapshot(snapshot, objective.backend, expand=objective.expand)

    return keep


def assert_bitwise(backend, one, two):
    np.testing.assert_array_equal(backend.to_numpy(one.params), backend.to_numpy(two.params))
    assert one.params.dtype == two.params.dtype
    for name in ("value", "error", "status", "n_iter", "n_evals", "history", "unsaved"):
        assert getattr(one, name) == getattr(two, name), name


def standardised(backend, dtype="float64"):
    """Columns of a size and an offset of their own, centred and scaled."""
    X, labels = problem(np.random.default_rng(3), n_classes=3)
    X = X * np.geomspace(1e-2, 1e2, X.shape[1]) + 1
    objective = make(backend, X, labels, alpha=1e-3, dtype=dtype)
    zero = backend.asarray(np.zeros(objective.network.n_params, dtype))
    way = plan(objective, zero, "lbfgs", learning_rate=1.0, max_iter=100)
    assert isinstance(way.problem, Standardised)
    return way.problem, way.start


def resumed_everywhere(make_problem, solver, folder, *, every=1, cuts=(0, 1, 2, 5, 9), **limits):
    """The whole fit, compared with one cut at each of these updates, in turn."""
    limits = {"tol": 1e-9, "max_iter": 25, **limits}
    objective, start = make_problem()
    backend = objective.backend
    whole = minimize(objective, start, solver, **limits)
    assert whole.n_iter > max(2, every)
    for cut in [k for k in cuts if k < whole.n_iter]:
        here = store_in(folder / f"cut {cut}", every)
        here.prepare()
        objective, start = make_problem()
        with pytest.raises(Cut):
            minimize(objective, start, solver, **limits, callback=cut_at(cut),
                     keep=keeping(here, objective))  # fmt: skip
        objective, start = make_problem()  # as in another process
        snapshot, restart = here.load_snapshot(backend)
        assert restart is None
        assert len(snapshot.history) == cut - cut % every
        rest = minimize(objective, start, solver, **limits, resume=snapshot,
                        keep=keeping(here, objective))  # fmt: skip
        assert_bitwise(backend, rest, whole)
        assert rest.resumed == cut - cut % every
        again, _ = here.load_snapshot(backend)  # the end was kept: nothing is left to do
        assert_bitwise(backend, minimize(objective, start, solver, **limits, resume=again), whole)
        assert os.listdir(here.folder) == ["last.npz"]
    return whole


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_solver_goes_on_bitwise(backend, name, dtype, tmp_path):
    def make_problem():
        return standardised(backend, dtype)

    whole = resumed_everywhere(make_problem, SOLVERS[name](0.1), tmp_path)
    assert len(whole.history) == whole.n_iter


@pytest.mark.parametrize("name", ["lbfgs", "gd"])
def test_in_the_row_space(backend, name, tmp_path):
    def make_problem():
        X, labels = problem(np.random.default_rng(3), n=24, d=90, n_classes=3)
        objective = make(backend, X, labels, alpha=1e-3, dtype="float32")
        zero = backend.asarray(np.zeros(objective.network.n_params, np.float32))
        way = plan(objective, zero, name, learning_rate=1.0, max_iter=1000)
        inner = getattr(way.problem, "problem", way.problem)
        assert isinstance(inner, RowSpace)
        return way.problem, way.start

    # in float32 the certificate is an exact look by a pass of its own: its ratio is at work too
    resumed_everywhere(make_problem, SOLVERS[name](1.0), tmp_path, cuts=(1, 6, 20),
                       tol=1e-3, max_iter=60)  # fmt: skip


def test_every_third_update(tmp_path, rng):
    def make_problem():
        return standardised(get_backend("numpy"))

    resumed_everywhere(make_problem, LBFGS(3), tmp_path, every=3, cuts=(4, 5, 6, 11))


def test_a_longer_fit_goes_on_from_one_that_max_iter_ended(backend, tmp_path):
    objective, start = standardised(backend)
    store = store_in(tmp_path)
    short = minimize(
        objective, start, LBFGS(), tol=1e-9, max_iter=7, keep=keeping(store, objective)
    )
    assert short.status is Status.MAX_ITER
    snapshot, _ = store.load_snapshot(backend)
    rest = minimize(objective, start, LBFGS(), tol=1e-9, max_iter=200, resume=snapshot)
    assert_bitwise(backend, rest, minimize(objective, start, LBFGS(), tol=1e-9, max_iter=200))
    assert rest.status is Status.CONVERGED
    assert "iterations (from iteration 7 of the checkpoint on), objective" in rest.sentence(1e-9)


def test_the_last_exact_look_is_part_of_the_state():
    """A cheap bound far below the certificate: when the next look is due depends on the last."""

    class Cheap(Function):
        looks = 0

        def error(self, params, gradient):
            return 0.1 * super().error(params, gradient)

        def certify(self, params, value, gradient):
            self.looks += 1
            error = 10 * self.error(params, gradient)
            return value, error, error

    def fresh():
        return Cheap(get_backend("numpy"), lambda x: 0.5 * x @ x, lambda x: x)

    whole, kept = fresh(), []
    limits = {"tol": 0.05, "max_iter": 100}
    one = minimize(whole, np.ones(2), GradientDescent(0.1), **limits, keep=kept.append)
    assert {round(snapshot.ratio, 9) for snapshot in kept} == {1.0, 10.0}
    for k, snapshot in enumerate(kept):
        rest = fresh()
        two = minimize(rest, np.ones(2), GradientDescent(0.1), **limits, resume=snapshot)
        assert_bitwise(whole.backend, one, two)
        assert rest.looks == (2 if snapshot.ratio == 1 else 1), k


def test_snapshots_come_before_the_callback_and_at_every_end():
    seen = []

    def keep(snapshot):
        seen.append(("keep", len(snapshot.history), snapshot.ended))

    def callback(progress):
        seen.append(("callback", progress.n_iter))
        if progress.n_iter == 2:
            raise KeyboardInterrupt

    objective = quadratic(get_backend("numpy"), np.ones(2))
    options = {"tol": 1e-3, "max_iter": 3, "callback": callback, "keep": keep}
    cut = minimize(objective, np.ones(2), GradientDescent(0.1), **options)
    assert cut.status is Status.INTERRUPTED
    assert seen == [("keep", 0, None), ("callback", 0), ("keep", 1, None), ("callback", 1),
                    ("keep", 2, None), ("callback", 2),
                    ("keep", 2, Status.INTERRUPTED)]  # fmt: skip
    seen.clear()
    options["callback"] = lambda progress: progress.n_iter == 1
    minimize(objective, np.ones(2), GradientDescent(0.1), **options)
    assert seen[-1] == ("keep", 1, Status.STOPPED)
    minimize(objective, np.ones(2), GradientDescent(0.1), **{**options, "callback": None})
    assert seen[-1] == ("keep", 3, Status.MAX_ITER)


def test_time_goes_on(tmp_path):
    kept, seen = [], []
    objective = quadratic(get_backend("numpy"), np.ones(2))
    minimize(objective, np.ones(2), GradientDescent(0.1), tol=0, max_iter=3, keep=kept.append)
    times = [snapshot.elapsed_s for snapshot in kept]
    assert times == sorted(times)
    later = replace(kept[1], elapsed_s=1000.0)
    minimize(objective, np.ones(2), GradientDescent(0.1), tol=0, max_iter=3, resume=later,
             callback=lambda progress: seen.append(progress.elapsed_s))  # fmt: skip
    assert 1000 <= seen[0] < 1010


# --- the file ----------------------------------------------------------------------------------


def saved(backend, folder):
    objective, start = standardised(backend, "float32")
    store = store_in(folder)
    kept = []
    minimize(objective, start, LBFGS(), tol=0, max_iter=4, keep=kept.append)
    last = replace(kept[-1], ratio=7.1, elapsed_s=0.3)
    keeping(store, objective)(last)
    return objective, last, store


def test_a_state_comes_back_as_it_was(backend, tmp_path):
    _, snapshot, store = saved(backend, tmp_path)
    back, _ = store.load_snapshot(backend)
    assert (back.history, back.ratio, back.elapsed_s, back.ended) == (
        snapshot.history, snapshot.ratio, snapshot.elapsed_s, None)  # fmt: skip
    assert type(back.state.memory) is tuple
    for (s, y, sy), (s2, y2, sy2) in zip(snapshot.state.memory, back.state.memory, strict=True):
        assert s2.dtype == s.dtype
        np.testing.assert_array_equal(backend.to_numpy(s), backend.to_numpy(s2))
        np.testing.assert_array_equal(backend.to_numpy(y), backend.to_numpy(y2))
        assert (type(sy2), sy2) == (float, sy)
    again = pack_snapshot(back, backend)[0]
    assert again == pack_snapshot(snapshot, backend)[0]


def test_another_plan_starts_from_the_users_parameters(backend, tmp_path):
    objective, snapshot, store = saved(backend, tmp_path)
    other = replace(store, plan={"rows": "nine blocks"})
    nothing, start = other.load_snapshot(backend)
    assert nothing is None
    wanted = objective.expand(snapshot.state.params)
    assert start.dtype == wanted.dtype
    np.testing.assert_array_equal(backend.to_numpy(start), backend.to_numpy(wanted))


def test_an_empty_folder_is_a_start(backend, tmp_path):
    assert store_in(tmp_path).load_snapshot(backend) == (None, None)


def test_another_run_is_refused(backend, tmp_path):
    _, _, store = saved(backend, tmp_path)
    other = replace(store, run={**RUN, "C": "2.0"})
    with pytest.raises(CheckpointError, match=r"last.npz is of another run \(C differ\): give"):
        other.load_snapshot(backend)
    with pytest.raises(CheckpointError, match=r"last.npz is of another run \(kind differ\): give"):
        store.load(backend)


def test_damage_is_one_sentence(backend, tmp_path):
    _, _, store = saved(backend, tmp_path)
    path = tmp_path / "last.npz"
    whole = path.read_bytes()
    for damaged in (whole[:-300], whole[:100], b"PK" + os.urandom(900), b""):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="not a checkpoint of this version, or it is d"):
            store.load_snapshot(backend)
    path.write_bytes(whole)
    with np.load(path) as file:
        arrays = dict(file)
    del arrays["state_1"]
    np.savez(path, **arrays)
    with pytest.raises(CheckpointError, match="not a checkpoint of this version, or it is d"):
        store.load_snapshot(backend)


def test_a_source_on_disk_is_its_identity(rng):
    class Source:
        def __init__(self, name):
            self.name = name

        def identity(self):
            return self.name

        def __getattr__(self, name):
            raise AssertionError("it is not to be read")

    X = rng.normal(size=(5, 2))
    found = {digest(Source("a"), X), digest(Source("b"), X), digest(Source("a"), X + 1), digest(X)}
    assert len(found) == 4
    assert digest(Source("a"), X) == digest(Source("a"), X)


# --- the networks ------------------------------------------------------------------------------


def data():
    rng = np.random.default_rng(2)
    X = rng.normal(size=(73, 5))
    return X, (X[:, :3] * [1, 2, -1]).argmax(axis=1)


def network(solver, **options):
    return MLPClassifier((6,), solver=solver, max_iter=30, random_state=4, tol=1e-9,
                         learning_rate_init=0.1, **options)  # fmt: skip


def assert_same_model(one, two):
    for a, b in zip(one.coefs_ + one.intercepts_, two.coefs_ + two.intercepts_, strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("loss_curve_", "n_iter_", "t_", "loss_", "gradient_norm_", "status_"):
        assert getattr(one, name) == getattr(two, name), name


@pytest.mark.parametrize("solver", ["lbfgs", "gd"])
def test_a_network_goes_on_bitwise(backend, solver, tmp_path):
    X, y = data()
    options = {"backend": backend.name, "checkpoint": tmp_path, "checkpoint_every": 4}
    with pytest.raises(Cut):
        network(solver, callback=cut_at(6), **options).fit(X, y)
    rest = network(solver, **options).fit(X, y)
    whole = network(solver, backend=backend.name).fit(X, y)
    assert_same_model(rest, whole)
    assert "from iteration 4 of the checkpoint on" in rest.explain().replace("\n        ", " ")
    assert rest.account_.passes["value and gradient"] < whole.account_.passes["value and gradient"]
    again = network(solver, **options).fit(X, y)
    assert again.account_.passes["value and gradient"] == 0
    assert_same_model(again, whole)
    assert os.listdir(tmp_path) == ["last.npz"]


def test_a_regressor_too_and_without_a_seed(tmp_path):
    X, _ = data()
    y = X @ np.arange(5.0)
    options = {"hidden_layer_sizes": (4,), "solver": "lbfgs", "max_iter": 9, "tol": 0.0}
    cut = MLPRegressor(**options, checkpoint=tmp_path, callback=lambda p: p.n_iter == 3)
    rest = MLPRegressor(**options, checkpoint=tmp_path).fit(X, cut.fit(X, y).predict(X) * 0 + y)
    assert cut.status_ is Status.STOPPED
    assert rest.loss_curve_[:3] == cut.loss_curve_
    assert rest.n_iter_ == 9


@pytest.mark.parametrize(
    "change", [{"alpha": 0.5}, {"random_state": 9}, {"solver": "adam"}], ids=str
)
def test_a_network_of_another_run_is_refused(tmp_path, change):
    X, y = data()
    network("lbfgs", checkpoint=tmp_path).fit(X, y)
    before = (tmp_path / "last.npz").read_bytes()
    name = next(iter(change)).replace("solver", "kind, solver")
    with pytest.raises(CheckpointError, match=rf"is of another run \({name} differ\)"):
        network("lbfgs", checkpoint=tmp_path).set_params(**change).fit(X, y)
    assert (tmp_path / "last.npz").read_bytes() == before


@pytest.mark.parametrize("at", [3, 30])  # before an update, and with the last state
def test_a_full_disk_keeps_the_model_and_the_old_file(tmp_path, monkeypatch, at):
    import accel.disk

    X, y = data()
    written, savez = [], np.savez

    def full(file, **arrays):
        if len(arrays["history"]) == at:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        written.append(len(arrays["history"]))
        savez(file, **arrays)

    monkeypatch.setattr(accel.disk.np, "savez", full)
    model = network("gd", checkpoint=tmp_path)
    with pytest.raises(OSError, match=r"No space left on device: '.*last.npz'"):
        model.fit(X, y)
    monkeypatch.undo()
    assert (model.status_, model.n_iter_, written[-1]) == (Status.UNSAVED, at, at - 1)
    assert model.predict(X).shape == y.shape
    assert os.listdir(tmp_path) == ["last.npz"]
    rest = network("gd", checkpoint=tmp_path).fit(X, y)  # the old file is whole
    assert_same_model(rest, network("gd").fit(X, y))


def test_an_error_of_the_callback_is_its_own(tmp_path):
    X, y = data()

    def callback(progress):
        raise OSError("mine")

    model = network("lbfgs", checkpoint=tmp_path, callback=callback)
    with pytest.raises(OSError, match="mine"):
        model.fit(X, y)
    assert not hasattr(model, "status_")


def test_a_folder_that_cannot_be_written_is_said_before_the_work(tmp_path):
    X, y = data()
    (tmp_path / "file").touch()
    seen = []
    with pytest.raises(OSError, match="file"):
        network("lbfgs", checkpoint=tmp_path / "file", callback=seen.append).fit(X, y)
    assert not seen


KILLED = """
import sys, warnings, numpy as np
warnings.simplefilter("ignore")
from accel import MLPClassifier
rng = np.random.default_rng(0)
X = rng.normal(size=(2000, 40)).astype(np.float32)
y = (X[:, :4] @ rng.normal(size=(4, 4))).argmax(axis=1)
model = MLPClassifier((32,), solver="lbfgs", max_iter=600, tol=0, random_state=1, backend="numpy",
                      checkpoint=sys.argv[1] or None)
print("go", flush=True)
model.fit(X, y)
np.savez(sys.argv[2], *model.coefs_, *model.intercepts_, np.array(model.loss_curve_),
         np.array([model.loss_, model.gradient_norm_, model.n_iter_]))
"""


def started(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    with process.stdout:
        assert process.stdout.readline() == "go\n"
    return process


def test_kill_9_at_any_moment(tmp_path, rng):
    whole, rest, store = tmp_path / "whole.npz", tmp_path / "rest.npz", tmp_path / "store"
    assert started("", whole).wait() == 0
    kills = 0
    for _ in range(8):
        process = started(store, rest)
        try:
            process.wait(timeout=rng.uniform(0.01, 0.12))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills > 3  # a machine may be fast enough to end before the last of them
    assert started(store, rest).wait() == 0
    assert os.listdir(store) == ["last.npz"]  # what the killed ones left is gone
    with np.load(whole) as one, np.load(rest) as two:
        assert one.files == two.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], two[name])
