"""What goes wrong with a source: one sentence with the file and the row, and never a crash."""

from __future__ import annotations

import contextlib
import errno
import gc
import os

import numpy as np
import pytest

from accel.sources import DataError, as_source, open_data, take

X = np.arange(60.0).reshape(20, 3)
Y = np.arange(20) % 2


@pytest.fixture
def npy(tmp_path):
    np.save(tmp_path / "X.npy", X)
    return tmp_path / "X.npy"


@pytest.fixture
def shards(tmp_path):
    for place, rows in (("2", slice(0, 8)), ("10", slice(8, 20))):
        np.save(tmp_path / f"X_{place}.npy", X[rows])
        np.save(tmp_path / f"Y_{place}.npy", Y[rows])
    return tmp_path


def parquet_file(path, columns, **options):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns), path, **options)
    return path


def block(source, start, stop):
    return np.empty((stop - start, source.shape[1]), source.dtype)


def read(source, start, stop):
    out = block(source, start, stop)
    source.reader()(slice(start, stop), out)
    return out


def one_sentence(caught, *parts):
    assert "\n" not in str(caught.value)
    for part in parts:
        assert str(part) in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.empty((0, 3)), r"shape \(0, 3\), \(n_samples, n_features\) is needed"),
        (np.empty((3, 0)), r"shape \(3, 0\), \(n_samples, n_features\) is needed"),
        (np.empty(3), r"shape \(3,\), \(n_samples, n_features\) is needed"),
        (np.array(1.0), r"shape \(\), \(n_samples, n_features\) is needed"),
        (X.astype(complex), "complex128 values, numbers are needed"),
        (X.astype(str), "numbers are needed"),
        (X.astype("datetime64[s]"), "numbers are needed"),
        (X.view([("a", "f8")]), "numbers are needed"),
    ],
)
def test_arrays_that_are_no_matrix_of_numbers(values, message, tmp_path):
    for name in ("X.npy", "X_1.npy"):
        np.save(tmp_path / name, values)
        with pytest.raises(DataError, match=message) as caught:
            as_source(tmp_path / name)
        one_sentence(caught, tmp_path / name)
    (tmp_path / "X.npy").unlink()
    with pytest.raises(DataError, match=message):
        open_data(tmp_path)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_objects_without_rows_or_columns(shape):
    class Rows:
        dtype = np.dtype(float)

        def __getitem__(self, rows):
            raise AssertionError

    Rows.shape = shape
    with pytest.raises(DataError, match="is needed") as caught:
        as_source(Rows())
    one_sentence(caught, "Rows")


