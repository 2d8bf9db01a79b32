"""The map of the design, read from the sources: who imports whom, and what `import accel` costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import accel

ROOT = Path(accel.__file__).parent
# A module imports only from modules further left; one name stands for a package and its modules.
ORDER = [
    {"interrupts"},
    {"backends", "dropout", "losses"},
    {"disk"},
    {"sources"},
    {"rows", "placement"},
    {"cluster"},
    {"network"},
    {"penalties", "passes"},
    {"proofs"},
    {"choice"},
    {"objective", "minibatch"},
    {"stack"},
    {"conditioning"},
    {"solvers"},
    {"checkpoint"},
    {"estimators"},
    {"files"},
    {"datasets"},
    {"plots", "progress"},
    {"held_out", "written"},
    {"benchmark", "train"},
    {"tutorial", "printed"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def modules():
    return [path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]


def part(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_left(path):
    here = part(path)
    for name in imported(path):
        root, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if root == "accel" and other in RANK and other != here:
            assert RANK[other] < RANK[here], f"{path.name} imports {name}, to its right"


def test_cupy_is_imported_in_backends_only():
    for path in modules():
        if part(path) != "backends":
            assert not any(name.split(".")[0] == "cupy" for name in imported(path)), path
            assert 'import_module("cupy' not in path.read_text()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_explain_themselves(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text))


def test_importing_accel_loads_nothing_beyond_scikit_learn_but_the_edge():
    """No cupy, matplotlib, typer. The budget is 50 ms (20 measured); modules are no noisy clock."""
    code = (
        "import sys, numpy, sklearn.base; before = set(sys.modules); import accel;"
        "new = set(sys.modules) - before; print(*[n for n in new if not n.startswith('accel')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    allowed = ("array_api_compat", "sklearn.utils")
    assert [name for name in done.stdout.split() if not name.startswith(allowed)] == []
    assert len(done.stdout.split()) < 20


def public():
    """What people call by name: the package's exports, their methods, and the seams of the core."""
    from accel import (
        checkpoint,
        cluster,
        datasets,
        dropout,
        files,
        minibatch,
        network,
        objective,
        solvers,
        sources,
        stack,
        tutorial,
    )
    from accel.backends import precision
    from accel.solvers import epochs, gd, lbfgs, line_search, path, rules, together

    objects = [getattr(accel, name) for name in accel.__all__ if name not in ("Status", "backends")]
    objects += [objective.Objective, network.Network, solvers.minimize, solvers.Solution]
    objects += [solvers.Snapshot, solvers.Progress, solvers.State]
    objects += [gd.GradientDescent, lbfgs.LBFGS, line_search.wolfe_search, datasets.load]
    objects += [stack.Stack, path.solve_path, path.Path, together.minimize_together]
    objects += [together.Solutions, files.save_model, files.load_model]
    objects += [network.Workspace, minibatch.Batches, minibatch.BatchObjective]
    objects += [minibatch.BatchObjective.value_and_grad, minibatch.Batches.epoch]
    objects += [dropout.DropoutMasks, precision.rounded, checkpoint.Checkpoint, checkpoint.digest]
    objects += [checkpoint.Checkpoint.save_snapshot, checkpoint.Checkpoint.load_snapshot]
    objects += [checkpoint.pack_snapshot, checkpoint.unpack_snapshot]
    objects += [sources.open_data, sources.open_rows, sources.as_source, sources.take, sources.Data]
    objects += [epochs.Training, epochs.EpochProgress, epochs.StochasticSolver.train]
    objects += [cluster.spread, cluster.Spread, cluster.Distributed.value_and_grad]
    objects += [rules.SGD, rules.Adam, tutorial.run]
    for item in objects:
        yield f"{item.__module__}.{item.__qualname__}"
    estimators = (accel.LogisticRegression, accel.LogisticRegressionCV, accel.MLPClassifier)
    for estimator in (*estimators, accel.MLPRegressor):
        for name, member in vars(estimator).items():
            if callable(member) and not name.startswith(("_", "set_", "get_")):
                yield f"{estimator.__module__}.{estimator.__qualname__}.{name}"


@pytest.mark.parametrize("name", sorted(set(public())))
def test_public_objects_document_every_parameter_and_result(name):
    validate = pytest.importorskip("numpydoc.validate", reason="numpydoc comes with the extra dev")
    wanted = ("GL08", "SS01", "SS03", "PR01", "PR02", "PR03", "PR04", "PR07", "RT01", "RT03")
    found = validate.validate(name)["errors"]
    assert [error for error in found if error[0] in wanted] == []
