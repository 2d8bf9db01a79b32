"""Model files: plain arrays and a JSON header that need no pickle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from accel.backends import BackendReport
from accel.backends.base import first_line
from accel.disk import FileFormatError, read_arrays, write_atomically
from accel.estimators import LogisticRegression
from accel.estimators.account import Account
from accel.solvers import Status

FORMAT = "accel-model"
VERSION = 2
NOT_STORED = ("callback",)  # code is never written to a file


class ModelFileError(FileFormatError):
    """A file that is no accel model, or a damaged one."""


def save_model(
    model: LogisticRegression, path: Path, feature_names: Sequence[str] | None = None
) -> None:
    """Write a fitted model as .npz: its arrays and a JSON header, atomically.

    Parameters
    ----------
    model : LogisticRegression
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
    classes = model.classes_
    if classes.dtype == object:
        if not all(isinstance(label, str) for label in classes):
            raise ModelFileError(
                "the labels are Python objects: save strings, numbers or booleans."
            )
        classes = classes.astype(str)
    names = feature_names or getattr(model, "feature_names_in_", None)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "estimator": type(model).__name__,
        "parameters": {
            name: _jsonable(value)
            for name, value in model.get_params(deep=False).items()
            if name not in NOT_STORED
        },
        "feature_names": None if names is None else [str(name) for name in names],
        "status": model.status_.name,
        "objective": model.objective_,
        "gradient_norm": model.gradient_norm_,
        "n_iter": int(model.n_iter_[0]),
        "input_scale": model.input_scale_,
        "n_passes": model.n_passes_,
        "account": {**asdict(model.account_), "backend": None},
        "backend": asdict(model.backend_),
    }
    arrays = {
        "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
        "coef": model.coef_,
        "intercept": model.intercept_,
        "classes": classes,
        "loss_curve": model.loss_curve_,
    }
    write_atomically(path, lambda file: np.savez(file, **arrays))


def load_model(path: Path) -> LogisticRegression:
    """Read a model written by `save_model`; nothing in the file is executed.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    LogisticRegression
        Fitted, ready to predict.

    Raises
    ------
    ModelFileError
        If the file is no accel model, or damaged.
    OSError
        If it cannot be read.
    """
    try:
        arrays = read_arrays(path)
        header = json.loads(bytes(arrays.pop("header")))
        if header["format"] != FORMAT or header["version"] != VERSION:
            raise ValueError(f"format {header['format']!r}, version {header['version']!r}")
        return _rebuild(header, **arrays)
    except OSError:
        raise
    except Exception as error:  # a foreign header may be wrong in any way
        raise ModelFileError(
            f"{path} is not an accel model of version {VERSION}, or it is damaged "
            f"({first_line(error)}): write one with 'accel train'."
        ) from None


def _rebuild(
    header: dict[str, Any], *, coef: Any, intercept: Any, classes: Any, loss_curve: Any
) -> LogisticRegression:
    if classes.ndim != 1 or len(classes) < 2 or len(np.unique(classes)) < len(classes):
        raise ValueError("its classes are not distinct labels")
    if classes.dtype.kind not in "biufU" or coef.dtype.kind + intercept.dtype.kind != "ff":
        raise ValueError("its arrays have the wrong types")
    rows = 1 if len(classes) == 2 else len(classes)
    if coef.ndim != 2 or coef.shape[0] != rows or intercept.shape != (rows,):
        raise ValueError("its arrays do not fit together")
    if not (np.isfinite(coef).all() and np.isfinite(intercept).all()):
        raise ValueError("its coefficients are not finite")
    model = LogisticRegression(
        **{name: _from_json(value) for name, value in header["parameters"].items()}
    )
    model.coef_, model.intercept_, model.classes_ = coef, intercept, classes
    model.loss_curve_ = loss_curve
    model.n_features_in_ = coef.shape[1]
    if header["feature_names"] is not None:
        if len(header["feature_names"]) != coef.shape[1]:
            raise ValueError("its feature names do not fit its coefficients")
        model.feature_names_in_ = np.array(header["feature_names"], dtype=object)
    model.n_iter_ = np.array([header["n_iter"]], dtype=np.int32)
    model.objective_ = header["objective"]
    model.input_scale_ = float(header["input_scale"])
    model.gradient_norm_ = header["gradient_norm"]
    model.status_ = Status[header["status"]]
    model.backend_ = BackendReport(**header["backend"])
    model.n_passes_ = int(header["n_passes"])
    account = header["account"]
    account["backend"], account["reasons"] = model.backend_, tuple(account["reasons"])
    model.account_ = Account(**account)
    return model


def _jsonable(value: Any) -> Any:
    """Numbers of any type as JSON's; it has no infinity, and no keys that are not text."""
    if isinstance(value, dict):
        return {"pairs": [[_jsonable(key), _jsonable(item)] for key, item in value.items()]}
    if value is None or isinstance(value, str | bool):
        return value
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, Integral | bool):
        return plain if isinstance(plain, bool) else int(plain)
    if isinstance(plain, Real):
        return "inf" if float(plain) == float("inf") else float(plain)
    return str(plain)


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {_from_json(key): _from_json(item) for key, item in value["pairs"]}
    return float("inf") if value == "inf" else value
