"""The lesson's first half: logistic regression from scratch, step by step, on any backend."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from accel import plots
from accel.datasets import Dataset, two_digits
from accel.disk import prepare_folder, write_atomically
from accel.estimators import LogisticRegression
from accel.solvers import Progress, Status
from accel.tutorial.layers import TRAININGS, Layers
from accel.tutorial.layers import run as run_layers

START_WEIGHT = 0.01
TEST_SIZE, SEED = 0.15, 42

GRAPH = """\
   inputs x  {x:<12} --+
   weights w {w:<12} --+--> z = x.w + b {z}
   bias b    (1,)         --+        |
                              h = sigmoid(z) {z}
                                     |
   labels y  {y:<12} -----> loss = -y log h - (1 - y) log(1 - h) {z}
                                     |
                              cost = mean(loss) (1,)
   backward: dz = (h - y) / {n}, dw = sum of x dz {w}, db = sum of dz (1,)"""
PRINT_EVERY = 10


@dataclass(frozen=True)
class Lesson:
    """What the lesson came to.

    Parameters
    ----------
    model : LogisticRegression
        Trained by gradient descent.
    n_train, n_test : int
        Rows.
    train_correct, test_correct : int
        Rows whose label the model predicts.
    sklearn_train_correct, sklearn_test_correct : int
        The same for scikit-learn's LogisticRegression.
    layers : Layers or None
        The second half, where a hidden layer was asked for.
    """

    model: LogisticRegression
    n_train: int
    n_test: int
    train_correct: int
    test_correct: int
    sklearn_train_correct: int
    sklearn_test_correct: int
    layers: Layers | None = None


def run(
    data: Dataset,
    digits: tuple[int, int],
    out: Path,
    *,
    learning_rate: float,
    iterations: int,
    backend: str,
    hidden: int = 0,
    say: Callable[[str], None] = print,
) -> Lesson:
    """Walk through the lesson, say each step, write the pictures and a summary.

    Parameters
    ----------
    data : Dataset
        Images of all ten digits.
    digits : tuple of int
        The two to tell apart.
    out : Path
        Folder for the pictures and summary.md.
    learning_rate : float
        Step of gradient descent.
    iterations : int
        Number of updates.
    backend : str
        See `accel.get_backend`.
    hidden : int, default=0
        Units of a hidden layer, for the second half of the lesson; 0 for none.
    say : callable, default=print
        Takes each line.

    Returns
    -------
    Lesson
        The model and its figures.
    """
    from sklearn.model_selection import train_test_split  # what `import accel` need not pay

    prepare_folder(out)
    pair = two_digits(data, digits)
    height, width = pair.image_shape or (1, pair.X.shape[1])
    n_each = len(pair.X) // 2
    say(f"1. Load and look: {pair.name}")
    say(f"   X {(len(pair.X), height, width)} {pair.X.dtype}, y {pair.y.shape}: {n_each} of each")
    pictures = pair.X[[0, n_each]].reshape(2, height, width)
    plots.images(out / "samples.png", pictures, [f"a {digit}" for digit in digits])

    X_train, X_test, y_train, y_test = train_test_split(
        pair.X, pair.y, test_size=TEST_SIZE, random_state=SEED
    )
    n, d = X_train.shape
    say(f"2. Split 85/15 with random_state {SEED}, flatten")
    say(
        f"   X_train {X_train.shape}, X_test {X_test.shape}, "
        f"{np.sum(y_train == 0)} training rows show a {digits[0]}"
    )
    say(f"3. Initialise: w ({d}, 1) = {START_WEIGHT}, b = 0")
    say("4. The computational graph, forward then backward (shapes in brackets)")
    say(GRAPH.format(x=f"({n}, {d})", w=f"({d},)", y=f"({n},)", z=f"({n},)", n=n))
    say(f"5. Gradient descent: {iterations} updates, learning rate {learning_rate}")
    model = _descend(X_train, y_train, learning_rate, iterations, backend, say)
    plots.cost_curve(out / "cost.png", model.loss_curve_, f"Cost, learning rate {learning_rate}")
    learned = model.coef_.reshape(height, width)
    plots.weights(out / "weights.png", learned, f"Learned weights, {digits[0]} against {digits[1]}")

    correct = [_correct(model, X, y) for X, y in ((X_train, y_train), (X_test, y_test))]
    say("6. Predict: label 1 where h > 0.5")
    say(f"   train accuracy {_share(correct[0], n)}")
    say(f"   test accuracy  {_share(correct[1], len(y_test))}")
    theirs, note = _scikit_learn(X_train, y_train)
    their_correct = [_correct(theirs, X, y) for X, y in ((X_train, y_train), (X_test, y_test))]
    say(f"7. The same with scikit-learn, one line: LogisticRegression(max_iter=150){note}")
    say(f"   train accuracy {_share(their_correct[0], n)}, {theirs.n_iter_[0]} iterations")
    say(f"   test accuracy  {_share(their_correct[1], len(y_test))}")
    layers = None
    if hidden:
        layers = run_layers(
            (X_train, X_test, y_train, y_test),
            hidden,
            out,
            shape=(height, width),
            neuron_cost=model.loss_curve_,
            learning_rate=learning_rate,
            iterations=iterations,
            backend=backend,
            say=say,
        )
    counts = (correct[0], correct[1], their_correct[0], their_correct[1])
    lesson = Lesson(model, n, len(y_test), *counts, layers)
    text = _summary(pair, lesson, learning_rate, iterations)
    write_atomically(out / "summary.md", lambda file: file.write(text.encode()))
    return lesson


def _descend(
    X: Any,
    y: Any,
    learning_rate: float,
    iterations: int,
    backend: str,
    say: Callable[[str], None],
) -> LogisticRegression:
    """Exactly `iterations` updates: no penalty and no tolerance."""

    def cost(progress: Progress) -> None:
        """Say the cost every ten updates."""
        if progress.n_iter % PRINT_EVERY == 0:
            say(f"   Cost after iteration {progress.n_iter}: {progress.value:f}")

    model = LogisticRegression(
        C=float("inf"),
        solver="gd",
        learning_rate=learning_rate,
        max_iter=iterations,
        tol=0.0,
        backend=backend,
        callback=cost,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said here, in the lesson's words
        model.fit(X, y, coef_init=np.full((1, X.shape[1]), START_WEIGHT))
    say(f"   Cost after the last update: {model.objective_:f}")
    if model.status_ is Status.DIVERGED:
        say(f"   The fit diverged: {model.status_.value}")
    return model


def _scikit_learn(X: Any, y: Any) -> tuple[Any, str]:
    """scikit-learn's model, and a note where it did not converge."""
    from sklearn.linear_model import LogisticRegression as Peer

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = Peer(max_iter=150).fit(X, y)
    unfinished = any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return model, " (not converged)" if unfinished else ""


