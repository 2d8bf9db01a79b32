"""Folds as weights, and scores of many models on the rows held out from them."""

from __future__ import annotations

import inspect
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel.backends.interchange import rows_at, to_host
from accel.estimators.checks import Targets
from accel.estimators.logistic import LogisticRegression
from accel.objective import Objective
from accel.solvers.path import Path
from accel.stack import Stack

Array = Any


def fold_weights(targets: Targets, folds: Any) -> NDArray[np.float64]:
    """(n_samples, n_folds) weights: each row's, as often as the fold trains on it."""
    n = len(targets.index)
    counts = np.stack([np.bincount(train, minlength=n) for train, _ in folds], axis=1)
    weights: NDArray[np.float64] = targets.weight[:, None] * counts
    empty = np.flatnonzero(weights.sum(axis=0) == 0)
    for fold, (_, test) in enumerate(folds):
        if targets.weight[test].sum() == 0:
            raise ValueError(
                f"cv: fold {fold} holds out no row of positive weight: use fewer folds."
            )
    if len(empty):
        raise ValueError(
            f"cv: fold {empty[0]} has no training row of positive weight: use fewer folds."
        )
    return weights


def accuracies(
    whole: Objective,
    params: Array,
    test: NDArray[np.intp],
    label_index: NDArray[np.intp],
    sample_weight: Any,
) -> NDArray[np.float64]:
    """Share of rows whose label each model predicts, by one product for all models.

    Parameters
    ----------
    whole : Objective
        Holds all rows, on the device.
    params : array (n_models, n_params)
        Parameters of each model, on the device.
    test : ndarray (n_test,) of int
        Rows to predict, on the host.
    label_index : ndarray (n_samples,) of int
        Labels of all rows, as their places among the classes.
    sample_weight : array-like (n_samples,) or None
        Weights of all rows.

    Returns
    -------
    ndarray (n_models,)
        Weighted accuracy.
    """
    backend, xp, n_models = whole.backend, whole.backend.xp, params.shape[0]
    if params.dtype == xp.float64:
        whole = whole.in_float64()
    held_out = copy(whole)
    held_out.X = rows_at(whole.X, backend.asarray(test), xp=xp)
    zeros = np.zeros(n_models)
    stack = Stack(held_out, whole.weights[:, None], zeros.astype(np.intp), zeros)

    def predicted(rows: slice) -> Array:
        raw = stack.raw_predictions(params, rows)
        return raw[:, :, 0] > 0 if raw.shape[2] == 1 else xp.argmax(raw, axis=2)

    parts = [backend.to_numpy(part) for part in backend.map_blocks(predicted, *stack.pass_size)]
    hits = np.concatenate(parts) == label_index[test, None]
    weight = None if sample_weight is None else np.asarray(sample_weight)[test]
    return np.average(hits, axis=0, weights=weight)


def held_out_scores(
    search: Any,
    X: Array,
    targets: Targets,
    whole: Objective,
    path: Path,
    folds: Any,
    params: dict[str, Any],
) -> NDArray[np.float64]:
    """(n_folds, n_l1_ratios, n_Cs) scores of each fold's models on the rows it held out.

    Parameters
    ----------
    search : LogisticRegressionCV
        With classes_, Cs_, l1_ratios_ and coefs_paths_.
    X : array or sparse matrix (n_samples, n_features)
        All rows.
    targets : Targets
        Their labels.
    whole : Objective
        Holds all rows, on the device.
    path : Path
        The models.
    folds : list of tuple of ndarray
        Rows to train on and rows held out.
    params : dict
        Metadata for the scorer.

    Returns
    -------
    ndarray
        Scores.
    """
    tests = [test for _, test in folds]
    shape = (len(tests), len(search.l1_ratios_), len(search.Cs_))
    if search.scoring is None and set(params) <= {"sample_weight"}:
        weight = params.get("sample_weight")
        found = [
            accuracies(whole, path.params[:, f, :], test, targets.index, weight)
            for f, test in enumerate(tests)
        ]
        return np.stack(found).reshape(shape)
    coef = search.coefs_paths_[..., : whole.network.n_in]
    intercept = search.coefs_paths_[..., -1] if whole.network.bias else 0 * coef[..., 0]
    models = [
        [
            _model(search, C, ratio, coef[f, k, j], intercept[f, k, j])
            for k, ratio in enumerate(search.l1_ratios_)
            for j, C in enumerate(search.Cs_)
        ]
        for f in range(len(tests))
    ]
    y = targets.classes[targets.index]
    return scores_of(search._scorer(), models, to_host(X), y, tests, params).reshape(shape)


