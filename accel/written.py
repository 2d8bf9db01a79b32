"""What a training leaves on disk: the model in a safe place, pictures and report beside it."""

from __future__ import annotations

import itertools
import os
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accel import plots
from accel.backends.base import first_line
from accel.datasets import DataError
from accel.disk import write_atomically
from accel.files import save_model

MODEL = "model.npz"


def set_aside(path: Path) -> Path | None:
    """The name for a model that is there, which a new one is not to write over; None for none.

    Raises
    ------
    DataError
        If it is read-only: whoever made it so wants it to stay where it is.
    """
    if not path.exists():
        return None
    if not path.stat().st_mode & stat.S_IWUSR:
        raise DataError(f"{path} is read-only: choose another folder with --out.")
    names = (path.with_name(f"{path.stem}-{k}{path.suffix}") for k in itertools.count(1))
    return next(name for name in names if not name.exists())


def kept(model: Any, out: Path, names: Sequence[str] | None) -> Path | None:
    """Where the model was written: in its folder, or in a second place that is named aloud."""
    path, refusal = out / MODEL, ""
    earlier = set_aside(path)
    try:
        if earlier is not None:
            path.rename(earlier)
        save_model(model, path, feature_names=names)
        if earlier is not None:
            message = f"the model that was in {out} is now {earlier}."
            warnings.warn(message, UserWarning, stacklevel=3)
        return path
    except OSError as error:
        refusal = f"{path} cannot be written ({error.strerror or error})"
        if earlier is not None and earlier.exists() and not path.exists():
            earlier.rename(path)
    for folder in (Path(tempfile.gettempdir()), Path.home()):
        second = folder / f"accel-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.npz"
        try:
            save_model(model, second, feature_names=names)
        except OSError:
            continue
        warnings.warn(f"{refusal}: the model is in {second}.", UserWarning, stacklevel=3)
        return second
    warnings.warn(f"{refusal}, nor anywhere else: free some room.", UserWarning, stacklevel=3)
    return None


def drawn(trained: Any, out: Path) -> dict[str, Path]:
    """Pictures and report; one that cannot be written is a warning, the figures are there."""
    model, text = trained.model, trained.report
    by_epochs = "epoch" in model.account_.passes
    title = "Mean loss of each epoch" if by_epochs else "Objective before each update"
    unit = "epoch" if by_epochs else "iteration"
    writers: dict[str, Callable[[Path], Any]] = {
        "cost.png": lambda path: plots.cost_curve(path, model.loss_curve_, title, x_label=unit),
        "confusion.png": lambda path: plots.confusion(path, trained.confusion, trained.labels),
        "report.txt": lambda path: write_atomically(path, lambda file: file.write(text.encode())),
    }
    files = {}
    for name, write in writers.items():
        try:
            write(out / name)
            files[name] = out / name
        except (OSError, ImportError, ValueError) as error:
            why = first_line(error)
            warnings.warn(f"{out / name} was not written ({why}).", UserWarning, stacklevel=3)
    return files
