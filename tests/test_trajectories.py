"""Training by batches is scikit-learn's, update by update, on every backend; AdamW is PyTorch's."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier as PeerClassifier
from sklearn.neural_network import MLPRegressor as PeerRegressor

from accel import MLPClassifier, MLPRegressor, Status
from accel.backends import get_backend
from accel.backends.base import StepKernels
from accel.losses import LOSSES
from accel.minibatch import Batches, BatchObjective
from accel.network import Network
from accel.solvers.epochs import Limits, StochasticSolver, Training
from accel.solvers.rules import SCHEDULES, SGD, Adam

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
# 50 updates each: 5 epochs of 10 batches, the last of them shorter.
BASE = {"hidden_layer_sizes": (7, 5), "max_iter": 5, "batch_size": 12, "random_state": 3,
        "learning_rate_init": 0.05, "alpha": 0.3}  # fmt: skip
CASES = {
    "adam": {},
    "adam, other constants": {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
    "sgd, Nesterov": {"solver": "sgd"},
    "sgd, momentum": {"solver": "sgd", "nesterovs_momentum": False, "momentum": 0.7},
    "sgd, none": {"solver": "sgd", "momentum": 0.0},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1,
                 "max_iter": 9},
    "adaptive to its end": {"solver": "sgd", "learning_rate": "adaptive", "tol": 1e9,
                            "n_iter_no_change": 1, "max_iter": 60},
    "adam ignores invscaling": {"learning_rate": "invscaling"},
    "in order": {"shuffle": False},
    "relu off": {"activation": "identity"},
    "tanh": {"activation": "tanh"},
    "logistic": {"activation": "logistic"},
    "no hidden layer": {"hidden_layer_sizes": ()},
    "one batch": {"batch_size": "auto", "max_iter": 50},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3, "max_iter": 40,
                       "n_iter_no_change": 3},
    "early stopping in order": {"early_stopping": True, "shuffle": False, "n_iter_no_change": 2},
    "plateau": {"tol": 0.5, "n_iter_no_change": 2, "max_iter": 30},
    "no penalty": {"alpha": 0.0},
}  # fmt: skip


def data(n_classes=3, n=115, d=6):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, d))
    return X, (X[:, :n_classes] @ rng.normal(size=(n_classes, n_classes))).argmax(axis=1)


def assert_same(mine, peer, tol=1e-9):
    assert mine.n_iter_ == peer.n_iter_
    assert mine.t_ == peer.t_
    for name in ("coefs_", "intercepts_"):
        for one, two in zip(getattr(mine, name), getattr(peer, name), strict=True):
            np.testing.assert_allclose(one, two, rtol=tol, atol=tol)
    np.testing.assert_allclose(mine.loss_curve_, peer.loss_curve_, rtol=tol)
    np.testing.assert_allclose(mine.loss_, peer.loss_, rtol=tol)
    for name in ("best_loss_", "best_validation_score_", "validation_scores_"):
        one, two = getattr(mine, name), getattr(peer, name)
        if two is None:
            assert one is None
        else:
            np.testing.assert_allclose(one, two, rtol=tol)
    assert (mine.n_layers_, mine.n_outputs_) == (peer.n_layers_, peer.n_outputs_)
    assert mine.out_activation_ == peer.out_activation_


@pytest.mark.parametrize("case", CASES)
def test_classes_as_scikit_learn(backend, case):
    X, y = data()
    options = {**BASE, **CASES[case]}
    mine = MLPClassifier(backend=backend.name, **options).fit(X, y)
    peer = PeerClassifier(**options).fit(X, y)
    assert_same(mine, peer)
    np.testing.assert_allclose(mine.predict_proba(X), peer.predict_proba(X), atol=1e-9)
    np.testing.assert_array_equal(mine.predict(X), peer.predict(X))


@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("kind", ["two classes", "labels", "numbers", "two numbers", "counts"])
def test_other_targets_as_scikit_learn(backend, solver, kind):
    X, y = data(2)
    rng = np.random.default_rng(2)
    options = {**BASE, "solver": solver, "learning_rate_init": 0.01}
    classes = kind in ("two classes", "labels")
    y = {
        "two classes": y,
        "labels": np.stack([y, 1 - y, X[:, 3] > 0], axis=1),
        "numbers": X[:, 0] - 2 * X[:, 1],
        "two numbers": X[:, :2] * [1, -3] + 1,
        "counts": rng.poisson(2, size=len(y)).astype(float),
    }[kind]
    if kind == "counts":
        options["loss"] = "poisson"
    mine = (MLPClassifier if classes else MLPRegressor)(backend=backend.name, **options).fit(X, y)
    peer = (PeerClassifier if classes else PeerRegressor)(**options).fit(X, y)
    if kind == "two numbers":  # scikit-learn's curve is the mean over outputs of what it descends
        for one, two in zip(mine.coefs_, peer.coefs_, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-9, atol=1e-9)
    else:
        assert_same(mine, peer)
    np.testing.assert_allclose(mine.predict(X), peer.predict(X), atol=1e-9)


@pytest.mark.parametrize("early", [False, True])
def test_sample_weights_as_scikit_learn(backend, early):
    X, y = data()
    weight = np.random.default_rng(5).uniform(0.1, 4, size=len(y))
    options = {**BASE, "early_stopping": early}
    mine = MLPClassifier(backend=backend.name, **options).fit(X, y, sample_weight=weight)
    peer = PeerClassifier(**options).fit(X, y, sample_weight=weight)
    assert_same(mine, peer)


def test_partial_fit_as_scikit_learn(backend):
    X, y = data()
    mine = MLPClassifier(backend=backend.name, **BASE)
    peer = PeerClassifier(**BASE)
    for rows in (slice(0, 50), slice(50, 115), slice(20, 60)):
        mine.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
        peer.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
        mine = pickle.loads(pickle.dumps(mine))
        assert mine.status_ is Status.ONE_EPOCH
    assert_same(mine, peer)


def test_fit_then_partial_fit_goes_on_as_scikit_learn():
    X, y = data()
    mine = MLPClassifier(backend="numpy", **BASE).fit(X, y).partial_fit(X, y)
    peer = PeerClassifier(**BASE).fit(X, y).partial_fit(X, y)
    assert_same(mine, peer)


def test_warm_start_as_scikit_learn(backend):
    X, y = data()
    options = {**BASE, "warm_start": True}
    mine, peer = MLPClassifier(backend=backend.name, **options), PeerClassifier(**options)
    for rate in (0.05, 0.01):
        mine.set_params(learning_rate_init=rate).fit(X, y)
        peer.set_params(learning_rate_init=rate).fit(X, y)
    assert_same(mine, peer)


def test_a_warm_start_that_finds_nothing_better_ends_where_it_began():
    """scikit-learn's does not: its best coefficients are the arrays that it goes on training."""
    X, y = data()
    model = MLPClassifier(backend="numpy", warm_start=True, early_stopping=True, **BASE).fit(X, y)
    model.best_validation_score_ = model._kept[0]["best_score"] = 2.0
    before = [W.copy() for W in model.coefs_]
    model.fit(X, y)
    for one, two in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(one, two)


