"""Who trains networks by batches: accel and its peers, each with its data where it computes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from accel.backends.precision import PRECISIONS
from accel.benchmark.cases import (
    Trained,
    TrainingCase,
)
from accel.benchmark.needs import Absent, Call, compiled, open_backend, quiet, torch_on
from accel.estimators import MLPClassifier
from accel.network import Network

Array = Any


def _precision(case: TrainingCase, precision: str) -> str:
    """The precision of the products; only float32 has others than its own."""
    if precision != "float32" and case.dtype != "float32":
        raise Absent(f"{precision} takes no {case.dtype}")
    return case.dtype if precision == "float32" else precision


def accel_training(case: TrainingCase, backend_name: str, precision: str = "float32") -> Call:
    """Epochs of accel's fit.

    max_iter keeps its default and a callback ends the fit: what accel decides by the length of a
    training (the fused Adam on a CPU) is decided as in a training of usual length.
    """
    kind = _precision(case, precision)
    backend = open_backend(backend_name)
    X, y = case.data
    with backend.context():
        there = backend.asarray(X)
    model = MLPClassifier(
        **case.arguments,
        precision=precision,
        backend=backend_name,
        callback=lambda progress: progress.n_iter == case.n_epochs,
    )
    return lambda: Trained(model.fit(there, y).loss_, kind)


def scikit_learn_training(case: TrainingCase) -> Call:
    """Epochs of scikit-learn's fit."""
    from sklearn.neural_network import MLPClassifier as Peer

    X, y = case.data
    model = Peer(**case.arguments, max_iter=case.n_epochs)
    return quiet(lambda: Trained(float(model.fit(X, y).loss_), case.dtype))


def torch_training(
    case: TrainingCase, device: str, precision: str = "float32", *, is_compiled: bool = False
) -> Call:
    """PyTorch's usual loop: rows gathered on the device, autograd, fused Adam.

    It starts where the others do and has batches of its own. weight_decay is the gradient of the
    penalty, for the weights only. Compiled, forward and backward are CUDA graphs on a GPU.
    """
    torch, kind = torch_on(device), _precision(case, precision)
    functional = torch.nn.functional
    X, y = (torch.from_numpy(array).to(device) for array in case.data)
    parts = [
        part
        for n_in, n_out in pairwise(case.layers)
        for part in (torch.nn.Linear(n_in, n_out), torch.nn.ReLU())
    ]
    model = torch.nn.Sequential(*parts[:-1]).to(device, X.dtype)
    start = [torch.from_numpy(array).to(device) for array in _first_parameters(case)]
    decay = case.arguments["alpha"] / case.batch_size

    def loss_of(rows: Any, target: Any) -> Any:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            return functional.cross_entropy(model(rows), target)

    forward = loss_of
    if is_compiled:
        forward = compiled(loss_of, mode="reduce-overhead", dynamic=False)

    def epoch(optimizer: Any, source: Any) -> Any:
        total = torch.zeros((), device=device)
        order = torch.randperm(len(X), device=device, generator=source)
        for rows in order.split(case.batch_size):
            loss = forward(X[rows], y[rows])
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total += loss.detach() * len(rows)
        return total / len(X)

    def call() -> Trained:
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), start, strict=True):
                parameter.copy_(value)
        weights = [parameter for parameter in model.parameters() if parameter.ndim == 2]
        biases = [parameter for parameter in model.parameters() if parameter.ndim == 1]
        optimizer = torch.optim.Adam(
            [{"params": weights, "weight_decay": decay}, {"params": biases}],
            lr=case.arguments["learning_rate_init"],
            fused=True,
        )
        source = torch.Generator(device).manual_seed(0)
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        try:
            losses = [epoch(optimizer, source) for _ in range(case.n_epochs)]
            return Trained(float(losses[-1]), kind, same_batches=False)
        finally:
            torch.set_float32_matmul_precision(before)

    return quiet(call)


def _first_parameters(case: TrainingCase) -> list[Array]:
    """W (n_out, n_in) and b of each layer, as PyTorch keeps them: those that accel starts from."""
    network = Network(case.layers[0], case.layers[-1], case.layers[1:-1])
    state = np.random.RandomState(case.arguments["random_state"])
    params = network.initial("glorot", state, np.dtype(case.dtype))
    layers = network.layers(params, xp=np)
    return [np.asarray(part).T.copy() for layer in layers for part in layer]


def _in_precisions(name: str, make: Callable[..., Call]) -> dict[str, Callable[..., Call]]:
    """The contender in each precision; float32 has the plain name."""
    return {
        name if precision == "float32" else f"{name} {precision}": partial(
            make, precision=precision
        )
        for precision in PRECISIONS
    }


TRAINING_CONTENDERS: dict[str, Callable[[TrainingCase], Call]] = {
    "accel numpy": partial(accel_training, backend_name="numpy"),
    **_in_precisions("accel cupy", partial(accel_training, backend_name="cupy")),
    "scikit-learn": scikit_learn_training,
    "PyTorch": partial(torch_training, device="cpu"),
    **_in_precisions("PyTorch cuda", partial(torch_training, device="cuda")),
}
COMPILED_TRAINING_CONTENDERS: dict[str, Callable[[TrainingCase], Call]] = {
    "PyTorch compiled": partial(torch_training, device="cpu", is_compiled=True),
    **_in_precisions(
        "PyTorch compiled cuda", partial(torch_training, device="cuda", is_compiled=True)
    ),
}
