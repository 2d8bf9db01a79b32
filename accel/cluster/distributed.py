"""X on the workers of a dask cluster: one task a part and pass, sums in a tree of fixed shape."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.backends.base import first_line

Array = Any
FAN_IN = 8
# Parameters larger than this travel once to each worker and not with each task.
TRIES = 3  # of a pass for which a worker has no room
EMBEDDED_BYTES = 100_000
LOOK_S = 5.0  # how often, while waiting, somebody looks whether there are workers at all
ALONE_S = 60.0  # how long a fit waits without any


class ClusterError(RuntimeError):
    """The cluster cannot go on: the message says why and what to do."""


class Distributed:
    """X as parts on the workers, which hold their rows with labels and weights and sum over them.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    parts : list of Delayed
        Persisted objectives, each over its rows on its worker: without penalty, with the weights of
        its rows over the total weight of all, so that their sum is the mean loss.
    shape : tuple of int
        Of X.
    dtype : dtype
        In which X is stored.
    identity : callable
        () -> what the data is, for a checkpoint.

    Notes
    -----
    A part that is lost with its worker is built again by dask from what it was built from. The
    tree of the sums is given by the order of the parts, so the bits of a result depend neither on
    the number of workers nor on which of them answers first.
    """

    def __init__(
        self,
        client: Any,
        parts: list[Any],
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        identity: Callable[[], str],
    ) -> None:
        self.client, self.parts, self.shape, self.dtype = client, parts, shape, dtype
        self.size = shape[0] * shape[1]
        self.nbytes = self.size * dtype.itemsize
        self.identity = identity
        self._curvatures: list[Any] = [None] * len(parts)
        self._is_exact = False

    def value_and_grad(self, params: NDArray[Any]) -> tuple[Any, NDArray[Any]]:
        """Sums over all rows of the weighted loss and of its gradient.

        Parameters
        ----------
        params : ndarray (n_params,)
            On the client.

        Returns
        -------
        value : float64
            On the client.
        gradient : ndarray (n_params,)
            On the client.

        Raises
        ------
        ClusterError
            If there are no workers any more, or they die of this.
        """
        sums = self._each(_sums, self._curvatures, params, self._is_exact)
        while len(sums) > 1:
            sums = [task(_add)(*sums[k : k + FAN_IN]) for k in range(0, len(sums), FAN_IN)]
        value, gradient = answers(self.client, sums)[0]
        return value, gradient

    def quadratic(self, params: NDArray[Any]) -> Distributed:
        """The second-order model at params: the curvatures of the rows stay with them."""
        model = copy(self)
        none = [None] * len(self.parts)
        model._curvatures = self.client.persist(self._each(_curvature, none, params))
        return model

    def in_float64(self) -> Distributed:
        """The same over the same rows, in float64 arithmetic."""
        exact = copy(self)
        exact._is_exact = True
        return exact

    def _each(self, function: Callable[..., Any], curvatures: list[Any], *more: Any) -> list[Any]:
        """Tasks function(part, curvature, params, ...), each where its part is."""
        params = more[0]
        if params.nbytes > EMBEDDED_BYTES:
            params = task(np.asarray)(params)
        return [
            task(function)(part, curvature, params, *more[1:])
            for part, curvature in zip(self.parts, curvatures, strict=True)
        ]


def is_distributed(X: Array) -> bool:
    """Whether its rows lie on the workers of a cluster."""
    return isinstance(X, Distributed)


def _sums(part: Any, curvature: Array, params: NDArray[Any], is_exact: bool) -> tuple[Any, Any]:
    """On a worker: value and gradient of a part, or of its second-order model, on the host."""

    def sums(part: Any) -> tuple[Any, Any]:
        model = part if curvature is None else part.second_order(curvature)
        model, backend = model.in_float64() if is_exact else model, part.backend
        with backend.context(), np.errstate(all="ignore"):  # overflow is judged on the client
            value, gradient = model.value_and_grad(backend.asarray(params))
            return np.float64(backend.scalars(value)[0]), backend.to_numpy(gradient)

    found: tuple[Any, Any] = _in_room(part, sums)
    return found


def _curvature(part: Any, _: None, params: NDArray[Any]) -> Array:
    """On a worker: the curvatures of the rows of a part, left where they are."""

    def curvature(part: Any) -> Array:
        with part.backend.context(), np.errstate(all="ignore"):
            return part.curvature(part.backend.asarray(params))

    return _in_room(part, curvature)


def _in_room(part: Any, compute: Callable[[Any], Any]) -> Any:
    """On a worker: compute(part); where memory runs out, in blocks of a quarter and a sixteenth."""
    for _ in range(TRIES):
        try:
            return compute(part)
        except Exception as error:
            if not part.backend.is_out_of_memory(error):
                raise
            why = first_line(error)
        gc.collect()
        part.backend.release()
        part = part.with_smaller_blocks()
    raise MemoryError(f"a worker has no room for a pass over its partition: {why}")


def _add(*sums: tuple[Any, Any]) -> tuple[Any, Any]:
    """On a worker: sums of values and gradients, from left to right."""
    value, gradient = sums[0]
    with np.errstate(all="ignore"):
        for more_value, more_gradient in sums[1:]:
            value, gradient = value + more_value, gradient + more_gradient
    return value, gradient


def task(function: Callable[..., Any]) -> Callable[..., Any]:
    """What makes tasks of calls, each with a name of its own: a pass is not remembered.

    Parameters
    ----------
    function : callable
        What a worker runs.

    Returns
    -------
    callable
        With the arguments of function, of which Delayed ones are tasks; gives a Delayed.
    """
    from dask import delayed

    made: Callable[..., Any] = delayed(function, pure=False)
    return made


def answers(client: Any, tasks: Sequence[Any]) -> list[Any]:
    """The results of tasks, on the client.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    tasks : sequence of Delayed
        Whose results are small.

    Returns
    -------
    list
        In their order.

    Raises
    ------
    ClusterError
        If there is no worker for `ALONE_S` seconds, workers die of a task, or the scheduler is
        gone. What a task itself raised is raised as it is.
    """
    from distributed import KilledWorker, futures_of, wait
    from distributed.client import FutureCancelledError

    futures = futures_of(client.persist(list(tasks), optimize_graph=False))
    alone_since = None
    try:
        while any(not future.done() for future in futures):
            try:
                wait(futures, timeout=LOOK_S)
            except TimeoutError:
                now = time.monotonic()
                alone_since = None if _has_workers(client) else alone_since or now
                if alone_since is not None and now - alone_since > ALONE_S:
                    raise ClusterError(
                        f"The cluster has had no workers for {ALONE_S:.0f} s: start some and fit "
                        "again."
                    ) from None
        results: list[Any] = client.gather(futures)
    except KilledWorker as error:
        raise ClusterError(
            f"Workers died again and again of the same task ({first_line(error)}): give them more "
            "memory, or cut X into smaller partitions."
        ) from error
    except FutureCancelledError as error:
        raise ClusterError(
            f"The cluster has lost the fit ({first_line(error)}): see whether its scheduler is up."
        ) from error
    finally:
        for future in futures:  # a traceback would keep them
            future.release()
    return results


def _has_workers(client: Any) -> bool:
    try:
        return bool(client.nthreads())
    except OSError:  # the scheduler does not answer either
        return False


def let_go(tasks: Sequence[Any]) -> None:
    """Let the workers forget the results of persisted tasks."""
    from distributed import futures_of

    for future in futures_of(tasks):
        future.release()


def client_here() -> Any:
    """The client that is active.

    Raises
    ------
    ValueError
        If there is none: nothing is computed in this process behind the caller's back.
    """
    from distributed import get_client

    try:
        return get_client()
    except ValueError:
        raise ValueError(
            "X lies on a dask cluster, but no client is active: start one first, "
            "from dask.distributed import Client; client = Client()."
        ) from None
