"""The command line: options in, one line out where something is wrong."""

from __future__ import annotations

import functools
import json
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import accel
from accel.interrupts import Termination

if TYPE_CHECKING:
    pass

# What costs time to import is imported by the command that needs it: help comes at once.

app = typer.Typer(
    help="Linear models and small networks, the same on a CPU and on an NVIDIA GPU.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # brackets in a help text are brackets
    context_settings={"help_option_names": ["-h", "--help"]},
)

BackendName = Annotated[str, typer.Option(help="auto, numpy, cupy or cupy:N.")]
SOLVER_HELP = (
    "auto, lbfgs, newton-cg, newton-cholesky, gd, liblinear, sag, saga [auto]; mlp: sgd, adam, "
    "adamw, lbfgs, gd [adam]."
)
ACTIVATION_HELP = "mlp: identity, relu, tanh, logistic, gelu [relu]."
SCHEDULE_HELP = "mlp: constant, invscaling, adaptive, cosine [constant]."
BAD_INPUT = 2
INTERRUPTED, TERMINATED = 130, 143
MENDABLE = (ValueError, TypeError, OSError, MemoryError)


def one_line_errors(command: Callable[..., None]) -> Callable[..., None]:
    """What the user can mend ends in one line on stderr and exit code 2, without a traceback.

    Ctrl-C ends with exit code 130, SIGTERM in the same way with 143.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        with Termination() as termination:
            try:
                guarded(*args, **kwargs)
            except typer.Exit as ending:
                if termination.seen and ending.exit_code == INTERRUPTED:
                    raise typer.Exit(TERMINATED) from None
                raise

    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except KeyboardInterrupt:
            typer.echo("accel: interrupted, nothing was written after this point", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if isinstance(error, BrokenPipeError) or not _is_mendable(error):
                raise
            typer.echo(f"accel: {_sentence(error)}", err=True)
            raise typer.Exit(BAD_INPUT) from None

    return wrapped


def _is_mendable(error: Exception) -> bool:
    """Whether the user can mend it."""
    from accel.cluster import ClusterError

    return isinstance(error, (*MENDABLE, accel.BackendUnavailable, ClusterError))


def _sentence(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}."
    return " ".join(str(error).split()) or type(error).__name__


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"accel {accel.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Linear models and small networks, the same on a CPU and on an NVIDIA GPU."""


@app.command("backends")
@one_line_errors
def backends_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What can compute on this machine, and why the rest cannot."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    reports = accel.list_backends()
    if as_json:
        typer.echo(json.dumps([asdict(report) for report in reports], indent=2))
        return
    console = Console()
    table = Table("backend", "usable", "device", "memory", "libraries")
    for report in reports:
        table.add_row(
            report.name,
            "yes" if report.usable else "no",
            escape(report.device),
            "" if report.memory_bytes is None else f"{report.memory_bytes / 2**30:.1f} GiB",
            escape("\n".join(f"{name} {version}" for name, version in report.libraries.items())),
        )
    console.print(table)
    for report in reports:
        if not report.usable:
            console.print(report.reason, highlight=False, markup=False, soft_wrap=True)
    try:
        chosen = f'"auto" runs on {accel.get_backend().name}.'
    except accel.BackendUnavailable as refusal:
        chosen = f'"auto" fails, because ACCEL_BACKEND requires it: {refusal}'
    console.print(chosen, highlight=False, markup=False, soft_wrap=True)


@app.command("tutorial")
@one_line_errors
def tutorial_command(
    data: Annotated[Path | None, typer.Option(help="Folder with the sign digits.")] = None,
    digits: Annotated[tuple[int, int], typer.Option(help="The two to tell apart.")] = (0, 1),
    learning_rate: Annotated[float, typer.Option(help="Step of gradient descent.")] = 0.01,
    iterations: Annotated[int, typer.Option(min=1, help="Number of updates.")] = 150,
    hidden: Annotated[
        int, typer.Option(min=0, help="Units of a hidden layer: the second half.")
    ] = 0,
    dtype: Annotated[str, typer.Option(help="float64 or float32.")] = "float64",
    backend: BackendName = "auto",
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("accel-tutorial"),
) -> None:
    """The first lesson: logistic regression from scratch, step by step."""
    from accel.datasets import load_digits, load_sign_digits
    from accel.tutorial import run

    if dtype not in ("float32", "float64"):
        raise ValueError(f"dtype={dtype!r} must be float64 or float32.")
    accel.get_backend(backend)  # a wrong name or an unusable GPU, before the first step is said
    loaded = load_sign_digits(data) if data else load_digits()
    lesson = run(
        replace(loaded, X=loaded.X.astype(dtype)),
        digits,
        out,
        learning_rate=learning_rate,
        iterations=iterations,
        backend=backend,
        hidden=hidden,
        say=typer.echo,
    )
    typer.echo(f"Ran on {lesson.model.backend_}")
    more = ", layers.png, hidden.png" if hidden else ""
    typer.echo(f"Written to {out}: samples.png, cost.png, weights.png{more}, summary.md")


