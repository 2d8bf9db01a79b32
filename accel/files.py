"""Model files: plain arrays and a JSON header that need no pickle."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import pairwise
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any

import numpy as np

from accel.backends import BackendReport
from accel.backends.base import first_line
from accel.backends.interchange import to_host
from accel.disk import FileFormatError, read_with_header, write_with_header
from accel.estimators import LogisticRegression, MLPClassifier, MLPRegressor
from accel.estimators.account import Account
from accel.estimators.arguments import check_input_scale
from accel.estimators.linear import dense_coef
from accel.estimators.network_options import network_options
from accel.estimators.options import options_of
from accel.solvers import Status

Arrays = dict[str, Any]
FORMAT = "accel-model"
VERSION = 2
STORED_LABELS = "biufUSMm"  # kinds of dtypes that need no pickle
NOT_STORED = ("callback", "checkpoint")  # code is never written to a file; the run is over


class ModelFileError(FileFormatError):
    """A file that is no accel model, or a damaged one."""


def save_model(model: Any, path: Path, feature_names: Sequence[str] | None = None) -> None:
    """Write a fitted model as .npz: its arrays and a JSON header, atomically.

    Parameters
    ----------
    model : LogisticRegression, MLPClassifier or MLPRegressor
        Fitted.
    path : Path
        The file.
    feature_names : sequence of str, optional
        Names of the columns of X; ``model.feature_names_in_`` where not given.

    Raises
    ------
    ModelFileError
        If the labels are arbitrary Python objects.
    OSError
        If it cannot be written.
    """
    names = feature_names or getattr(model, "feature_names_in_", None)
    kind = type(model).__name__
    results, arrays = TAKEN_APART[kind](model)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "estimator": kind,
        "parameters": {
            name: _jsonable(value)
            for name, value in model.get_params(deep=False).items()
            if name not in NOT_STORED
        },
        "feature_names": None if names is None else [str(name) for name in names],
        "status": model.status_.name,
        "input_scale": model.input_scale_,
        "account": {**asdict(model.account_), "backend": None},
        "backend": asdict(model.backend_),
        **results,
    }
    write_with_header(path, header, arrays)


def load_model(path: Path) -> Any:
    """Read a model written by `save_model`; nothing in the file is executed.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    LogisticRegression, MLPClassifier or MLPRegressor
        Fitted, ready to predict.

    Raises
    ------
    ModelFileError
        If the file is no accel model, or damaged.
    OSError
        If it cannot be read.
    """
    try:
        return _rebuild(*read_with_header(path, FORMAT, VERSION))
    except OSError:
        raise
    except Exception as error:  # a foreign header may be wrong in any way
        raise ModelFileError(
            f"{path} is not an accel model of version {VERSION}, or it is damaged "
            f"({first_line(error)}): write one with 'accel train'."
        ) from None


def _rebuild(header: dict[str, Any], arrays: Arrays) -> Any:
    """The estimator of a header and its arrays, which may both be wrong in any way."""
    model, fill, check = PUT_TOGETHER[header["estimator"]]
    model = model(**{name: _from_json(value) for name, value in header["parameters"].items()})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what its arguments warn of was said at the fit
        check(model)
    fill(model, header, arrays)
    if header["feature_names"] is not None:
        if len(header["feature_names"]) != model.n_features_in_:
            raise ValueError("its feature names do not fit its coefficients")
        model.feature_names_in_ = np.array(header["feature_names"], dtype=object)
    model.input_scale_ = check_input_scale(header["input_scale"])
    model.status_ = Status[header["status"]]
    model.backend_ = BackendReport(**_of_types(header["backend"], BACKEND_TYPES))
    account = _of_types(header["account"], ACCOUNT_TYPES)
    account["backend"], account["reasons"] = model.backend_, tuple(account["reasons"])
    model.account_ = Account(**account)
    model.explain()
    return model


def _linear_parts(model: Any) -> tuple[dict[str, Any], Arrays]:
    results = {
        "objective": model.objective_,
        "gradient_norm": model.gradient_norm_,
        "gap": model.gap_,
        "n_iter": int(to_host(model.n_iter_)[0]),
        "n_passes": model.n_passes_,
    }
    arrays = {
        "coef": dense_coef(model),
        "intercept": to_host(model.intercept_),
        "classes": _plain_labels(model.classes_),
        "loss_curve": to_host(model.loss_curve_),
    }
    return results, arrays


def _fill_linear(model: Any, header: dict[str, Any], arrays: Arrays) -> None:
    _check_names(arrays, "coef", "intercept", "classes", "loss_curve")
    coef, intercept, classes = (arrays[name] for name in ("coef", "intercept", "classes"))
    _check_labels(classes)
    rows = 1 if len(classes) == 2 else len(classes)
    if coef.ndim != 2 or coef.shape[0] != rows or intercept.shape != (rows,):
        raise ValueError("its arrays do not fit together")
    _check_coefficients([coef, intercept])
    _check_curve(arrays["loss_curve"])
    model.coef_, model.intercept_, model.classes_ = coef, intercept, classes
    model.loss_curve_ = arrays["loss_curve"]
    model.n_features_in_ = coef.shape[1]
    header.setdefault("gap", header["objective"])  # files of before say nothing of it
    results = _of_types({name: header[name] for name in LINEAR_RESULTS}, LINEAR_RESULTS)
    model.n_iter_ = np.array([results["n_iter"]], dtype=np.int32)
    model.objective_, model.gradient_norm_ = results["objective"], results["gradient_norm"]
    model.n_passes_, model.gap_ = results["n_passes"], results["gap"]


# What of a trained network is kept in the header, and of which type.
NETWORK_RESULTS = {
    "n_iter_": int,
    "t_": int,
    "loss_": float,
    "best_loss_": (float, NoneType),
    "best_validation_score_": (float, NoneType),
    "out_activation_": str,
}
LINEAR_RESULTS = {
    "objective": float,
    "gradient_norm": float,
    "gap": float,
    "n_iter": int,
    "n_passes": int,
}
ACCOUNT_TYPES = {
    "what": str,
    "backend": NoneType,
    "reasons": list,
    "passes": dict,
    "small_passes": dict,
    "seconds": dict,
    "ending": str,
}
BACKEND_TYPES = {
    "name": str,
    "usable": bool,
    "device": str,
    "memory_bytes": (int, NoneType),
    "libraries": dict,
    "reason": str,
    "fallback": str,
}


def _network_parts(model: Any) -> tuple[dict[str, Any], Arrays]:
    results = {"results": {name: _jsonable(getattr(model, name)) for name in NETWORK_RESULTS}}
    arrays = {"loss_curve": np.array(model.loss_curve_)}
    for layer, (W, b) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        arrays[f"coef_{layer}"], arrays[f"intercept_{layer}"] = to_host(W), to_host(b)
    if model.validation_scores_ is not None:
        arrays["validation_scores"] = np.array(model.validation_scores_)
    return results, arrays


def _classifier_parts(model: Any) -> tuple[dict[str, Any], Arrays]:
    results, arrays = _network_parts(model)
    return results, {**arrays, "classes": _plain_labels(model.classes_)}


def _fill_network(model: Any, header: dict[str, Any], arrays: Arrays) -> None:
    n_layers = sum(name.startswith("coef_") for name in arrays)
    layers = [f"{part}_{layer}" for part in ("coef", "intercept") for layer in range(n_layers)]
    more = [name for name in ("validation_scores", "classes") if name in arrays]
    _check_names(arrays, *layers, *more, "loss_curve")
    model.coefs_ = [arrays[f"coef_{layer}"] for layer in range(n_layers)]
    model.intercepts_ = [arrays[f"intercept_{layer}"] for layer in range(n_layers)]
    _check_coefficients([*model.coefs_, *model.intercepts_])
    _check_curve(arrays["loss_curve"])
    shapes = [W.shape for W in model.coefs_]
    chained = all(left[1] == right[0] for left, right in pairwise(shapes))
    fitting = all(
        b.shape == W.shape[1:] for W, b in zip(model.coefs_, model.intercepts_, strict=True)
    )
    if n_layers == 0 or not chained or not fitting:
        raise ValueError("its arrays do not fit together")
    for name, value in _of_types(header["results"], NETWORK_RESULTS).items():
        setattr(model, name, value)
    scores = arrays.get("validation_scores")
    model.loss_curve_ = arrays["loss_curve"].tolist()
    model.validation_scores_ = None if scores is None else scores.tolist()
    model.n_features_in_, model.n_outputs_ = shapes[0][0], shapes[-1][1]
    model.n_layers_ = n_layers + 1


def _fill_classifier(model: Any, header: dict[str, Any], arrays: Arrays) -> None:
    _fill_network(model, header, arrays)
    _check_labels(arrays["classes"], at_least=1)
    model.classes_ = arrays["classes"]
    if model.n_outputs_ not in (len(model.classes_), len(model.classes_) - 1):
        raise ValueError("its arrays do not fit together")


# name of an estimator -> what takes it apart, and its class with what puts it together again and
# what checks its arguments
TAKEN_APART: dict[str, Callable[[Any], tuple[dict[str, Any], Arrays]]] = {
    "LogisticRegression": _linear_parts,
    "MLPClassifier": _classifier_parts,
    "MLPRegressor": _network_parts,
}
PUT_TOGETHER: dict[
    str, tuple[Any, Callable[[Any, dict[str, Any], Arrays], None], Callable[[Any], Any]]
] = {
    "LogisticRegression": (LogisticRegression, _fill_linear, options_of),
    "MLPClassifier": (MLPClassifier, _fill_classifier, network_options),
    "MLPRegressor": (MLPRegressor, _fill_network, network_options),
}


def check_storable(labels: Any) -> None:
    """Labels that a model file can hold: asked before a fit whose model is to be written.

    Parameters
    ----------
    labels : ndarray
        Of any type.

    Raises
    ------
    ModelFileError
        If they are arbitrary Python objects.
    """
    if labels.dtype.kind not in STORED_LABELS and not (
        labels.dtype == object and all(isinstance(label, str) for label in labels)
    ):
        raise ModelFileError(
            "the labels are Python objects: give strings, numbers, booleans or dates, "
            "which a model file can hold."
        )


def _plain_labels(classes: Any) -> Any:
    check_storable(classes)
    return classes.astype(str) if classes.dtype == object else classes


def _check_labels(classes: Any, at_least: int = 2) -> None:
    if classes.ndim != 1 or len(classes) < at_least or len(np.unique(classes)) < len(classes):
        raise ValueError("its classes are not distinct labels")
    if classes.dtype.kind not in STORED_LABELS:
        raise ValueError("its arrays have the wrong types")


def _check_curve(curve: Any) -> None:
    if curve.ndim != 1 or curve.dtype.kind != "f":
        raise ValueError("its loss curve is none")


def _of_types(values: dict[str, Any], types: dict[str, Any]) -> dict[str, Any]:
    """The same, if they have these names and types; an integer is a number too."""
    if set(values) != set(types):
        raise ValueError("its header has words too many or too few")
    for name, value in values.items():
        wanted = types[name] if isinstance(types[name], tuple) else (types[name],)
        is_number = float in wanted and isinstance(value, Real) and not isinstance(value, bool)
        if not is_number and type(value) not in wanted:
            raise ValueError(f"its header has {value!r} for {name}")
    return dict(values)


def _check_names(arrays: Arrays, *names: str) -> None:
    if set(arrays) != set(names):
        raise ValueError("it has arrays too many or too few")


def _check_coefficients(arrays: list[Any]) -> None:
    if any(array.dtype.kind != "f" for array in arrays):
        raise ValueError("its arrays have the wrong types")
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("its coefficients are not finite")


def _jsonable(value: Any) -> Any:
    """Numbers of any type as JSON's, which has no keys that are not text."""
    if isinstance(value, dict):
        return {"pairs": [[_jsonable(key), _jsonable(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple | np.ndarray):
        return {"items": [_jsonable(item) for item in value]}
    if value is None or isinstance(value, str | bool):
        return value
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, Integral | bool):
        return plain if isinstance(plain, bool) else int(plain)
    return float(plain) if isinstance(plain, Real) else None  # an object, as a RandomState


def _from_json(value: Any) -> Any:
    if isinstance(value, dict) and "items" in value:
        return tuple(_from_json(item) for item in value["items"])
    if isinstance(value, dict):
        return {_from_json(key): _from_json(item) for key, item in value["pairs"]}
    return value
