"""The objective of a batch against finite differences; what a step may not do: wait, allocate."""

from __future__ import annotations

import gc
import tracemalloc
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from accel import LogisticRegression, MLPClassifier
from accel.backends import BACKENDS, cupy_backend, get_backend
from accel.backends.cuda.tensor_cores import TensorCoreProduct
from accel.estimators.linear import coefficients
from accel.losses import LOSSES, MULTILABEL, TARGET_LOSSES
from accel.minibatch import Batch, Batches, BatchObjective
from accel.network import ACTIVATIONS, Network
from accel.objective import Objective
from accel.penalties import alpha_of
from tests import strict
from tests.closeness import assert_close

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
N, D = 11, 4
NUMBERS = {**TARGET_LOSSES, "multilabel": MULTILABEL}


def targets(name, rng, n=N):
    """A loss, its Y on the host and its number of outputs."""
    if name in LOSSES:
        K = {"logistic": 1, "softmax": 3}[name]
        return LOSSES[name], LOSSES[name].encode_target(np.arange(n) % max(2, K)), K
    y = {"multilabel": rng.integers(0, 2, (n, 3)), "squared_error": rng.normal(size=(n, 2)),
         "poisson": rng.poisson(2, (n, 2)).astype(float)}[name]  # fmt: skip
    loss = NUMBERS[name]
    return loss, loss.encode_target(y), y.shape[1]


def batch_of(backend, X, Y, weights):
    return Batch(
        backend.asarray(X),
        backend.asarray(Y),
        None if weights is None else backend.asarray(weights),
    )


GRADIENTS = [
    *({"activation": name} for name in ACTIVATIONS),
    *({"loss": name} for name in [*LOSSES, *NUMBERS]),
    {"weights": True},
    {"dropout": 0.4},
    {"dropout": 0.4, "weights": True, "activation": "gelu", "loss": "poisson"},
    {"alpha": 0.0},
    {"hidden": ()},
    {"hidden": (3, 5, 2), "activation": "tanh"},
]


@pytest.mark.parametrize("case", GRADIENTS, ids=str)
def test_the_gradient_is_the_derivative(backend, case, rng):
    case = {"activation": "tanh", "loss": "softmax", "weights": False, "dropout": 0.0,
            "alpha": 0.7, "hidden": (6, 3), **case}  # fmt: skip
    loss, Y, K = targets(case["loss"], rng)
    network = Network(D, K, case["hidden"], case["activation"])
    params, X = rng.normal(size=network.n_params) * 0.7, rng.normal(size=(N, D))
    weights = rng.uniform(0.2, 3, size=N) if case["weights"] else None

    def objective_on(backend):
        return BatchObjective(
            loss=loss,
            network=network,
            alpha=case["alpha"],
            size=N,
            like=backend.asarray(params),
            backend=backend,
            dropout=case["dropout"],
            seed=5,
        )

    here = objective_on(backend)
    batch = batch_of(backend, X, Y, weights)
    value, gradient = here.value_and_grad(backend.asarray(params), batch, 3)
    gradient = backend.to_numpy(gradient).copy()
    numpy = get_backend("numpy")
    host, host_batch = objective_on(numpy), batch_of(numpy, X, Y, weights)

    def f(params):
        return float(host.value_and_grad(params, host_batch, 3)[0])

    (value,) = backend.scalars(value)
    assert value == pytest.approx(f(params), rel=1e-12)
    h = 1e-6
    wanted = [(f(params + h * e) - f(params - h * e)) / (2 * h) for e in np.eye(len(params))]
    np.testing.assert_allclose(gradient, wanted, rtol=1e-6, atol=2e-8)


