"""How rows.cu is laid out: bytes of a load, lanes, warps, rows in flight, blocks.

A pure function of dtypes, sizes and the device. A rule chooses; `MEASURED` has what was measured to
be better than the rule's choice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from accel.backends.cuda.device import MOST_BLOCKS, Device, registers_of
from accel.backends.cuda.source import STORAGE

FIXED_REGISTERS = 38  # addresses, counters, weights and targets of a row, sums of the value
FIXED_DOUBLE = 24  # and what exp and log take more in double precision
# Share of what it decoded of a row that the compiler keeps for the second use.
KEPT, KEPT_DOUBLE = 0.75, 1.0
HOPPER = 90  # compute capability from which blocks form clusters
MOST_CLUSTER = 8  # blocks of a cluster on every GPU that has them
# Registers of a lane for its coefficients, and again for their gradient. Measured on an H200 on 1
# output: 28 to 32 are best for every dtype, 50 and more leave too few warps to wait for memory.
COEFFICIENT_REGISTERS = 40
# Warps that share a row: 16 and more have too few registers (20,000 columns spilled).
MOST_WARPS_OF_A_ROW = 12
WARPS = 8  # of a block where each has rows of its own
# Bytes of an element -> bytes that a lane has asked for before it needs the first of them. All
# warps of a processor together must wait for 30 KB; beyond, registers are better spent on warps.
# Measured on 784 columns; half of it where loads are shorter than 8 bytes (785 columns).
FLIGHT_BYTES = {8: 112, 4: 448, 2: 256, 1: 128}
MOST_ROWS = 8  # in flight of a lane
FEW = 7  # outputs whose raw predictions are not counted twice
MOST_RAW = 40  # registers of a lane for raw predictions
NARROW_BYTES = 64  # a row this short is read by one lane
TOUCHED_BYTES = 64  # of a row by one load of all its lanes: the cache looks up a line at a time
WIDE_BYTES = 384  # rows from this length on are read by whole warps
BARRIER = 0.12  # what sharing a row between warps costs, in idle lanes
EACH_WARP = 0.01  # each of them computes the losses of all rows, in double precision twice as long


@dataclass(frozen=True)
class RowsLayout:
    """A layout of rows.cu, named as its macros are.

    Parameters
    ----------
    load_bytes : int
        VB, bytes of a load.
    loads : int
        CH, loads of a lane for a row.
    lanes : int
        L, lanes of a warp that share a row.
    warps_of_a_row : int
        WPR.
    cluster : int
        Blocks that share a row.
    rows : int
        R, rows in flight of a lane.
    warps : int
        WARPS of a block.
    blocks : int
        PER, blocks of a processor.
    """

    load_bytes: int
    loads: int
    lanes: int
    warps_of_a_row: int = 1
    cluster: int = 1
    rows: int = 1
    warps: int = WARPS
    blocks: int = 1
    name: ClassVar[str] = "rows"

    @property
    def macros(self) -> dict[str, Any]:
        """Of rows.cu."""
        return {
            "VB": self.load_bytes, "CH": self.loads, "L": self.lanes, "WPR": self.warps_of_a_row,
            "CLUSTER": self.cluster, "R": self.rows, "WARPS": self.warps, "PER": self.blocks,
        }  # fmt: skip

    @property
    def threads(self) -> int:
        """Of a block."""
        return 32 * self.warps

    @property
    def slices(self) -> int:
        """Warps that share a row, in all blocks of a cluster."""
        return self.warps_of_a_row * self.cluster

    @property
    def rows_of_a_block(self) -> int:
        """Rows that a block, or a cluster, has in flight."""
        own = 1 if self.warps_of_a_row > 1 else self.warps
        return self.rows * (32 // self.lanes) * own

    def shared_bytes(self, itemsize: int, n_outputs: int, real_bytes: int, arrays: int = 1) -> int:
        """Dynamic shared memory of a block.

        Parameters
        ----------
        itemsize : int
            Bytes of an element of X.
        n_outputs : int
            K.
        real_bytes : int
            Of a number of the arithmetic.
        arrays : int, default=1
            Sums of each column: 2 for MOMENTS.

        Returns
        -------
        int
            The larger of what the exchange of raw predictions takes and what the end takes.
        """
        side = 32 // self.lanes * self.rows * n_outputs
        exchanging = n_outputs > 1 or self.slices > 1
        shared = (self.slices if self.slices > 1 else self.warps) * 2 + self.warps
        exchange = shared * side * real_bytes if exchanging else 0
        columns = self.loads * self.load_bytes // itemsize * self.lanes
        sums = columns * n_outputs * arrays if self.warps_of_a_row == 1 else 0
        end = self.warps * (16 + n_outputs * real_bytes) + sums * real_bytes
        return -(-max(exchange, end) // 16) * 16

    def grid(self, n_rows: int, device: Device) -> int:
        """Blocks of a launch: as many as run at once, if there are rows for them."""
        teams = max(1, device.processors * self.blocks // self.cluster)
        return self.cluster * min(teams, -(-n_rows // self.rows_of_a_block))


# (dtype, columns, outputs) -> what was better than the rule's choice on an H200 on 2026-11-27, of
# 425 layouts in one run, and the share it reached of the bandwidth of one read.
MEASURED: dict[tuple[str, int, int], RowsLayout] = {
    ("float32", 100, 1): RowsLayout(16, 1, 32, rows=8, blocks=3),  # 93 %
    ("float16", 784, 1): RowsLayout(16, 4, 32, rows=4, warps=4, blocks=3),  # 81 %
    ("bfloat16", 784, 1): RowsLayout(
        16, 2, 32, warps_of_a_row=2, rows=4, warps=2, blocks=8
    ),  # 72 %
}


def rows_layout(
    dtype: str,
    real: str,
    n_columns: int,
    n_outputs: int,
    load_bytes: int,
    device: Device,
    *,
    is_shifted: bool = False,
) -> RowsLayout | None:
    """The layout of rows.cu.

    Parameters
    ----------
    dtype : str
        Of X, a key of `accel.backends.cuda.source.STORAGE`.
    real : {"float32", "float64"}
        Of the arithmetic.
    n_columns : int
        Of X.
    n_outputs : int
        Of the model.
    load_bytes : int
        As `load_bytes_of` gives them.
    device : Device
        The GPU.
    is_shifted : bool, default=False
        Whether something is taken from every row: a number more for each column.

    Returns
    -------
    RowsLayout or None
        None where the coefficients do not fit into the registers of those who may share a row.

    Notes
    -----
    Of all ways to share a row, the one that leaves fewest lanes without a load, with as few warps
    on it as that allows: one warp needs no barrier. Then as many rows in flight as registers hold,
    up to `FLIGHT_BYTES` a lane.
    """
    measured = MEASURED.get((dtype, n_columns, n_outputs))
    measured_like_this = device.capability == HOPPER and real == "float32" and not is_shifted
    if measured is not None and measured.load_bytes == load_bytes and measured_like_this:
        return measured
    itemsize = STORAGE[dtype][2]
    words = 2 if real == "float64" else 1
    elements = load_bytes // itemsize
    units = n_columns // elements
    best, best_cost = None, float("inf")
    for lanes, slices in _sharings(units * load_bytes, load_bytes, device):
        loads = -(-units // (lanes * slices))
        if loads * elements * n_outputs * words > COEFFICIENT_REGISTERS and loads > 1:
            continue
        idle = loads * lanes * slices / units - 1
        cost = idle + (BARRIER if slices > 1 else 0.0) + EACH_WARP * words * slices
        cost += 1e-5 * lanes  # as few as touch enough
        if cost < best_cost:
            best, best_cost = (lanes, slices, loads), cost
    if best is None:
        return None
    decoding = 0.0 if dtype == real else KEPT_DOUBLE if words > 1 else KEPT
    shape = RowsLayout(load_bytes, best[2], best[0])
    beside = best[2] * elements * words if is_shifted else 0
    return _filled(shape, best[1], elements, n_outputs, words, decoding, beside)


def longest_rows(
    dtype: str,
    real: str,
    n_columns: int,
    n_outputs: int,
    load_bytes: int,
    device: Device,
    *,
    is_shifted: bool = False,
) -> RowsLayout | None:
    """The layout of rows.cu with the longest loads that it can have.

    Parameters
    ----------
    dtype, real, n_columns, n_outputs, load_bytes, device, is_shifted : object
        As in `rows_layout`; the loads are at most so long, and shorter where lanes with fewer
        columns each are what fits.

    Returns
    -------
    RowsLayout or None
        None where none fits.
    """
    for shorter in (load_bytes, 8, 4):
        if STORAGE[dtype][2] <= shorter <= load_bytes:
            rows = rows_layout(
                dtype, real, n_columns, n_outputs, shorter, device, is_shifted=is_shifted
            )
            if rows is not None:
                return rows
    return None


def _sharings(row_bytes: int, load_bytes: int, device: Device) -> Iterator[tuple[int, int]]:
    """(lanes, warps) that may share a row."""
    if row_bytes <= NARROW_BYTES:
        yield 1, 1
    for lanes in (1, 2, 4, 8, 16):
        if row_bytes < WIDE_BYTES and lanes * load_bytes >= TOUCHED_BYTES:
            yield lanes, 1
    most = MOST_WARPS_OF_A_ROW * (MOST_CLUSTER if device.capability >= HOPPER else 1)
    for slices in range(1, most + 1):
        cluster = _cluster(slices)
        if slices % cluster == 0:
            yield 32, slices


def _cluster(slices: int) -> int:
    """Blocks that so many warps are spread over."""
    cluster = 1
    while slices > cluster * MOST_WARPS_OF_A_ROW:
        cluster *= 2
    return cluster


def _filled(
    shape: RowsLayout,
    slices: int,
    elements: int,
    n_outputs: int,
    words: int,
    decoding: float,
    beside: int,
) -> RowsLayout | None:
    """The layout with rows in flight, warps and blocks; None where registers do not hold it."""
    cluster = _cluster(slices)
    of_a_row = slices // cluster
    lane_bytes = shape.loads * shape.load_bytes
    loaded = shape.loads * max(1, shape.load_bytes // 4)  # registers: short loads have one each
    flight = FLIGHT_BYTES[shape.load_bytes // elements] // (1 if shape.load_bytes >= 8 else 2)
    if shape.lanes == 1:
        flight = min(flight, NARROW_BYTES)
    rows = MOST_ROWS
    while rows > 1 and (
        rows * lane_bytes > flight
        or rows * n_outputs * words > MOST_RAW
        or (rows > shape.lanes and (n_outputs > 1 or slices > 1))
    ):
        rows //= 2
    while rows >= 1:
        used = _registers(rows, shape.loads * elements, loaded, n_outputs, words, decoding)
        used += beside
        choices = (of_a_row,) if slices > 1 else (WARPS, WARPS // 2)
        counts = [(_blocks(warps, used), warps) for warps in choices]
        blocks, warps = max(counts, key=lambda count: (count[0] * count[1], count[1]))
        if blocks >= 1:
            return replace(
                shape,
                warps_of_a_row=of_a_row,
                cluster=cluster,
                rows=rows,
                warps=warps,
                blocks=blocks,
            )
        rows //= 2
    return None


def _registers(
    rows: int, columns: int, loaded: int, n_outputs: int, words: int, decoding: float
) -> int:
    """Registers of a lane, about."""
    of_a_row = loaded + n_outputs * words + decoding * columns * words
    of_outputs = (2 * columns + 3) * n_outputs * words
    fixed = FIXED_REGISTERS + (FIXED_DOUBLE if words > 1 else 0)
    more = n_outputs if n_outputs > FEW else 0  # the raw predictions of the row a lane sees through
    return int(of_outputs + rows * of_a_row) + fixed + more


def _blocks(warps: int, registers: int) -> int:
    """Blocks of so many warps that fit into a processor."""
    blocks = MOST_BLOCKS
    while blocks >= 1 and registers_of(blocks * warps) < registers:
        blocks -= 1
    return blocks
