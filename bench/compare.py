"""What moved beyond noise between two runs."""

from __future__ import annotations

from typing import Any

# A median is taken to move when it leaves the other run's quartiles by this factor, and by 5 %.
QUARTILES = 1.5
LEAST_CHANGE = 0.05


def compare(before: dict[str, Any], after: dict[str, Any]) -> str:
    """A Markdown table of the rows that moved, and how many did not.

    Parameters
    ----------
    before, after : dict
        Runs, see `bench.report.load`.

    Returns
    -------
    str
        Markdown.
    """
    old = {_key(row): row for row in before["rows"]}
    moved, still = [], 0
    for row in after["rows"]:
        if _key(row) not in old or "median_s" not in row:
            continue
        was = old[_key(row)]
        change = row["median_s"] / was["median_s"] - 1
        noise = QUARTILES * max(was["iqr_s"], row["iqr_s"])
        if abs(change) > LEAST_CHANGE and abs(row["median_s"] - was["median_s"]) > noise:
            moved.append((change, was, row))
        else:
            still += 1
    broken = [
        row for row in after["rows"]
        if not row.get("valid", True) and old.get(_key(row), {}).get("valid", True)
    ]  # fmt: skip
    gone = old.keys() - {_key(row) for row in after["rows"]}
    new = {_key(row) for row in after["rows"]} - old.keys()
    lines = [
        f"{before['machine']['commit'] or 'before'} -> {after['machine']['commit'] or 'after'}: "
        f"{len(moved)} rows moved beyond noise, {still} did not."
    ]
    if before["machine"]["platform"] != after["machine"]["platform"]:
        lines.append("The machines differ: compare ratios within a run instead.")
    lines += [f"INVALID now: {row['case']}, {row['contender']}." for row in broken]
    if gone or new:
        lines.append(f"In one run only: {len(gone)} rows before, {len(new)} rows after.")
    if moved:
        lines += ["", "| case | contender | before | after | change |", "|---|---|---|---|---|"]
    for change, was, row in sorted(moved, key=lambda entry: entry[0]):
        lines.append(
            f"| {row['case']} | {row['contender']} | {1e3 * was['median_s']:.3g} ms "
            f"| {1e3 * row['median_s']:.3g} ms | {change:+.0%} |"
        )
    return "\n".join(lines)


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["kind"], row["case"], row["contender"]
