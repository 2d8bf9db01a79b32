"""Logistic regression, binary and multinomial."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from accel.backends.interchange import to_host
from accel.estimators.account import Account, Explained, Stages
from accel.estimators.callbacks import CallbackSupport, FitTasks, has_callbacks, managed
from accel.estimators.checks import (
    Targets,
    check_start,
    old_model_kept,
    opened,
)
from accel.estimators.dispatch import move_attributes
from accel.estimators.distributed_fit import distributed_problem, is_on_cluster
from accel.estimators.fit_store import checkpoint_of
from accel.estimators.forecast import forecast
from accel.estimators.linear import LinearClassifier, coefficients, dense_coef
from accel.estimators.linear_fit import Problem, fit_linear, local_problem
from accel.estimators.options import Options, options_of, solver_of
from accel.estimators.prediction import n_outputs_for
from accel.objective import Objective
from accel.placement import Place
from accel.solvers import SOLVERS, Progress, Solution, Status
from accel.solvers.status import UNFINISHED

Array = Any
PRINT_EVERY = 10


class LogisticRegression(CallbackSupport, Explained, LinearClassifier):
    r"""Logistic regression on the CPU or on an NVIDIA GPU.

    .. math:: \min_{W, b} \; \frac{1}{S} \sum_i s_i\, \ell(y_i, x_i W + b)
              + \frac{1}{C S} \left( \frac{1 - \rho}{2} |W|_2^2 + \rho |W|_1 \right),
              \qquad S = \sum_i s_i

    with the logistic loss for two classes and the softmax cross-entropy for more: the objective
    of scikit-learn's LogisticRegression. b is not penalised.

    Parameters
    ----------
    penalty : {"deprecated", "l1", "l2", "elasticnet", None}, default="deprecated"
        As in scikit-learn before 1.8; give C and l1_ratio instead.
    C : float, default=1.0
        Inverse strength of the penalty; `inf` for none.
    l1_ratio : float, default=0.0
        Share :math:`\rho` of the l1 norm in the penalty: 0 is l2, 1 is l1, with exact zeros.
    dual : bool, default=False
        Accepted with solver="liblinear", as in scikit-learn; the optimum is the same.
    solver : str, default="auto"
        "auto" chooses from the shape of X among "lbfgs", "newton-cg" and "newton-cholesky", which
        reach the same optimum; an l1 part has its own. "gd" is full-batch gradient descent with
        the fixed `learning_rate`. scikit-learn's "liblinear", "sag" and "saga" mean "auto".
    fit_intercept : bool, default=True
        Whether to learn b.
    intercept_scaling : float, default=1.0
        No effect: b is never penalised, so there is nothing to lessen.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied into sample_weight.
    max_iter : int, default=1000
        Largest number of updates.
    tol : float, default=1e-4
        Stop when max|gradient| of the objective above is at most this; with an l1 part, the
        largest component of its subgradient of least norm.
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
    n_jobs : int or None, default=None
        No effect, as in scikit-learn since 1.8.
    placement : {"auto", "resident", "stream"}, default="auto"
        "auto" keeps X whole where it is computed on if there is room, and else brings it there
        block by block in every pass; as memory runs out it goes on in smaller blocks, streamed,
        and on the CPU unless `backend` requires a GPU. The others require.
    checkpoint : str, Path or None, default=None
        Folder in which the state is kept, so that a fit that is killed goes on from there, to
        bitwise the same end on the same backend and the same blocks of rows.
    checkpoint_every : int, default=1
        Updates between two states.

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
    n_passes_ : int
        Reads of X; looks at a sample of its rows are not counted.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray (n_features,)
        Names of the columns, where X had string names.
    loss_curve_ : ndarray (n_iter_,)
        Objective before update i.
    objective_ : float
        Objective at the result, in float64 whatever the dtype of X.
    gradient_norm_ : float
        max|gradient| at the result: the certificate that it is the optimum.
    gap_ : float
        Duality gap at the result: the objective is at most this much above its minimum,
        :math:`|g_W|^2 / 2 \alpha` for l2, in float64, of columns less their means. As large as the
        objective itself where the penalty is too weak for a bound, or there is none.
    status_ : Status
        How the fit ended; its value is a sentence that says what to do.
    backend_ : BackendReport
        Where it ran, and why not on a GPU if "auto" wanted one.
    account_ : Account
        What `explain` prints.

    Notes
    -----
    Predictions are computed where X lies and come back in its namespace, on its device: a model
    trained on a GPU predicts on a machine without one. Labels that are not numbers (strings)
    always come back as NumPy.
    """

    def __init__(
        self,
        penalty: Any = "deprecated",
        *,
        C: float = 1.0,
        l1_ratio: float = 0.0,
        dual: bool = False,
        solver: str = "auto",
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
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
        n_jobs: Any = None,
        placement: str = "auto",
        checkpoint: Any = None,
        checkpoint_every: int = 1,
    ) -> None:
        self.penalty = penalty
        self.C = C
        self.l1_ratio = l1_ratio
        self.dual = dual
        self.solver = solver
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
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
        self.n_jobs = n_jobs
        self.placement = placement
        self.checkpoint = checkpoint
        self.checkpoint_every = checkpoint_every

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
        X : array-like or Source (n_samples, n_features)
            NumPy, CuPy, torch, lists, a data frame, or sparse (scipy's or cupyx's, used as CSR and
            never made dense). Larger than memory: a memmap, an object with shape, dtype and row
            slices (h5py, zarr), a path or `accel.open_data(path).X`. On the workers of a dask
            cluster: a dask array or data frame, or `accel.cluster.spread(path)`. float64 and
            float32 are computed in; uint8, int8, float16 and bfloat16 are trained on as they lie,
            in float32 arithmetic; everything else becomes float64. Not modified.
        y : array-like (n_samples,)
            Labels of any type: integers with gaps, strings, booleans. None where X is a path with
            labels.
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
        fit = managed(type(self)._fit) if has_callbacks(self) else type(self)._fit
        with old_model_kept(self, "coef_"):
            fit(self, X, y, sample_weight, coef_init, intercept_init)
        return self

    def explain(self, X: Any = None, y: Any = None, sample_weight: Any = None) -> str:
        """What the last fit did, or, where X is given, what a fit on it would do.

        Parameters
        ----------
        X : array-like or Source (n_samples, n_features), optional
            As for `fit`; nothing of it is computed on, and of a source nothing is read.
        y : array-like (n_samples,), optional
            Labels.
        sample_weight : array-like (n_samples,), optional
            Weights.

        Returns
        -------
        str
            Lines of at most 80 columns: choices and reasons, passes over X, time, place, ending; or
            placement, memory and solver of a fit to come.
        """
        if X is None:
            return super().explain()
        if is_on_cluster(X):
            raise ValueError(
                "explain(X, y) is for X on this machine: on a cluster each worker plans."
            )
        other, stages, options = clone(self), Stages(), options_of(self)
        X, y, sample_weight = opened(X, y, sample_weight)
        posed = other._posed(X, y, sample_weight, options, stages, None, None)
        with posed as (problem, ladder, _):
            return forecast(problem, next(iter(ladder)), problem.words(type(self).__name__))

    def _posed(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        options: Options,
        stages: Stages,
        coef_init: Any,
        intercept_init: Any,
    ) -> AbstractContextManager[tuple[Problem, Iterable[Place], Callable[[], Any]]]:
        """The problem, where to try it, and that in words: here, or on the workers of a cluster."""
        pose = distributed_problem if is_on_cluster(X) else local_problem
        solver = partial(solver_of, self, options)
        start = partial(self._start, options, coef_init, intercept_init)
        return pose(self, X, y, sample_weight, options, stages, solver, start)

    def _fit(self, X: Any, y: Any, sample_weight: Any, coef_init: Any, intercept_init: Any) -> None:
        stages = Stages()
        with stages("check"):
            options = options_of(self)
            X, y, sample_weight = opened(X, y, sample_weight)
        posed = self._posed(X, y, sample_weight, options, stages, coef_init, intercept_init)
        with posed as (problem, ladder, where):
            targets, tasks = problem.targets, None
            checkpoint = checkpoint_of(problem, warm_start=self.warm_start)
            if self.verbose:
                print(f"Training on {where()}")
            if has_callbacks(self):
                data = {"X": X, "y": y, "sample_weight": sample_weight}
                tasks = FitTasks(self, max_iter=options.max_iter, **data)

            def on_progress(objective: Objective, progress: Progress) -> Any:
                def fitted() -> dict[str, Any]:
                    params = objective.backend.to_numpy(progress.params())
                    return _fitted(objective, targets.classes, params)

                return self._on_progress(tasks, fitted, progress)

            fit = fit_linear(problem, ladder, stages, callback=on_progress, checkpoint=checkpoint)
        attributes = _fitted(fit.objective, targets.classes, fit.params)
        ending = fit.solution.sentence(options.tol)
        account = Account(
            what=problem.words(type(self).__name__),
            backend=fit.backend.report(),
            reasons=(*fit.reasons, *_mapped(self.solver)),
            passes=dict(fit.objective.passes),
            small_passes=dict(fit.way.small_passes),
            seconds=stages.seconds,
            ending=ending,
        )
        self._keep(attributes, fit.solution, account)
        if tasks is not None:
            tasks.end(lambda: attributes)
        move_attributes(self, X)
        self._judge(fit.solution, ending)

    def _start(
        self, options: Options, coef_init: Any, intercept_init: Any, X: Any, targets: Targets
    ) -> Array:
        """Start of the parameters: what was given, the last fit, or zero; on the host."""
        shape = (n_outputs_for(len(targets.classes)), X.shape[1])
        previous = vars(self).get("coef_")
        resumes = self.warm_start and previous is not None and previous.shape == shape
        if resumes and coef_init is None and intercept_init is None:
            coef_init, intercept_init = dense_coef(self), to_host(self.intercept_)
        dtype = np.float64 if str(X.dtype).endswith("float64") else np.float32
        W = check_start("coef_init", coef_init, shape, dtype).T.reshape(-1)
        b = check_start("intercept_init", intercept_init, shape[:1], dtype)
        return np.concatenate([W, b]) if options.fit_intercept else W

    def _keep(self, attributes: dict[str, Any], solution: Solution, account: Account) -> None:
        """Fitted attributes, all at once, on the host."""
        for name, value in attributes.items():
            setattr(self, name, value)
        self.n_iter_ = np.array([solution.n_iter], dtype=np.int32)
        self.loss_curve_ = np.array(solution.history)
        self.objective_ = solution.value
        self.gradient_norm_, self.gap_ = solution.error, solution.gap
        self.status_ = solution.status
        self.n_passes_ = sum(account.passes.values())
        self.backend_ = account.backend
        self.account_ = account

    def _on_progress(
        self, tasks: FitTasks | None, fitted: Callable[[], dict[str, Any]], progress: Progress
    ) -> Any:
        if self.verbose and progress.n_iter % PRINT_EVERY == 0:
            print(f"Cost after iteration {progress.n_iter}: {progress.value:f}")
        stop = tasks.update(fitted) if tasks is not None else False
        return (self.callback(progress) if self.callback is not None else None) or stop

    def _judge(self, solution: Solution, ending: str) -> None:
        """Say how it ended: aloud where the optimum was not reached."""
        if self.verbose:
            print(ending)
        if solution.unsaved is not None:
            raise solution.unsaved
        if solution.status is Status.INTERRUPTED:
            raise KeyboardInterrupt(ending)
        if solution.status in UNFINISHED:
            warnings.warn(ending, ConvergenceWarning, stacklevel=4)


def _fitted(objective: Objective, classes: Any, params: Any) -> dict[str, Any]:
    """What predictions need, as fitted attributes, from the parameters on the host."""
    coef, intercept = coefficients(objective.network, params)
    if objective.l1 is not None and objective.network.n_out > 1:
        # softmax leaves the sum of the intercepts open, and centred columns fill it at random
        intercept = intercept - intercept.mean()
    return {
        "classes_": classes,
        "n_features_in_": objective.network.n_in,
        "input_scale_": objective.input_scale,
        "coef_": coef,
        "intercept_": intercept,
    }


def _mapped(solver: str) -> tuple[str, ...]:
    """A word on names that are scikit-learn's only."""
    if solver in SOLVERS or solver == "auto":
        return ()
    if solver == "liblinear":
        return (
            "solver='liblinear' is scikit-learn's name; it penalises the intercept there, here it "
            "is free: the optimum is that of the other solvers.",
        )
    return (f"solver={solver!r} is scikit-learn's name; the optimum is the same.",)
