"""X brought to the device block by block: the same bits, few passes, every refusal in one line."""

from __future__ import annotations

import os
import warnings
import weakref
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel import LogisticRegression, Status
from accel.backends import BACKENDS, get_backend
from accel.estimators.checks import Targets
from accel.rows import Streamed, rows_in, runs_of, sample_runs, with_rare
from accel.solvers import planning
from accel.sources import ArraySource, DataError, gather
from tests import strict


def data(rng, n=3000, d=12, n_classes=2, dtype="float64"):
    X = rng.normal(size=(n, d))
    X[:, 1:] += X[:, :-1]
    W = rng.normal(size=(d, n_classes))
    y = (X @ W + rng.gumbel(size=(n, n_classes))).argmax(axis=1)
    return X.astype(dtype), y


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("options", [{}, {"l1_ratio": 1.0, "C": 0.1}, {"fit_intercept": False},
                                     {"class_weight": "balanced"}, {"solver": "newton-cg"},
                                     {"solver": "newton-cholesky"}], ids=str)  # fmt: skip
def test_streamed_is_the_same_optimum(backend, rng, options, n_classes):
    X, y = data(rng, n_classes=n_classes)
    weight = rng.uniform(0.1, 3, len(X))
    models = [
        LogisticRegression(backend=name, tol=1e-9, placement=placement, **options)
        for name, placement in (("numpy", "resident"), (backend.name, "stream"))
    ]
    whole, streamed = (model.fit(X, y, weight) for model in models)
    assert streamed.gradient_norm_ <= 1e-9
    assert streamed.objective_ == pytest.approx(whole.objective_, rel=1e-12)
    if n_classes == 2 or "l1_ratio" not in options:  # else a shift of all classes is free
        np.testing.assert_allclose(streamed.coef_, whole.coef_, rtol=1e-5, atol=1e-6)
    assert (
        "Placement: asked for: X is streamed from memory in blocks" in streamed.account_.reasons[0]
    )


def test_gradient_descent_makes_the_same_iterates(backend, rng):
    X, y = data(rng)
    options = {"solver": "gd", "learning_rate": 0.05, "max_iter": 20, "tol": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = LogisticRegression(backend="numpy", **options).fit(X, y)
        streamed = LogisticRegression(backend=backend.name, placement="stream", **options).fit(X, y)
    np.testing.assert_allclose(streamed.loss_curve_, whole.loss_curve_, rtol=1e-12)
    np.testing.assert_allclose(streamed.coef_, whole.coef_, rtol=1e-10)


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "int8"])
def test_storage_is_streamed_as_it_lies(backend, rng, dtype):
    X, y = data(rng)
    X = np.clip(np.round(10 * X), 0 if dtype == "uint8" else -128, 127).astype(dtype)
    fits = [
        LogisticRegression(backend=backend.name, placement=placement, tol=1e-5).fit(X, y)
        for placement in ("resident", "stream")
    ]
    assert fits[1].coef_.dtype == fits[0].coef_.dtype
    np.testing.assert_allclose(fits[1].coef_, fits[0].coef_, rtol=1e-2, atol=1e-4)


def test_a_few_passes_are_enough(rng):
    """A read of X is dear: half of what Newton's method takes on rows at hand, or less."""
    X, y = data(rng, n=100_000, d=30, dtype="float32")
    whole = LogisticRegression(backend="numpy", solver="newton-cg").fit(X, y)
    streamed = LogisticRegression(backend="numpy", placement="stream").fit(X, y)
    assert streamed.status_ is Status.CONVERGED
    assert streamed.n_passes_ <= 6 < whole.n_passes_ / 2


def test_same_blocks_same_bits(backend, rng):
    X, y = data(rng, n=2000, n_classes=3)
    fits = [LogisticRegression(backend=backend.name, placement="stream").fit(X.copy(), y)
            for _ in range(3)]  # fmt: skip
    for fit in fits[1:]:
        assert (fit.coef_ == fits[0].coef_).all()
        assert (fit.loss_curve_ == fits[0].loss_curve_).all()


