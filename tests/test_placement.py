"""Where a fit keeps X: free memory as the kernel tells it, plans from sizes, copies ahead."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel import LogisticRegression, LogisticRegressionCV, MLPClassifier, logistic_path, open_data
from accel.backends import cupy_backend, get_backend, last_resort, memory
from accel.backends.base import PlainUploader, halved_until
from accel.backends.streaming import HOST_BUFFERS, Pipeline
from accel.placement import Sizes, places, size
from accel.rows import Streamed
from accel.sources import ArraySource
from accel.sources.base import InOrder
from tests import strict

GB = 10**9


# --- free memory -----------------------------------------------------------------------------


def system(root, *, available_kb=None, cgroup="", files=None, status=""):
    """A /proc and /sys of these contents."""
    proc = root / "proc"
    (proc / "self").mkdir(parents=True)
    if available_kb is not None:
        text = f"MemTotal: 99999999 kB\nMemAvailable: {available_kb} kB\n"
        (proc / "meminfo").write_text(text)
    (proc / "self" / "cgroup").write_text(cgroup)
    (proc / "self" / "status").write_text(status)
    for name, text in (files or {}).items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(text))
    return root


def v2(group, most, used, cache=0):
    return {
        f"{group}/memory.max": most,
        f"{group}/memory.current": used,
        f"{group}/memory.stat": f"anon 5\ninactive_file {cache}\nactive_file 0\n",
    }


def test_what_the_machine_has(tmp_path):
    assert memory.free_bytes(system(tmp_path, available_kb=1000)) == 1_024_000


def test_the_least_of_all_groups_counts_and_cache_is_free(tmp_path):
    files = {**v2("a", 9_000, 8_000, cache=500), **v2("a/b", "max", 10), **v2("a/c", 100, 1)}
    root = system(tmp_path, available_kb=1000, cgroup="0::/a/b\n", files=files)
    assert memory.free_bytes(root) == 1500


def test_version_one_and_no_limit(tmp_path):
    files = {
        "memory/job/memory.limit_in_bytes": 7_000,
        "memory/job/memory.usage_in_bytes": 6_000,
        "memory/memory.limit_in_bytes": 2**63 - 4096,
        "memory/memory.usage_in_bytes": 10**15,
    }
    lines = "5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n"
    assert (
        memory.free_bytes(system(tmp_path, available_kb=10**6, cgroup=lines, files=files)) == 1000
    )


def test_a_container_that_shows_the_hosts_path(tmp_path):
    """Its own group is then the mounted root."""
    files = {"memory.max": 5_000, "memory.current": 4_000}
    root = system(tmp_path, available_kb=10**6, cgroup="0::/docker/4f1\n", files=files)
    assert memory.free_bytes(root) == 1000


@pytest.mark.parametrize(("name", "field"), list(memory.LIMITS.items()))
def test_limits_of_the_process(tmp_path, monkeypatch, name, field):
    resource = pytest.importorskip("resource")
    soft = {name: 50_000 * 1024}
    numbers = {getattr(resource, limit): limit for limit in memory.LIMITS}
    monkeypatch.setattr(
        resource, "getrlimit", lambda n: (soft.get(numbers[n], resource.RLIM_INFINITY), -1)
    )
    root = system(tmp_path, available_kb=10**6, status=f"Name:\tpython\n{field}:\t  49000 kB\n")
    assert memory.free_bytes(root) == 1000 * 1024


def test_a_system_that_tells_nothing(tmp_path):
    assert memory.free_bytes(tmp_path) == memory.UNKNOWN


# --- plans -----------------------------------------------------------------------------------


def sizes_of(n=1_000_000, d=1000, itemsize=4, n_outputs=1):
    return Sizes((n, d), n * d * itemsize, 4, n_outputs)


def plan_of(room, asked="auto", X=None, last=None, **options):
    X = ArraySource(np.empty((2, 2))) if X is None else X
    backend = replace(strict.StrictBackend(), room_bytes=room, block_bytes=256 << 20, n_blocks=1)
    return list(places(X, sizes_of(**options), backend, last, asked))


def test_x_that_fits_is_loaded_whole_and_only_then_streamed():
    found = plan_of(5 * GB)
    assert [place.is_streamed for place in found] == [False] * 3 + [True] * 3
    assert "needs 4.02 GB, there is room for 5 GB: X is loaded whole" in found[0].reason


def test_x_that_does_not_fit_is_streamed_in_blocks():
    found = plan_of(3 * GB)
    assert [place.is_streamed for place in found] == [True] * 3
    assert "needs 4.02 GB, there is room for 3 GB on strict" in found[0].reason
    assert found[0].block_rows * 4 * 1004 <= 256 << 20
    rows = [place.block_rows for place in found]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] >= 15 * rows[2]


def test_the_cpu_comes_last_and_only_where_it_may():
    cpu = get_backend("numpy")
    assert {place.backend.name for place in plan_of(10**6, last=cpu)} == {"numpy"}
    with pytest.raises(MemoryError, match=r"needs 4.02 GB, 20 MB of it for.*room for 1 MB"):
        plan_of(10**6)  # not even what goes with the rows has room
    names = [place.backend.name for place in plan_of(3 * GB, last=cpu)]
    assert names[:3] == ["strict"] * 3
    assert set(names[3:]) == {"numpy"}


def test_what_is_asked_for_is_all_that_is_tried():
    assert {place.is_streamed for place in plan_of(5 * GB, asked="resident")} == {False}
    assert {place.is_streamed for place in plan_of(5 * GB, asked="stream")} == {True}
    with pytest.raises(MemoryError, match=r"placement='resident': the fit needs 4.02 GB"):
        plan_of(3 * GB, asked="resident")


def test_an_array_on_the_cpu_stays_where_it_lies():
    X = np.zeros((10, 2))
    found = list(places(X, sizes_of(10, 2), get_backend("numpy"), None, "auto"))
    assert [place.is_streamed for place in found] == [False] * 3
    assert found[0].reason == ""
    assert found[1].backend.cut == 4 * found[0].backend.cut


def test_a_gpu_by_name_refuses_the_cpu():
    gpu = strict.StrictBackend()
    assert last_resort("cupy", gpu) is None
    assert last_resort("auto", get_backend("numpy")) is None


@given(st.integers(1, 10**10), st.integers(1, 10**5), st.integers(10**6, 10**12))
def test_samples_fit_beside_the_rest(n, d, free):
    rows = sizes_of(n, d).sample_rows(free)
    assert 1 <= rows <= n
    assert rows == 1 or rows * 4 * d <= max(free // 4, 1)


@given(st.integers(1, 10**12), st.integers(0, 10**12))
def test_sizes_change_in_few_steps(n_bytes, most):
    found = halved_until(n_bytes, most)
    assert found <= max(1, most) or found == n_bytes
    assert found == n_bytes or (n_bytes >> (n_bytes.bit_length() - found.bit_length())) == found


@pytest.mark.parametrize(("n_bytes", "words"), [
    (0, "0 B"), (999, "999 B"), (9.3e9, "9.3 GB"), (512 << 20, "537 MB"), (4.2e15, "4.2e+03 TB"),
])  # fmt: skip
def test_sizes_for_people(n_bytes, words):
    assert size(n_bytes) == words


def test_explain_tells_the_plan_and_reads_nothing(rng):
    class Unread(ArraySource):
        def reader(self):
            raise AssertionError("X was read")

    X, y = rng.normal(size=(5000, 7)), np.arange(5000) % 3
    model = LogisticRegression(placement="stream")
    text = model.explain(Unread(X), y)
    assert "X is streamed" in text
    assert "3 classes" in text
    assert "a sample of 4096 rows" in text
    assert max(map(len, text.splitlines())) <= 80
    assert not vars(model).keys() & {"n_features_in_", "coef_"}
    assert "X stays where it lies" in LogisticRegression(backend="numpy").explain(X, y)
    with pytest.raises(ValueError, match="requires y"):
        model.explain(X)


# --- copies ahead ----------------------------------------------------------------------------


class Link(PlainUploader):
    """Writes down when a block is filled, copied and waited for."""

    def __init__(self, log):
        super().__init__(np.asarray)
        self.log = log

    def upload(self, host, out):
        super().upload(host, out)
        self.log.append(("copy", int(host[0, 0])))
        return int(host[0, 0])

    def wait_on_device(self, token):
        self.log.append(("ready", token))

    def wait_on_host(self, token):
        self.log.append(("read", token))


def test_a_block_is_copied_while_the_one_before_is_computed_on():
    log = []
    backend = SimpleNamespace(
        uploader=lambda: Link(log), asarray=np.asarray, xp=SimpleNamespace(
            empty=lambda shape, dtype, device: np.empty(shape, dtype)), device=None)  # fmt: skip
    X = np.repeat(np.arange(6.0), 2)[:, None]
    pipeline = Pipeline(backend, 2, X[:0])

    def compute(block, rows):
        assert (block == X[rows]).all()
        log.append(("compute", int(block[0, 0])))

    cuts = [slice(k, k + 2) for k in range(0, 12, 2)]
    list(pipeline.map(compute, lambda rows, out: np.copyto(out, X[rows]), cuts, int))
    place = {event: k for k, event in enumerate(log)}
    for k in range(6):
        assert place["copy", k] < place["ready", k] < place["compute", k]
        if k < 5:
            assert place["copy", k + 1] < place["compute", k]
        if k + HOST_BUFFERS < 6:  # its host buffer is not filled again before it was read
            assert place["read", k] < place["copy", k + HOST_BUFFERS]


def test_a_gpu_streams_long_blocks_and_cuts_them_by_four():
    backend = cupy_backend.CupyBackend("cupy", None, np, None)
    assert backend.stream_bytes(80 * GB) == 256 << 20
    assert backend.with_smaller_blocks().stream_bytes(80 * GB) == 64 << 20
    assert backend.stream_bytes(GB) <= GB // 8
    full = SimpleNamespace(memory=SimpleNamespace(OutOfMemoryError=type("E", (MemoryError,), {})))
    backend = cupy_backend.CupyBackend("cupy", SimpleNamespace(cuda=full), np, None)
    for name, status, wanted in (
        ("CUDARuntimeError", 2, True),
        ("CUDARuntimeError", 3, False),
        ("CUBLASError", 3, True),
        ("RuntimeError", 2, False),
    ):
        refused = type(name, (RuntimeError,), {"status": status})()
        assert backend.is_out_of_memory(refused) is wanted
    assert backend.is_out_of_memory(MemoryError())


class InTurn(ArraySource):
    """Rows in order only; the thread of one block finds no memory before it reads."""

    def reader(self):
        read, base = InOrder(self, lambda out: None, lambda: None), super().reader()

        def checked(rows, out):
            read(rows, out)
            base(rows, out)

        checked.close = read.close
        return checked


@pytest.mark.parametrize("at", [0, 3])
def test_who_waits_for_a_turn_that_never_comes_is_let_go(backend, monkeypatch, at):
    """Threads of later blocks wait for the rows of a thread that has died without reading them."""
    X = np.arange(4000.0)[:, None]
    rows = Streamed(InTurn(X), 100, backend)
    checked = rows._checked

    def dies(read):
        read = checked(read)

        def reading(cut, out):
            if cut.start == 100 * at:
                time.sleep(0.05)  # let the others come and wait
                raise MemoryError("no room")
            read(cut, out)

        return reading

    monkeypatch.setattr(rows, "_checked", dies)
    with pytest.raises(MemoryError, match="no room"):
        list(rows.map(lambda block, _: 0))
    monkeypatch.undo()
    parts = list(rows.map(lambda block, _: backend.to_numpy(block).copy()))
    assert (np.concatenate(parts) == X).all()


def test_a_pass_that_is_left_leaves_its_buffers_usable(backend):
    X = np.arange(2000.0)[:, None]
    rows = Streamed(ArraySource(X), 100, backend)

    def fails(block, cut):
        if cut.start == 500:
            raise KeyError("in the middle")
        return 0

    with pytest.raises(KeyError):
        list(rows.map(fails))
    parts = list(rows.map(lambda block, _: backend.to_numpy(block).copy()))
    assert (np.concatenate(parts) == X).all()


# --- what is not streamed --------------------------------------------------------------------


@pytest.mark.parametrize("fit", [
    lambda X, y: MLPClassifier().fit(X, y),
    lambda X, y: LogisticRegressionCV().fit(X, y),
    lambda X, y: logistic_path(X, y),
], ids=["MLPClassifier", "LogisticRegressionCV", "logistic_path"])  # fmt: skip
def test_models_that_need_x_in_memory_say_so(tmp_path, rng, fit):
    np.save(tmp_path / "X.npy", rng.normal(size=(30, 2)))
    for X in (open_data(tmp_path / "X.npy").X, str(tmp_path), tmp_path):
        with pytest.raises(TypeError, match=r"needs X in memory.*LogisticRegression"):
            fit(X, np.arange(30) % 2)