def _model(
    search: Any, C: float, ratio: float, coef: NDArray[Any], intercept: NDArray[Any]
) -> LogisticRegression:
    """One fold's model for one C, as a scorer takes it."""
    model = LogisticRegression(
        C=float(C),
        l1_ratio=float(ratio),
        fit_intercept=search.fit_intercept,
        input_scale=search.input_scale,
    )
    model.coef_, model.intercept_ = coef, intercept
    model.classes_, model.input_scale_ = search.classes_, search.input_scale_
    model.n_features_in_ = coef.shape[-1]
    return model


def scores_of(
    scorer: Any,
    models: list[list[Any]],
    X: NDArray[Any],
    y: NDArray[Any],
    tests: list[NDArray[np.intp]],
    params: dict[str, Any],
) -> NDArray[np.float64]:
    """(n_folds, n_models) scores of any scorer of scikit-learn's.

    Parameters
    ----------
    scorer : callable
        (model, X, y, **params) -> score.
    models : list of list
        Models of each fold.
    X, y : ndarray
        All rows and labels, on the host.
    tests : list of ndarray
        Rows held out by each fold.
    params : dict
        Metadata for the scorer; arrays with one entry a row are cut to the fold.

    Returns
    -------
    ndarray (n_folds, n_models)
        Scores.
    """
    scorer = _with_labels(scorer, models[0][0].classes_)

    def cut(value: Any, rows: NDArray[np.intp]) -> Any:
        array = np.asarray(value)
        return array[rows] if array.shape[:1] == (len(y),) else value

    return np.array(
        [
            [
                scorer(model, X[rows], y[rows], **{k: cut(v, rows) for k, v in params.items()})
                for model in fold
            ]
            for fold, rows in zip(models, tests, strict=True)
        ]
    )


def strongest_of_best(scores: NDArray[np.float64], Cs: NDArray[np.float64], tol: float) -> int:
    """Place of the smallest C whose score is the best one.

    Parameters
    ----------
    scores : ndarray (n_Cs,)
        Larger is better.
    Cs : ndarray (n_Cs,)
        Inverse strengths of the penalty.
    tol : float
        Of the fits: scores that differ by at most this are the same one, so that rounding does not
        choose, and what chooses among equals is the simpler model.

    Returns
    -------
    int
        Where; the first where no score is a number.
    """
    if not np.isfinite(scores).any():
        return 0
    with np.errstate(invalid="ignore"):
        best = np.flatnonzero(scores >= np.nanmax(scores) - tol)
    return int(best[np.argmin(Cs[best])])


def best_place(scores: NDArray[np.float64], Cs: NDArray[np.float64], tol: float) -> tuple[int, int]:
    """Places of the share of l1 and of the C with the best of scores (n_l1_ratios, n_Cs).

    The first share that has it, and there the smallest C, see `strongest_of_best`.
    """
    highest = np.nanmax(scores, axis=1, initial=-np.inf)
    k = int(np.argmax(highest >= np.max(highest) - tol))
    return k, strongest_of_best(scores[k], Cs, tol)


def legacy(model: Any) -> dict[str, Any]:
    """Attributes in the shapes that scikit-learn had before 1.8: dicts by class, arrays of C."""
    classes = model.classes_ if len(model.classes_) > 2 else model.classes_[1:]
    paths, scores, n_iter = model.coefs_paths_, model.scores_, model.n_iter_
    if model.l1_ratios is not None:  # C before l1_ratios there
        paths, scores, n_iter = (np.swapaxes(array, 1, 2) for array in (paths, scores, n_iter))
    keys = classes.tolist()
    return {
        "coefs_paths_": {key: paths[..., k, :] for k, key in enumerate(keys)},
        "scores_": dict.fromkeys(keys, scores),
        "n_iter_": n_iter[None],
        "C_": np.full(len(keys), model.C_),
        "l1_ratio_": np.full(len(keys), model.l1_ratio_),
    }


def _with_labels(scorer: Any, classes: NDArray[Any]) -> Any:
    """The scorer told of all classes, where its metric asks: a fold may not hold each of them.

    As scikit-learn's own LogisticRegressionCV does.
    """
    from sklearn.metrics import make_scorer

    score = getattr(scorer, "_score_func", None)
    asks = inspect.signature(score).parameters if score is not None else {}
    if "labels" not in asks:
        return scorer
    own = {"pos_label": classes[-1]} if len(classes) == 2 and "pos_label" in asks else {}
    return make_scorer(
        score,
        greater_is_better=scorer._sign == 1,
        response_method=scorer._response_method,
        **{"labels": classes, **own, **getattr(scorer, "_kwargs", {})},
    )