@given(
    n=st.integers(1, 400),
    d=st.integers(1, 5),
    block=st.integers(1, 450),
    name=st.sampled_from(["numpy", "strict"]),
)
def test_blocks_cover_every_row_once_and_in_order(n, d, block, name):
    backend, X = get_backend(name), np.arange(n * d, dtype=np.float64).reshape(n, d)
    rows = Streamed(ArraySource(X), block, backend)
    for _ in range(2):  # buffers are used again
        seen = list(rows.map(lambda X, rows: (backend.to_numpy(X).copy(), rows)))
        assert (np.concatenate([part for part, _ in seen]) == X).all()
        assert [rows.start for _, rows in seen] == list(range(0, n, block))


@given(n=st.integers(1, 3000), wanted=st.integers(1, 3000), random=st.booleans())
def test_samples_are_of_the_size_wanted_and_in_order(n, wanted, random):
    X = np.arange(2.0 * n).reshape(n, 2)
    source = ArraySource(X)
    source.is_random = random
    runs = sample_runs(n, 2, 8, wanted)
    places = rows_in(runs)
    assert (np.diff(places) > 0).all()
    assert min(n, wanted) / 2 <= len(places) <= min(n, wanted)
    assert (gather(source, runs) == X[places]).all()


def test_a_sample_sees_through_periodic_rows():
    """Labels that come in turn must all be in it, whatever the step."""
    places = rows_in(sample_runs(100_000, 4, 8, 1000))
    assert np.bincount(places % 100, minlength=100).min() > 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(backend, rng, bad):
    X, y = data(rng)
    X[1234, 5] = bad
    model = LogisticRegression(backend=backend.name, placement="stream")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((DataError, ValueError), match=r"NaN|infinity|1234, 5"):
            model.fit(X, y)
    assert not hasattr(model, "coef_")


def test_large_numbers_are_no_infinities(rng):
    X, y = data(rng, dtype="float32")
    X[:, 0] *= 1e35
    streamed = LogisticRegression(backend="numpy", placement="stream").fit(X, y)
    assert np.isfinite(streamed.coef_).all()


def test_sparse_and_device_arrays_are_not_streamed(rng):
    import scipy.sparse

    X, y = data(rng)
    with pytest.raises(ValueError, match="placement='stream' is for X in host memory"):
        LogisticRegression(placement="stream").fit(scipy.sparse.csr_array(X), y)


# --- out of memory ---------------------------------------------------------------------------


class Failing:
    """A source whose k-th read of all finds no memory."""

    def __init__(self, X, at):
        self._source, self.at, self.n = ArraySource(X), at, 0

    def __getattr__(self, name):
        return getattr(self._source, name)

    def reader(self):
        read = self._source.reader()

        def counted(rows, out):
            self.n += 1
            if self.n in self.at:
                raise MemoryError(f"no room for block {self.n}")
            read(rows, out)

        return counted


@pytest.mark.parametrize("at", [{3}, {258}, {3, 262}], ids=str)
def test_memory_that_runs_out_in_a_pass_leads_to_smaller_blocks(backend, rng, at):
    """As the sample is gathered, in the first pass, in a later one."""
    X, y = data(rng, n=6000)
    wanted = LogisticRegression(backend="numpy", tol=1e-8).fit(X, y)
    model = LogisticRegression(backend=backend.name, placement="stream", tol=1e-8)
    with pytest.warns(RuntimeWarning, match="Memory ran out") as caught:
        model.fit(Failing(X, at), y)
    assert len(caught) <= len(at)
    assert model.status_ is Status.CONVERGED
    np.testing.assert_allclose(model.coef_, wanted.coef_, rtol=1e-5, atol=1e-7)
    said = [reason for reason in model.account_.reasons if reason.startswith("Memory ran out")]
    assert len(said) == len(caught)


NAMES = ("asarray", "empty", "zeros", "ones", "eye", "concat", "stack", "sum", "exp", "log1p",
         "reshape", "astype", "abs", "max", "where", "take", "sqrt", "zeros_like", "ones_like",
         "isfinite", "mean", "repeat")  # fmt: skip