@app.command("train")
@one_line_errors
def train_command(
    file: Annotated[Path | None, typer.Argument(help="The data, as --data.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder, .npy, .npz, .csv, .parquet.")] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="The first row of the .csv is data.")
    ] = False,
    target: Annotated[str | None, typer.Option(help="Column, array or file of labels.")] = None,
    weight: Annotated[str | None, typer.Option(help="Column, array or file of weights.")] = None,
    model: Annotated[str, typer.Option(help="logistic, mlp.")] = "logistic",
    solver: Annotated[str | None, typer.Option(help=SOLVER_HELP)] = None,
    backend: BackendName = "auto",
    c: Annotated[float | None, typer.Option("--C", help="Inverse strength [1].")] = None,
    l1_ratio: Annotated[float | None, typer.Option(help="Share of the l1 norm [0].")] = None,
    hidden: Annotated[str | None, typer.Option(help="mlp: widths, as 256,128 [100].")] = None,
    activation: Annotated[str | None, typer.Option(help=ACTIVATION_HELP)] = None,
    alpha: Annotated[float | None, typer.Option(help="mlp: penalty [0.0001].")] = None,
    batch_size: Annotated[int | None, typer.Option(help="mlp: rows of a batch [200].")] = None,
    schedule: Annotated[str | None, typer.Option(help=SCHEDULE_HELP)] = None,
    dropout: Annotated[float | None, typer.Option(help="mlp: share dropped [0].")] = None,
    initialization: Annotated[str | None, typer.Option(help="mlp: glorot, he.")] = None,
    precision: Annotated[str | None, typer.Option(help="mlp: float32, tf32, bfloat16.")] = None,
    center: Annotated[
        bool | None, typer.Option("--center", help="mlp: train on X less its column means.")
    ] = None,
    early_stopping: Annotated[
        bool | None, typer.Option("--early-stopping", help="mlp: hold rows out, keep the best.")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder; the same command goes on from it.")
    ] = None,
    every: Annotated[int | None, typer.Option(help="Updates or epochs between states [1].")] = None,
    placement: Annotated[
        str | None, typer.Option(help="auto, resident (in memory), stream (from disk) [auto].")
    ] = None,
    max_iter: Annotated[
        int | None, typer.Option(min=1, help="Updates [1000], or epochs of mlp [200].")
    ] = None,
    tol: Annotated[
        float | None, typer.Option(help="Largest gradient, or least gain of mlp [1e-4].")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of solver gd [0.01], of mlp [0.001].")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Of a dask cluster that fits data on disk, tcp://HOST:8786.")
    ] = None,
    test_size: Annotated[float, typer.Option(help="Share of rows held out.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Of the split and of mlp.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for what is written.")] = Path("accel-out"),
    explain: Annotated[bool, typer.Option("--explain", help="Print what was done, why.")] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print what would be done, why, and stop.")
    ] = False,
) -> None:
    """Train on real data; by default on scikit-learn's digits, all ten classes."""
    from rich.console import Console
    from rich.markup import escape

    from accel.datasets import load_digits
    from accel.estimators.account import Stages
    from accel.printed import print_trained
    from accel.progress import ProgressLine
    from accel.train import build, open_or_load, train

    data = _one_of(data, file)
    given = {
        "solver": solver, "backend": backend, "C": c, "l1_ratio": l1_ratio, "max_iter": max_iter,
        "tol": tol, "learning_rate": learning_rate, "hidden": _widths(hidden), "alpha": alpha,
        "activation": activation, "batch_size": batch_size, "schedule": schedule,
        "dropout": dropout, "initialization": initialization, "precision": precision,
        "early_stopping": early_stopping, "center": center, "checkpoint": checkpoint,
        "every": every, "placement": placement,
    }  # fmt: skip
    stages = Stages()
    console = Console()
    estimator = build(model, given, seed)
    if scheduler is not None:
        data = _on_shared_disk(model, data)
    if data is None and (no_header or not (target is weight is placement is None)):
        raise ValueError("target, weight, placement and no-header are for --data.")
    if plan and (model != "logistic" or scheduler is not None):
        raise ValueError("plan is an option of --model logistic on this machine.")
    kept = "stream" if plan or scheduler is not None else placement  # nothing is loaded for these
    with stages("load"):
        loaded: Any = load_digits()
        if data:
            loaded = open_or_load(data, target, weight, kept, header=not no_header)
    console.print(f"{escape(loaded.name)}: X {loaded.X.shape} {loaded.X.dtype}", highlight=False)
    if plan:
        _print_plan(console, estimator, loaded)
        return
    with warnings.catch_warnings(record=True) as caught, ProgressLine(console) as line:
        warnings.simplefilter("always", UserWarning)
        estimator.set_params(callback=line)
        trained = train(
            loaded, estimator, out, stages, test_size=test_size, seed=seed, scheduler=scheduler
        )
    print_trained(console, trained, stages)
    if explain:
        console.print(trained.model.explain(), highlight=False, markup=False, soft_wrap=True)
    for warning in caught:
        typer.echo(f"accel: warning: {_sentence(warning.message)}", err=True)  # type: ignore[arg-type]
    if trained.files.get("model.npz") != out / "model.npz":  # said above, with the second place
        raise typer.Exit(BAD_INPUT)
    if trained.model.status_ is accel.Status.INTERRUPTED:
        typer.echo(f"accel: interrupted, the model so far is in {out}", err=True)
        raise typer.Exit(INTERRUPTED)