def test_float32_follows_float64(backend):
    """The same orders and start: a few last digits apart after 50 updates."""
    X, y = data()
    one = MLPClassifier(backend=backend.name, **BASE).fit(X.astype(np.float32), y)
    two = MLPClassifier(backend="numpy", **BASE).fit(X, y)
    assert one.coefs_[0].dtype == np.float32
    for a, b in zip(one.coefs_, two.coefs_, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)


@pytest.mark.parametrize("options", [
    {"dropout": 0.4}, {"activation": "gelu"}, {"solver": "adamw"}, {"learning_rate": "cosine"},
    {"initialization": "he"}, {"center": True}, {"class_weight": "balanced"},
    {"precision": "bfloat16"},
    {"solver": "lbfgs", "max_iter": 30, "alpha": 1.0}, {"solver": "gd", "max_iter": 30},
], ids=str)  # fmt: skip
def test_what_scikit_learn_has_not_agrees_between_backends(backend, options):
    """And each case depends on its option."""
    X, y = data()
    dtype = np.float32 if "precision" in options else np.float64
    X = X.astype(dtype)
    here = MLPClassifier(backend=backend.name, **{**BASE, **options}).fit(X, y)
    numpy = MLPClassifier(backend="numpy", **{**BASE, **options}).fit(X, y)
    plain = MLPClassifier(backend="numpy", **BASE).fit(X, y)
    tol = 1e-9 if dtype == np.float64 else 2e-2
    for a, b in zip(here.coefs_, numpy.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=tol, atol=tol)
    assert max(np.abs(a - b).max() for a, b in zip(here.coefs_, plain.coefs_, strict=True)) > 1e-5


