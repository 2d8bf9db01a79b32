"""What a GPU was measured to do: a table for the report, and one for the README."""

from __future__ import annotations

from bench.ceiling_rates import ceiling_of

NAMES = ("accel cupy", "CuPy, two products", "PyTorch cuda")


def device_table(passes: list[dict], ceilings: list[dict]) -> str:
    """Milliseconds of a pass by the GPU's clock, beside its peers and one read of X.

    "fetched" is what a caller on the host waits for, gradient in hand; "of the read" the share of
    the read bandwidth measured in the same run.
    """
    floor_rate = ceiling_of(ceilings, "read bandwidth", "accel cupy")
    text = [
        "| one pass, ms | accel cupy | fetched | CuPy, two products | PyTorch | one read "
        "| of the read | x CuPy | x PyTorch |",
        "|---" * 9 + "|",
    ]
    for case in dict.fromkeys(row["case"] for row in passes if "device_median_s" in row):
        found = {
            row["contender"]: row for row in passes
            if row["case"] == case and "device_median_s" in row and row["valid"]
        }  # fmt: skip
        times = [found[name]["device_median_s"] if name in found else None for name in NAMES]
        own = found.get(NAMES[0])
        floor = own["bytes"] / floor_rate / 1e9 if own and floor_rate else None
        cells = [_plain_ms(times[0]), _plain_ms(own["median_s"] if own else None)]
        cells += [_plain_ms(times[1]), _plain_ms(times[2]), _plain_ms(floor)]
        cells += [f"{floor / times[0]:.0%}" if floor and times[0] else ""]
        cells += [f"{peer / times[0]:.2f}" if peer and times[0] else "" for peer in times[1:]]
        text.append(f"| {case} | " + " | ".join(cells) + " |")
    return "\n".join(text)


def _plain_ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.3f}"


def readme_rows(run: dict) -> str:
    """Passes of a run on a GPU as Markdown: by its own clock where it was, else result fetched."""
    passes = [row for row in run["rows"] if row["kind"] == "pass"]
    if any("device_median_s" in row for row in passes):
        return device_table(passes, [row for row in run["rows"] if row["kind"] == "ceiling"])
    text = ["| one pass on a GPU, gradient fetched | accel cupy | PyTorch |", "|---|---|---|"]
    for case in dict.fromkeys(row["case"] for row in passes):
        times = {r["contender"]: r["median_s"] for r in passes if r["case"] == case and r["valid"]}
        cells = [f"{1e3 * times[name]:.3g} ms" if name in times else "" for name in NAMES[::2]]
        text.append(f"| {case} | " + " | ".join(cells) + " |")
    return "\n".join(text)