def _one_of(data: Path | None, file: Path | None) -> Path | None:
    """The data, named with an option or without."""
    if file is not None and data is not None:
        raise ValueError(f"data={str(data)!r} and {str(file)!r} are two files: give one.")
    return data or file


def _on_shared_disk(model: str, data: Path | None) -> Path:
    """The data as every worker finds it: they may run in other folders."""
    if model != "logistic" or data is None:
        raise ValueError("scheduler is for --model logistic and --data on a shared disk.")
    return data.resolve()


def _print_plan(console: Any, estimator: Any, data: Any) -> None:
    """What a fit on all rows would do."""
    if data.y is None:
        raise ValueError(f"{data.name} has no labels: put Y.npy beside it or name a target.")
    text = estimator.explain(data.X, data.y, data.sample_weight)
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _widths(hidden: str | None) -> tuple[int, ...] | None:
    """Widths of hidden layers, from "256,128"; "" is no hidden layer."""
    if hidden is None:
        return None
    parts = [part.strip() for part in hidden.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise ValueError(f"hidden={hidden!r} must be widths with commas between, as 256,128.")
    return tuple(int(part) for part in parts)


@app.command("bench")
@one_line_errors
def bench_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
    out: Annotated[Path | None, typer.Option(help="Picture: .png or .svg.")] = None,
) -> None:
    """Compare the backends of this machine, in about a minute."""
    from rich.console import Console
    from rich.table import Table

    from accel.benchmark import machine, quick

    if out is not None and out.suffix not in (".png", ".svg"):
        raise ValueError(f"out={str(out)!r} must end in .png or .svg.")
    rows = quick.measure(lambda line: typer.echo(line, err=True))
    if out is not None:
        quick.picture(out, rows)
    if as_json:
        typer.echo(json.dumps({"machine": machine.facts(), "rows": rows}, indent=1))
        return
    table = Table("what", "who", "time", "rate", "check")
    for row in rows:
        table.add_row(*quick.cells(row))
    Console().print(table)
    typer.echo(quick.winning_size(rows))


@app.command("predict")
@one_line_errors
def predict_command(
    model: Annotated[Path, typer.Option(help="model.npz from 'accel train'.")],
    data: Annotated[Path, typer.Option(help="Folder, .npy, .npz, .csv, .parquet.")],
    out: Annotated[Path, typer.Option(help=".csv (labels, probabilities) or .npy (labels).")],
    no_header: Annotated[
        bool, typer.Option("--no-header", help="The first row of the .csv is data.")
    ] = False,
) -> None:
    """Label the rows of a file with a trained model."""
    import numpy as np

    from accel.datasets import rows
    from accel.disk import prepare_folder, write_atomically
    from accel.files import load_model
    from accel.printed import labelled

    if out.suffix not in (".csv", ".npy"):
        raise ValueError(f"out={str(out)!r} must end in .csv or .npy.")
    prepare_folder(out.parent)
    estimator = load_model(model)
    names = estimator.__dict__.pop("feature_names_in_", None)
    X = rows(data, names, header=not no_header)
    labels = estimator.predict(X)
    if out.suffix == ".npy":
        write_atomically(out, lambda file: np.save(file, labels))
    else:
        text = labelled(estimator.classes_, labels, estimator.predict_proba(X))
        write_atomically(out, lambda file: file.write(text.encode()))
    typer.echo(f"{len(labels)} rows labelled, written to {out}")
