"""The facts about a machine without which a number means nothing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import accel

PACKAGES = ("accel", "numpy", "scikit-learn", "numba", "cupy-cuda12x", "cupy-cuda13x", "torch")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def facts() -> dict[str, Any]:
    """Processor, GPU, libraries, versions, threads and commit, as JSON would hold them.

    Returns
    -------
    dict
        Plain strings, numbers and lists.
    """
    return {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "backends": [asdict(report) for report in accel.list_backends()],
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "threads": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "commit": commit(),
    }


def commit() -> str:
    """The commit of the source tree, with "+" where it has changes; "" outside one."""
    root = Path(accel.__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return ""
    head = _git(root, "rev-parse", "--short", "HEAD")
    return head + (
        "+"
        if head and _git(root, "status", "--porcelain", "accel", "bench", ":!bench/results")
        else ""
    )


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
