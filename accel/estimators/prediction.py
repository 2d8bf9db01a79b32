"""Raw predictions of a network, block by block: of a fit in progress and of a fitted estimator."""

from __future__ import annotations

from typing import Any

from accel.backends.base import row_blocks
from accel.backends.interchange import take_rows
from accel.network import Network

Array = Any
BLOCK_BYTES = 8 << 20


def raw_prediction(network: Network, params: Array, X: Array, *, xp: Any) -> Array:
    """Output of the last layer for every row.

    Parameters
    ----------
    network : Network
        Layers.
    params : array (n_params,)
        Parameters for X as it is stored: `Network.input_scale` is in them. Their dtype is that of
        the arithmetic.
    X : array or sparse matrix (n_samples, n_in)
        Rows on the device of params, in any storage dtype.
    xp : module
        Array namespace, whose functions take ``out=``.

    Returns
    -------
    array (n_samples, n_out)
        On the same device.
    """
    blocks = row_blocks(X.shape[0], 8 * network.row_elements, BLOCK_BYTES)
    parts = [
        network.forward(params, take_rows(X, rows, params.dtype, xp=xp), xp=xp)[0]
        for rows in blocks
    ]
    return parts[0] if len(parts) == 1 else xp.concat(parts)
