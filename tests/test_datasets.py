from __future__ import annotations

import contextlib

import numpy as np
import pytest

from accel import datasets
from accel.datasets import SIGN_SHAPE, DataError, load, rows
from accel.sources import take

X = np.arange(12.0).reshape(4, 3)
Y = np.array([0, 1, 0, 1])


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", Y)
    return tmp_path


def test_npy_pair_by_folder_and_by_file(folder):
    for path in (folder, folder / "X.npy"):
        data = load(path)
        assert (data.X == X).all()
        assert (data.y == Y).all()
    np.save(folder / "other.npy", Y[::-1])
    assert (load(folder / "X.npy", str(folder / "other.npy")).y == Y[::-1]).all()


def test_images_are_flattened_and_one_hot_becomes_columns(tmp_path):
    np.save(tmp_path / "X.npy", np.ones((3, 4, 5), dtype=np.uint8))
    np.save(tmp_path / "Y.npy", np.eye(3)[[2, 0, 1]])
    data = load(tmp_path)
    assert data.X.shape == (3, 20)
    assert data.X.dtype == np.uint8
    assert data.image_shape == (4, 5)
    assert data.y.tolist() == [2, 0, 1]


def test_npz(tmp_path):
    path = tmp_path / "d.npz"
    np.savez(path, X=X, y=Y, other=Y[::-1])
    assert (load(path).y == Y).all()
    assert (load(path, "other").y == Y[::-1]).all()
    with pytest.raises(DataError, match="no array 'z', it holds X, y, other"):
        load(path, "z")


