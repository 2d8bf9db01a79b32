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
    check_count,
    check_flag,
    check_input_scale,
    check_number,
)
from accel.estimators.checks import Targets, check_targets, check_X
from accel.estimators.dispatch import move_attributes
from accel.estimators.linear import LinearClassifier, coefficients, linear_objective
from accel.estimators.options import check_l1_ratios, solver_for
from accel.estimators.path import check_Cs, solve_weightings, warn_of_missed
from accel.estimators.scoring import best_place, fold_weights, held_out_scores, legacy
from accel.objective import Objective
from accel.penalties import alpha_of
from accel.solvers import Plan, Solution, Status, minimize, plan
from accel.solvers.exactly import ended_in_float64, held
from accel.solvers.path import Path, joined

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
    penalty : {"deprecated", "l1", "l2", "elasticnet"}, default="deprecated"
        As in scikit-learn before 1.8; give l1_ratios instead.
    dual, intercept_scaling : object
        As in `LogisticRegression`.
    l1_ratios : list of float or None, default=None
        Shares of the l1 norm in the penalty, of which one is chosen; None is 0, without the axis of
        l1_ratios in the attributes.
    use_legacy_attributes : bool, default=False
        Whether attributes have the shapes of scikit-learn before 1.8: dicts by class.
    solver : str, default="auto"
        Of the refit: as in `LogisticRegression`, without "gd". The folds are solved by Newton-CG in
        lock step, or with an l1 part by proximal Newton from C to C, to the same optimum.
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
    random_state, n_jobs : object, default=None
        Accepted for scikit-learn's sake: nothing is random, and problems are solved together.
    input_scale : float, default=1.0
        Factor of X, applied to the coefficients instead of the data.
    backend : str, default="auto"
        "auto", "numpy", "cupy" or "cupy:N", see `accel.get_backend`.

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
    l1_ratios_ : ndarray (n_l1_ratios,)
        The shares of the l1 norm.
    C_, l1_ratio_ : float
        The best ones.
    scores_ : ndarray (n_folds, n_l1_ratios, n_Cs)
        Scores on the rows held out.
    coefs_paths_ : ndarray (n_folds, n_l1_ratios, n_Cs, 1 or n_classes, n_features + fit_intercept)
        Coefficients of every fold and C, the intercept last.
    n_iter_ : ndarray (n_folds, n_l1_ratios, n_Cs)
        Updates of each.
    input_scale_ : float
        The factor of X that the coefficients were learned with.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : ndarray (n_features,)
        Names of the columns, where X had string names.
    status_ : Status
        How the refit ended, or without one the worst of the chosen folds.
    gradient_norm_, objective_, gap_ : float
        max|gradient|, objective and duality gap of the refit, as `LogisticRegression` has them, or
        without one the largest of the chosen folds.
    backend_ : BackendReport
        Where it ran.
    n_passes_ : int
        Reads of X while solving, refit included.

    Notes
    -----
    Attributes have the shapes of scikit-learn's with ``use_legacy_attributes=False``; without the
    axis of l1_ratios where that is None.
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
        penalty: Any = "deprecated",
        dual: bool = False,
        intercept_scaling: float = 1.0,
        l1_ratios: Any = None,
        use_legacy_attributes: bool = False,
        solver: str = "auto",
        tol: float = 1e-4,
        max_iter: int = 1000,
        class_weight: Any = None,
        refit: bool = True,
        verbose: int = 0,
        random_state: Any = None,
        n_jobs: int | None = None,
        input_scale: float = 1.0,
        backend: str = "auto",
    ) -> None:
        self.Cs = Cs
        self.l1_ratios = l1_ratios
        self.dual = dual
        self.penalty = penalty
        self.intercept_scaling = intercept_scaling
        self.use_legacy_attributes = use_legacy_attributes
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
        ratios = check_l1_ratios(self.l1_ratios, self.penalty)
        is_legacy = check_flag("use_legacy_attributes", self.use_legacy_attributes)
        given = X
        with device_of(X):
            X = check_X(self, X, fitting=True)
        targets = check_targets(y, X.shape[0], sample_weight, self.class_weight)
        split_params, score_params = self._routed(sample_weight, params)
        folds = self._folds(X, targets, split_params)
        backend = backend_for(self.backend, X)
        self.backend_ = backend.report()
        self.classes_, self.Cs_, self.l1_ratios_ = targets.classes, grid, ratios
        solvers = [solver_for(self, ratio, len(self.classes_)) for ratio in ratios]
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
            weights = fold_weights(targets, folds)
            path = joined(
                [solve_weightings(whole, weights, grid, **limits, l1_ratio=r) for r in ratios]
            )
            self._keep_path(whole, path)
            scores = held_out_scores(self, X, targets, whole, path, folds, score_params)
            if refit:
                self._refit(whole, targets, path, scores, solvers, limits)
            else:
                self._average(path, scores, limits["tol"])
            self.scores_ = scores
        self.n_passes_ = sum(whole.passes.values())
        self._judge(path, limits["tol"])
        if self.l1_ratios is None:
            for name in ("scores_", "coefs_paths_", "n_iter_"):
                setattr(self, name, getattr(self, name)[:, 0])
        move_attributes(self, given)
        if is_legacy:
            self.__dict__.update(legacy(self))

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
        """coefs_paths_ and n_iter_, fold by fold: (n_folds, n_l1_ratios, n_Cs, ...)."""
        n_ratios, n_Cs = len(self.l1_ratios_), len(self.Cs_)
        params = np.swapaxes(whole.backend.to_numpy(path.params), 0, 1)
        params = params.reshape(len(params), n_ratios, n_Cs, -1)
        coef, intercept = coefficients(whole.network, params)
        parts = [coef, intercept[..., None]] if whole.network.bias else [coef]
        self.coefs_paths_ = np.concatenate(parts, axis=-1)
        self.n_iter_ = path.n_iter.T.reshape(-1, n_ratios, n_Cs).copy()

    def _refit(
        self,
        whole: Objective,
        targets: Targets,
        path: Path,
        scores: NDArray[np.float64],
        solvers: list[str],
        limits: dict[str, Any],
    ) -> None:
        """All rows with the best C and share of l1, from the mean of the folds."""
        k, best = best_place(np.mean(scores, axis=0), self.Cs_, limits["tol"])
        self.C_, self.l1_ratio_ = float(self.Cs_[best]), float(self.l1_ratios_[k])
        strength = float(alpha_of(self.C_, targets.total))
        objective = whole.penalised((1 - self.l1_ratio_) * strength, self.l1_ratio_ * strength)
        xp, place = whole.backend.xp, k * len(self.Cs_) + best
        start = xp.astype(xp.mean(path.params[place, :, :], axis=0), whole.dtype)
        solver = solvers[k]

        def planned(objective: Objective, start: Array) -> Plan:
            most = limits["max_iter"]
            return plan(objective, start, solver, learning_rate=1.0, max_iter=most)

        way = planned(objective, start)
        solution: Solution = minimize(way.problem, way.start, way.solver, **limits)
        way, solution, _ = ended_in_float64(objective, way, solution, planned, **limits)
        dtype = np.float64 if whole.dtype == whole.backend.xp.float64 else np.float32
        params, solution, _ = held(way, solution, dtype, limits["tol"])
        self.coef_, self.intercept_ = coefficients(whole.network, params)
        self.status_, self.gap_ = solution.status, solution.gap
        self.gradient_norm_, self.objective_ = solution.error, solution.value

    def _average(self, path: Path, scores: NDArray[np.float64], tol: float) -> None:
        """The means of each fold's best."""
        places = np.array([best_place(own, self.Cs_, tol) for own in scores])
        folds, ratios, best = np.arange(len(places)), places[:, 0], places[:, 1]
        self.C_ = float(np.mean(self.Cs_[best]))
        self.l1_ratio_ = float(np.mean(self.l1_ratios_[ratios]))
        chosen = np.mean(self.coefs_paths_[folds, ratios, best], axis=0)
        best = ratios * len(self.Cs_) + best
        self.coef_ = chosen[:, : self.n_features_in_].copy()
        self.intercept_ = chosen[:, -1].copy() if self.fit_intercept else 0 * chosen[:, 0]
        status = path.status[best, folds]
        self.status_ = max(status, key=list(Status).index)
        self.gradient_norm_ = float(np.max(path.errors[best, folds]))
        self.objective_ = float(np.max(path.values[best, folds]))
        self.gap_ = float(np.max(path.gaps[best, folds]))

    def _judge(self, path: Path, tol: float) -> None:
        """Say aloud where an optimum was not reached."""
        if self.verbose:
            means = np.mean(to_host(self.scores_), axis=0)
            for ratio, own in zip(to_host(self.l1_ratios_), means, strict=True):
                for C, score in zip(to_host(self.Cs_), own, strict=True):
                    print(f"C {C:.4g}, l1_ratio {ratio:.4g}: score {score:.4f}")
            print(f"C {self.C_:.4g} is chosen; {self.status_.name}: {self.status_.value}")
        every = [*path.status.reshape(-1), *([self.status_] if self.refit else [])]
        largest = max(np.max(path.errors), self.gradient_norm_)
        warn_of_missed(every, largest, tol, stacklevel=5)
