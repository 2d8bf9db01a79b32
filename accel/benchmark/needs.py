"""What a contender needs: a package, a backend, a device. `Absent` says what is missing."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from typing import Any

from accel.backends import BackendUnavailable, get_backend

Call = Callable[[], Any]


class Absent(RuntimeError):
    """The contender is not installed, not usable here, or does not take this case."""


def require(package: str) -> Any:
    """The module, or `Absent`."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise Absent(f"{package} is not installed") from error


def open_backend(name: str) -> Any:
    """The backend of this name, or `Absent`."""
    try:
        return get_backend(name)
    except BackendUnavailable as error:
        raise Absent(str(error)) from error


def torch_on(device: str) -> Any:
    """PyTorch, where it can use this device; else `Absent`."""
    torch = require("torch")
    if device == "cuda" and not torch.cuda.is_available():
        raise Absent("torch sees no CUDA device")
    return torch


def quiet(call: Call) -> Call:
    """A fit that misses its objective is marked in its row, not warned of in the middle of it."""

    def silent() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call()

    return silent


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """torch.compile, whose first use imports what warns of its own age; `quiet` its calls too."""
    torch = require("torch")
    made: Callable[..., Any] = quiet(lambda: torch.compile(function, **options))()
    return made
