"""What the command line prints of a training and writes of predictions."""

from __future__ import annotations

import csv
import io
from functools import partial
from typing import Any

from rich.markup import escape
from rich.table import Table

from accel.estimators.account import Stages
from accel.train import Trained


def print_trained(console: Any, trained: Trained, stages: Stages) -> None:
    """Figures of a training, and where it ran and what it wrote, in 80 columns."""
    model = trained.model
    labels = [escape(label) for label in trained.labels]
    if sum(len(label) + 3 for label in labels) <= 56:  # 80 columns hold it
        table = Table("true \\ predicted", *labels, title="Confusion matrix, test rows")
        for label, row in zip(labels, trained.confusion, strict=True):
            table.add_row(label, *(str(count) for count in row))
        console.print(table)
    console.print(trained.report, highlight=False, markup=False)
    say = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    say(f"train accuracy {trained.train_accuracy:.2%} of {trained.n_train} rows")
    say(f"test accuracy  {trained.test_accuracy:.2%} of {trained.n_test} rows")
    say(model.account_.ending)
    say(f"ran on {model.backend_}")
    say(", ".join(f"{name} {seconds:.3f} s" for name, seconds in stages.seconds.items()))
    say("written: " + ", ".join(str(path) for path in trained.files.values()))


def labelled(classes: Any, labels: Any, probabilities: Any) -> str:
    """Labels and probabilities as the text of a .csv file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["label", *(f"p({label})" for label in classes)])
    for label, row in zip(labels, probabilities, strict=True):
        writer.writerow([label, *(f"{p:.9g}" for p in row)])
    return text.getvalue()
