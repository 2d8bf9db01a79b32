"""Where arrays live and who computes on them: the only place that imports cupy.

Here belongs whatever differs between a CPU and a GPU: how arrays get in and out, how rows are cut
into blocks and run, what the device is called, why it cannot be used. No mathematics belongs here.

To add a backend, write a module with a class that has the members of `Backend` and two functions,
``open_backend(index)`` and ``owner(array)``, and add a line to `BACKENDS`.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

from accel.backends import cupy_backend, numpy_backend
from accel.backends.base import Backend, BackendReport, BackendUnavailable

__all__ = [
    "BACKENDS",
    "Backend",
    "BackendReport",
    "BackendUnavailable",
    "backend_for",
    "get_backend",
    "last_resort",
    "list_backends",
]

# In order of preference: "auto" takes the first that is usable.
BACKENDS: dict[str, Any] = {"cupy": cupy_backend, "numpy": numpy_backend}


def get_backend(name: str = "auto") -> Backend:
    """The backend of this name, proven usable.

    Parameters
    ----------
    name : str, default="auto"
        "auto" prefers a usable GPU and falls back to the CPU; the reason stays readable in
        ``report().fallback``. "numpy", "cupy" or "cupy:N" (device N) require that backend. The
        environment variable ACCEL_BACKEND replaces "auto".

    Returns
    -------
    Backend
        Opened on its device.

    Raises
    ------
    BackendUnavailable
        If a required backend cannot be used: the message says why and what to do.
    ValueError
        If no backend has this name.
    """
    if not isinstance(name, str):
        raise ValueError(f"backend must be a string, got {name!r}: use {_choices()}.")
    source = "backend"
    if name == "auto":
        name, source = os.environ.get("ACCEL_BACKEND") or "auto", "ACCEL_BACKEND"
    if name == "auto":
        return _preferred()
    base, _, index = name.partition(":")
    if base not in BACKENDS or (index and not index.isdecimal()) or name.endswith(":"):
        raise ValueError(f"{source}={name!r} names no backend: use {_choices()}.")
    opened: Backend = BACKENDS[base].open_backend(int(index or 0))
    return opened


def backend_for(name: str, array: Any) -> Backend:
    """The backend for a fit on this array: "auto" stays where a device array already lives."""
    if name == "auto" and not os.environ.get("ACCEL_BACKEND"):
        for base, module in BACKENDS.items():
            index = module.owner(array)
            if index is not None:
                try:
                    return get_backend(f"{base}:{index}")
                except BackendUnavailable as refusal:
                    return BACKENDS["numpy"].open_backend(0).with_fallback(str(refusal))  # type: ignore[no-any-return]
    return get_backend(name)


def last_resort(name: str, backend: Backend) -> Backend | None:
    """The CPU for a fit that a GPU has no room for; None where the GPU was required, or is none."""
    if name != "auto" or os.environ.get("ACCEL_BACKEND") or backend.is_host:
        return None
    cpu: Backend = BACKENDS["numpy"].open_backend(0)
    return cpu


def list_backends() -> list[BackendReport]:
    """What every known backend is, or why it cannot be used.

    Returns
    -------
    list of BackendReport
        In order of preference: "auto" takes the first usable one.
    """
    reports = []
    for name, module in BACKENDS.items():
        try:
            backend = module.open_backend(0)
            backend.load_kernels()
            reports.append(backend.report())
        except BackendUnavailable as error:
            reports.append(BackendReport(name=name, usable=False, reason=str(error)))
    return reports


def _preferred() -> Backend:
    """The first usable backend, carrying the reasons why those before it are not."""
    refusals = []
    for module in BACKENDS.values():
        try:
            backend: Backend = module.open_backend(0)
        except BackendUnavailable as error:
            refusals.append(str(error))
            continue
        return backend.with_fallback(" ".join(refusals)) if refusals else backend
    raise BackendUnavailable("every backend", " ".join(refusals), "reinstall numpy")


def _choices() -> str:
    return ", ".join(["'auto'", *(repr(name) for name in BACKENDS), "'cupy:N'"])


class _Package(ModuleType):
    """The folder, which can also be called: a function of its name would hide its modules."""

    def __call__(self) -> list[BackendReport]:
        """`list_backends`."""
        return list_backends()


sys.modules[__name__].__class__ = _Package
