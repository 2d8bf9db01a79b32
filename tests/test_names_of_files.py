"""What columns and labels of a file mean: spelling, names, the same in every method."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from accel import LogisticRegression, open_data
from accel.cli import app
from accel.sources import DataError, open_rows


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    return done.exit_code, " ".join(done.output.split())


SPELLINGS = [
    ["01", "1", "2"],
    ["true", "1", "false"],
    ["1E3", "1000", "2E3"],
    ["0042", "0107", "2001"],
    ["-1", "+1"],
    ["12345678901234567890", "12345678901234567891"],
    ["0x10", "16"],
    ["1.0", "1"],
    ["yes", "no"],
    ["3", "7", "12"],
    ["NA", "EU"],
]


@pytest.mark.parametrize("labels", SPELLINGS, ids=lambda labels: "-".join(labels))
def test_labels_keep_the_spelling_of_the_file(here, labels):
    rng = np.random.default_rng(0)
    index = np.arange(30 * len(labels)) % len(labels)
    rows = "".join(
        f"{3 * i + 0.1 * rng.normal():.3f},{rng.normal():.3f},{labels[i]}\n" for i in index
    )
    (here / "a.csv").write_text("x,z,code\n" + rows)
    code, output = run("train", "--data", "a.csv", "--backend", "numpy", "--out", "o")
    assert code == 0, output
    code, output = run("predict", "--model", "o/model.npz", "--data", "a.csv", "--out", "p.csv")
    assert code == 0, output
    with open("p.csv", newline="") as file:
        head, *rest = csv.reader(file)
    assert sorted(head[1:]) == sorted(f"p({label})" for label in labels)
    joined = [row[0] == labels[i] for row, i in zip(rest, index, strict=True)]
    assert np.mean(joined) > 0.95


def test_blanks_around_a_label_are_no_spelling(here):
    (here / "a.csv").write_text("x,y\n" + "1,yes\n2,no\n1,yes \n2, no\n" * 10)
    assert sorted(set(open_data("a.csv").y)) == ["no", "yes"]


def test_numbers_stay_numbers(here):
    (here / "a.csv").write_text("x,y\n" + "1,3\n2,7\n" * 10)
    assert open_data("a.csv").y.dtype.kind == "i"


def frame(here):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(200, 3))
    y = (A[:, 2] + 0.3 * rng.normal(size=200) > 0).astype(int)
    table = pd.DataFrame(A, columns=["a", "b", "c"])
    table.to_csv(here / "x.csv", index=False)
    table.to_parquet(here / "x.parquet")
    table.to_csv(here / "with_index.csv")
    table.assign(y=y).to_csv(here / "xy.csv", index=False)
    return A, y


@pytest.mark.parametrize("name", ["x.csv", "x.parquet"])
def test_a_path_means_the_same_columns_in_fit_predict_and_score(here, name):
    A, y = frame(here)
    model = LogisticRegression(backend="numpy").fit(name, y)
    table = pd.DataFrame(A, columns=["a", "b", "c"])
    np.testing.assert_array_equal(model.predict(name), model.predict(table))
    assert model.score(name, y) == model.score(table, y) > 0.85
    unnamed = LogisticRegression(backend="numpy").fit(A, y)
    np.testing.assert_array_equal(unnamed.predict(name), unnamed.predict(A))


def test_a_labelled_file_is_predicted_by_the_names_of_its_columns(here):
    frame(here)
    model = LogisticRegression(backend="numpy").fit("xy.csv", None)
    np.testing.assert_array_equal(model.predict("xy.csv"), model.predict("x.csv"))


def test_a_file_of_more_columns_than_the_model_is_refused(here):
    A, y = frame(here)
    model = LogisticRegression(backend="numpy").fit(A, y)
    with pytest.raises(ValueError, match="has no name, as the row numbers that pandas writes"):
        model.predict("with_index.csv")
    with pytest.raises(ValueError, match="X has 4 features"):
        model.predict("xy.csv")


def test_a_file_without_names_of_columns_is_not_read_by_half(here):
    text = "1.0,2.0,0\n2.0,1.0,1\n" * 20
    (here / "bare.csv").write_text(text)
    code, output = run("train", "--data", "bare.csv", "--backend", "numpy")
    assert code == 2
    assert "its first row holds numbers only" in output
    assert "--no-header" in output
    code, output = run("train", "bare.csv", "--no-header", "--backend", "numpy", "--out", "o")
    assert code == 0, output
    options = ("--model", "o/model.npz", "--data", "bare.csv", "--out", "p.csv", "--no-header")
    code, output = run("predict", *options)
    assert code == 0, output
    assert output.startswith("40 rows labelled")
    assert open_rows("bare.csv", header=False).shape == (40, 3)
    with pytest.raises(DataError, match="only a"):
        open_data(os.curdir, header=False)


def test_blanks_in_the_header_are_no_part_of_a_name(here):
    (here / "a.csv").write_text("a, b, y\n" + "1,2,0\n2,1,1\n" * 10)
    data = open_data("a.csv", target="y")
    assert data.feature_names == ("a", "b")
    assert data.X.shape == (20, 2)


def test_tabs_get_the_hint_that_semicolons_get(here):
    for mark in ("\t", ";", "|"):
        (here / "a.csv").write_text(f"a{mark}b{mark}y\n" + f"1{mark}2{mark}0\n" * 4)
        with pytest.raises(DataError, match="separate columns by commas"):
            open_data("a.csv")


def test_a_quotation_mark_that_is_not_closed_is_named(here):
    (here / "a.csv").write_text('x,y\n1,"a\n2,b\n3,a\n')
    with pytest.raises(DataError, match="not closed"):
        open_data("a.csv")


@pytest.mark.parametrize("member", ["X", "y"])
def test_members_of_an_npz_that_are_no_arrays(here, member):
    np.savez("a.npz", X=np.zeros((4, 2)), y=np.arange(4) % 2)
    with zipfile.ZipFile("a.npz") as old, zipfile.ZipFile("b.npz", "w") as new:
        for name in old.namelist():
            is_text = name == f"{member}.npy"
            new.writestr(member if is_text else name, b"text" if is_text else old.read(name))
    code, output = run("train", "--data", "b.npz")
    assert code == 2
    assert f"its member '{member}' is no array" in output


def test_without_the_compiler_of_numba_row_blocks_run(here):
    code = (
        "import numpy as np; from accel import LogisticRegression;"
        "X = np.random.default_rng(0).normal(size=(200_000, 40));"
        "print(LogisticRegression(backend='numpy').fit(X, X[:, 0] > 0.1 * X[:, 1]).status_.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