@pytest.mark.parametrize("options", [
    {}, {"early_stopping": True, "max_iter": 12}, {"shuffle": False}, {"solver": "sgd"},
    {"warm_start": True}, {"hidden_layer_sizes": ()},
], ids=str)  # fmt: skip
def test_centred_it_is_the_training_on_centred_columns(backend, options, tmp_path):
    """And the network is one of X: the first b takes up the mean."""
    X, y = data()
    X = X + np.arange(6) * 10.0
    options = {**BASE, **options}
    mean = X.mean(axis=0)
    if options.get("early_stopping"):  # the mean of the rows that are trained on
        state, n = np.random.RandomState(3), Network(6, 3, (7, 5)).initial
        n("glorot", state, np.float64)
        mean = X[train_test_split(np.arange(len(X)), random_state=state, test_size=0.1)[0]].mean(0)
    one = MLPClassifier(center=True, backend=backend.name, **options)
    two = MLPClassifier(backend="numpy", **options)
    for _ in range(1 + options.get("warm_start", False)):
        one.fit(X, y)
        two.fit(X - mean, y)
    np.testing.assert_allclose(one.loss_curve_, two.loss_curve_, rtol=1e-8)
    for a, b in zip(one.coefs_, two.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9)
    shifted = two.intercepts_[0] - mean @ two.coefs_[0]
    np.testing.assert_allclose(one.intercepts_[0], shifted, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(one.predict_proba(X), two.predict_proba(X - mean), atol=1e-8)
    assert one.validation_scores_ == two.validation_scores_
    if "warm_start" in options:
        return
    seen = []
    again = MLPClassifier(center=True, backend=backend.name, checkpoint=tmp_path, **options,
                          callback=lambda progress: seen.append(progress.params()))  # fmt: skip
    again.fit(X, y)
    pairs = zip(again.coefs_, again.intercepts_, strict=True)
    last = np.concatenate([part.ravel() for pair in pairs for part in pair])
    if not options.get("early_stopping"):
        np.testing.assert_array_equal(backend.to_numpy(seen[-1]), last)
    with np.load(tmp_path / "best.npz") as best:
        assert best["params"].shape == last.shape
        if options.get("early_stopping"):
            np.testing.assert_array_equal(best["params"], last)


def test_adamw_is_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(0)
    start, decays = rng.normal(size=20), np.arange(20) < 15
    weights = torch.tensor(start[decays], requires_grad=True)
    biases = torch.tensor(start[~decays], requires_grad=True)
    groups = [{"params": [weights], "weight_decay": 0.3}, {"params": [biases], "weight_decay": 0.0}]
    peer = torch.optim.AdamW(groups, lr=0.02, betas=(0.8, 0.99), eps=1e-12)
    params, memory = start.copy(), [np.zeros(20) for _ in range(2)]
    rule = Adam(0.8, 0.99, 1e-12, decay=0.3 * decays, work=np.zeros(20))
    for step in range(1, 51):
        gradient = rng.normal(size=20)
        weights.grad, biases.grad = torch.tensor(gradient[decays]), torch.tensor(gradient[~decays])
        peer.step()
        rule.update(params, gradient.copy(), memory, learning_rate=0.02, step=step, xp=np)
    np.testing.assert_allclose(params[decays], weights.detach().numpy(), rtol=1e-9)
    np.testing.assert_allclose(params[~decays], biases.detach().numpy(), rtol=1e-9)


def test_the_fused_adam_is_the_rule(rng):
    from accel.backends.kernels.adam_cpu import adam

    for dtype in (np.float32, np.float64):
        plain, fused = Adam(0.8, 0.95, 1e-5), Adam(0.8, 0.95, 1e-5, fused=adam)
        one, two = (list(np.zeros((3, 1001), dtype=dtype)) for _ in range(2))
        for step in range(1, 6):
            gradient = rng.normal(size=1001).astype(dtype)
            for rule, (params, *memory) in ((plain, one), (fused, two)):
                rule.update(params, gradient.copy(), memory, learning_rate=0.1, step=step, xp=np)
        eps = np.finfo(dtype).eps
        for a, b in zip(one[:3], two[:3], strict=True):
            np.testing.assert_allclose(a, b, rtol=32 * eps, atol=32 * eps)


def test_fused_kernels_are_used_where_they_pay(monkeypatch):
    from accel.backends import get_backend, numpy_backend

    params = np.zeros(1000)
    assert get_backend("numpy").step_kernels(params, 1000).adam is None
    assert get_backend("numpy").step_kernels(params, 10**5).adam is not None
    monkeypatch.setattr(numpy_backend, "_kernels", lambda: (None, "no numba"))
    assert get_backend("numpy").step_kernels(params, 10**6) == StepKernels()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_training_with_fused_kernels_is_the_plain_one(dtype, monkeypatch):
    from accel.backends import numpy_backend

    X, y = data()
    X = X.astype(dtype)
    weight = np.linspace(0.5, 2, len(y))
    for given in (None, weight):
        plain = MLPClassifier(backend="numpy", **BASE).fit(X, y, given)
        with monkeypatch.context() as patch:
            patch.setattr(numpy_backend, "FUSED_UPDATES", 0)
            fused = MLPClassifier(backend="numpy", **BASE).fit(X, y, given)
        tol = 1e-9 if dtype == "float64" else 2e-4
        for one, two in zip(plain.coefs_, fused.coefs_, strict=True):
            np.testing.assert_allclose(one, two, rtol=tol, atol=tol)
        np.testing.assert_allclose(plain.loss_curve_, fused.loss_curve_, rtol=tol)


def test_the_cosine_ends_at_zero_and_sums_to_its_half():
    schedule = SCHEDULES["cosine"](0.5)
    rates = [schedule.after_epoch(0.2, 9.9, t=0, share=k / 100) for k in range(101)]
    assert rates[0] == 0.2
    assert rates[-1] == pytest.approx(0, abs=1e-17)
    assert np.mean(rates) == pytest.approx(0.1)


def test_sgd_by_hand():
    params, memory = np.array([1.0]), [np.array([0.5])]
    SGD(0.9, True).update(params, np.array([2.0]), memory, learning_rate=0.1, step=1, xp=np)
    assert memory[0] == pytest.approx(0.9 * 0.5 - 0.2)
    assert params == pytest.approx(1 + 0.9 * 0.25 - 0.2)


def test_max_iter_is_said_and_a_plateau_is_not():
    X, y = data()
    with pytest.warns(ConvergenceWarning, match="MAX_EPOCHS after 2 epochs.*raise max_iter"):
        MLPClassifier(max_iter=2, backend="numpy").fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MLPClassifier(tol=10.0, n_iter_no_change=1, backend="numpy").fit(X, y)
    assert model.status_ is Status.PLATEAU


def test_a_loss_that_overflows_keeps_the_last_parameters(backend):
    X, y = data()
    model = MLPRegressor(
        solver="sgd", learning_rate_init=1e6, backend=backend.name, max_iter=20, random_state=0
    )
    with pytest.warns(ConvergenceWarning, match="UNSTABLE.*lower learning_rate_init"):
        model.fit(X * 1e3, y)
    assert all(np.isfinite(W).all() for W in model.coefs_)


def test_after_an_overflow_partial_fit_trains_on(backend):
    X, y = data()
    model = MLPRegressor(learning_rate_init=0.01, backend=backend.name, random_state=0)
    model.partial_fit(X, y)
    with pytest.warns(ConvergenceWarning, match="UNSTABLE"):
        model.partial_fit(X, y * 1e200)
    n = len(model.loss_curve_)
    for _ in range(3):
        model.partial_fit(X, y)
        assert model.status_ is Status.ONE_EPOCH
    assert len(model.loss_curve_) == n + 3
    assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_a_score_that_is_no_number_is_never_the_best():
    scores = iter([0.9, float("nan"), 0.5, 0.6])
    X, y = data()
    backend = get_backend("numpy")
    network = Network(6, 3, (4,))
    start = network.initial("glorot", np.random.RandomState(0), np.float64)
    training = Training(start.copy(), [np.zeros_like(start)], start.copy(), np.arange(len(X)),
                        np.random.RandomState(0), 0.1)  # fmt: skip
    Y, loss = LOSSES["softmax"].encode_target(y), LOSSES["softmax"]
    objective = BatchObjective(
        loss=loss, network=network, alpha=0.1, size=20, like=start, backend=backend
    )
    batches = Batches(X, Y, None, size=20, dtype=np.float64, backend=backend, is_resident=True)
    solver = StochasticSolver(
        objective, batches, None, SGD(0.9, True), SCHEDULES["constant"](0.5), 0.1, True,
        lambda params: next(scores),
    )  # fmt: skip
    seen = []

    def note(training, progress):
        seen.append(training.params.copy())

    solver.train(training, Limits(4, 0.0, 10), after_epoch=note)
    assert training.best_score == 0.9
    assert training.best_epoch == 1
    np.testing.assert_array_equal(training.best_params, seen[0])


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_nothing_of_another_solver_is_left_behind(solver):
    X, y = data()
    model = MLPClassifier(backend="numpy", solver="lbfgs", max_iter=5).fit(X, y)
    assert model.gradient_norm_ > 0
    model.set_params(solver=solver).fit(X, y)
    assert not hasattr(model, "objective_")
    assert not hasattr(model, "gradient_norm_")
