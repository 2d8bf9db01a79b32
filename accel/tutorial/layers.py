"""The lesson's second half: the same digits with a hidden layer, trained twice."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from accel import plots
from accel.backends import get_backend
from accel.estimators import MLPClassifier
from accel.losses import LOSSES
from accel.network import Network
from accel.objective import Objective

GRAPH = """\
   x {x:<12} --> z1 = x W1 + b1 {z1:<11} --> a1 = tanh(z1) {z1}
                  W1 {W1}, b1 {b1}           |
   y {y:<12}      W2 {W2}, b2 (1,)    z2 = a1 W2 + b2 {z2}
                                             |
                  cost = mean of -y log h - (1 - y) log(1 - h), h = sigmoid(z2)
   backward, the chain rule from right to left:
      dz2 = (h - y) / {n} {z2}        dW2 = a1' dz2 {W2}
      dz1 = (dz2 W2') (1 - a1^2) {z1}   dW1 = x' dz1 {W1}"""
SEED, PRINT_EVERY, MOST_PICTURES = 42, 10, 32
# Raw pixels are all positive, so a step moves z1 by the sum of thousands of them: it must be small.
ADAM_RATE, ADAM_BATCH = 3e-4, 32
TRAININGS = {"gd": "gradient descent", "adam": "Adam"}


@dataclass(frozen=True)
class Layers:
    """What the second half came to.

    Parameters
    ----------
    models : dict of MLPClassifier
        By their solver, "gd" and "adam".
    correct : dict of tuple of int
        Training and test rows that each labels correctly.
    """

    models: dict[str, MLPClassifier]
    correct: dict[str, tuple[int, int]]


def run(
    parts: tuple[Any, Any, Any, Any],
    hidden: int,
    out: Path,
    *,
    shape: tuple[int, int],
    neuron_cost: Any,
    learning_rate: float,
    iterations: int,
    backend: str,
    say: Callable[[str], None],
) -> Layers:
    """Walk through the network, say each step, draw the pictures.

    Parameters
    ----------
    parts : tuple of ndarray
        X_train, X_test, y_train, y_test of the first half.
    hidden : int
        Hidden units.
    out : Path
        Folder for layers.png and hidden.png.
    shape : tuple of int
        Height and width of an image.
    neuron_cost : ndarray
        Cost of the single neuron before each update.
    learning_rate : float
        Step of gradient descent.
    iterations : int
        Updates, and epochs of Adam.
    backend : str
        See `accel.get_backend`.
    say : callable
        Takes each line.

    Returns
    -------
    Layers
        The models and their figures.
    """
    X, X_test, y, y_test = parts
    (n, d), H = X.shape, hidden
    say(f"8. From one neuron to layers: {H} neurons see the image, one sees them")
    texts = {"x": (n, d), "W1": (d, H), "b1": (H,), "z1": (n, H), "W2": (H, 1), "y": (n,)}
    say(GRAPH.format(n=n, z2=f"({n}, 1)", **{name: str(text) for name, text in texts.items()}))
    bound = sqrt(6 / (d + H))
    say(f"9. Initialise: W1 uniform in +-{bound:.4f} (Glorot), seed {SEED}; equal weights would")
    say("   give equal gradients, and the hidden neurons would stay copies of one another")
    by_rule, by_difference = chain_rule_check(X, y, hidden, backend)
    say("10. The chain rule against a finite difference, for one weight of W1:")
    say(f"    {by_rule:.9f} against {by_difference:.9f}")
    models: dict[str, MLPClassifier] = {}
    for step, solver in enumerate(TRAININGS, start=11):
        say(f"{step}. {_title(solver, iterations, learning_rate)}")
        models[solver] = _train(solver, X, y, hidden, learning_rate, iterations, backend, say)
    say("13. Predict: label 1 where h > 0.5")
    correct = {
        solver: (int(np.sum(model.predict(X) == y)), int(np.sum(model.predict(X_test) == y_test)))
        for solver, model in models.items()
    }
    for solver, (train, test) in correct.items():
        say(f"   {TRAININGS[solver]}: train accuracy {100 * train / n:.6f} % ({train}/{n})")
        say(f"   {' ' * len(TRAININGS[solver])}  test accuracy  {100 * test / len(y_test):.6f} % "
            f"({test}/{len(y_test)})")  # fmt: skip
    curves = {"one neuron": neuron_cost}
    curves |= {f"{H} hidden, {TRAININGS[s]}": m.loss_curve_ for s, m in models.items()}
    plots.cost_curves(out / "layers.png", curves, "Cost, one neuron and layers")
    pictures = models["adam"].coefs_[0].T[:MOST_PICTURES].reshape(-1, *shape)
    plots.weight_grid(out / "hidden.png", pictures, "What the hidden neurons look for (Adam)")
    return Layers(models, correct)


def chain_rule_check(X: Any, y: Any, hidden: int, backend: str) -> tuple[float, float]:
    """One component of the gradient at the start, twice.

    Parameters
    ----------
    X : ndarray (n, d)
        Images.
    y : ndarray (n,)
        0 or 1.
    hidden : int
        Hidden units.
    backend : str
        See `accel.get_backend`.

    Returns
    -------
    tuple of float
        From backpropagation, and from two costs; in float64.
    """
    here = get_backend(backend)
    network = Network(X.shape[1], 1, (hidden,), "tanh")
    start = network.initial("glorot", np.random.RandomState(SEED), np.float64)
    with here.context():
        objective = Objective(
            here.asarray(X.astype(np.float64)),
            here.asarray(LOSSES["logistic"].encode_target(y)),
            here.asarray(np.full(len(y), 1 / len(y))),
            loss=LOSSES["logistic"],
            network=network,
            alpha=0.0,
            backend=here,
        )
        gradient = here.to_numpy(objective.value_and_grad(here.asarray(start))[1])
        place = int(np.argmax(np.abs(gradient[: X.shape[1] * hidden])))
        step = np.zeros_like(start)
        step[place] = 1e-5
        values = [objective.value_and_grad(here.asarray(start + sign * step))[0]
                  for sign in (1, -1)]  # fmt: skip
        up, down = here.scalars(*values)
    return float(gradient[place]), (up - down) / 2e-5


def _title(solver: str, iterations: int, learning_rate: float) -> str:
    if solver == "gd":
        return f"Gradient descent as before: {iterations} updates, learning rate {learning_rate}"
    return f"The same by Adam: {iterations} epochs of batches of {ADAM_BATCH}, rate {ADAM_RATE}"


def _train(
    solver: str,
    X: Any,
    y: Any,
    hidden: int,
    learning_rate: float,
    iterations: int,
    backend: str,
    say: Callable[[str], None],
) -> MLPClassifier:
    def cost(progress: Any) -> None:
        """Say the cost every ten updates or epochs."""
        if progress.n_iter % PRINT_EVERY == 0:
            say(f"   Cost after iteration {progress.n_iter}: {progress.value:f}")

    adam = {"learning_rate_init": ADAM_RATE, "batch_size": ADAM_BATCH}
    steps: dict[str, Any] = {"learning_rate_init": learning_rate} if solver == "gd" else adam
    model = MLPClassifier(
        (hidden,),
        "tanh",
        solver=solver,
        alpha=0.0,
        max_iter=iterations,
        tol=0.0,
        n_iter_no_change=np.inf,
        random_state=SEED,
        backend=backend,
        callback=cost,
        **steps,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # exactly these many, by intention
        model.fit(X, y)
    say(f"   Cost after the last update: {model.loss_:f}")
    return model