def test_csv(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("a,b,kind\n1,2.5,x\n3,4,y\n5,6,x\n")
    data = load(path)
    assert data.X.tolist() == [[1, 2.5], [3, 4], [5, 6]]
    assert data.y.tolist() == ["x", "y", "x"]
    assert data.feature_names == ("a", "b")
    assert take(rows(path, ["b", "a"]), slice(0, 1)).tolist() == [[2.5, 1]]
    path.write_text("a,kind,b\n1,0,2\n3,1,4\n")
    assert load(path, "kind").X.tolist() == [[1, 2], [3, 4]]


BAD = {
    "missing": (None, "does not exist"),
    "d.txt": (b"hello", "pass a folder"),
    "empty.npy": (b"", "is not a NumPy file"),
    "text.npy": (b"hello world", "is not a NumPy file"),
    "cut.npy": (b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order'", "is not a NumPy file"),
    "bad.npz": (b"PK\x03\x04 nothing", "is not a NumPy file"),
    "empty.csv": (b"", "is not a .csv table"),
    "ragged.csv": (b"a,b\n1,2\n3\n", "is not a .csv table"),
    "text.csv": (b"a,b\n1,0\ntwo,1\n", "column 'a' holds the text 'two'"),
    "gap.csv": (b"a,b\n1,0\n,1\n", "column 'a': row 2 is empty"),
    "nolabel.csv": (b"a,b\n1,\n2,1\n", "target 'b' has 1 empty"),
    "one.csv": (b"a\n1\n2\n", "no column beside the target"),
    "semicolons.csv": (b"x;z;y\n1;2;0\n", "separate columns by commas"),
    "nan.csv": (b"a,b\n1,0\nnan,1\n", "row 2 of column 'a' is nan"),
    "twice.csv": (b"x,x,y\n1,2,0\n", "two columns named 'x'"),
    "header.csv": (b"x,y\n", "a header but no rows"),
    "underscore.csv": (b"x,y\n1,0\n1_000,1\n", "holds the text '1_000' in row 2"),
    "wide.csv": ("x,y\n\uff11,1\n".encode(), "holds the text '\uff11'"),
    "latin.csv": (b"x,y\n1,caf\xe9\n", "is not text in UTF-8"),
    "latin_header.csv": (b"caf\xe9,y\n1,1\n", "is not a .csv table"),
    "date.csv": (b"a,b\n2020-01-01,0\n2020-01-02,1\n", "column 'a' holds"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_get_one_sentence(tmp_path, name):
    content, message = BAD[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("X_bad", "Y_bad", "message"),
    [
        (X.astype(str), Y, "numbers are needed"),
        (X.astype(complex), Y, "numbers are needed"),
        (X[:, 0], Y, "n_samples, n_features"),
        (X[:0], Y[:0], "n_samples, n_features"),
        (np.where(X == 4, np.inf, X), Y, r"X\[1, 1\] is inf"),
        (X, Y[:3], "X has 4 rows but the target has 3"),
        (X, np.ones((4, 2)), "not one-hot"),
        (X, np.ones((4, 2, 2)), "one label a row"),
    ],
)
def test_bad_arrays_get_one_sentence(tmp_path, X_bad, Y_bad, message):
    np.save(tmp_path / "X.npy", X_bad)
    np.save(tmp_path / "Y.npy", Y_bad)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_integers_beyond_float64_are_rounded(tmp_path):
    (tmp_path / "d.csv").write_text(f"x,y\n{2**60 + 1},0\n1,1\n")
    assert load(tmp_path / "d.csv").X[0, 0] == 2.0**60


def test_rows_to_label_need_no_labels(folder):
    np.save(folder / "X_new.npy", X[:2])
    assert rows(folder / "X_new.npy").shape == (2, 3)
    np.savez(folder / "d.npz", X=X)
    assert (rows(folder / "d.npz") == X).all()


def test_npz_named_npy_and_the_reverse(tmp_path):
    np.savez(tmp_path / "a.npz", X=X)
    (tmp_path / "a.npz").rename(tmp_path / "X.npy")
    with pytest.raises(DataError, match=r"several arrays: name it .npz"):
        load(tmp_path / "X.npy")
    np.save(tmp_path / "b.npy", X)
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with pytest.raises(DataError, match=r"single array: name it .npy"):
        load(tmp_path / "b.npz")


def test_only_the_one_hot_columns_of_the_sign_digits_are_translated(tmp_path):
    np.save(tmp_path / "X.npy", np.zeros(SIGN_SHAPE, dtype=np.uint8))
    column = np.arange(2062) % 10
    np.save(tmp_path / "Y.npy", np.eye(10)[column])
    assert (load(tmp_path).y == datasets.SIGN_DIGIT_OF_COLUMN[column]).all()
    np.save(tmp_path / "Y.npy", column)
    assert (load(tmp_path).y == column).all()


def test_no_pickle_is_loaded(tmp_path):
    np.save(tmp_path / "X.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "Y.npy", Y)
    with pytest.raises(DataError, match="plain arrays"):
        load(tmp_path)


def test_damaged_bytes_never_crash(tmp_path):
    """Every cut and many flips of a valid file: a dataset or a DataError, nothing else."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", X=X, y=Y)
    good = (tmp_path / "d.npz").read_bytes()
    for trial in range(300):
        damaged = bytearray(good[: rng.integers(len(good))] if trial % 2 else good)
        for position in rng.integers(0, max(1, len(damaged)), 4):
            if len(damaged):
                damaged[position] = rng.integers(256)
        (tmp_path / "bad.npz").write_bytes(bytes(damaged))
        with contextlib.suppress(DataError):
            load(tmp_path / "bad.npz")


def test_bundled_digits():
    data = datasets.load_digits()
    assert data.X.shape == (1797, 64)
    assert data.X.max() == 1
    assert data.image_shape == (8, 8)


def test_two_digits_takes_as_many_of_each():
    data = datasets.load_digits()
    pair = datasets.two_digits(data, (3, 7))
    n = len(pair.X) // 2
    assert pair.y.tolist() == [0] * n + [1] * n
    assert n == min((data.y == 3).sum(), (data.y == 7).sum())
    assert (pair.X[:n] == data.X[data.y == 3][:n]).all()
    for digits in ((3, 3), (3, 11)):
        with pytest.raises(DataError, match="two different digits"):
            datasets.two_digits(data, digits)


def test_sign_digits_rows_and_labels(sign_digits):
    data = datasets.load_sign_digits(sign_digits)
    pair = datasets.two_digits(data, (0, 1))
    raw = np.load(sign_digits / "X.npy").reshape(2062, -1)
    assert (np.concatenate([raw[204:409], raw[822:1027]]) == pair.X).all()
    starts = {9: 0, 0: 204, 7: 409, 6: 615, 1: 822, 8: 1028, 4: 1236, 3: 1443, 2: 1649, 5: 1855}
    assert all(np.flatnonzero(data.y == digit)[0] == row for digit, row in starts.items())


def test_sign_digits_refuses_other_folders(folder):
    with pytest.raises(DataError, match="does not hold the sign-language digits"):
        datasets.load_sign_digits(folder)
