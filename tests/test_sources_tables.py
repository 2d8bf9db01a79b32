"""Tables that go wrong far down or in a thread: the row is named, and nobody waits for ever."""

from __future__ import annotations

import importlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from accel import datasets
from accel.sources import DataError, as_source, close, open_data, open_rows, take
from tests.test_sources_faults import block, one_sentence, parquet_file


def test_text_far_down_a_csv_is_named_by_its_row(tmp_path):
    lines = [f"{i},{i}.5,0" for i in range(400_000)]
    lines[300_123] = "1,x1,0"
    (tmp_path / "d.csv").write_text("a,b,y\n" + "\n".join(lines))
    data = open_data(tmp_path / "d.csv")
    with pytest.raises(DataError, match=r"column 'b' holds the text 'x1' in row 300124"):
        take(data.X, slice(None, None, 1000))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0, None], "y": [0, 1]}, "column 'a': row 2 is empty"),
        ({"a": ["u", "v"], "y": [0, 1]}, "column 'a' holds string values"),
        ({"a": [None, None], "y": [0, 1]}, "column 'a': row 1 is empty"),
        ({"a": [[1], [2]], "y": [0, 1]}, "column 'a' holds list"),
        ({"a": [1, 2], "y": [None, 1]}, "target 'y' has 1 empty rows"),
        ({"y": [0, 1]}, "no column beside the target 'y'"),
    ],
)
def test_parquet_columns_that_are_no_numbers(columns, message, tmp_path):
    for path in (tmp_path / "d.parquet", tmp_path / "folder"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        parquet_file(path / "d.parquet" if path.is_dir() else path, columns)
        with pytest.raises(DataError, match=message) as caught:
            take(open_data(path).X, slice(None))
        one_sentence(caught, "d.parquet")


def test_a_gap_far_down_the_second_parquet_file(tmp_path):
    values = np.arange(100_000.0)
    parquet_file(tmp_path / "p1.parquet", {"a": values, "y": values})
    parquet_file(tmp_path / "p2.parquet", {"a": [*values[:-1], None], "y": values})
    with pytest.raises(DataError, match=r"p2.parquet, column 'a': row 100000 is empty"):
        take(open_data(tmp_path).X, slice(None))


def test_parquet_files_of_other_columns(tmp_path):
    parquet_file(tmp_path / "p1.parquet", {"a": [1.0], "y": [0]})
    parquet_file(tmp_path / "p2.parquet", {"b": [1.0], "y": [0]})
    with pytest.raises(DataError, match=r"p2.parquet has no column 'a'"):
        open_data(tmp_path)
    with pytest.raises(DataError, match="no column beside the target"):
        open_data(parquet_file(tmp_path / "w.parquet", {"w": [1.0]}), weight="w")
    for given in ({"target": "z"}, {"weight": "z"}):
        with pytest.raises(DataError, match="has no column 'z' for"):
            open_data(tmp_path / "p1.parquet", **given)
    with pytest.raises(DataError, match="no column 'z': the model needs it"):
        open_rows(tmp_path / "p1.parquet", np.array(["a", "z"]))  # as fitted models hold them


def test_a_damaged_page_of_parquet_is_an_error_of_that_file(tmp_path):
    path = parquet_file(
        tmp_path / "d.parquet",
        {"a": np.random.default_rng(0).random(50_000), "y": np.zeros(50_000)},
        compression="gzip",
    )
    content = bytearray(path.read_bytes())
    content[200_000:200_400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read") as caught:
        take(open_data(path).X, slice(None))
    one_sentence(caught, path)


@pytest.fixture
def csv(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "d.csv").write_text("a,y\n" + "".join(f"{i},0\n" for i in range(20)))
    return tmp_path / "d.csv"


def test_threads_that_wait_get_the_error_of_the_one_that_read(tmp_path):
    pytest.importorskip("pyarrow")
    (tmp_path / "d.csv").write_text("a,y\n1,0\n2,0\nx,0\n4,0\n5,0\n6,0\n")
    source = open_data(tmp_path / "d.csv").X
    read_rows = source.reader()
    with ThreadPoolExecutor(3) as pool:
        late = [pool.submit(read_rows, slice(i, i + 2), block(source, 0, 2)) for i in (4, 2)]
        time.sleep(0.02)
        late.append(pool.submit(read_rows, slice(0, 2), block(source, 0, 2)))
        for future in late:
            with pytest.raises(DataError, match="holds the text 'x' in row 3"):
                future.result(timeout=10)


def test_closing_a_reader_wakes_those_who_wait(csv):
    source = as_source(csv)
    read_rows = source.reader()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(read_rows, slice(10, 20), block(source, 10, 20))
        time.sleep(0.02)
        close(read_rows)
        with pytest.raises(DataError, match="this reader is closed"):
            waits.result(timeout=10)
    close(read_rows)
    with pytest.raises(DataError, match="this reader is closed"):
        read_rows(slice(0, 1), block(source, 0, 1))


def test_rows_arrive_in_turn_from_threads_that_came_out_of_order(csv):
    source = as_source(csv)
    read_rows, outs = source.reader(), [block(source, 0, 5) for _ in range(4)]
    threads = [
        threading.Thread(target=read_rows, args=(slice(5 * i, 5 * i + 5), outs[i]))
        for i in (3, 1, 2, 0)
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.005)
    for thread in threads:
        thread.join(10)
    assert np.concatenate(outs).ravel().tolist() == list(range(20))
    with pytest.raises(ValueError, match="row 3 was read already: take a new reader"):
        read_rows(slice(3, 5), block(source, 3, 5))


@pytest.mark.parametrize("name", ["d.csv", "d.parquet"])
def test_without_pyarrow_the_message_says_what_to_install(name, tmp_path, monkeypatch):
    real = importlib.import_module

    def no_pyarrow(module, *rest):
        if module.startswith("pyarrow"):
            raise ImportError
        return real(module, *rest)

    (tmp_path / name).write_bytes(b"a,y\n1,0\n")
    monkeypatch.setattr(importlib, "import_module", no_pyarrow)
    for load in (open_data, datasets.load):
        with pytest.raises(DataError, match=r'needs pyarrow: pip install "accel\[cli\]"'):
            load(tmp_path / name)