def test_no_pickle_is_loaded(tmp_path):
    np.save(tmp_path / "X.npy", np.array([[{}], [{}]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="Python objects"):
        as_source(tmp_path / "X.npy")


BAD = {
    "missing.npy": (None, "does not exist"),
    "d.txt": (b"hello", "is not read by blocks"),
    "d.npz": (b"PK", "is not read by blocks"),
    "empty.npy": (b"", "is not a NumPy file"),
    "text.npy": (b"hello world", "is not a NumPy file"),
    "cut.npy": (b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order'", "is not a NumPy file"),
    "empty.csv": (b"", "is not a .csv table"),
    "ragged.csv": (b"a,b\n1,2\n3\n", "is not a .csv table"),
    "text.csv": (b"a,b\n1,0\ntwo,1\n", "column 'a' holds the text 'two' in row 2"),
    "spaces.csv": (b"a,b\n 1,0\ntwo,1\n", "column 'a' holds the text 'two' in row 2"),
    "gap.csv": (b"a,b\n1,0\n,1\n", "column 'a': row 2 is empty"),
    "nolabel.csv": (b"a,b\n1,\n2,1\n", "target 'b' has 1 empty"),
    "one.csv": (b"a\n1\n2\n", "no column beside the target"),
    "semicolons.csv": (b"x;z;y\n1;2;0\n", "separate columns by commas"),
    "twice.csv": (b"x,x,y\n1,2,0\n", "two columns named 'x'"),
    "header.csv": (b"x,y\n", "a header but no rows"),
    "underscore.csv": (b"x,y\n1,0\n1_000,1\n", "holds the text '1_000' in row 2"),
    "latin.csv": (b"x,y\n1,caf\xe9\n", "is not text in UTF-8"),
    "latin_feature.csv": (b"x,y\ncaf\xe9,1\n", "cannot be read from row 1 on"),
    "latin_header.csv": (b"caf\xe9,y\n1,1\n", "is not a .csv table"),
    "date.csv": (b"a,b\n2020-01-01,0\n2020-01-02,1\n", "column 'a' holds"),
    "empty.parquet": (b"", "cannot be read"),
    "text.parquet": (b"hello world, hello world", "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_get_one_sentence(tmp_path, name):
    content, message = BAD[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        take(open_data(tmp_path / name).X, slice(None))
    one_sentence(caught, tmp_path / name)


def test_a_file_that_was_cut_off_names_the_first_missing_row(npy):
    size = npy.stat().st_size
    for n_bytes, row in ((1, 19), (24, 19), (25, 18), (480, 0)):
        np.save(npy, X)
        os.truncate(npy, size - n_bytes)
        with pytest.raises(DataError, match=rf"cut off: X\[{row}\] of 20 rows") as caught:
            as_source(npy)
        one_sentence(caught, npy)


def test_a_file_that_shrinks_during_a_pass(npy):
    source = as_source(npy)
    read_rows, out = source.reader(), block(source, 0, 10)
    read_rows(slice(0, 10), out)
    os.truncate(npy, npy.stat().st_size - 3 * 24 - 1)
    with pytest.raises(
        DataError, match=r"X\[16\] is missing, the file has become shorter"
    ) as caught:
        read_rows(slice(10, 20), out)
    one_sentence(caught, npy)


def test_a_memory_map_whose_file_shrinks_is_no_bus_error(npy):
    source = as_source(np.load(npy, mmap_mode="r")[4:])
    os.truncate(npy, npy.stat().st_size - 24)
    with pytest.raises(DataError, match=r"X\[15\] is missing"):
        read(source, 0, 16)


@pytest.mark.parametrize("function", ["preadv", "pread"])
def test_an_error_of_the_disk_names_file_and_row(function, npy, monkeypatch):
    if function == "pread":
        monkeypatch.delattr(os, "preadv")
    real = getattr(os, function)

    def fails_at_row_7(descriptor, what, position):
        if position >= npy.stat().st_size - 480 + 7 * 24:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        whole_rows = [what[0][:24]] if function == "preadv" else 24
        return real(descriptor, whole_rows, position)

    source = as_source(npy)
    monkeypatch.setattr(os, function, fails_at_row_7)
    assert (read(source, 3, 7) == X[3:7]).all()
    with pytest.raises(DataError, match=r"X\[7\] cannot be read \(Input/output error\)") as caught:
        read(source, 3, 9)
    one_sentence(caught, npy)


def rewritten(path):
    path.write_bytes(path.read_bytes() + b" ")


def touched(path):
    os.utime(path, ns=(0, 1))


def replaced(path):
    stat = path.stat()
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").rename(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("change", [rewritten, touched, replaced])
@pytest.mark.parametrize("kind", ["npy", "shard", "csv", "parquet"])
def test_a_file_that_changes_between_passes(kind, change, tmp_path):
    path = tmp_path / {"npy": "X.npy", "shard": "X_1.npy"}.get(kind, f"d.{kind}")
    if kind == "csv":
        path.write_text("a,y\n1,0\n2,1\n")
    elif kind == "parquet":
        parquet_file(path, {"a": [1.0, 2.0], "y": [0, 1]})
    else:
        np.save(path, X)
    source = as_source(tmp_path if kind == "shard" else path)
    before = source.identity()
    assert len(take(source, slice(0, 2))) == 2
    change(path)
    with pytest.raises(DataError, match="has changed since it was opened") as caught:
        source.reader()
    one_sentence(caught, path)
    if change is touched:
        assert as_source(tmp_path if kind == "shard" else path).identity() != before


def test_a_file_that_is_gone(npy, tmp_path):
    source = as_source(npy)
    npy.unlink()
    with pytest.raises(DataError, match="cannot be read: No such file") as caught:
        source.reader()
    one_sentence(caught, npy)
    with pytest.raises(DataError, match=r"holds no X.npy, no X\*.npy and no \*.parquet"):
        open_data(tmp_path)


SHARDS = {
    "width": ("X_10.npy", X[:12, :2], "X_10.npy holds float64 rows of shape"),
    "dtype": ("X_10.npy", X[:12].astype("f4"), "X_10.npy holds float32 rows"),
    "labels": ("Y_10.npy", Y[:11], "Y_10.npy holds 11 labels but its shard of X 12 rows"),
    "one-hot": ("Y_10.npy", np.eye(3)[Y[:12]], "Y_10.npy holds labels of shape"),
    "not one-hot": ("Y_10.npy", np.ones((12, 2)), "Y_10.npy: the target has shape"),
    "weights": ("W_10.npy", np.ones(12), "W_2.npy does not exist: X_2.npy needs it"),
}


@pytest.mark.parametrize("fault", SHARDS)
def test_shards_that_do_not_fit(fault, shards):
    name, values, message = SHARDS[fault]
    np.save(shards / name, values)
    with pytest.raises(DataError, match=message) as caught:
        open_data(shards)
    one_sentence(caught, shards)


def test_a_shard_without_labels_and_one_cut_off(shards):
    (shards / "Y_2.npy").unlink()
    with pytest.raises(DataError, match=r"Y_2.npy does not exist: X_2.npy needs it"):
        open_data(shards)
    os.truncate(shards / "X_10.npy", 128 + 5 * 24)
    with pytest.raises(DataError, match=r"X_10.npy is cut off: X\[5\] of 12 rows is missing"):
        open_data(shards)


def test_a_shard_that_shrinks_during_a_pass(shards):
    source = as_source(shards)
    read_rows = source.reader()
    os.truncate(shards / "X_10.npy", 128 + 5 * 24)
    read_rows(slice(0, 8), block(source, 0, 8))
    with pytest.raises(DataError, match=r"X_10.npy"):
        read_rows(slice(6, 20), block(source, 6, 20))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("Y", Y[:3], "X has 20 rows but the target has 3"),
        ("Y", np.ones((20, 2)), "not one-hot"),
        ("Y", np.ones((20, 2, 2)), "one label a row"),
        ("W", np.ones(3), "X has 20 rows but the weights have shape"),
        ("W", np.ones(20).astype(str), "the weights are <U32 values"),
    ],
)
def test_labels_and_weights_that_do_not_fit(name, values, message, npy):
    np.save(npy.with_name(f"{name}.npy"), values)
    with pytest.raises(DataError, match=message):
        open_data(npy)
    with pytest.raises(DataError, match=r"nowhere.npy does not exist: target must be"):
        open_data(npy, target=str(npy.with_name("nowhere.npy")))


class Faulty:
    shape, dtype = (20, 3), np.dtype(float)

    def __init__(self, answer):
        self._answer = answer

    def __getitem__(self, rows):
        return self._answer(rows)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda rows: X[rows, :2], r"Faulty: X\[4:9\] has shape \(5, 2\), not \(5, 3\)"),
        (lambda rows: X[rows][1:], r"has shape \(4, 3\)"),
        (lambda rows: 1 / 0, r"Faulty: X\[4:9\] cannot be read \(division by zero\)"),
        (lambda rows: np.full((5, 3), "a"), r"Faulty: X\[4:9\] cannot be read"),
    ],
)
def test_objects_that_answer_wrongly(answer, message):
    with pytest.raises(DataError, match=message):
        read(as_source(Faulty(answer)), 4, 9)


def test_a_closed_hdf5_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        source = as_source(file.create_dataset("X", data=X))
    with pytest.raises(DataError, match=r"h5py.Dataset /X: X\[0:4\] cannot be read"):
        read(source, 0, 4)


def test_a_wrong_out_is_refused(npy):
    source = as_source(npy)
    for out in (np.empty((3, 3)), np.empty((4, 3), "f4"), np.empty((3, 4)).T):
        with pytest.raises(ValueError, match=r"out is .* need float64 \(4, 3\)"):
            source.reader()(slice(0, 4), out)
    with pytest.raises(ValueError, match="step must be positive"):
        take(source, slice(None, None, -1))


def test_no_file_stays_open(shards):
    pytest.importorskip("pyarrow")
    csv = shards / "d.csv"
    csv.write_text("a,y\n" + 20 * "1,0\n")
    gc.collect()  # what other tests left
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None
    for path in (shards / "X_2.npy", shards, csv):
        source = as_source(path)
        source.reader()(slice(0, 3), block(source, 0, 3))
        take(source, slice(0, 20, 3))
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before


def test_more_shards_than_a_reader_holds_open(tmp_path):
    for place in range(150):
        np.save(tmp_path / f"X{place}.npy", np.full((2, 1), place))
    source = as_source(tmp_path)
    assert take(source, slice(None)).ravel().tolist() == sorted(2 * list(range(150)))


def test_damaged_headers_never_crash(npy):
    """Cuts and flips in the header: a source or a DataError, nothing else."""
    rng, good = np.random.default_rng(0), npy.read_bytes()
    for trial in range(300):
        damaged = bytearray(good[: rng.integers(len(good))] if trial % 3 == 0 else good)
        for position in rng.integers(0, max(1, min(90, len(damaged))), 1 + trial % 3):
            if damaged:
                damaged[position] = rng.integers(256)
        npy.write_bytes(damaged)
        with contextlib.suppress(DataError):
            source = as_source(npy)
            assert take(source, slice(None)).shape == source.shape