@pytest.mark.parametrize("hidden", [(), (6, 3)])
@pytest.mark.parametrize("name", [*LOSSES, *NUMBERS])
def test_a_batch_of_all_rows_is_the_objective(backend, name, hidden, rng):
    loss, Y, K = targets(name, rng)
    network = Network(D, K, hidden, "gelu")
    params, X = backend.asarray(rng.normal(size=network.n_params)), rng.normal(size=(N, D))
    weights = rng.uniform(0.2, 3, size=N)
    whole = Objective(
        backend.asarray(X),
        backend.asarray(Y),
        backend.asarray(weights / weights.sum()),
        loss=loss,
        network=network,
        alpha=0.7 / weights.sum(),
        backend=backend,
    )
    part = BatchObjective(
        loss=loss, network=network, alpha=0.7, size=N, like=params, backend=backend
    )
    one, two = (
        whole.value_and_grad(params),
        part.value_and_grad(params, batch_of(backend, X, Y, weights), 1),
    )
    assert backend.scalars(one[0])[0] == pytest.approx(backend.scalars(two[0])[0], rel=1e-12)
    assert_close(backend, two[1], backend.to_numpy(one[1]), kind="elementwise", scale=10)


@pytest.mark.parametrize("K", [2, 3])
def test_no_hidden_layer_is_logistic_regression(backend, K, rng):
    """The same objective and gradient, bit for bit, and so the same optimum."""
    X, y = rng.normal(size=(60, D)), np.arange(60) % K
    seen = []
    options = {"backend": backend.name, "tol": 1e-8, "max_iter": 500}
    C = 2.5
    linear = LogisticRegression(C=C, **options).fit(X, y)
    network = MLPClassifier((), alpha=1 / C, solver="lbfgs", **options).fit(X, y)
    np.testing.assert_allclose(network.coefs_[0].T, linear.coef_, atol=1e-7)
    assert network.objective_ == pytest.approx(linear.objective_, rel=1e-12)
    layers = Network(D, 1 if K == 2 else K)
    loss = LOSSES["logistic" if K == 2 else "softmax"]
    params = backend.asarray(rng.normal(size=layers.n_params))
    for alpha in (float(alpha_of(C, 60.0)), float((1 / C) / 60.0)):
        objective = Objective(
            backend.asarray(X),
            backend.asarray(loss.encode_target(y)),
            backend.asarray(np.full(60, 1 / 60)),
            loss=loss,
            network=replace(layers, activation="tanh"),
            alpha=alpha,
            backend=backend,
        )
        value, gradient = objective.value_and_grad(params)
        seen.append((backend.scalars(value)[0], backend.to_numpy(gradient).tolist()))
    assert seen[0][0] == pytest.approx(seen[1][0], rel=1e-15)
    coef, intercept = coefficients(layers, backend.to_numpy(params))
    model = MLPClassifier((), backend=backend.name, max_iter=1).fit(X, y)
    model.coefs_, model.intercepts_ = [coef.T], [intercept]
    linear.coef_, linear.intercept_ = coef, intercept
    np.testing.assert_array_equal(model.predict_proba(X), linear.predict_proba(X))


# --- batches ---------------------------------------------------------------------------------


class LazyUploader:
    """Copies as late as a device may: a buffer that is written over too early shows."""

    def __init__(self, backend):
        self.backend, self.waiting, self.log = backend, [], []

    def host(self, shape, dtype):
        return np.empty(shape, dtype)

    def upload(self, host, out):
        token = [host, out, False]
        self.waiting.append(token)
        self.log.append("upload")
        return token

    def finish(self, token):
        while not token[2]:
            host, out, _ = self.waiting[0]
            out[...] = self.backend.asarray(host)
            self.backend.synchronize()  # only then may the host array be written over
            self.waiting.pop(0)[2] = True

    def wait_on_device(self, token):
        self.finish(token)
        self.log.append("compute")

    wait_on_host = finish


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("storage", ["float64", "float32", "uint8"])
@pytest.mark.parametrize("is_resident", [True, False])
def test_batches_are_the_rows_in_their_order(backend, shuffle, storage, is_resident, rng):
    X = (rng.uniform(size=(23, 5)) * 200).astype(storage)
    Y, weights = np.arange(23, dtype=np.int32)[:, None], rng.uniform(size=23)
    made = Batches(
        backend.asarray(X) if is_resident else X,
        backend.asarray(Y),
        backend.asarray(weights),
        size=6,
        dtype=backend.xp.float64,
        backend=backend,
        is_resident=is_resident,
        input_scale=0.5,
    )
    if not is_resident:
        made._link = LazyUploader(backend)
    for _ in range(2):
        order = rng.permutation(23)[:20] if shuffle else None
        places = np.arange(23) if order is None else order
        found = [
            [backend.to_numpy(a).copy() for a in (batch.X, batch.Y, batch.weights)]
            for batch in made.epoch(order)
        ]
        assert [len(part[0]) for part in found] == ([6, 6, 6, 2] if shuffle else [6, 6, 6, 5])
        X_seen, Y_seen, weights_seen = (np.concatenate(parts) for parts in zip(*found, strict=True))
        np.testing.assert_array_equal(X_seen, X[places].astype(np.float64) * 0.5)
        np.testing.assert_array_equal(Y_seen, Y[places])
        np.testing.assert_array_equal(weights_seen, weights[places])
    assert X.dtype == storage


