"""Logistic regression, binary and multinomial."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import assert_all_finite
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, column_or_1d

from accel.backends import Backend, backend_for
from accel.backends.interchange import like, namespace, to_host
from accel.estimators.checks import check_choice, check_count, check_number, check_start, check_X
from accel.losses import LOSSES, Loss
from accel.network import Network
from accel.objective import Objective
from accel.solvers import SOLVERS, Progress, Solution, Solver, Status, minimize

Array = Any
PRINT_EVERY = 10


class LogisticRegression(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    r"""Logistic regression on the CPU or on an NVIDIA GPU.

    .. math:: \min_{W, b} \; \frac{1}{S} \sum_i s_i\, \ell(y_i, x_i W + b) + \frac{1}{2 C S} |W|^2,
              \qquad S = \sum_i s_i

    with the logistic loss for two classes and the softmax cross-entropy for more: the objective
    of scikit-learn's LogisticRegression. b is not penalised.

    Parameters
    ----------
    C : float, default=1.0
        Inverse strength of the penalty; `inf` for none.
    solver : {"auto", "lbfgs", "gd"}, default="auto"
        "lbfgs" finds its own step lengths; "gd" is full-batch gradient descent with the fixed
        `learning_rate`. "auto" is "lbfgs".
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
            NumPy, CuPy, torch, lists or a data frame. float32 stays float32, everything else
            becomes float64. Not modified.
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
        solver = self._solver()
        X = check_X(self, X, fitting=True)
        y, weight = self._targets(X, y, sample_weight)
        backend = backend_for(self.backend, X)
        self.backend_ = backend.report()
        if self.verbose:
            print(f"Training on {self.backend_}")
        previous = vars(self).get("coef_"), vars(self).get("intercept_")
        with backend.context():
            objective = self._objective(backend.asarray(X), y, weight, backend)
            start = self._start(objective.network, coef_init, intercept_init, previous)
            solution = minimize(
                objective,
                backend.asarray(start, dtype=objective.X.dtype),
                solver,
                tol=tol,
                max_iter=max_iter,
                callback=self._on_progress,
            )
            self._keep(objective.network, solution, backend.to_numpy(solution.params))
        self._judge(solution, tol)
        return self

    def decision_function(self, X: Any) -> Array:
        """Raw predictions Z = X W + b.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.

        Returns
        -------
        array (n_samples,) for two classes, else (n_samples, n_classes)
            In the namespace and on the device of X.
        """
        raw = self._raw_prediction(check_X(self, X, fitting=False))
        return raw[:, 0] if raw.shape[1] == 1 else raw

    def predict_proba(self, X: Any) -> Array:
        """Probability of every class.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.

        Returns
        -------
        array (n_samples, n_classes)
            Rows sum to one; in the namespace and on the device of X.
        """
        raw = self._raw_prediction(check_X(self, X, fitting=False))
        return self._loss().probabilities(raw, xp=namespace(raw))

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithm of the probability of every class, computed from Z: never log(0).

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.

        Returns
        -------
        array (n_samples, n_classes)
            In the namespace and on the device of X.
        """
        raw = self._raw_prediction(check_X(self, X, fitting=False))
        return self._loss().log_probabilities(raw, xp=namespace(raw))

    def predict(self, X: Any) -> Array:
        """Most probable label of every row.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.

        Returns
        -------
        array (n_samples,)
            Labels; in the namespace and on the device of X where they are numbers or booleans.
        """
        raw = self._raw_prediction(check_X(self, X, fitting=False))
        xp = namespace(raw)
        binary = raw.shape[1] == 1
        index = xp.astype(raw[:, 0] > 0, xp.int64) if binary else xp.argmax(raw, axis=1)
        if self.classes_.dtype.kind in "biuf":
            return xp.take(like(self.classes_, raw), index)
        return self.classes_[to_host(index)]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Accuracy: the share of rows whose label is predicted.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.
        y : array-like (n_samples,)
            True labels.
        sample_weight : array-like (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        float
            Between 0 and 1.
        """
        from sklearn.metrics import accuracy_score  # 40 ms that `import accel` need not pay

        labels, weight = to_host(self.predict(X)), to_host(sample_weight)
        return float(accuracy_score(to_host(y), labels, sample_weight=weight))

    def _solver(self) -> Solver:
        learning_rate = check_number("learning_rate", self.learning_rate, above=0)
        name = check_choice("solver", self.solver, ["auto", *SOLVERS])
        return SOLVERS["lbfgs" if name == "auto" else name](learning_rate)

    def _targets(self, X: Array, y: Any, sample_weight: Any) -> tuple[Any, Any]:
        """Label indices and weights on the host, where unique and validation are exact."""
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        y = column_or_1d(to_host(y), warn=True)
        if len(y) != X.shape[0]:
            raise ValueError(f"y has {len(y)} labels but X has {X.shape[0]} rows: pass one a row.")
        assert_all_finite(y, input_name="y")
        check_classification_targets(y)
        classes, label_index = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"y holds only one class ({classes[0]!r}): a classifier needs at least two classes."
            )
        weight = _check_sample_weight(
            to_host(sample_weight), y, dtype=np.float64, ensure_non_negative=True
        )
        if self.class_weight is not None:
            weight = weight * self._class_weights(classes, label_index, weight)[label_index]
        if np.sum(weight) == 0:
            raise ValueError("sample_weight is zero for every row: give at least one row weight.")
        self.classes_ = classes
        return label_index, weight

    def _class_weights(self, classes: Any, label_index: Any, weight: Any) -> Any:
        """Weight of each class; "balanced" gives every class the same share of the total weight.

        A row of weight 2 counts twice here too, as if it stood twice in X.
        """
        if not isinstance(self.class_weight, str) or self.class_weight != "balanced":
            return compute_class_weight(self.class_weight, classes=classes, y=classes[label_index])
        totals = np.bincount(label_index, weights=weight)
        return np.sum(weight) / (len(classes) * np.where(totals > 0, totals, 1))

    def _objective(self, X: Array, y: Any, weight: Any, backend: Backend) -> Objective:
        """The objective on the backend's device: scikit-learn's C becomes alpha here."""
        C = check_number("C", self.C, above=0)
        loss = self._loss()
        total = float(np.sum(weight))
        network = Network(
            n_in=self.n_features_in_,
            n_out=loss.n_outputs(len(self.classes_)),
            bias=bool(self.fit_intercept),
        )
        return Objective(
            X,
            backend.asarray(loss.encode_target(y)),
            backend.asarray(weight / total, dtype=X.dtype),
            loss=loss,
            network=network,
            alpha=1 / (C * total),
            backend=backend,
        )

    def _loss(self) -> Loss:
        return LOSSES["logistic" if len(self.classes_) == 2 else "softmax"]

    def _start(
        self, network: Network, coef_init: Any, intercept_init: Any, previous: tuple[Any, Any]
    ) -> Any:
        """Start of the parameters on the host: what was given, the last fit, or zero."""
        shape = (network.n_out, network.n_in)
        fits = previous[0] is not None and previous[0].shape == shape
        if self.warm_start and fits and coef_init is None and intercept_init is None:
            coef_init, intercept_init = previous
        W = check_start("coef_init", coef_init, shape).T.reshape(-1)
        b = check_start("intercept_init", intercept_init, shape[:1])
        return np.concatenate([W, b]) if network.bias else W

    def _keep(self, network: Network, solution: Solution, params: Any) -> None:
        """Fitted attributes, on the host."""
        (W, b), *_ = network.layers(params, xp=np)
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

    def _raw_prediction(self, X: Array) -> Array:
        xp = namespace(X)
        W = xp.astype(like(self.coef_.T.copy(), X), X.dtype, copy=False)
        b = xp.astype(like(self.intercept_, X), X.dtype, copy=False)
        return X @ W + b
