"""docs/networks.md: what a recorded run says of training by batches and of accuracy."""

from __future__ import annotations

from pathlib import Path

from bench.report import Run, between_marks, learning, machine_line

SPEED_MARKS = ("<!-- networks -->", "<!-- /networks -->")
ACCURACY_MARKS = ("<!-- accuracy -->", "<!-- /accuracy -->")


def write(run: Run, page: Path) -> None:
    """Tables between the marks of the page, and its picture of the learning curves."""
    of = {kind: [row for row in run["rows"] if row["kind"] == kind and row["valid"]]
          for kind in ("training", "accuracy")}  # fmt: skip
    between_marks(page, SPEED_MARKS, f"{_speeds(of['training'])}\n\n{machine_line(run)}")
    between_marks(page, ACCURACY_MARKS, _accuracies(of["accuracy"]))
    learning(page.parent / "pictures" / "learning.png", of["accuracy"])


def _speeds(rows: list[dict]) -> str:
    names = list(dict.fromkeys(row["contender"] for row in rows))
    text = ["| samples/s | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for case in dict.fromkeys(row["case"] for row in rows):
        rates = {r["contender"]: r["samples_per_s"] for r in rows if r["case"] == case}
        cells = [f"{rates[name]:,.0f}" if name in rates else "" for name in names]
        text.append(f"| {case} | " + " | ".join(cells) + " |")
    return "\n".join(text)


def _accuracies(rows: list[dict]) -> str:
    text = ["| data | network | epochs | seconds | accuracy | linear model |", "|---" * 6 + "|"]
    for row in rows:
        options = {k: v for k, v in row["configuration"].items() if k != "random_state"}
        network = ", ".join(f"{name}={value}" for name, value in options.items()) or "defaults"
        text.append(
            f"| {row['case']} | {network} | {row['epochs']} | {row['seconds']:.1f} "
            f"| {row['accuracy']:.1%} | {row['linear_accuracy']:.1%} |"
        )
    return "\n".join(text)
