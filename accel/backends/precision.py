"""Products of float32 arrays whose factors are rounded first, as the tensor cores of a GPU do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Array = Any
Product = Callable[[Array, Array, Array], Any]  # (a, b, out): out = a b
# Digits of a factor's significand, the leading one included; products and sums are float32.
BITS = {"tf32": 11, "bfloat16": 8}
PRECISIONS = ("float32", *BITS)


def rounded(x: Array, bits: int) -> Array:
    """The float32 array to the nearest numbers of this many binary digits.

    Parameters
    ----------
    x : array of float32
        Below 2^100 in size.
    bits : int
        Digits of the significand that stay.

    Returns
    -------
    array of float32
        New.

    Notes
    -----
    Veltkamp's splitting: Muller et al., Handbook of Floating-Point Arithmetic, 2nd ed.,
    Algorithm 4.9. It needs no look at the bits, so it runs on every backend.
    """
    carried = x * (2.0 ** (24 - bits) + 1)
    return carried - (carried - x)


def rounded_product(precision: str, *, xp: Any) -> Product | None:
    """What a backend without tensor cores does: to the same precision, no faster.

    Parameters
    ----------
    precision : str
        One of `PRECISIONS`.
    xp : module
        Array namespace.

    Returns
    -------
    callable or None
        The product; None for float32, where it is the namespace's own.
    """
    if precision == "float32":
        return None
    bits = BITS[precision]

    def product(a: Array, b: Array, out: Array) -> None:
        xp.matmul(rounded(a, bits), rounded(b, bits), out=out)

    return product
