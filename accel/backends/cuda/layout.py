"""Which kernel a pass runs on a GPU, and how it is laid out there: from sizes alone."""

from __future__ import annotations

from accel.backends.cuda.device import Device
from accel.backends.cuda.rows_layout import RowsLayout, longest_rows
from accel.backends.cuda.source import STORAGE
from accel.backends.cuda.tiles_layout import TilesLayout, tiles_layout

FEW_OUTPUTS = 3  # up to which float32 and float64 rows in registers are faster than tiles
# Outputs up to which rows in registers beat two products with the whole X, by the arithmetic that
# each needs (two multiply-adds an element and output against two reads), where there are no tiles.
ROWS_BEAT_PRODUCTS = {"float32": 5, "float64": 7}
MOST_OUTPUTS = 16  # beyond, the products are large enough for cuBLAS


def pass_layout(
    dtype: str,
    real: str,
    n_columns: int,
    n_outputs: int,
    load_bytes: int,
    device: Device,
    *,
    is_shifted: bool = False,
) -> RowsLayout | TilesLayout | None:
    """The layout of a pass over X.

    Parameters
    ----------
    dtype : str
        Of X.
    real : {"float32", "float64"}
        Of the arithmetic.
    n_columns, n_outputs : int
        Of the model.
    load_bytes : int
        As `load_bytes_of` gives them.
    device : Device
        The GPU.
    is_shifted : bool, default=False
        Whether something is taken from every row: not what tensor cores do.

    Returns
    -------
    RowsLayout, TilesLayout or None
        None for two products with the whole X: two reads, of compact X more.
    """
    if dtype not in STORAGE or n_outputs > MOST_OUTPUTS:
        return None
    is_byte = STORAGE[dtype][2] == 1
    few = 0 if is_byte else 1 if dtype in ("float16", "bfloat16") else FEW_OUTPUTS
    if n_outputs > few and real == "float32" and not is_shifted:
        tiles = tiles_layout(dtype, n_columns, n_outputs, load_bytes, device)
        if tiles is not None:
            return tiles
    if n_outputs > ROWS_BEAT_PRODUCTS.get(dtype, MOST_OUTPUTS) and dtype == real:
        return None
    return longest_rows(
        dtype, real, n_columns, n_outputs, load_bytes, device, is_shifted=is_shifted
    )
