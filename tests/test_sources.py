"""Every kind of source gives the rows of the array in memory, however they are cut and read."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ml_dtypes import bfloat16
from numpy.lib import format as npy_format

from accel import LogisticRegression, datasets, sources
from accel.sources import DataError, as_source, close, open_data, open_rows, take

STORED = ("float64", "float32", "float16", "uint8", "int8")
CONVERTED = ("int64", "int16", "uint32", "bool", ">f8", ">i4", "longdouble")


def save_npy(folder, X):
    np.save(folder / "X.npy", X)
    return folder / "X.npy"


def save_shards(folder, X):
    """Cut at every third row, with a shard without rows among them."""
    cuts = list(range(0, len(X), 3))
    for place, start in enumerate(cuts):
        np.save(folder / f"X_{place + 1}.npy", X[start : start + 3])
    np.save(folder / "X_2_empty.npy", X[:0])
    return folder


def save_parquet(folder, X):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {f"c{j}": X[:, j] for j in range(X.shape[1])} | {"y": np.arange(len(X)) % 2}
    pq.write_table(pa.table(columns), folder / "d.parquet", row_group_size=5)
    return folder / "d.parquet"


def save_parquets(folder, X):
    """Two files whose names sort otherwise as text."""
    for name, rows in (("p2.parquet", X[: len(X) // 2]), ("p10.parquet", X[len(X) // 2 :])):
        save_parquet(folder, rows).rename(folder / name)
    return folder


def save_csv(folder, X):
    pytest.importorskip("pyarrow")
    lines = [",".join([*(f"c{j}" for j in range(X.shape[1])), "y"])]
    lines += [",".join([*(repr(float(v)) for v in row), str(i % 2)]) for i, row in enumerate(X)]
    (folder / "d.csv").write_text("\n".join(lines) + "\n")
    return folder / "d.csv"


def memory_map(folder, X):
    return np.load(save_npy(folder, X), mmap_mode="r")


def copy_on_write(folder, X):
    return np.load(save_npy(folder, X), mmap_mode="c")


class Rows:
    """What h5py.Dataset has, and nothing more."""

    def __init__(self, X):
        self._X, self.shape, self.dtype = X, X.shape, X.dtype

    def __getitem__(self, rows):
        return self._X[rows].tolist() if self._X.dtype.kind in "bi" else self._X[rows]


def hdf5(folder, X):
    h5py = pytest.importorskip("h5py")
    return h5py.File(folder / "d.h5", "w").create_dataset("X", data=X)


def zarr_array(folder, X):
    zarr = pytest.importorskip("zarr")
    made = zarr.create_array(folder / "d.zarr", shape=X.shape, dtype=X.dtype, chunks=(4, 2))
    made[:] = X
    return made


KINDS = {
    "npy": save_npy,
    "shards": save_shards,
    "parquet": save_parquet,
    "parquets": save_parquets,
    "csv": save_csv,
    "memmap": memory_map,
    "copy on write": copy_on_write,
    "object": lambda _, X: Rows(X),
    "hdf5": hdf5,
    "zarr": zarr_array,
}
OF_ARRAYS = [kind for kind in KINDS if kind not in ("parquet", "parquets", "csv")]


def matrix(rng, shape=(23, 5), dtype="float64"):
    return (rng.standard_normal(shape) * 50).astype(dtype)


def cuts(n, size):
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def read_all(source, blocks, threads=1):
    """The rows of one pass, each block read by whichever thread is free."""
    read = source.reader()

    def one(rows):
        out = np.empty((rows.stop - rows.start, source.shape[1]), source.dtype)
        read(rows, out)
        return out

    try:
        with ThreadPoolExecutor(threads) as pool:
            return np.concatenate(list(pool.map(one, blocks)))
    finally:
        close(read)


def same(left, right):
    return left.dtype == right.dtype and left.shape == right.shape and (left == right).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_rows_of_the_array(kind, tmp_path, rng):
    X = matrix(rng)
    source = as_source(KINDS[kind](tmp_path, X))
    assert sources.is_source(source)
    assert as_source(source) is source
    assert source.shape == X.shape
    assert source.dtype == np.float64
    assert source.is_random == (kind not in ("parquet", "parquets", "csv"))
    for size in (1, 7, 23):
        for threads in (1, 4):
            assert same(read_all(source, cuts(23, size), threads), X)
    for rows in (slice(None), slice(3, 20, 4), slice(22, None), slice(5, 5), slice(0, 23, 100)):
        assert same(take(source, rows), X[rows])
    assert source.identity() == source.identity()
    assert str(tmp_path) in source.identity() or kind in ("copy on write", "object", "zarr")


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (9, 1), (2, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_few_rows_and_few_columns(kind, shape, tmp_path, rng):
    if shape[0] == 1 and kind == "parquets":
        pytest.skip("one row makes one file")
    X = matrix(rng, shape)
    assert same(take(as_source(KINDS[kind](tmp_path, X)), slice(None)), X)


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "csv"])
def test_stored_dtypes_are_read_as_they_lie(kind, dtype, tmp_path, rng):
    X = matrix(rng, dtype=dtype)
    source = as_source(KINDS[kind](tmp_path, X))
    assert source.dtype == X.dtype
    assert same(read_all(source, cuts(23, 7), threads=3), X)


@pytest.mark.parametrize("dtype", CONVERTED)
@pytest.mark.parametrize("kind", OF_ARRAYS)
def test_other_dtypes_become_float64(kind, dtype, tmp_path, rng):
    if (kind, dtype) in (("zarr", "longdouble"), ("zarr", ">i4"), ("zarr", ">f8")):
        pytest.skip("zarr holds no such arrays, or makes them native")
    X = matrix(rng, dtype=dtype)
    assert same(take(as_source(KINDS[kind](tmp_path, X)), slice(None)), X.astype(np.float64))


def test_parquet_columns_of_many_types_become_float64(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {
        "a": pa.array([1, 2, 2**60 + 1], pa.int64()),
        "b": pa.array([True, False, True]),
        "c": pa.array([1.5, 2.5, 3.5], pa.float32()),
        "d": pa.array([1, 2, 3], pa.decimal128(5, 2)),
        "kind": pa.array(["x", "y", "x"]).dictionary_encode(),
    }
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    data = open_data(tmp_path / "d.parquet")
    assert take(data.X, slice(None)).tolist() == [
        [1, 1, 1.5, 1],
        [2, 0, 2.5, 2],
        [2.0**60, 1, 3.5, 3],
    ]
    assert data.y.tolist() == ["x", "y", "x"]
    assert data.feature_names == data.X.feature_names == ("a", "b", "c", "d")


def test_big_endian_float32_stays_float32(tmp_path, rng):
    X = matrix(rng, dtype=">f4")
    assert same(take(as_source(save_npy(tmp_path, X)), slice(None)), X.astype(np.float32))


def test_bfloat16_is_read_as_it_lies(tmp_path, rng):
    X = matrix(rng, dtype=bfloat16)
    mapped = np.memmap(tmp_path / "raw", dtype=bfloat16, mode="w+", shape=X.shape)
    mapped[:] = X
    for source in (as_source(mapped), as_source(Rows(X))):
        assert source.dtype == bfloat16
        assert same(read_all(source, cuts(23, 7), threads=2), X)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_versions_of_npy(version, tmp_path, rng):
    X = matrix(rng)
    with open(tmp_path / "X.npy", "wb") as file:
        npy_format.write_array(file, X, version=version)
    assert same(take(as_source(tmp_path / "X.npy"), slice(None)), X)


VIEWS = {
    "all": lambda m: m,
    "[:, :]": lambda m: m[:, :],
    "rows": lambda m: m[10:20],
    "rows of rows": lambda m: m[5:][3:],
    "one row": lambda m: m[-1:],
    "columns": lambda m: m[:, 1:3],
    "every other": lambda m: m[::2],
    "backwards": lambda m: m[::-1],
    "transposed": lambda m: m.T,
    "reshaped": lambda m: m[1:].reshape(22, 5, 1),
    "images": lambda m: m[:20].reshape(4, 5, 5)[1:],
}


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("offset", [0, 24, 2 * 4096 + 8])
@pytest.mark.parametrize("view", VIEWS)
def test_views_of_memory_maps(view, offset, mode, tmp_path, rng):
    X = matrix(rng)
    (tmp_path / "raw").write_bytes(bytes(offset) + X.tobytes() + b"tail")
    mapped = np.memmap(tmp_path / "raw", X.dtype, mode, offset, X.shape)
    part = VIEWS[view](mapped)
    wanted = np.array(VIEWS[view](X))
    wanted = wanted.reshape(len(wanted), -1)
    source = as_source(part)
    assert same(take(source, slice(None)), wanted)
    is_read_in_place = mode != "c" and part.flags.c_contiguous
    assert (type(source).__name__ == "FileSource") == is_read_in_place


def test_a_memory_map_that_is_written_to_is_read_as_it_is(tmp_path, rng):
    mapped = np.memmap(tmp_path / "raw", np.float64, "w+", shape=(6, 2))
    source = as_source(mapped)
    mapped[:] = matrix(rng, (6, 2))
    assert same(take(source, slice(None)), np.array(mapped))


def test_a_memory_map_of_a_deleted_file_is_sliced(tmp_path, rng):
    X = matrix(rng)
    mapped = memory_map(tmp_path, X)
    (tmp_path / "X.npy").unlink()
    assert same(take(as_source(mapped), slice(None)), X)


def test_what_is_held_in_memory_is_no_source(rng):
    pandas, dask = pytest.importorskip("pandas"), pytest.importorskip("dask.array")
    strict, sparse = pytest.importorskip("array_api_strict"), pytest.importorskip("scipy.sparse")
    X = matrix(rng)
    held = [X, X.tolist(), X[0, 0], pandas.DataFrame(X), pandas.Series(X[0]), sparse.csr_array(X)]
    held += [dask.from_array(X), strict.asarray(X), np.ma.array(X), None, object(), b"text"]
    for values in held:
        assert as_source(values) is None


def test_images_are_rows(tmp_path, rng):
    X = matrix(rng, (6, 3, 4), "uint8")
    for save in (save_npy, save_shards, memory_map, hdf5):
        (tmp_path / save.__name__).mkdir()
        source = as_source(save(tmp_path / save.__name__, X))
        assert same(take(source, slice(None)), X.reshape(6, 12))
    assert open_data(tmp_path / "save_npy").image_shape == (3, 4)
    assert open_data(tmp_path / "save_shards").image_shape == (3, 4)


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("letter", ["Y", "y"])
def test_labels_and_weights_beside_the_rows(letter, one_hot, tmp_path, rng):
    X, y, w = matrix(rng), rng.integers(0, 3, 23), rng.random(23).astype("float32")
    stored = np.eye(3, dtype="uint8")[y] if one_hot else y
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
    for name, values in (("X", X), (letter, stored), ("w", w)):
        np.save(whole / f"{name}.npy", values)
        for place, rows in ((2, slice(0, 9)), (10, slice(9, 23))):
            np.save(cut / f"{name}_{place}.npy", values[rows])
    for path in (whole, whole / "X.npy", cut, str(cut)):
        data = open_data(path)
        assert same(take(data.X, slice(None)), X)
        assert (data.y == y).all()
        assert data.y.dtype == np.int64
        assert same(data.sample_weight, w.astype(np.float64))
        assert data.name == str(path)
    other = str(whole / f"{letter}.npy")
    assert (open_data(cut, target=other, weight=str(whole / "w.npy")).y == y).all()


def test_labels_and_weights_in_a_table(tmp_path):
    (tmp_path / "d.csv").write_text("a,w,kind,b\n1,2,x,true\n3,0.5,y,false\n5, 1,x,true\n")
    data = open_data(tmp_path / "d.csv", target="kind", weight="w")
    assert take(data.X, slice(None)).tolist() == [[1, 1], [3, 0], [5, 1]]
    assert data.y.tolist() == ["x", "y", "x"]
    assert data.sample_weight.tolist() == [2, 0.5, 1]
    assert data.feature_names == ("a", "b")
    assert take(open_rows(tmp_path / "d.csv", ["w", "a"]), slice(1, 2)).tolist() == [[0.5, 3]]
    for text, labels in (
        ("1,0,7", [1, 0, 7]),
        ("1.5,2,0", ["1.5", "2", "0"]),
        ("true,false,true", ["true", "false", "true"]),
    ):
        rows = "\n".join(f"0,{label}" for label in text.split(","))
        (tmp_path / "l.csv").write_text(f"a,y\n{rows}\n")
        data, held = open_data(tmp_path / "l.csv"), datasets.load(tmp_path / "l.csv")
        assert data.y.tolist() == held.y.tolist() == labels
        assert data.y.dtype == held.y.dtype


def test_the_index_of_pandas_is_no_column(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "y": [0, 1]}, index=[7, 9])
    frame.to_parquet(tmp_path / "d.parquet")
    data = open_data(tmp_path / "d.parquet")
    assert data.feature_names == ("a",)
    assert data.y.tolist() == [0, 1]


def test_a_csv_of_many_blocks_reads_like_one_in_memory(tmp_path, rng):
    """Several blocks of the parser, and reads that match neither them nor each other."""
    X = matrix(rng, (120_000, 3)).round(6)
    pytest.importorskip("pandas").DataFrame({"a": X[:, 0], "b": X[:, 1], "y": X[:, 2]}).to_csv(
        tmp_path / "d.csv", index=False
    )
    data, held = open_data(tmp_path / "d.csv"), datasets.load(tmp_path / "d.csv")
    assert (tmp_path / "d.csv").stat().st_size > 2**21
    assert same(read_all(data.X, cuts(120_000, 7777), threads=3), held.X)
    assert same(data.y, held.y)


@pytest.mark.parametrize("kind", ["npy", "shards", "parquet", "csv"])
@given(sizes=st.lists(st.integers(1, 9), min_size=1), threads=st.integers(1, 3))
def test_any_cut_gives_the_same_rows(kind, tmp_path_factory, sizes, threads):
    folder = tmp_path_factory.getbasetemp() / kind
    X = np.arange(60.0).reshape(20, 3)
    if not folder.exists():
        folder.mkdir()
        KINDS[kind](folder, X)
    path = folder if kind == "shards" else next(folder.iterdir())
    source, ends = as_source(path), np.minimum(np.cumsum([0, *sizes, 20]), 20)
    blocks = [slice(int(a), int(b)) for a, b in pairwise(ends) if a < b]
    assert same(read_all(source, blocks, threads), X)


@given(start=st.integers(0, 25), stop=st.integers(0, 25), step=st.integers(1, 30))
def test_any_stride_gives_the_rows_of_the_array(tmp_path_factory, start, stop, step):
    """Rows of 80 KiB are far apart, rows of 24 bytes are not."""
    folder = tmp_path_factory.getbasetemp()
    for name, width in (("near.npy", 3), ("far.npy", 10_000)):
        if not (folder / name).exists():
            np.save(folder / name, np.arange(20.0 * width).reshape(20, width))
        wanted = np.load(folder / name)[start:stop:step]
        assert same(take(as_source(folder / name), slice(start, stop, step)), wanted)


@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_a_pass_holds_no_more_than_its_blocks(dtype, tmp_path):
    X = np.lib.format.open_memmap(tmp_path / "X.npy", "w+", dtype, (2**26 // 512, 64))
    X.flush()
    del X
    source = as_source(tmp_path / "X.npy")
    out = np.empty((2**20 // 512, 64), source.dtype)
    tracemalloc.start()
    read = source.reader()
    for rows in cuts(source.shape[0], len(out)):
        read(rows, out)
    assert take(source, slice(0, None, 1000)).shape == (132, 64)
    assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    tracemalloc.stop()


def test_one_hot_labels_are_never_whole_in_memory(tmp_path):
    """20 MB of one-hot labels, which would be 160 MB in float64."""
    np.save(tmp_path / "X.npy", np.zeros((200_000, 1), "uint8"))
    np.save(tmp_path / "Y.npy", np.eye(100, dtype="uint8")[np.arange(200_000) % 100])
    tracemalloc.start()
    assert (open_data(tmp_path).y == np.arange(200_000) % 100).all()
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()


def test_the_sign_digits_are_known_as_a_source_too(tmp_path):
    column = np.arange(2062) % 10
    np.save(tmp_path / "X_1.npy", np.zeros((2000, 64, 64), "uint8"))
    np.save(tmp_path / "X_2.npy", np.zeros((62, 64, 64), "uint8"))
    np.save(tmp_path / "Y_1.npy", np.eye(10)[column[:2000]])
    np.save(tmp_path / "Y_2.npy", np.eye(10)[column[2000:]])
    for data in (open_data(tmp_path), datasets.load_sign_digits(tmp_path)):
        assert data.name == datasets.SIGN_NAME
        assert (data.y == datasets.SIGN_DIGIT_OF_COLUMN[column]).all()
        assert data.image_shape == (64, 64)


@pytest.mark.parametrize("save", [save_shards, save_parquet, save_parquets])
def test_what_is_read_by_blocks_loads_whole(save, tmp_path, rng):
    X = matrix(rng)
    path = save(tmp_path, X)
    if save is save_shards:
        assert datasets.load(path).y is None
        assert same(take(datasets.rows(path), slice(None)), X)
        return
    data = datasets.load(Path(path))
    assert same(data.X, X)
    assert len(data.y) == 23
    assert data.feature_names == tuple(f"c{j}" for j in range(5))
    assert same(take(datasets.rows(path, ["c3", "c0"]), slice(None)), X[:, [3, 0]])
    with pytest.raises(DataError, match="no column 'z'"):
        datasets.rows(path, ["z"])


@pytest.mark.parametrize("shape", [(7, 5), (7, 2, 3), (5, 2, 3, 4)])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_files_in_fortran_order_give_the_same_rows(tmp_path, rng, shape, dtype):
    X = (10 * rng.normal(size=shape)).astype(dtype)
    np.save(tmp_path / "X.npy", np.asfortranarray(X))
    source = as_source(tmp_path / "X.npy")
    wanted = X.reshape(len(X), -1).astype(source.dtype)
    assert same(take(source, slice(None)), wanted)
    assert same(take(source, slice(2, 5)), wanted[2:5])


def test_a_wrapper_that_delegates_is_a_source_and_a_frame_with_such_columns_is_none(rng):
    """Python 3.12 looks for a protocol's members past __getattr__; frames answer with columns."""

    class Wrapper:
        def __init__(self, source):
            self._source = source

        def __getattr__(self, name):
            return getattr(self._source, name)

    wrapper = Wrapper(sources.ArraySource(matrix(rng)))
    assert as_source(wrapper) is wrapper
    frame = pandas.DataFrame(rng.normal(size=(20, 2)), columns=["reader", "identity"])
    assert as_source(frame) is None
    model = LogisticRegression(backend="numpy").fit(frame, np.arange(20) % 2)
    assert model.predict(frame).shape == (20,)
