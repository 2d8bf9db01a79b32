"""Dropout masks that are the same on every backend: hashes of the place of a unit, not a stream."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any
WORD = 1 << 32


class DropoutMasks:
    r"""Masks of the outputs of the hidden layers, drawn on the device.

    .. math:: m = \frac{1}{1 - p} \text{ with probability } 1 - p, \qquad 0 \text{ else}

    Parameters
    ----------
    rate : float
        p, the share of outputs that are dropped; 0 <= p < 1.
    widths : tuple of int
        Outputs of each hidden layer.
    n_rows : int
        Most rows of a batch.
    like : array
        Its dtype and device are those of the masks.
    xp : module
        Array namespace, whose functions take ``out=``.

    Notes
    -----
    Srivastava et al., JMLR 15 (2014) 1929, in the form that scales while training. A mask is a hash
    of (seed, step, layer, row, column): no transfer, no state, and the same on a CPU and on a GPU.
    The two keys of a step and layer come from NumPy's SeedSequence; each unit's counter is mixed
    with them by the finaliser of MurmurHash3 (A. Appleby), twice.
    """

    def __init__(
        self, rate: float, widths: tuple[int, ...], n_rows: int, like: Array, *, xp: Any
    ) -> None:
        self._xp, self._scale = xp, 1.0 / (1.0 - rate)
        self._threshold = min(WORD - 1, round(rate * WORD))
        device = like.device
        self._counters, self._masks = [], []
        self._words: list[tuple[Array, Array]] = []
        for width in widths:
            counter = xp.arange(n_rows * width, dtype=xp.uint32, device=device)
            self._counters.append(xp.reshape(counter, (n_rows, width)))
            self._words.append(
                (xp.empty_like(self._counters[-1]), xp.empty_like(self._counters[-1]))
            )
            self._masks.append(xp.empty((n_rows, width), dtype=like.dtype, device=device))

    def draw(self, seed: int, step: int, n_rows: int) -> list[Array]:
        """Masks for this step, one (n_rows, width) array a layer; they last until the next draw.

        Parameters
        ----------
        seed, step : int
            Which masks.
        n_rows : int
            Rows of the batch.

        Returns
        -------
        list of array
            On the device.
        """
        xp, drawn = self._xp, []
        for layer, counter in enumerate(self._counters):
            keys = np.random.SeedSequence([seed, step, layer]).generate_state(2)
            mask = self._masks[layer][:n_rows, :]
            word, scratch = (array[:n_rows, :] for array in self._words[layer])
            xp.bitwise_xor(counter[:n_rows, :], int(keys[0]), out=word)
            _mix(word, scratch, xp=xp)
            word ^= int(keys[1])
            _mix(word, scratch, xp=xp)
            xp.greater_equal(word, self._threshold, out=mask)
            mask *= self._scale
            drawn.append(mask)
        return drawn


def _mix(word: Array, scratch: Array, *, xp: Any) -> None:
    """Finaliser of MurmurHash3 on 32-bit words, in place."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        xp.bitwise_right_shift(word, shift, out=scratch)
        word ^= scratch
        word *= factor
    xp.bitwise_right_shift(word, 16, out=scratch)
    word ^= scratch
