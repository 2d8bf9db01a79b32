"""What every backend is: the interface, its report, its refusal, and the cut into row blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from accel.backends.linear_model import LinearModel, LinearPass
from accel.backends.precision import Product

Array = Any


def first_line(error: BaseException) -> str:
    """What an error says, on one line, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(". ")


class BackendUnavailable(RuntimeError):
    """A backend that was required cannot be used.

    Parameters
    ----------
    name : str
        The backend, as it was asked for.
    reason : str
        What is wrong.
    mend : str
        What to do: a command where there is one.
    is_lasting : bool, default=True
        Whether asking again in this process would give the same answer.
    """

    def __init__(self, name: str, reason: str, mend: str, is_lasting: bool = True) -> None:
        super().__init__(name, reason, mend, is_lasting)
        self.name, self.reason, self.mend, self.is_lasting = name, reason, mend, is_lasting

    def __str__(self) -> str:
        return f"{self.name} cannot be used: {self.reason}; to mend it: {self.mend}."


@dataclass(frozen=True)
class BackendReport:
    """Plain facts about a backend: printed, written as JSON, kept in a fitted model.

    Parameters
    ----------
    name : str
        "numpy", "cupy", "cupy:1".
    usable : bool
        Whether it passed its probe.
    device : str
        The processor or GPU.
    memory_bytes : int or None
        Memory of the device.
    libraries : dict of str
        Versions of what computes.
    reason : str
        Why it is not usable, and what mends it; empty when it is.
    fallback : str
        Why "auto" did not take a backend it prefers; empty when it did.
    """

    name: str
    usable: bool
    device: str = ""
    memory_bytes: int | None = None
    libraries: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    fallback: str = ""

    def __str__(self) -> str:
        if not self.usable:
            return self.reason
        return f"{self.name} on {self.device}" + (f"; {self.fallback}" if self.fallback else "")


