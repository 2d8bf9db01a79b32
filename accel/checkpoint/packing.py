"""States of runs as plain values and host arrays, and back to the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from accel.backends import Backend
from accel.solvers.epochs import Training
from accel.solvers.loop import Snapshot, State
from accel.solvers.status import Status

Array = Any
NUMBERS = ("learning_rate", "epoch", "step", "t", "best_loss", "best_score", "best_epoch",
           "saved_epoch", "idle", "seed")  # fmt: skip


def pack(training: Training, backend: Backend) -> tuple[dict[str, Any], dict[str, Array]]:
    """A training as plain values and host arrays.

    Parameters
    ----------
    training : Training
        On the device.
    backend : Backend
        Holds it.

    Returns
    -------
    values : dict
        What JSON can hold.
    arrays : dict of ndarray
        The rest.
    """
    kind, keys, position, has_gauss, gauss = training.random_state.get_state()
    values = {name: getattr(training, name) for name in NUMBERS}
    values |= {
        "ended": training.ended.name if training.ended else None,
        "random": [kind, int(position), int(has_gauss), float(gauss)],
    }
    arrays = {
        "params": backend.to_numpy(training.params).copy(),
        "best_params": backend.to_numpy(training.best_params).copy(),
        "places": training.places,
        "random_keys": keys,
        "loss_curve": np.array(training.loss_curve),
        "validation_scores": np.array(training.validation_scores),
    }
    for k, array in enumerate(training.memory):
        arrays[f"memory_{k}"] = backend.to_numpy(array).copy()
    return values, arrays


def unpack(values: Mapping[str, Any], arrays: Mapping[str, Array], backend: Backend) -> Training:
    """The training that `pack` took apart, on the device.

    Parameters
    ----------
    values, arrays : mapping
        What `pack` returned.
    backend : Backend
        Where it goes on.

    Returns
    -------
    Training
        Ready for its next epoch.
    """
    kind, position, has_gauss, gauss = values["random"]
    random_state = np.random.RandomState()
    random_state.set_state((kind, arrays["random_keys"], position, has_gauss, gauss))
    n_arrays = sum(name.startswith("memory_") for name in arrays)

    def on_device(name: str) -> Array:
        return backend.asarray(arrays[name].copy())  # the steps write into it

    return Training(
        params=on_device("params"),
        memory=[on_device(f"memory_{k}") for k in range(n_arrays)],
        best_params=on_device("best_params"),
        places=arrays["places"],
        random_state=random_state,
        loss_curve=arrays["loss_curve"].tolist(),
        validation_scores=arrays["validation_scores"].tolist(),
        ended=Status[values["ended"]] if values["ended"] else None,
        **{name: values[name] for name in NUMBERS},
    )


def pack_snapshot(snapshot: Snapshot, backend: Backend) -> tuple[dict[str, Any], dict[str, Array]]:
    """A snapshot of a full-batch fit as plain values and host arrays.

    Parameters
    ----------
    snapshot : Snapshot
        Its arrays are on the device.
    backend : Backend
        Holds them.

    Returns
    -------
    values : dict
        What JSON can hold.
    arrays : dict of ndarray
        The rest.
    """
    arrays = {"history": np.array(snapshot.history)}

    def leaf(array: Array) -> dict[str, str]:
        name = f"state_{len(arrays)}"
        arrays[name] = backend.to_numpy(array)
        return {"array": name}

    state = {name: _flat(value, leaf) for name, value in vars(snapshot.state).items()}
    return {"state": state, "ratio": snapshot.ratio, "elapsed_s": snapshot.elapsed_s}, arrays


def unpack_snapshot(
    values: Mapping[str, Any], arrays: Mapping[str, Array], backend: Backend
) -> Snapshot:
    """The snapshot that `pack_snapshot` took apart, on the device.

    Parameters
    ----------
    values, arrays : mapping
        What `pack_snapshot` returned.
    backend : Backend
        Where the fit goes on.

    Returns
    -------
    Snapshot
        Ready for its next update; ``ended`` is None, since the limits may have changed.
    """

    def leaf(name: str) -> Array:
        return backend.asarray(arrays[name])

    state = {name: _nested(value, leaf) for name, value in values["state"].items()}
    history = tuple(arrays["history"].tolist())
    return Snapshot(State(**state), history, values["ratio"], values["elapsed_s"])


def _flat(value: Any, leaf: Callable[[Array], dict[str, str]]) -> Any:
    """Tuples as lists, arrays as what leaf makes of them, numbers and None as they are."""
    if hasattr(value, "dtype"):
        return leaf(value)
    return [_flat(item, leaf) for item in value] if isinstance(value, tuple) else value


def _nested(value: Any, leaf: Callable[[str], Array]) -> Any:
    """What `_flat` made flat."""
    if isinstance(value, list):
        return tuple(_nested(item, leaf) for item in value)
    return leaf(value["array"]) if isinstance(value, dict) else value
