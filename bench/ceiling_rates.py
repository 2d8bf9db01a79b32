"""The ceilings of the device that a contender runs on, among the rows of a run."""

from __future__ import annotations


def ceiling_of(rows: list[dict], name: str, contender: str) -> float | None:
    """The rate of a ceiling on the device of a contender; None where it was not measured."""
    device = device_of(contender)
    found = [row["rate"] for row in rows if row["case"] == name and row["contender"] == device]
    return found[0] if found else None


def device_of(contender: str) -> str:
    """The backend of the device that a contender runs on."""
    return "cupy" if "cupy" in contender.lower() or "cuda" in contender else "numpy"
