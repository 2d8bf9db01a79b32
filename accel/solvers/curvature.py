"""The second derivative of a linear model: as one matrix, or as a metric shared by the outputs.

Both take the second-order model of the objective, in the coordinates of `Standardised`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from accel.backends.base import row_blocks
from accel.backends.interchange import rows_of

Array = Any

# The metric comes from this many rows a feature: its error falls with the root of the number. With
# 20 the conjugate gradients need hardly more products than with all rows, with 4 about twice as
# many (measured on 300,000 x 50: 11, 12 and 27 passes in all); between them, what passes cost.
ROWS_PER_FEATURE = (4, 20)
BLOCK_BYTES = 8 << 20
# A metric of features^2 numbers is worth this many passes: L-BFGS takes more where columns are
# correlated (3,000 x 200: 437 passes, 0.4 s, against 0.09 s).
WORTH = 16
# Up to this width the metric takes no time worth saving, and without one poorly scaled columns take
# hundreds of products (breast cancer, 20 C x 5 folds: 2,198 reads of X instead of 63).
NARROW = 128
# What is added to a unit diagonal: rounding of the matrix, so that a singular one has a factor.
JITTER = {"float64": 1e-13, "float32": 1e-7}
METRIC_JITTER = {"float64": 1e-9, "float32": 1e-6}  # less exact: it must not blow rounding up
CONSTANT = 1e-20  # a diagonal below this part of the largest is the rounding of a constant column
DAMPING = (1e-9, 1e-5, 1e-2)
# A penalty below this part of the curvature does not hold a direction against rounding.
FREE = {"float64": 1e-10, "float32": 1e-5}


def hessian(quadratic: Any, columns: Array | None = None) -> Array:
    r"""The exact Hessian, float64, of all parameters or of those of some columns.

    .. math:: H = \sum_i s_i\, (\tilde x_i \tilde x_i^\top) \otimes C_i + \alpha\, \mathrm{diag}

    Parameters
    ----------
    quadratic : Standardised
        The second-order model.
    columns : array (m,) of int, optional
        Places of columns of `design`, the last of which is the intercept's; all where not given.

    Returns
    -------
    array (n_params, n_params) or (m n_outputs, m n_outputs)
        In the order of the parameters, on the device.
    """
    xp, network, linear = quadratic.backend.xp, quadratic.network, quadratic.problem
    width, K = network.n_in + network.bias, network.n_out
    penalty = xp.astype(quadratic.penalty, xp.float64)
    if columns is not None:
        penalty = xp.take(xp.reshape(penalty, (width, K)), columns, axis=0)
        penalty, width = xp.reshape(penalty, (-1,)), columns.shape[0]
    eye = partial(xp.eye, dtype=xp.float64, device=quadratic.backend.device)
    unit = eye(K)

    def block(X: Array, rows: slice) -> Array:
        X, Y = quadratic.design(X), xp.astype(linear.Y[rows, :], xp.float64, copy=False)
        X = X if columns is None else xp.take(X, columns, axis=1)
        s = xp.astype(linear.weights[rows], xp.float64, copy=False)[:, None]
        blocks = []
        for k in range(K):
            raw = unit[k, :] + 0 * X[:, :1]
            _, C = linear.loss.loss_gradient(Y, raw, xp=xp)  # column k of every C_i
            right = X[:, :, None] * (s * C)[:, None, :]
            right = xp.reshape(right, (X.shape[0], width * K))
            blocks.append(xp.reshape(X.T @ right, (width, 1, width, K)))
        return xp.concat(blocks, axis=1)

    linear.passes["Hessian"] += 1
    H = sum(linear.map_rows(block, 8 * (2 + K) * (network.n_in + network.bias)))
    H = xp.reshape(H, (width * K, width * K))
    return H + eye(width * K) * penalty


def newton_steps(quadratic: Any, gradient: Array) -> Iterator[Array]:
    """-H^-1 gradient, in the dtype of the gradient; then with more and more damping.

    Parameters
    ----------
    quadratic : Standardised
        The second-order model.
    gradient : array (n_params,)
        At its point.

    Yields
    ------
    array (n_params,)
        A direction; the next one, where rounding spoiled this one in a singular H.
    """
    xp = quadratic.backend.xp
    H = hessian(quadratic)
    if quadratic.problem.loss.shift_invariant:
        H = H + _null_space(H, quadratic)
    noise = xp.repeat(quadratic.noise, quadratic.network.n_out)
    for jitter in (JITTER[_dtype(quadratic)], *DAMPING):
        damped, unit = _unit_diagonal(H, noise, xp, jitter)
        step = unit * xp.linalg.solve(damped, unit * xp.astype(gradient, xp.float64))
        yield xp.astype(-step, gradient.dtype)


def _null_space(H: Array, quadratic: Any) -> Array:
    """A curvature of their own for the directions in which all outputs move alike.

    Where they are not penalised the objective is constant along them and its gradient zero: any
    curvature keeps the step from drifting there, and changes nothing else.
    """
    xp, K = quadratic.backend.xp, quadratic.network.n_out
    width = H.shape[0] // K
    diagonal = xp.linalg.diagonal(H)
    held = xp.astype(quadratic.penalty, xp.float64) > FREE[_dtype(quadratic)] * diagonal
    free = xp.where(held, xp.zeros_like(diagonal), diagonal)
    own = xp.mean(xp.reshape(free, (width, K)), axis=1)
    rows = xp.eye(width, dtype=xp.float64, device=H.device) * own
    every = xp.zeros((width, K, width, K), dtype=xp.float64, device=H.device)
    return xp.reshape(rows[:, None, :, None] + every, H.shape)


def metric(quadratic: Any) -> Callable[[Array], Array] | None:
    r"""The inverse of one matrix that stands for the Hessian of every output, in each problem.

    .. math:: M = \frac{\sum_{i \in \text{sample}} s_i\, \bar h_i\, \tilde x_i \tilde x_i^\top}
                  {\sum_{i \in \text{sample}} s_i} + \operatorname{diag}(\text{penalty}),
              \qquad \bar h_i = \operatorname{trace}(C_i) / K

    Parameters
    ----------
    quadratic : Standardised
        The second-order model.

    Returns
    -------
    callable or None
        gradient (..., n_params) -> M^-1 gradient, output by output; None where M would cost more
        than the products it saves: see `affordable`.

    Notes
    -----
    It whitens the columns at the present point: conjugate gradients in it see a Hessian near the
    identity. With one output and all rows it is Newton's method.
    """
    quadratic = quadratic.sample
    network, linear = quadratic.network, quadratic.problem
    width, K = network.n_in + network.bias, network.n_out
    if not affordable(linear.X.shape[0], width, K):
        return None
    xp = quadratic.backend.xp
    M, unit, ridge = _metric_matrix(quadratic, width, K)
    inverse = xp.linalg.inv(M) * unit[:, :, None] * unit[:, None, :]
    # All outputs moving alike changes nothing where it is not penalised: rounding must not either.
    alike = xp.astype(ridge * unit * unit < FREE[_dtype(quadratic)], xp.float64)[:, :, None]
    alike = alike * float(linear.loss.shift_invariant)

    def apply(gradient: Array) -> Array:
        step = inverse @ xp.reshape(xp.astype(gradient, xp.float64), (-1, width, K))
        step = step - alike * xp.mean(step, axis=2, keepdims=True)
        return xp.astype(xp.reshape(step, gradient.shape), gradient.dtype)

    return apply


def face_metric(quadratic: Any, free: Array) -> Callable[[Array], Array] | None:
    """The same with the parameters that are not free held where they are.

    Parameters
    ----------
    quadratic : Standardised
        The second-order model.
    free : array (n_params,)
        1 where a parameter may move, 0 elsewhere.

    Returns
    -------
    callable or None
        As `metric`, with one inverse for each output, of its free rows and columns.
    """
    quadratic = quadratic.sample
    network = quadratic.network
    width, K = network.n_in + network.bias, network.n_out
    if not affordable(quadratic.problem.X.shape[0], width, K):
        return None
    xp = quadratic.backend.xp
    M, unit, _ = _metric_matrix(quadratic, width, K)
    M, unit = M[0, :, :], unit[0, :]
    kept = xp.reshape(xp.astype(free, xp.float64), (width, K)).T
    eye = xp.eye(width, dtype=xp.float64, device=M.device)
    faces = M * kept[:, :, None] * kept[:, None, :] + eye * (1 - kept)[:, None, :]
    scale = unit * kept
    inverse = xp.linalg.inv(faces) * scale[:, :, None] * scale[:, None, :]

    # The intercepts, which no penalty holds, must not drift alike; see `metric`.
    is_intercept = xp.astype(xp.arange(width, device=M.device) >= network.n_in, xp.float64)
    alike = is_intercept * float(quadratic.problem.loss.shift_invariant)

    def apply(gradient: Array) -> Array:
        G = xp.reshape(xp.astype(gradient, xp.float64), (width, K))
        step = (inverse @ G.T[:, :, None])[:, :, 0].T
        step = step - alike[:, None] * xp.mean(step, axis=1, keepdims=True)
        return xp.astype(xp.reshape(step, (-1,)), gradient.dtype)

    return apply


def _metric_matrix(quadratic: Any, width: int, K: int) -> tuple[Array, Array, Array]:
    """M brought to a unit diagonal, what did that, and the ridge."""
    xp, linear = quadratic.backend.xp, quadratic.problem
    n = linear.X.shape[0]
    step = _sampling_step(n, width, K)
    blocks = row_blocks(n, 8 * width // step + 1, BLOCK_BYTES)
    samples = [slice(-(-block.start // step) * step, block.stop, step) for block in blocks]
    M: Any = 0.0
    total: Any = 0.0
    for rows in (rows for rows in samples if rows.start < rows.stop):
        X, (s, h) = quadratic.design(rows_of(linear.X, rows)), linear.mean_curvature(rows)
        products = [X.T @ (X * (s * h)[:, b, None]) for b in range(s.shape[1])]
        M, total = M + xp.stack(products), total + xp.sum(s, axis=0)
    total = xp.where(total > 0, total, xp.ones_like(total))  # a sample may miss all of a fold
    ridge = xp.reshape(xp.astype(quadratic.penalty, xp.float64), (-1, width, K))[:, :, 0]
    eye = xp.eye(width, dtype=xp.float64, device=quadratic.backend.device)
    M = M / total[:, None, None] + eye * ridge[:, None, :]
    M, unit = _unit_diagonal(M, quadratic.noise, xp, METRIC_JITTER[_dtype(quadratic)])
    return M, unit, ridge


def _dtype(quadratic: Any) -> str:
    """float64 or float32: the arithmetic whose rounding a Newton step has to bear."""
    return str(quadratic.penalty.dtype).rpartition(".")[2]


def _sampling_step(n: int, width: int, K: int) -> int:
    """Every how many rows one is taken."""
    fewest, most = ROWS_PER_FEATURE
    if n <= most * width:
        return 1
    return max(1, n // (width * min(most, max(fewest, fewest * n * K // (width * width)))))


def affordable(n_samples: int, width: int, n_outputs: int) -> bool:
    """Whether a metric costs less than the passes it saves, or is narrow enough to cost nothing."""
    return width * width <= WORTH * n_samples * n_outputs or width <= min(n_samples, NARROW)


def _unit_diagonal(H: Array, noise: Array, xp: Any, jitter: float) -> tuple[Array, Array]:
    """D H D with a diagonal of one and a little more, and D; of one matrix or of a stack.

    A diagonal at the level of rounding is that of a constant column, which is left out.
    """
    diagonal = xp.linalg.diagonal(H)
    positive = (diagonal > CONSTANT * xp.max(diagonal, axis=-1, keepdims=True)) & (diagonal > noise)
    unit = xp.where(positive, diagonal, xp.ones_like(diagonal)) ** -0.5
    H = H * unit[..., :, None] * unit[..., None, :]
    added = jitter + xp.where(positive, xp.zeros_like(diagonal), xp.ones_like(diagonal))
    eye = xp.eye(H.shape[-1], dtype=xp.float64, device=H.device)
    return H + eye * added[..., None, :], unit
