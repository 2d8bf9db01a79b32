"""Logistic regression, binary and multinomial."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from accel.backends import Backend, backend_for
from accel.backends.interchange import device_of
from accel.estimators.checks import (
    Targets,
    arithmetic_dtype,
    check_choice,
    check_count,
    check_flag,
    check_number,
    check_start,
    check_targets,
    check_X,
)
from accel.estimators.linear import LinearClassifier, loss_for
from accel.network import Network
from accel.objective import Objective
from accel.solvers import SOLVERS, Progress, Solution, Status, minimize, plan

Array = Any
PRINT_EVERY = 10
FLOAT32_RANGE = (float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max))


class LogisticRegression(LinearClassifier):
    r"""Logistic regression on the CPU or on an NVIDIA GPU.

    .. math:: \min_{W, b} \; \frac{1}{S} \sum_i s_i\, \ell(y_i, x_i W + b) + \frac{1}{2 C S} |W|^2,
              \qquad S = \sum_i s_i

    with the logistic loss for two classes and the softmax cross-entropy for more: the objective
    of scikit-learn's LogisticRegression. b is not penalised.

    Parameters
    ----------
    C : float, default=1.0
        Inverse strength of the penalty; `inf` for none.
    solver : {"auto", "lbfgs", "newton-cg", "newton-cholesky", "gd"}, default="auto"
        "auto" chooses from the shape of X among the next three, which reach the same optimum;
        "gd" is full-batch gradient descent with the fixed `learning_rate`.
    fit_intercept : bool, default=True
        Whether to learn b.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied into sample_weight.
    max_iter : int, default=1000
        Largest number of updates.
    tol : float, default=1e-4
        Stop when max|gradient| of the objective above is at most this.
    learning_rate : float, default=0.01
        Step of "gd"; the other solvers do not use it.
    warm_start : bool, default=False
        Start from the coefficients of the last fit, where their shapes agree.
    random_state : int, RandomState or None, default=None
        Accepted for scikit-learn's sake: nothing here is random.
    verbose : int, default=0
        1 prints where it runs, the cost after every ten updates and how it ended.
    input_scale : float, default=1.0
        Factor of X, applied to the coefficients instead of the data: pixels as uint8 with
        ``input_scale=1/255`` give the model of ``X / 255`` without a copy of X.
    backend : str, default="auto"
        "auto", "numpy", "cupy" or "cupy:N", see `accel.get_backend`. "auto" stays on the GPU
        where X already lies.
    callback : callable, optional
        Called with an `accel.solvers.Progress` before each update; a true result ends the fit.

    Attributes
    ----------
    coef_ : ndarray (1 or n_classes, n_features)
        W transposed, in the dtype of X (float32 or float64), on the host.
    intercept_ : ndarray (1 or n_classes,)
        b.
    classes_ : ndarray (n_classes,)
        Labels, sorted.
    input_scale_ : float
        The factor of X that the coefficients were learned with; predictions use it.
    n_iter_ : ndarray (1,) of int32
        Updates done.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray (n_features,)
        Names of the columns, where X had string names.
    loss_curve_ : ndarray (n_iter_,)
        Objective before update i.
    objective_ : float
        Objective at the result.
    gradient_norm_ : float
        max|gradient| at the result: the certificate that it is the optimum.
    status_ : Status
        How the fit ended; its value is a sentence that says what to do.
    backend_ : BackendReport
        Where it ran, and why not on a GPU if "auto" wanted one.

    Notes
    -----
    Predictions are computed where X lies and come back in its namespace, on its device: a model
    trained on a GPU predicts on a machine without one. Labels that are not numbers (strings)
    always come back as NumPy.
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        solver: str = "auto",
        fit_intercept: bool = True,
        class_weight: Any = None,
        max_iter: int = 1000,
        tol: float = 1e-4,
        learning_rate: float = 0.01,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
        input_scale: float = 1.0,
        backend: str = "auto",
        callback: Callable[[Progress], Any] | None = None,
    ) -> None:
        self.C = C
        self.solver = solver
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.tol = tol
        self.learning_rate = learning_rate
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.input_scale = input_scale
        self.backend = backend
        self.callback = callback

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        coef_init: Any = None,
        intercept_init: Any = None,
    ) -> LogisticRegression:
        """Learn W and b.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            NumPy, CuPy, torch, lists or a data frame. float64 and float32 are computed in; uint8,
            int8, float16 and bfloat16 are trained on as they lie, in float32 arithmetic; everything
            else becomes float64. Not modified.
        y : array-like (n_samples,)
            Labels of any type: integers with gaps, strings, booleans.
        sample_weight : array-like (n_samples,), optional
            Non-negative weights; 2 is the same as the row twice, 0 the same as no row.
        coef_init : array-like (1 or n_classes, n_features), optional
            Start of W transposed; zero where not given.
        intercept_init : array-like (1 or n_classes,), optional
            Start of b; zero where not given.

        Returns
        -------
        LogisticRegression
            This estimator, fitted.

        Raises
        ------
        ValueError
            If an argument is out of range, has the wrong shape or holds NaN.
        accel.BackendUnavailable
            If a backend was required that cannot be used.
        """
        tol = check_number("tol", self.tol, at_least=0)
        max_iter = check_count("max_iter", self.max_iter)
        learning_rate = check_number("learning_rate", self.learning_rate, above=0, finite=True)
        solver = check_choice("solver", self.solver, ["auto", *SOLVERS])
        with device_of(X):
            X = check_X(self, X, fitting=True)
        targets = check_targets(y, X.shape[0], sample_weight, self.class_weight)
        backend = backend_for(self.backend, X)
        report = backend.report()
        if self.verbose:
            print(f"Training on {report}")
        with backend.context():
            objective = self._objective(backend.asarray(X), targets, backend)
            start = self._start(objective, coef_init, intercept_init)
            way = plan(objective, start, solver, learning_rate=learning_rate, max_iter=max_iter)
            solution = minimize(
                way.problem,
                way.start,
                way.solver,
                tol=tol,
                max_iter=max_iter,
                callback=self._on_progress,
            )
            params = backend.to_numpy(way.problem.expand(solution.params))
        self._keep(objective, targets.classes, solution, params)
        self.backend_ = report
        self._judge(solution, tol)
        return self

    def _objective(self, X: Array, targets: Targets, backend: Backend) -> Objective:
        """The objective on the backend's device: scikit-learn's C becomes alpha here."""
        C = check_number("C", self.C, above=0)
        input_scale = check_number("input_scale", self.input_scale, above=0, finite=True)
        if not FLOAT32_RANGE[0] <= input_scale <= FLOAT32_RANGE[1]:
            raise ValueError(f"input_scale={input_scale} is beyond float32: scale X itself.")
        loss = loss_for(len(targets.classes))
        total = targets.total
        return Objective(
            X,
            backend.asarray(loss.encode_target(targets.index)),
            backend.asarray(targets.weight / total, dtype=arithmetic_dtype(X, backend.xp)),
            loss=loss,
            network=Network(
                n_in=X.shape[1],
                n_out=loss.n_outputs(len(targets.classes)),
                bias=check_flag("fit_intercept", self.fit_intercept),
            ),
            alpha=1 / (C * total) if C * total > 0 else float("inf"),
            backend=backend,
            input_scale=input_scale,
        )

    def _start(self, objective: Objective, coef_init: Any, intercept_init: Any) -> Array:
        """Start of the parameters: what was given, the last fit, or zero."""
        network, backend = objective.network, objective.backend
        shape = (network.n_out, network.n_in)
        previous = vars(self).get("coef_")
        resumes = self.warm_start and previous is not None and previous.shape == shape
        if resumes and coef_init is None and intercept_init is None:
            coef_init, intercept_init = previous, self.intercept_
        dtype = np.dtype(str(objective.weights.dtype).rpartition(".")[2])
        W = check_start("coef_init", coef_init, shape, dtype).T.reshape(-1)
        b = check_start("intercept_init", intercept_init, shape[:1], dtype)
        return backend.asarray(np.concatenate([W, b]) if network.bias else W)

    def _keep(self, objective: Objective, classes: Any, solution: Solution, params: Any) -> None:
        """Fitted attributes, all at once, on the host."""
        network = objective.network
        ((W, b),) = network.layers(params, xp=np)
        self.classes_ = classes
        self.input_scale_ = objective.input_scale
        self.coef_ = W.T.copy()
        self.intercept_ = np.zeros(network.n_out, dtype=W.dtype) if b is None else b.copy()
        self.n_iter_ = np.array([solution.n_iter], dtype=np.int32)
        self.loss_curve_ = np.array(solution.history)
        self.objective_ = solution.value
        self.gradient_norm_ = solution.error
        self.status_ = solution.status

    def _on_progress(self, progress: Progress) -> Any:
        if self.verbose and progress.n_iter % PRINT_EVERY == 0:
            print(f"Cost after iteration {progress.n_iter}: {progress.value:f}")
        return self.callback(progress) if self.callback is not None else None

    def _judge(self, solution: Solution, tol: float) -> None:
        """Say how it ended: aloud where the optimum was not reached."""
        account = (
            f"{solution.status.name} after {solution.n_iter} iterations, objective "
            f"{solution.value:.8g}, max|gradient| {solution.error:.3g}, tol {tol:.3g}: "
            f"{solution.status.value}"
        )
        if self.verbose:
            print(account)
        if solution.status is Status.INTERRUPTED:
            raise KeyboardInterrupt(account)
        if solution.status in (Status.MAX_ITER, Status.STALLED, Status.DIVERGED):
            warnings.warn(account, ConvergenceWarning, stacklevel=3)