def _correct(model: Any, X: Any, y: Any) -> int:
    return int(np.sum(model.predict(X) == y))


def _share(correct: int, rows: int) -> str:
    return f"{100 * correct / rows:.6f} % ({correct}/{rows})"


def _summary(data: Dataset, lesson: Lesson, learning_rate: float, iterations: int) -> str:
    costs = "\n".join(
        f"| {i} | {cost:.6f} |"
        for i, cost in enumerate(lesson.model.loss_curve_)
        if i % PRINT_EVERY == 0
    )
    train, test = (
        _share(lesson.train_correct, lesson.n_train),
        _share(lesson.test_correct, lesson.n_test),
    )
    rows, pictures = _layers_summary(lesson)
    their_train = _share(lesson.sklearn_train_correct, lesson.n_train)
    their_test = _share(lesson.sklearn_test_correct, lesson.n_test)
    return f"""# Logistic regression from scratch: {data.name}

Ran on {str(lesson.model.backend_).rstrip(".")}.

![Two samples](samples.png)

From w = {START_WEIGHT}, b = 0: {iterations} updates of gradient descent, rate {learning_rate}.

| model | train accuracy | test accuracy |
|---|---|---|
| gradient descent | {train} | {test} |
| scikit-learn | {their_train} | {their_test} |
{rows}
![Cost before each update](cost.png)

![Learned weights as a picture](weights.png)
{pictures}
| iteration | cost |
|---|---|
{costs}
"""


def _layers_summary(lesson: Lesson) -> tuple[str, str]:
    """Rows of the table and pictures of the second half."""
    if lesson.layers is None:
        return "", ""
    rows = ""
    for solver, (train, test) in lesson.layers.correct.items():
        hidden = lesson.layers.models[solver].hidden_layer_sizes[0]
        shares = f"{_share(train, lesson.n_train)} | {_share(test, lesson.n_test)}"
        rows += f"| {hidden} hidden, {TRAININGS[solver]} | {shares} |\n"
    pictures = """
![Cost of one neuron and of layers](layers.png)

![Weights of the hidden neurons](hidden.png)
"""
    return rows, pictures