def test_the_next_batch_is_on_its_way_while_one_is_computed_on(rng):
    backend = get_backend("numpy")
    X, Y = rng.normal(size=(24, 3)), np.zeros((24, 1))
    made = Batches(X, Y, None, size=6, dtype=np.float64, backend=backend, is_resident=False)
    made._link = LazyUploader(backend)
    list(made.epoch(None))
    assert made._link.log == ["upload", "upload", "compute", "upload", "compute", "upload",
                              "compute", "compute"]  # fmt: skip


@pytest.mark.parametrize(
    "options", [{}, {"early_stopping": True}, {"shuffle": False}, {"center": True}], ids=str
)
def test_x_that_does_not_fit_stays_on_the_host_and_trains_the_same(monkeypatch, rng, options):
    X, y = rng.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 3
    options = {"max_iter": 3, "batch_size": 16, "random_state": 0, "backend": "strict", **options}
    there = MLPClassifier((5,), **options).fit(X, y)
    no_room = strict.StrictBackend(room_bytes=100)
    monkeypatch.setattr(BACKENDS["strict"], "open_backend", lambda index: no_room)
    here = MLPClassifier((5,), **options).fit(X, y)
    assert "X stays in host memory" in here.explain()
    assert "X stays in host memory" not in there.explain()
    for one, two in zip(here.coefs_, there.coefs_, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("how", ["left", "error"])
def test_an_epoch_that_is_left_waits_for_its_copies(how, rng):
    backend = get_backend("numpy")
    X, Y = rng.normal(size=(24, 3)), np.zeros((24, 1))
    made = Batches(X, Y, None, size=6, dtype=np.float64, backend=backend, is_resident=False)
    made._link = LazyUploader(backend)
    epoch = made.epoch(None)
    next(epoch)
    assert made._link.waiting
    if how == "left":
        epoch.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            epoch.throw(KeyboardInterrupt)
    gc.collect()
    assert not made._link.waiting


def test_an_error_in_the_gathering_thread_is_raised(rng):
    backend = get_backend("numpy")
    X = rng.normal(size=(8, 3))
    made = Batches(X, X, None, size=4, dtype=np.float64, backend=backend, is_resident=False)
    made._host[1] = np.empty((4, 2))
    with pytest.raises(ValueError, match="broadcast"):
        list(made.epoch(None))


# --- budgets ---------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"dropout": 0.2, "activation": "gelu"},
                                     {"solver": "sgd", "batch_size": 7}], ids=str)  # fmt: skip
def test_one_synchronisation_an_epoch(monkeypatch, rng, options):
    """Whatever the number of batches: the host reads the loss, and nothing else."""
    counted = strict.StrictBackend()
    monkeypatch.setattr(BACKENDS["strict"], "open_backend", lambda index: counted)
    X, y, weight = rng.normal(size=(64, 4)), np.arange(64) % 3, rng.uniform(1, 2, size=64)
    marks = []

    def note(progress):
        marks.append(dict(counted.count))

    model = MLPClassifier(
        (5,), **{"batch_size": 8, "max_iter": 4, "backend": "strict", "callback": note, **options}
    )
    with strict.hidden_synchronisations(monkeypatch) as hidden:
        model.fit(X, y, sample_weight=weight)
    assert not hidden
    for before, after in pairwise(marks):
        assert after["scalars"] - before["scalars"] == 1
        assert after.get("to_numpy", 0) == before.get("to_numpy", 0)
        assert after["asarray"] - before["asarray"] == 1  # the order of the epoch


