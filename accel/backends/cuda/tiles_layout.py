"""How tiles.cu is laid out: columns of a warp, rows at a time, stages, blocks.

A pure function of dtypes, sizes and the device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from accel.backends.cuda.device import MOST_BLOCKS, Device, registers_of
from accel.backends.cuda.source import STORAGE

TENSOR_CORES = 80  # compute capability that has these products and asynchronous copies
OPERANDS = {"float32": "TF32", "bfloat16": "TF32", "float16": "F16", "uint8": "F16", "int8": "F16"}
# Of X that a block works on at a time, about: a barrier costs as much as 4 KB.
TILE_BYTES = 24 << 10
MOST_TILES = 8
MOST_WARPS = 20  # of a block
# Registers of a warp beside its part of W and of the gradient, and for each product of 8 columns.
TILE_REGISTERS, PRODUCT_REGISTERS = 60, 8
GROUP_REGISTERS = 2  # of a group of 16 columns beside that: what its loads keep
HELPER_REGISTERS = 48  # of a helper beside its raw predictions, residuals and biases


@dataclass(frozen=True)
class TilesLayout:
    """A layout of tiles.cu, named as its macros are.

    Parameters
    ----------
    load_bytes : int
        VB, bytes of a copy.
    groups : int
        MT, groups of 16 columns of a warp.
    workers : int
        Warps that own columns.
    tiles : int
        MR, tiles of 16 rows at a time.
    stages : int
        Of them in shared memory.
    blocks : int
        PER, blocks of a processor.
    operand : {"TF32", "F16"}
        What X is exact in; of float32, what its two terms are.
    """

    load_bytes: int
    groups: int
    workers: int
    tiles: int
    stages: int
    blocks: int
    operand: str
    name: ClassVar[str] = "tiles"
    cluster: ClassVar[int] = 1

    @property
    def macros(self) -> dict[str, Any]:
        """Of tiles.cu."""
        return {
            "VB": self.load_bytes, "MT": self.groups, "WORKERS": self.workers, "MR": self.tiles,
            "STAGES": self.stages, "PER": self.blocks, "OPERAND": self.operand,
        }  # fmt: skip

    @property
    def rows_of_a_block(self) -> int:
        """Rows that a block works on at a time."""
        return 16 * self.tiles

    @property
    def helpers(self) -> int:
        """Warps that compute losses, a lane for a row."""
        return -(-self.rows_of_a_block // 32)

    @property
    def threads(self) -> int:
        """Of a block."""
        return 32 * (self.workers + self.helpers)

    def shared_bytes(self, itemsize: int, n_outputs: int, real_bytes: int = 4) -> int:  # noqa: ARG002
        """Dynamic shared memory of a block, as tiles.cu divides it."""
        slice_bytes = self.groups * 16 * itemsize
        pitch = (slice_bytes + 31) // 64 * 64 + 32
        raw = 2 * self.workers * n_outputs * (self.rows_of_a_block + 4)
        side = self.tiles * products_of(n_outputs)[0] * 32 * (4 if self.operand == "TF32" else 2)
        numbers = [2 * self.helpers, 2 * n_outputs, self.workers * n_outputs]
        small = sum(-(-number // 4) * 4 for number in numbers)
        tiles = self.workers * self.stages * self.rows_of_a_block * pitch
        end = 8 * (2 * self.helpers + self.workers) + 4 * self.helpers * n_outputs
        return max(4 * (raw + 2 * side + small) + tiles, -(-end // 16) * 16)

    def grid(self, n_rows: int, device: Device) -> int:
        """Blocks of a launch: as many as run at once, if there are rows for them."""
        return min(device.processors * self.blocks, -(-n_rows // self.rows_of_a_block))


def products_of(n_outputs: int) -> tuple[int, int]:
    """Products of 8 columns: with the high and low terms of W (NT), and of the gradient (GT)."""
    whole, rest = divmod(n_outputs, 8)
    return 2 * whole + (0 if rest == 0 else 1 if rest <= 4 else 2), whole + (rest > 0)


def tiles_layout(
    dtype: str, n_columns: int, n_outputs: int, load_bytes: int, device: Device
) -> TilesLayout | None:
    """The layout of tiles.cu.

    Parameters
    ----------
    dtype : str
        Of X.
    n_columns : int
        Of X.
    n_outputs : int
        Of the model.
    load_bytes : int
        As `load_bytes_of` gives them.
    device : Device
        The GPU.

    Returns
    -------
    TilesLayout or None
        None where the GPU has no such tensor cores, copies would be shorter than 4 bytes, or W and
        the gradient do not fit into its registers.

    Notes
    -----
    The columns are dealt to warps in groups of 16: of all numbers of warps, the one that leaves
    fewest groups empty, and more warps among equals. As many stages and blocks as fit.
    """
    if device.capability < TENSOR_CORES or dtype not in OPERANDS or load_bytes < 4:
        return None
    operand, itemsize = OPERANDS[dtype], STORAGE[dtype][2]
    n_groups = -(-n_columns // 16)
    tile_rows = TILE_BYTES // (n_columns * itemsize) // 16
    best, best_cost = None, float("inf")
    for workers in range(1, MOST_WARPS):
        groups = -(-n_groups // workers)
        for tiles in {max(1, min(MOST_TILES, tile_rows)), 2, 1}:
            layout = TilesLayout(load_bytes, groups, workers, tiles, 3, 1, operand)
            found = _fitted(layout, itemsize, n_outputs, device)
            if found is None:
                continue
            idle = found.groups * found.workers / n_groups - 1
            running = found.blocks * found.workers
            cost = idle + max(0.0, 1 - running / 12) + 0.1 / tiles + 0.2 * (found.stages < 3)
            if cost < best_cost:
                best, best_cost = found, cost
    return best


def _fitted(
    layout: TilesLayout, itemsize: int, n_outputs: int, device: Device
) -> TilesLayout | None:
    """The layout with the most blocks of a processor that fit, and fewer stages where none does."""
    products, sums = products_of(n_outputs)
    terms = products * (4 if layout.operand == "TF32" else 2) + 4 * sums
    part = layout.groups * (terms + GROUP_REGISTERS)
    used = max(
        part + PRODUCT_REGISTERS * products + TILE_REGISTERS, 3 * n_outputs + HELPER_REGISTERS
    )
    for stages in (layout.stages, 2):
        found = replace(layout, stages=stages)
        warps = found.threads // 32
        by_memory = (device.shared_bytes + 1024) // (found.shared_bytes(itemsize, n_outputs) + 1024)
        blocks = min(by_memory, MOST_BLOCKS)
        while blocks >= 1 and registers_of(blocks * warps) < used:
            blocks -= 1
        if blocks >= 1 and warps <= MOST_WARPS:
            return replace(found, blocks=blocks)
    return None
