"""Logistic regression with C chosen by cross-validation, all folds on one copy of X."""

from __future__ import annotations

from copy import copy
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.metadata_routing import (
    UNUSED,
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)

from accel.backends import backend_for
from accel.backends.interchange import device_of, to_host
from accel.estimators.arguments import (
    check_choice,
    check_count,
    check_flag,
    check_input_scale,
    check_number,
)
from accel.estimators.checks import Targets, check_targets, check_X
from accel.estimators.dispatch import move_attributes
from accel.estimators.linear import LinearClassifier, coefficients, linear_objective
from accel.estimators.logistic import LogisticRegression
from accel.estimators.path import check_Cs, solve_weightings, warn_of_missed
from accel.estimators.scoring import accuracies, fold_weights, scores_of, strongest_of_best
from accel.objective import Objective
from accel.penalties import alpha_of
from accel.solvers import SOLVERS, Solution, Status, minimize, plan
from accel.solvers.path import Path

Array = Any


class LogisticRegressionCV(LinearClassifier):
    r"""Logistic regression with C chosen by cross-validation, on the CPU or on an NVIDIA GPU.

    .. math:: \hat C = \arg\max_C \; \frac{1}{F} \sum_f \mathrm{score}_f\left(W^{(f)}(C),
              b^{(f)}(C)\right)

    with W and b those of `LogisticRegression` on the rows of fold f's training set. A fold is a
    column of weights, zero on the rows held out: X lies on the device once, and one read of it
    serves the folds and as many C values as make a pass wide.

    Parameters
    ----------
    Cs : int or list of float, default=10
        Inverse strengths of the penalty, `inf` for none; an int is that many between 1e-4 and 1e4,
        evenly spaced in their logarithms.
    fit_intercept : bool, default=True
        Whether to learn b.
    cv : int, splitter or iterable, default=None
        As scikit-learn's: None is 5 stratified folds.
    scoring : str, callable or None, default=None
        As scikit-learn's: None is accuracy.
    solver : {"auto", "lbfgs", "newton-cg", "newton-cholesky"}, default="auto"
        Of the refit. The folds are solved by Newton-CG in lock step, to the same optimum.
    tol : float, default=1e-4
        Largest max|gradient| of every problem.
    max_iter : int, default=1000
        Most updates of every problem.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, multiplied into sample_weight; "balanced" is taken on all rows, as
        scikit-learn does.
    refit : bool, default=True
        Whether to fit all rows with the best C, from the mean of the folds; else coef_, intercept_
        and C_ are the means of each fold's best.
    verbose : int, default=0
        1 prints where it runs and the scores.
    random_state : int, RandomState or None, default=None
        Accepted for scikit-learn's sake: nothing here is random.
    input_scale : float, default=1.0
        Factor of X, applied to the coefficients instead of the data.
    backend : str, default="auto"
        "auto", "numpy", "cupy" or "cupy:N", see `accel.get_backend`.
    n_jobs : int or None, default=None
        Accepted for scikit-learn's sake: the problems are solved together, not in processes.

    Attributes
    ----------
    classes_ : ndarray (n_classes,)
        Labels, sorted.
    coef_ : ndarray (1 or n_classes, n_features)
        W transposed, in the dtype of X (float32 or float64), on the host.
    intercept_ : ndarray (1 or n_classes,)
        b.
    Cs_ : ndarray (n_Cs,)
        The C values.
    C_ : float
        The best one.
    scores_ : ndarray (n_folds, n_Cs)
        Scores on the rows held out.
    coefs_paths_ : ndarray (n_folds, n_Cs, 1 or n_classes, n_features + fit_intercept)
        Coefficients of every fold and C, the intercept last.
    n_iter_ : ndarray (n_folds, n_Cs)
        Updates of each.
    input_scale_ : float
        The factor of X that the coefficients were learned with.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray (n_features,)
        Names of the columns, where X had string names.
    status_ : Status
        How the refit ended, or without one the worst of the chosen folds.
    gradient_norm_, objective_ : float
        max|gradient| and objective of the refit, or without one the largest of the chosen folds.
    backend_ : BackendReport
        Where it ran.
    n_passes_ : int
        Reads of X while solving, refit included.

    Notes
    -----
    Attributes have the shapes of scikit-learn's with ``use_legacy_attributes=False``, without the
    axis of l1_ratios.
    """

    # a scorer that did not ask for weights is not given them unasked: TypeError, as scikit-learn
    __metadata_request__score: ClassVar[dict[str, str]] = {"sample_weight": UNUSED}

    def __init__(
        self,
        *,
        Cs: Any = 10,
        fit_intercept: bool = True,
        cv: Any = None,
        scoring: Any = None,
        solver: str = "auto",
        tol: float = 1e-4,
        max_iter: int = 1000,
        class_weight: Any = None,
        refit: bool = True,
        verbose: int = 0,
        random_state: Any = None,
        input_scale: float = 1.0,
        backend: str = "auto",
        n_jobs: int | None = None,
    ) -> None:
        self.Cs = Cs
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.scoring = scoring
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.refit = refit
        self.verbose = verbose
        self.random_state = random_state
        self.input_scale = input_scale
        self.backend = backend
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> LogisticRegressionCV:
        """Solve every fold for every C, choose C, and fit all rows.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            As `LogisticRegression.fit` takes it. Not modified.
        y : array-like (n_samples,)
            Labels of any type.
        sample_weight : array-like (n_samples,), optional
            Non-negative weights, of the scores too.
        **params : dict
            For the splitter and the scorer, where scikit-learn's metadata routing is enabled.

        Returns
        -------
        LogisticRegressionCV
            This estimator, fitted.

        Raises
        ------
        ValueError
            If an argument is out of range, has the wrong shape or holds NaN.
        accel.BackendUnavailable
            If a backend was required that cannot be used.
        """
        _raise_for_params(params, self, "fit")
        fitted = copy(self)  # a refused refit leaves this model whole
        fitted._fit(X, y, sample_weight, params)
        self.__dict__ = fitted.__dict__
        return self

    def _fit(self, X: Any, y: Any, sample_weight: Any, params: dict[str, Any]) -> None:
        grid = check_Cs(self.Cs)
        limits: dict[str, Any] = {
            "tol": check_number("tol", self.tol, at_least=0),
            "max_iter": check_count("max_iter", self.max_iter),
        }
        refit = check_flag("refit", self.refit)
        choices = ["auto", *(name for name in SOLVERS if name not in ("gd", "orthant"))]
        solver = check_choice("solver", self.solver, choices)
        given = X
        with device_of(X):
            X = check_X(self, X, fitting=True)
        targets = check_targets(y, X.shape[0], sample_weight, self.class_weight)
        split_params, score_params = self._routed(sample_weight, params)
        folds = self._folds(X, targets, split_params)
        backend = backend_for(self.backend, X)
        self.backend_ = backend.report()
        self.classes_, self.Cs_ = targets.classes, grid
        if self.verbose:
            print(f"Training {len(folds)} folds x {len(grid)} C values on {self.backend_}")
        with backend.context():
            whole = linear_objective(
                backend.asarray(X),
                targets,
                backend,
                fit_intercept=check_flag("fit_intercept", self.fit_intercept),
                input_scale=check_input_scale(self.input_scale),
            )
            self.input_scale_ = whole.input_scale
            path = solve_weightings(whole, fold_weights(targets, folds), grid, **limits)
            self._keep_path(whole, path)
            self.scores_ = self._scores(X, targets, whole, path, folds, score_params)
            if refit:
                self._refit(whole, targets, path, solver, limits)
            else:
                self._average(path, limits["tol"])
        self.n_passes_ = sum(whole.passes.values())
        move_attributes(self, given)
        self._judge(path, limits["tol"])

    def score(self, X: Any, y: Any, sample_weight: Any = None, **params: Any) -> float:
        """The score that C was chosen by.

        Parameters
        ----------
        X : array-like (n_samples, n_features)
            Rows.
        y : array-like (n_samples,)
            True labels.
        sample_weight : array-like (n_samples,), optional
            Weights of the rows.
        **params : dict
            For the scorer, where scikit-learn's metadata routing is enabled.

        Returns
        -------
        float
            Accuracy where scoring is None.
        """
        _raise_for_params(params, self, "score")
        if sample_weight is not None:
            params["sample_weight"] = sample_weight
        if self.scoring is None and not _routing_enabled():
            return super().score(X, y, **params)
        if _routing_enabled():
            params = process_routing(self, "score", **params).scorer.score
        return float(self._scorer()(self, X, y, **params))

    def get_metadata_routing(self) -> MetadataRouter:
        """Where fit and score send their metadata: to the splitter and the scorer.

        Returns
        -------
        MetadataRouter
            As scikit-learn's.
        """
        to_scorer = MethodMapping().add(caller="score", callee="score")
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(splitter=self.cv, method_mapping=MethodMapping().add(caller="fit", callee="split"))
            .add(scorer=self._scorer(), method_mapping=to_scorer.add(caller="fit", callee="score"))
        )

    def _scorer(self) -> Any:
        from sklearn.metrics import get_scorer  # 40 ms that `import accel` need not pay

        return get_scorer(self.scoring or "accuracy")

    def _routed(self, sample_weight: Any, params: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """What goes to the splitter and to the scorer."""
        if _routing_enabled():
            routed = process_routing(self, "fit", sample_weight=sample_weight, **params)
            to_score = {name: to_host(value) for name, value in routed.scorer.score.items()}
            return routed.splitter.split, to_score
        return {}, {} if sample_weight is None else {"sample_weight": to_host(sample_weight)}

    def _folds(
        self, X: Array, targets: Targets, params: dict[str, Any]
    ) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Rows to train on and rows held out, fold by fold."""
        from sklearn.model_selection import check_cv

        y = targets.classes[targets.index]
        rows = X if isinstance(X, np.ndarray) else np.zeros((len(y), 1))  # splitters count them
        split = check_cv(self.cv, y, classifier=True).split(rows, y, **params)
        return [(np.arange(len(y))[train], np.arange(len(y))[test]) for train, test in split]

    def _keep_path(self, whole: Objective, path: Path) -> None:
        """coefs_paths_ and n_iter_, fold by fold."""
        params = np.swapaxes(whole.backend.to_numpy(path.params), 0, 1)
        coef, intercept = coefficients(whole.network, params)
        parts = [coef, intercept[..., None]] if whole.network.bias else [coef]
        self.coefs_paths_ = np.concatenate(parts, axis=-1)
        self.n_iter_ = path.n_iter.T.copy()

    def _scores(
        self,
        X: Array,
        targets: Targets,
        whole: Objective,
        path: Path,
        folds: Any,
        score_params: dict[str, Any],
    ) -> NDArray[np.float64]:
        """(n_folds, n_Cs) scores of each fold's models on the rows it held out."""
        tests = [test for _, test in folds]
        if self.scoring is None and set(score_params) <= {"sample_weight"}:
            weight = score_params.get("sample_weight")
            return np.stack(
                [
                    accuracies(whole, path.params[:, f, :], test, targets.index, weight)
                    for f, test in enumerate(tests)
                ]
            )
        coef = self.coefs_paths_[..., : whole.network.n_in]
        intercept = self.coefs_paths_[..., -1] if whole.network.bias else 0 * coef[..., 0]
        rows, y = to_host(X), targets.classes[targets.index]
        models = [
            [self._model(C, coef[f, j], intercept[f, j]) for j, C in enumerate(self.Cs_)]
            for f in range(len(tests))
        ]
        return scores_of(self._scorer(), models, rows, y, tests, score_params)

    def _model(self, C: float, coef: NDArray[Any], intercept: NDArray[Any]) -> LinearClassifier:
        """One fold's model for one C, as a scorer takes it."""
        model = LogisticRegression(
            C=float(C), fit_intercept=self.fit_intercept, input_scale=self.input_scale
        )
        model.coef_, model.intercept_ = coef, intercept
        model.classes_, model.input_scale_ = self.classes_, self.input_scale_
        model.n_features_in_ = coef.shape[-1]
        return model

    def _refit(
        self, whole: Objective, targets: Targets, path: Path, solver: str, limits: dict[str, Any]
    ) -> None:
        """All rows with the best C, from the mean of the folds."""
        best = strongest_of_best(np.mean(self.scores_, axis=0), self.Cs_, limits["tol"])
        self.C_ = float(self.Cs_[best])
        objective = whole.with_alpha(float(alpha_of(self.C_, targets.total)))
        start = whole.backend.xp.mean(path.params[best, :, :], axis=0)
        way = plan(objective, start, solver, learning_rate=1.0, max_iter=limits["max_iter"])
        solution: Solution = minimize(way.problem, way.start, way.solver, **limits)
        params = whole.backend.to_numpy(way.problem.expand(solution.params))
        self.coef_, self.intercept_ = coefficients(whole.network, params)
        self.status_ = solution.status
        self.gradient_norm_, self.objective_ = solution.error, solution.value

    def _average(self, path: Path, tol: float) -> None:
        """The means of each fold's best."""
        best = np.array([strongest_of_best(scores, self.Cs_, tol) for scores in self.scores_])
        folds = np.arange(len(best))
        self.C_ = float(np.mean(self.Cs_[best]))
        chosen = np.mean(self.coefs_paths_[folds, best], axis=0)
        self.coef_ = chosen[:, : self.n_features_in_].copy()
        self.intercept_ = chosen[:, -1].copy() if self.fit_intercept else 0 * chosen[:, 0]
        status = path.status[best, folds]
        self.status_ = max(status, key=list(Status).index)
        self.gradient_norm_ = float(np.max(path.errors[best, folds]))
        self.objective_ = float(np.max(path.values[best, folds]))

    def _judge(self, path: Path, tol: float) -> None:
        """Say aloud where an optimum was not reached."""
        if self.verbose:
            means = np.mean(to_host(self.scores_), axis=0)
            for C, score in zip(to_host(self.Cs_), means, strict=True):
                print(f"C {C:.4g}: score {score:.4f}")
            print(f"C {self.C_:.4g} is chosen; {self.status_.name}: {self.status_.value}")
        every = [*path.status.reshape(-1), *([self.status_] if self.refit else [])]
        largest = max(np.max(path.errors), self.gradient_norm_)
        warn_of_missed(every, largest, tol, stacklevel=5)
