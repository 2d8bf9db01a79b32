"""How much memory a process may still take: the machine's, its control group's, its own limits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
# What a limit of the process counts -> the line of /proc/self/status that says how much is used.
LIMITS = {"RLIMIT_AS": "VmSize", "RLIMIT_DATA": "VmData"}
UNKNOWN = 1 << 30  # where nothing tells


def free_bytes(root: Path = ROOT) -> int:
    """Bytes that this process may still take before something refuses or kills it.

    Parameters
    ----------
    root : Path, default="/"
        Where /proc and /sys are.

    Returns
    -------
    int
        The least of what the machine has (MemAvailable), what is left of the memory limit of every
        control group the process is in (v1 and v2; the page cache counts as free, as the kernel
        drops it first), and what is left of RLIMIT_AS and RLIMIT_DATA. 1 GiB where nothing tells.
    """
    found = [*_machine(root), *_groups(root), *_limits(root)]
    return max(0, min(found)) if found else UNKNOWN


def _machine(root: Path) -> Iterator[int]:
    kilobytes = _fields(root / "proc" / "meminfo").get("MemAvailable")
    if kilobytes is not None:
        yield 1024 * kilobytes


def _groups(root: Path) -> Iterator[int]:
    """What is left in each control group, from the process's own to the root."""
    for line in _lines(root / "proc" / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        base, limit, usage = root / "sys" / "fs" / "cgroup", "memory.max", "memory.current"
        if controllers:
            if "memory" not in controllers.split(","):
                continue
            base, limit, usage = base / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        # in a container the path may be the host's: then the mounted root is the own group
        inside = base / path.strip("/")
        for group in (inside, *inside.parents) if inside.exists() else (base,):
            if base != group and base not in group.parents:
                break
            most, used = _number(group / limit), _number(group / usage)
            if most is not None and used is not None:
                cache = _fields(group / "memory.stat")
                yield most - used + cache.get("inactive_file", 0) + cache.get("active_file", 0)


def _limits(root: Path) -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows
        return
    used = _fields(root / "proc" / "self" / "status")
    for name, field in LIMITS.items():
        soft, _ = resource.getrlimit(getattr(resource, name))
        if soft not in (resource.RLIM_INFINITY, -1) and field in used:
            yield soft - 1024 * used[field]


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _fields(path: Path) -> dict[str, int]:
    """Numbers by name, of lines such as "MemAvailable: 123 kB" or "inactive_file 123"."""
    pairs = (line.replace(":", " ").split() for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdecimal()}


def _number(path: Path) -> int | None:
    """The number in a file; None where there is no file or no limit ("max", or about 2^63)."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() and int(text) < sys.maxsize // 2 else None
