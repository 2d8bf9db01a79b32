"""The networks as scikit-learn estimators: what comes in, what comes out, what is refused."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from accel import LogisticRegression, MLPClassifier, MLPRegressor, Status
from accel.backends.interchange import to_host
from accel.datasets import load_sign_digits
from tests.closeness import dtype_name

QUIET = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
FEW = {"hidden_layer_sizes": (5,), "max_iter": 4, "random_state": 0}


@pytest.fixture
def rows(rng):
    X = rng.normal(size=(60, 4))
    return X, (X[:, :3]).argmax(axis=1)


@pytest.mark.parametrize("solver", ["adam", "adamw", "sgd", "lbfgs", "gd"])
def test_every_solver_learns_iris(backend, solver):
    X, y = load_iris(return_X_y=True)
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    rate = {"sgd": 0.1, "gd": 1.0}.get(solver, 0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier((16,), solver=solver, learning_rate_init=rate, max_iter=300,
                              random_state=0, backend=backend.name).fit(X, y)  # fmt: skip
    assert model.score(X, y) > 0.95
    assert model.backend_.name == backend.name
    assert model.loss_ < 0.2
    assert model.loss_curve_[-1] < model.loss_curve_[0] / 3
    assert solver in model.explain()
    assert all(len(line) <= 80 for line in model.explain().splitlines())


def test_lbfgs_has_a_certificate(backend, rows):
    X, y = rows
    model = MLPClassifier((5,), "tanh", solver="lbfgs", alpha=1.0, tol=1e-6, max_iter=2000,
                          random_state=0, backend=backend.name).fit(X, y)  # fmt: skip
    assert model.status_ is Status.CONVERGED
    assert model.gradient_norm_ <= 1e-6
    assert model.objective_ == model.loss_ <= min(model.loss_curve_)


@QUIET
@pytest.mark.parametrize("storage", ["uint8", "float16", "float32", "int8"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_compact_storage_is_trained_on_as_it_lies(backend, storage, solver, rng):
    if storage == "float16" and backend.name == "strict":
        pytest.skip("the array API standard has no float16")
    X = rng.integers(0, 100, (50, 6)).astype(storage)
    y = (X[:, 0].astype(int) > X[:, 1]).astype(int)
    options = {**FEW, "backend": backend.name, "solver": solver}
    compact = MLPClassifier(input_scale=1 / 100, **options).fit(X, y)
    wide = MLPClassifier(**options).fit(X.astype(np.float32) * np.float32(1 / 100), y)
    for one, two in zip(compact.coefs_, wide.coefs_, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, two, atol=2e-4)
    np.testing.assert_allclose(compact.predict_proba(X), wide.predict_proba(X / 100), atol=1e-3)


@QUIET
@pytest.mark.parametrize("options", [{}, {"shuffle": False}, {"early_stopping": True},
                                     {"solver": "lbfgs"}], ids=str)  # fmt: skip
def test_sparse_is_dense(rows, options):
    X, y = rows
    X = np.where(np.abs(X) > 1, X, 0)
    for loss in (MLPClassifier, MLPRegressor):
        dense = loss(**{**FEW, "backend": "numpy", **options}).fit(X, y)
        sparse = loss(**{**FEW, "backend": "numpy", **options}).fit(scipy.sparse.csr_array(X), y)
        for one, two in zip(dense.coefs_, sparse.coefs_, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(
            dense.predict(X), sparse.predict(scipy.sparse.csr_array(X)), atol=1e-6
        )


@QUIET
def test_predictions_stay_where_x_is(backend, rows):
    X, y = rows
    model = MLPClassifier(**FEW, backend="numpy").fit(X, y)
    there = backend.asarray(X)
    for name in ("predict", "predict_proba", "predict_log_proba"):
        got, wanted = getattr(model, name)(there), getattr(model, name)(X)
        assert type(got) is type(there)
        np.testing.assert_allclose(backend.to_numpy(got), wanted, rtol=1e-12)
    again = MLPClassifier(**FEW, backend=backend.name).fit(there, y)
    np.testing.assert_allclose(again.coefs_[0], model.coefs_[0], rtol=1e-9)
    regressor = MLPRegressor(**FEW, backend="numpy").fit(X, y)
    got = regressor.predict(there)
    assert dtype_name(got) == "float64"
    np.testing.assert_allclose(backend.to_numpy(got), regressor.predict(X))


@QUIET
def test_torch_tensors_come_in_and_predictions_are_tensors(rows):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    X, y = rows
    for activation in ("relu", "gelu", "tanh", "logistic", "identity"):
        options = {**FEW, "activation": activation, "backend": "numpy"}
        model = MLPClassifier(**options).fit(torch.from_numpy(X), torch.from_numpy(y))
        there = model.predict_proba(torch.from_numpy(X))
        assert isinstance(there, torch.Tensor)
        np.testing.assert_allclose(to_host(there), model.predict_proba(X), rtol=1e-9)


@QUIET
@pytest.mark.parametrize("labels", [["no", "so", "yes"], [3, 7, 70], [-5.0, 0.0, 2.0]])
def test_labels_of_any_type(rows, labels):
    X, y = rows
    named = np.array(labels)[y]
    model = MLPClassifier(**FEW, backend="numpy").fit(X, named)
    plain = MLPClassifier(**FEW, backend="numpy").fit(X, y)
    np.testing.assert_array_equal(model.predict(X), np.array(labels)[plain.predict(X)])
    assert model.classes_.tolist() == sorted(labels)


@QUIET
def test_weights_mean_what_they_say(backend, rows):
    """0 is no row, in whatever solver; twice is 2, where batches do not come into it."""
    X, y = rows
    weight = np.r_[np.zeros(10), np.ones(50)]
    options = {**FEW, "backend": backend.name, "batch_size": 16}
    for solver in ("adam", "lbfgs"):
        without = MLPClassifier(**options, solver=solver).fit(X[10:], y[10:])
        zero = MLPClassifier(**options, solver=solver).fit(X, y, sample_weight=weight)
        np.testing.assert_allclose(zero.coefs_[0], without.coefs_[0], rtol=1e-6, atol=1e-9)
        both = MLPClassifier(**options, solver=solver, class_weight={0: 3.0}).fit(X, y)
        given = MLPClassifier(**options, solver=solver)
        given.fit(X, y, sample_weight=np.where(y == 0, 3.0, 1.0))
        np.testing.assert_allclose(both.coefs_[0], given.coefs_[0], rtol=1e-9)
    options = {**options, "solver": "lbfgs", "max_iter": 15, "alpha": 1.0}
    twice = MLPRegressor(**options).fit(np.r_[X, X[:20]], np.r_[y, y[:20]])
    two = MLPRegressor(**options).fit(X, y, sample_weight=np.r_[np.full(20, 2), np.ones(40)])
    np.testing.assert_allclose(twice.coefs_[0], two.coefs_[0], rtol=1e-5, atol=1e-7)


@QUIET
def test_inputs_are_not_modified(backend, rows):
    X, y = rows
    kept, weight = X.copy(), np.ones(60)
    X.flags.writeable = y.flags.writeable = weight.flags.writeable = False
    for options in ({}, {"shuffle": False, "batch_size": 60}, {"solver": "lbfgs"}):
        model = MLPClassifier(**{**FEW, **options}, backend=backend.name)
        model.fit(X, y, sample_weight=weight).predict(X)
    np.testing.assert_array_equal(X, kept)


@QUIET
def test_clone_pickle_pipeline_and_grid(rows):
    X, y = rows
    model = MLPClassifier(**FEW, backend="numpy").fit(X, y)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    with pytest.raises(NotFittedError):
        clone(model).predict(X)
    grid = GridSearchCV(
        make_pipeline(StandardScaler(), MLPClassifier(**FEW, backend="numpy")),
        {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__solver": ["adam", "lbfgs"]},
        cv=2,
    )
    assert grid.fit(X, y).best_score_ > 0.3


@QUIET
def test_callback_sees_every_epoch_and_may_stop(rows):
    X, y = rows
    seen = []

    def note(progress):
        seen.append((progress.n_iter, progress.value, progress.validation_score))
        return progress.n_iter == 3

    model = MLPClassifier(**{**FEW, "max_iter": 9}, early_stopping=True, callback=note).fit(X, y)
    assert [n for n, _, _ in seen] == [1, 2, 3]
    assert [loss for _, loss, _ in seen] == model.loss_curve_
    assert [score for _, _, score in seen] == model.validation_scores_
    assert model.status_ is Status.STOPPED
    model = MLPClassifier(**FEW, solver="lbfgs", callback=lambda p: p.n_iter == 2).fit(X, y)
    assert model.n_iter_ == 2


@QUIET
def test_verbose_says_where_and_how(rows, capsys):
    X, y = rows
    MLPClassifier(**FEW, verbose=True, backend="numpy").fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Training on numpy on ")
    assert [line.split(",")[0] for line in lines[1:5]] == [f"Epoch {k}" for k in (1, 2, 3, 4)]
    assert lines[5].startswith("MAX_EPOCHS after 4 epochs")


@QUIET
def test_several_labels_at_once(rng):
    X = rng.normal(size=(80, 5))
    Y = (X[:, :3] > 0).astype(int)
    model = MLPClassifier(
        (16,), max_iter=200, learning_rate_init=0.02, random_state=0, backend="numpy"
    ).fit(X, Y)
    assert model.predict(X).shape == (80, 3)
    assert model.score(X, Y) > 0.9
    assert model.out_activation_ == "logistic"
    assert model.predict_proba(X).shape == (80, 3)
    with pytest.raises(ValueError, match="class_weight is for one label a row"):
        MLPClassifier(class_weight="balanced").fit(X, Y)
    with pytest.raises(ValueError, match="y has 2 labels, but there are 3 classes"):
        model.partial_fit(X, Y[:, :2])


BAD = {
    "hidden_layer_sizes": [0, (5, -1), (5.0,), "5", (True,), None, b"8", {8: 1}],
    "activation": ["sigmoid", None],
    "solver": ["newton", 1],
    "alpha": [-1, "x", np.inf, np.nan],
    "batch_size": [0, 2.5, "all", True],
    "learning_rate": ["fast"],
    "learning_rate_init": [0, -1, np.inf],
    "power_t": [-1],
    "max_iter": [0, -1, 1.5],
    "shuffle": [1, "yes"],
    "tol": [-1, np.nan],
    "warm_start": [None],
    "momentum": [-0.1, 1.1],
    "nesterovs_momentum": [2],
    "early_stopping": ["no"],
    "validation_fraction": [1.0, -0.1],
    "beta_1": [1.0],
    "beta_2": [-0.1],
    "epsilon": [0],
    "n_iter_no_change": [0, 2.5],
    "max_fun": [0],
    "dropout": [1.0, -0.1],
    "initialization": ["zeros"],
    "precision": ["float16"],
    "center": ["mean", 1],
    "input_scale": [0],
    "callback": [3],
    "verbose": ["loud", -1],
    "checkpoint_every": [0],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, vs in BAD.items() for v in vs], ids=str)
def test_a_wrong_argument_is_named(rows, name, value):
    for estimator in (MLPClassifier, MLPRegressor):
        with pytest.raises(ValueError, match=rf"^{name}.*(must be|must lie)") as caught:
            estimator(**{name: value}).fit(*rows)
        assert "\n" not in str(caught.value)


def test_other_wrong_input(rows):
    X, y = rows
    cases = [
        ({}, (X[:0], y[:0]), "Found array with 0 sample"),
        ({}, (X, y[:-1]), "y has 59 labels but X has 60 rows"),
        ({}, (X * np.nan, y), "NaN"),
        ({}, (X, y, np.zeros(60)), "at least one non-zero number"),
        ({}, (X, y, -np.ones(60)), "Negative values in data passed to `sample_weight`"),
        ({"class_weight": {9: 1.0}}, (X, y), "not in class_weight"),
        ({"early_stopping": True, "validation_fraction": 0.01}, (X, y), "=0.01 holds 1 of 60 rows"),
        ({"solver": "lbfgs", "dropout": 0.5}, (X, y), "dropout=0.5 does nothing with solver='lb"),
        ({"center": True}, (scipy.sparse.csr_array(X), y), "center=True would make a sparse X"),
        ({"center": True, "solver": "lbfgs"}, (X, y), "center=True does nothing with solver='lb"),
        ({"backend": "tpu"}, (X, y), "names no backend"),
    ]  # fmt: skip
    for options, arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            MLPClassifier(**{**FEW, **options}).fit(*arguments)
    for arguments, message in [
        ((X, y[:-1]), "y has 59 rows but X has 60"),
        ((X, None), "y"),
        ((X, np.full(60, np.nan)), "NaN"),
        ((X, np.ones((60, 2, 2))), "dim"),
    ]:
        with pytest.raises(ValueError, match=message):
            MLPRegressor(**FEW).fit(*arguments)
    with pytest.raises(ValueError, match="negative numbers: loss='poisson'"):
        MLPRegressor(loss="poisson", **FEW).fit(X, y - 1.0)
    with pytest.raises(ValueError, match="loss='huber' must be one of"):
        MLPRegressor(loss="huber", **FEW).fit(X, y)


@QUIET
def test_a_failed_refit_changes_no_prediction(rows):
    X, y = rows
    model = MLPClassifier(**FEW, backend="numpy").fit(X, y)
    before = model.predict_proba(X)
    for options, labels in (({"precision": "tf32"}, np.array(["a", "b", "c"])[y]),
                            ({"center": True, "solver": "lbfgs"}, y + 1)):  # fmt: skip
        broken = pickle.loads(pickle.dumps(model)).set_params(**options)
        with pytest.raises(ValueError, match=r"precision|center"):
            broken.fit(X, labels)
        np.testing.assert_array_equal(broken.predict(X), model.predict(X))
        np.testing.assert_array_equal(broken.predict_proba(X), before)


@QUIET
@pytest.mark.parametrize("unit", [1e-50, 1e200])
def test_the_unit_of_the_weights_does_not_matter_beyond_float32(rows, unit):
    X, y = rows
    X = X.astype(np.float32)
    options = {**FEW, "backend": "numpy", "alpha": 0.0}
    one = MLPClassifier(**options).fit(X, y, np.ones(60))
    two = MLPClassifier(**options).fit(X, y, np.full(60, unit))
    np.testing.assert_allclose(one.coefs_[0], two.coefs_[0], rtol=1e-5)


@QUIET
def test_a_loss_that_grows_is_not_praised(rows):
    X, y = rows
    model = MLPRegressor(solver="sgd", learning_rate_init=3.0, momentum=0.0, max_iter=6,
                         hidden_layer_sizes=(), batch_size=60, random_state=0)  # fmt: skip
    model.fit(X, y)
    assert model.loss_curve_[-1] > 2 * model.loss_curve_[0]
    assert model.status_ is Status.UNSTABLE


@pytest.mark.parametrize("share", [0.0, 0.001, 0.999])
def test_a_share_that_holds_out_too_few_or_all(rows, share):
    X, y = rows
    with pytest.raises(ValueError, match=r"validation_fraction=[0-9.]+ holds \d+ of 60 rows out"):
        MLPClassifier(early_stopping=True, validation_fraction=share).fit(X, y)


@QUIET
def test_torch_storage_that_numpy_has_not(rows):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    X, y = rows
    half = torch.from_numpy(X).bfloat16()
    negated = torch.complex(torch.zeros(60, 4), torch.from_numpy(-X).float()).conj().imag
    assert negated.is_neg()
    for given, plain in ((half, half.float()), (negated, torch.from_numpy(X).float())):
        for kind in (MLPClassifier(**FEW, backend="numpy"), LogisticRegression(backend="numpy")):
            one = clone(kind).fit(given, y).predict_proba(plain.numpy())
            two = clone(kind).fit(plain, y).predict_proba(plain.numpy())
            np.testing.assert_allclose(one, two, atol=1e-3)


@QUIET
def test_explain_names_what_was_asked_for(rows):
    X, y = rows
    model = MLPClassifier(**FEW, center=True, dropout=0.25, early_stopping=True).fit(X, y)
    said = " ".join(model.explain().split())
    for words in ("Centred columns", "Dropout: 0.25", "Early stopping: 0.1 of the rows"):
        assert words in said


@QUIET
def test_wrong_use_of_partial_fit_and_warm_start(rows):
    X, y = rows
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        MLPClassifier().partial_fit(X, y)
    model = MLPClassifier(**FEW).partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="is not the same as on last call to partial_fit"):
        model.partial_fit(X, y, classes=[0, 1])
    with pytest.raises(ValueError, match=r"`y` has classes not in `self\.classes_`"):
        model.partial_fit(X, y + 5)
    with pytest.raises(ValueError, match="X has 3 features"):
        model.partial_fit(X[:, :3], y)
    with pytest.raises(ValueError, match="partial_fit does not support early_stopping"):
        MLPClassifier(early_stopping=True).partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="learning_rate='cosine' needs the number of epochs"):
        MLPRegressor(learning_rate="cosine").partial_fit(X, y)
    with pytest.raises(ValueError, match="center=True needs the mean of all rows: use fit"):
        MLPRegressor(center=True).partial_fit(X, y)
    with pytest.raises(AttributeError, match="partial_fit"):
        MLPClassifier(solver="lbfgs").partial_fit(X, y)
    warm = MLPClassifier(**FEW, warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match="same classes as in the previous"):
        warm.fit(X[y < 2], y[y < 2])
    with pytest.raises(ValueError, match=r"hidden_layer_sizes and X ask for layers"):
        warm.set_params(hidden_layer_sizes=(6,)).fit(X, y)
    with pytest.raises(ValueError, match="y has 2 outputs, but the fit has 1"):
        MLPRegressor(**FEW, warm_start=True).fit(X, y).fit(X, np.stack([y, y], axis=1))
    with pytest.warns(UserWarning, match="batch_size=500 is more than the 60 rows"):
        MLPClassifier(**FEW, batch_size=500).fit(X, y)


def test_the_batch_size_that_is_said_is_the_one_used(rng):
    X, y = rng.normal(size=(200, 3)), np.arange(200) % 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier(**FEW, early_stopping=True).fit(X, y)
    assert "batches of 180 rows" in model.explain()


def test_what_has_no_effect_is_said(rows):
    X, y = rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier(**FEW, learning_rate="adaptive").fit(X, y)
        assert "learning_rate='adaptive' has no effect" in " ".join(model.explain().split())
        model = MLPClassifier(**FEW, solver="lbfgs", early_stopping=True).fit(X, y)
        assert "early_stopping has no effect" in " ".join(model.explain().split())


def test_the_bundled_digits():
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, test_size=0.2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = MLPClassifier((64,), max_iter=100, random_state=0, backend="numpy").fit(X, y)
    assert model.score(X_test, y_test) >= 0.97


@QUIET
def test_the_sign_digits_beat_the_linear_model(sign_digits):
    """A short training; the full one is a case of bench/."""
    data = load_sign_digits(sign_digits)
    X, X_test, y, y_test = train_test_split(data.X, data.y, test_size=0.15, random_state=42)
    linear = LogisticRegression(backend="numpy").fit(X, y).score(X_test, y_test)
    model = MLPClassifier(
        (128, 64), center=True, dropout=0.3, learning_rate="cosine", batch_size=64, max_iter=20,
        random_state=0, backend="numpy",
    ).fit(X, y)  # fmt: skip
    assert 0.7 < linear < 0.78
    assert model.score(X_test, y_test) > linear + 0.06