@pytest.mark.parametrize("options", [
    {}, {"solver": "sgd", "center": True}, {"solver": "adamw", "activation": "gelu"},
    {"activation": "tanh", "dropout": 0.3}, {"activation": "logistic", "shuffle": False},
    {"class_weight": "balanced"},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("storage", ["float32", "uint8"])
def test_a_step_allocates_no_array_of_a_layer(options, storage, rng):
    """After the first epoch: only the loss's temporaries, a few of (batch, n_classes)."""
    batch, width, K = 128, 300, 4
    X = (rng.uniform(size=(4 * batch, 200)) * 255).astype(storage)
    y = np.arange(len(X)) % K
    peaks = []

    def note(progress):
        peaks.append(tracemalloc.get_traced_memory()[1])
        gc.collect()
        tracemalloc.reset_peak()
        peaks[-1] -= note.base if hasattr(note, "base") else 0
        note.base = tracemalloc.get_traced_memory()[0]

    model = MLPClassifier(
        (width, width), batch_size=batch, max_iter=5, backend="numpy", callback=note,
        random_state=0, **options,
    )  # fmt: skip
    tracemalloc.start()
    try:
        model.fit(X, y)
    finally:
        tracemalloc.stop()
    order = 8 * len(X) * 3  # the permutations of an epoch
    assert max(peaks[2:]) < 12 * batch * K * 8 + order + 20_000
    assert 12 * batch * K * 8 + order + 20_000 < 4 * batch * width  # less than one layer's output


class RecordedGPU:
    """The calls that a StreamUploader makes, in their order, on a CuPy that is not there."""

    def __init__(self):
        self.log = []
        self.compute, self.copies = self.stream("compute"), self.stream("copies")
        self.cuda = SimpleNamespace(
            Stream=lambda non_blocking: self.copies if non_blocking else None,
            get_current_stream=lambda: self.compute,
        )

    def stream(self, name):
        def record():
            event = SimpleNamespace(of=f"{name} {len(self.log)}")
            event.synchronize = lambda: self.log.append(("host waits", event.of))
            self.log.append(("record", event.of))
            return event

        def wait_event(event):
            self.log.append((f"{name} waits", event.of))

        return SimpleNamespace(record=record, wait_event=wait_event, name=name)

    def array(self):
        return SimpleNamespace(set=lambda host, stream: self.log.append(("copy on", stream.name)))


def test_the_copy_stream_waits_for_the_computation_and_the_computation_for_the_copy():
    gpu = RecordedGPU()
    link = cupy_backend.StreamUploader(gpu, nullcontext())
    token = link.upload(np.zeros(3), gpu.array())
    link.wait_on_device(token)
    link.wait_on_host(token)
    assert gpu.log == [
        ("record", "compute 0"), ("copies waits", "compute 0"), ("copy on", "copies"),
        ("record", "copies 3"), ("compute waits", "copies 3"), ("host waits", "copies 3"),
    ]  # fmt: skip


@pytest.mark.parametrize("free", [1000, 999, 0])
def test_a_fifth_of_the_gpu_stays_free(free):
    pool = SimpleNamespace(free_bytes=lambda: free // 2, get_limit=lambda: 0)
    runtime = SimpleNamespace(memGetInfo=lambda: (free - free // 2, 10**9))
    cupy = SimpleNamespace(
        cuda=SimpleNamespace(runtime=runtime), get_default_memory_pool=lambda: pool
    )
    backend = cupy_backend.CupyBackend("cupy", cupy, np, nullcontext())
    assert backend.free_bytes() == int(0.8 * free)


@pytest.mark.parametrize(("capability", "precision", "emulated"), [
    ("75", "tf32", True), ("80", "tf32", False), ("90", "bfloat16", False),
    ("70", "float32", False),
])  # fmt: skip
def test_tensor_cores_are_used_where_there_are_some(capability, precision, emulated):
    device = SimpleNamespace(compute_capability=capability)
    backend = cupy_backend.CupyBackend("cupy", np, np, device)
    assert backend.emulates(precision) is emulated
    product = backend.product(precision)
    assert isinstance(product, TensorCoreProduct) is (precision != "float32" and not emulated)
    assert (product is None) is (precision == "float32")
