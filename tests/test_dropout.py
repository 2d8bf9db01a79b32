"""The masks: the share they drop, their independence, and that they are the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from accel.dropout import DropoutMasks


def masks(backend, rate=0.3, widths=(40, 25), n_rows=500, seed=1, step=0, rows=None):
    like = backend.asarray(np.zeros(1, dtype=np.float32))
    made = DropoutMasks(rate, widths, n_rows, like, xp=backend.xp)
    return [backend.to_numpy(mask) for mask in made.draw(seed, step, rows or n_rows)]


def by_hand(seed, step, layer, place):
    """The word of one unit, in Python's integers."""
    word = place
    for key in np.random.SeedSequence([seed, step, layer]).generate_state(2):
        word ^= int(key)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            word ^= word >> shift
            word = word * factor % 2**32
        word ^= word >> 16
    return word


def test_masks_are_the_hash_that_is_documented(backend):
    for layer, mask in enumerate(masks(backend, seed=5, step=7)):
        assert mask.dtype == np.float32
        for row, column in ((0, 0), (3, 2), (499, 24)):
            kept = by_hand(5, 7, layer, row * mask.shape[1] + column) >= round(0.3 * 2**32)
            assert mask[row, column] == pytest.approx(kept / 0.7)


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_the_share_that_is_dropped(rate):
    from accel.backends import get_backend

    mask = masks(get_backend("numpy"), rate, widths=(200,))[0]
    n = mask.size
    assert abs(np.mean(mask == 0) - rate) <= 4 * np.sqrt(rate * (1 - rate) / n)
    assert np.all((mask == 0) | np.isclose(mask, 1 / (1 - rate)))
    assert abs(np.mean(mask) - 1) < 0.05 or rate == 0.9


def test_masks_of_other_steps_layers_and_seeds_are_unrelated(backend):
    first, second = masks(backend, 0.5, widths=(50, 50))
    others = [second, masks(backend, 0.5, widths=(50, 50), step=1)[0]]
    others.append(masks(backend, 0.5, widths=(50, 50), seed=2)[0])
    for other in others:
        agreement = np.mean((first == 0) == (other == 0))
        assert abs(agreement - 0.5) < 4 * 0.5 / np.sqrt(first.size)
    lag = np.mean((first[:, 1:] == 0) == (first[:, :-1] == 0))
    assert abs(lag - 0.5) < 4 * 0.5 / np.sqrt(first.size)


def test_fewer_rows_see_the_same_masks(backend):
    np.testing.assert_array_equal(masks(backend, rows=7)[0], masks(backend)[0][:7])