OPERATORS = ("add", "radd", "mul", "rmul", "sub", "rsub", "truediv", "rtruediv", "matmul", "neg",
             "pow", "rpow")  # fmt: skip


def allocation_points(monkeypatch, fail_at):
    """Every function of the strict namespace and every operator allocates; the k-th refuses."""
    count = [0]

    def counted(function):
        def call(*arguments, **options):
            count[0] += 1
            if count[0] == fail_at:
                raise MemoryError("the device is full")
            return function(*arguments, **options)

        return call

    array = type(strict.xp.empty(0))
    for name in (f"__{name}__" for name in OPERATORS):
        monkeypatch.setattr(array, name, counted(getattr(array, name)))
    for name in NAMES:
        monkeypatch.setattr(strict.xp, name, counted(getattr(strict.xp, name)), raising=False)
    for name in ("asarray", "to_numpy", "scalars", "uploader"):
        original = getattr(strict.StrictBackend, name)
        monkeypatch.setattr(strict.StrictBackend, name, counted(original))
    return count


@pytest.mark.parametrize("placement", ["resident", "stream"])
def test_every_allocation_of_a_fit_may_fail(monkeypatch, rng, placement):
    """Wherever the device is full for a moment, the fit ends at the optimum and says so once.

    Some eighty of the points; all of them, which takes minutes, with ACCEL_EVERY_POINT=1.
    """
    X, y = data(rng, n=40, d=2)
    options = {"placement": placement, "tol": 1e-5, "solver": "lbfgs"}
    wanted = LogisticRegression(backend="numpy", tol=1e-7).fit(X, y)
    LogisticRegression(backend="strict", **options).fit(X, y)  # kernels are proven once
    with monkeypatch.context() as patch:
        count = allocation_points(patch, fail_at=None)
        LogisticRegression(backend="strict", **options).fit(X, y)
        n_points = count[0]
    assert n_points > 200
    step = 1 if os.environ.get("ACCEL_EVERY_POINT") else max(1, n_points // 80)
    for fail_at in range(1, n_points + 1, step):
        model = LogisticRegression(backend="strict", **options)
        with monkeypatch.context() as patch:
            allocation_points(patch, fail_at)
            with pytest.warns(RuntimeWarning, match="Memory ran out on strict") as caught:
                model.fit(X, y)
        assert len(caught) == 1
        np.testing.assert_allclose(model.coef_, wanted.coef_, rtol=1e-2, atol=1e-3)


class Full(strict.StrictBackend):
    """A device that refuses every pass."""

    def map_blocks(self, function, n_rows, row_bytes):
        raise MemoryError("the device is full")

    def streamer(self, block_rows, row):
        raise MemoryError("the device is full")


def test_auto_goes_on_on_the_cpu_and_a_name_refuses(monkeypatch, rng):
    X, y = data(rng)
    monkeypatch.setattr(strict, "open_backend", lambda index: Full())
    monkeypatch.delenv("ACCEL_BACKEND")
    monkeypatch.setitem(BACKENDS, "cupy", strict)
    with pytest.warns(RuntimeWarning) as caught:
        model = LogisticRegression(backend="auto").fit(X, y)
    assert model.backend_.name == "numpy"
    assert "Memory ran out on strict" in model.backend_.fallback
    assert len(caught) == 6  # whole, twice smaller; streamed, twice smaller; then the CPU
    assert len({str(warning.message) for warning in caught}) == 6
    with (
        pytest.warns(RuntimeWarning),
        pytest.raises(MemoryError, match=r"Memory ran out on strict.*Free memory"),
    ):
        LogisticRegression(backend="strict").fit(X, y)


# --- what a review found ---------------------------------------------------------------------


def test_rare_classes_are_in_the_sample(backend, rng):
    """Five rows of 50,000: a sample without them knows only one class."""
    X = rng.normal(size=(20_000, 4))
    y = np.zeros(20_000, dtype=int)
    y[rng.choice(20_000, 5, replace=False)] = 1
    X[y == 1, 0] += 3
    fits = [
        LogisticRegression(class_weight="balanced", tol=1e-6, backend=name, placement=placement)
        for name, placement in (("numpy", "resident"), (backend.name, "stream"))
    ]
    whole, streamed = (model.fit(X, y) for model in fits)
    np.testing.assert_allclose(streamed.coef_, whole.coef_, rtol=1e-2)
    assert streamed.n_passes_ <= 12
    plain = LogisticRegression(backend=backend.name, placement="stream").fit(X, y)
    assert plain.coef_[0, 0] > 0.5


@given(st.integers(2, 6), st.integers(1, 3000), st.integers(0, 10**6))
def test_samples_know_every_class_that_weighs_something(n_classes, n, seed):
    rng = np.random.default_rng(seed)
    index = np.minimum(rng.geometric(0.7, n) - 1, n_classes - 1)
    weight = rng.uniform(size=n) * (rng.uniform(size=n) > 0.3)
    places = with_rare(rows_in(sample_runs(n, 3, 4, max(1, n // 16))), index, weight)
    assert (np.diff(places) > 0).all()
    assert set(index[weight > 0]) <= set(index[places[weight[places] > 0]])
    assert (np.concatenate([np.arange(r.start, r.stop) for r in runs_of(places)]) == places).all()
    targets = Targets(np.arange(n_classes), index, weight)
    if weight.any():
        np.testing.assert_allclose(targets.at(places).class_totals, targets.class_totals)


def test_a_good_start_is_kept(backend, rng):
    """A warm refit of a streamed X need not go back to the optimum of the sample."""
    X, y = data(rng, n=40_000)
    model = LogisticRegression(
        backend=backend.name, placement="stream", warm_start=True, tol=1e-7
    ).fit(X, y)
    assert model.n_iter_[0] > 0
    model.fit(X, y)
    assert model.n_iter_[0] == 0
    assert "Start: as given" in model.explain()


def test_an_interrupt_while_the_sample_is_fitted_ends_the_fit(rng, monkeypatch):
    X, y = data(rng, n=40_000)
    inner = planning.minimize
    monkeypatch.setattr(
        planning, "minimize", lambda *a, **k: replace(inner(*a, **k), status=Status.INTERRUPTED)
    )
    with pytest.raises(KeyboardInterrupt):
        LogisticRegression(backend="numpy", placement="stream").fit(X, y)


def test_memory_of_a_failed_try_is_gone_before_the_next(monkeypatch, rng):
    """An objective and its pass refer to each other: it must be looked for."""
    X, y = data(rng)
    alive, kept = [], []
    original = strict.StrictBackend.map_blocks

    def once(self, function, n_rows, row_bytes):
        if not alive:
            alive.append(0)
            kept.append(weakref.ref(next(c.cell_contents for c in function.__closure__
                                         if hasattr(c.cell_contents, "shape"))))  # fmt: skip
            raise MemoryError("the device is full")
        if len(alive) == 1:
            alive.append(kept[0]() is not None)
        return original(self, function, n_rows, row_bytes)

    monkeypatch.setattr(strict.StrictBackend, "map_blocks", once)
    with pytest.warns(RuntimeWarning, match="Memory ran out"):
        LogisticRegression(backend="strict").fit(X, y)
    assert alive == [0, False]


@pytest.mark.parametrize("more", [{"max_iter": 1}, {"max_iter": 3, "placement": "stream"}])
def test_a_checkpoint_of_other_coordinates_is_a_start(tmp_path, rng, more):
    """Fewer rows than columns: how many updates are allowed decides whether rows span the walk."""
    X, y = rng.normal(size=(60, 3000)), np.arange(60) % 2
    options = {"backend": "numpy", "solver": "lbfgs", "checkpoint": tmp_path, "tol": 1e-6}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        LogisticRegression(**{**options, **more}).fit(X, y)
        for _ in range(2):  # the second goes on from what the first left
            again = LogisticRegression(**options, max_iter=100).fit(X, y)
    whole = LogisticRegression(backend="numpy", solver="lbfgs", tol=1e-6).fit(X, y)
    np.testing.assert_allclose(again.coef_, whole.coef_, atol=1e-4)