class Uploader(Protocol):
    """Copies to the device that run beside the computation."""

    def host(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A NumPy array in host memory that the device can read directly."""

    def upload(self, host: Array, out: Array) -> Any:
        """Start the copy into out once all that was asked of out is done; a token to wait for."""

    def wait_on_device(self, token: Any) -> None:
        """What is asked of the device from now on runs after that copy; the host does not wait."""

    def wait_on_host(self, token: Any) -> None:
        """Return when that copy has read its host array."""


@dataclass(frozen=True)
class PlainUploader:
    """Copies at once: for devices that have no queue of their own.

    Parameters
    ----------
    asarray : callable
        The door to the device.
    """

    asarray: Callable[[Array], Array]

    def host(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An empty NumPy array."""
        return np.empty(shape, dtype)

    def upload(self, host: Array, out: Array) -> None:
        """Copy."""
        out[...] = self.asarray(host)

    def wait_on_device(self, token: Any) -> None:
        """The copy is done."""

    def wait_on_host(self, token: Any) -> None:
        """The copy is done."""


class Streamer(Protocol):
    """Computes on blocks of rows that are read while others are computed on."""

    def map(
        self,
        function: Callable[[Array, slice], Any],
        read: Callable[[slice, Array], None],
        cuts: Sequence[slice],
        abandon: Callable[[], None],
    ) -> Iterator[Any]:
        """function(X, rows) for each of the cuts, in order, X on the device.

        read(rows, out) fills out in host memory and is called from threads, in the order of the
        cuts; abandon() is called at the end and lets go who waits in it. The blocks lie in buffers
        that are used again: a result holds no view of them.
        """


@dataclass(frozen=True)
class StepKernels:
    """Fused parts of a training step; what is missing runs as the formula stands.

    Parameters
    ----------
    adam : callable or None
        (params, gradient, m, v, beta_1, beta_2, epsilon, rate): Adam's update in one pass.
    residuals : mapping of str
        Name of a loss -> (Y, weights, raw_prediction) -> the weighted sum of the loss; the raw
        prediction becomes its gradient.
    """

    adam: Callable[..., None] | None = None
    residuals: Mapping[str, Callable[[Array, Array, Array], Any]] = field(default_factory=dict)


class Backend(Protocol):
    """An array namespace on a device, and the doors in and out of it."""

    is_host: ClassVar[bool]  # whether its arrays lie in the memory of the host

    @property
    def name(self) -> str:
        """As `get_backend` takes it."""

    @property
    def xp(self) -> Any:
        """The array namespace."""

    @property
    def device(self) -> Any:
        """What the namespace calls the device."""

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        """The array on this device: no copy where it already lies there in this dtype."""

    def to_numpy(self, array: Array) -> Any:
        """The array as NumPy on the host; waits for the device."""

    def scalars(self, *values: Array) -> tuple[float, ...]:
        """0-d arrays as floats, in one transfer: the one synchronisation inside a fit."""

    def synchronize(self) -> None:
        """Wait until everything asked of the device is done."""

    def context(self) -> AbstractContextManager[Any]:
        """Inside it, this device is the current one."""

    def map_blocks(
        self, function: Callable[[slice], Any], n_rows: int, row_bytes: int
    ) -> Iterator[Any]:
        """function(rows) for consecutive blocks of rows that take row_bytes each, in row order."""

    def temporary_bytes(self, n_rows: int, row_bytes: int) -> int:
        """The most that a pass over so many rows takes beside its arrays, if that counts here."""

    def many_products(self, n_rows: int, row_bytes: int) -> AbstractContextManager[Any]:
        """Around many passes over blocks of this size: threads that would not pay are not used."""

    def many_steps(self, flops: float) -> AbstractContextManager[Any]:
        """Around many steps whose largest product takes these many operations: likewise."""

    def linear_pass(
        self, model: LinearModel, X: Array, factor: Array | None, shift: Array | None
    ) -> LinearPass | None:
        """A pass that sums over all rows of X by itself; None where blocks of rows are summed."""

    def block_pass(self, loss: str, X: Array, n_outputs: int) -> Callable[..., Any] | None:
        """A fused pass of a block, (X, Y, s, W, b) -> (value, g_W, g_b), where one pays here."""

    def column_sums(self, X: Array, s: Array) -> tuple[Array, Array, Array] | None:
        """Of each column mean, largest magnitude and mean square about the mean, if fused here.

        s (n,) are weights of sum one, float64. Largest magnitudes are one where a column is zero;
        the mean square is that of the column over it. None where the formulas are as fast.
        """

    def reader(self, X: Array) -> Callable[[], None]:
        """A call that reads X once and does nothing else: the ceiling of every pass."""

    def product(self, precision: str) -> Product | None:
        """(a, b, out): out = a b with factors rounded; None where the namespace's own does."""

    def emulates(self, precision: str) -> bool:
        """Whether that product rounds first and is no faster, for want of tensor cores."""

    def step_kernels(self, params: Array, steps: int) -> StepKernels:
        """Fused parts of a training step, where they pay for so many steps an epoch."""

    def gather(self, X: Array, rows: Array, out: Array) -> None:
        """Rows of X by their places, all within it, written to out; nothing leaves the device."""

    def streamer(self, block_rows: int, row: Array) -> Streamer:
        """What computes on blocks of so many rows like row (0, n_features) while others come."""

    def stream_bytes(self, room: int) -> int:
        """Size of a streamed block, as it is computed on, where a fit may take so many bytes."""

    def free_bytes(self) -> int:
        """Memory of the device that a fit may still take."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether this is the refusal of an allocation, on the device or on the host."""

    def release(self) -> None:
        """Give back what is kept of memory that nobody uses any more."""

    def with_smaller_blocks(self) -> Backend:
        """The same with blocks of a quarter of the size."""

    def uploader(self) -> Uploader:
        """What brings rows of host memory to the device behind the computation's back."""

    def load_kernels(self) -> None:
        """Load what large fits will use, so that the report can say whether it works."""

    def report(self) -> BackendReport:
        """Name, device, memory and libraries."""

    def with_fallback(self, reason: str) -> Backend:
        """A copy that remembers why "auto" did not take a backend it prefers."""


def halved_until(n_bytes: int, most: int) -> int:
    """A power of two times less than n_bytes, at most `most`: sizes change in few steps."""
    while n_bytes > max(1, most):
        n_bytes //= 2
    return n_bytes


def row_blocks(n_rows: int, row_bytes: int, block_bytes: int) -> list[slice]:
    """Consecutive slices that cover n_rows, each of about block_bytes and at least one row."""
    rows = max(1, block_bytes // max(1, row_bytes))
    return [slice(start, min(start + rows, n_rows)) for start in range(0, n_rows, rows)]
