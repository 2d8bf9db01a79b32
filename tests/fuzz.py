"""Fits of random problems, held against float64 NumPy and SciPy: python -m tests.fuzz --minutes 30.

Over dtypes, layouts, offsets, scales, kinds of labels, numbers of classes and penalties. What a fit
claims is computed again without accel, and SciPy tries to go on from where it ended. Prints the
seed and what each fault was; the exit status is the number of faults, at most 100.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
import warnings

import numpy as np
import scipy.sparse as sp
from scipy.optimize import minimize

from accel import LogisticRegression, Status

DTYPES = ("float64", "float32", "float16", "uint8", "int8", ">f8", "int64")
LABELS = ("int", "str", "bool", "float", "gaps")


def problem(rng):
    """X, labels, weights, options, and words for them."""
    n, d, K = (int(np.exp(rng.uniform(np.log(low), np.log(high)))) for low, high in
               ((8, 400), (1, 60), (2, 7)))  # fmt: skip
    dtype = str(rng.choice(DTYPES))
    X = rng.normal(size=(n, d))
    if rng.random() < 0.3:
        X *= np.exp(rng.uniform(-6, 6, d))
    if rng.random() < 0.2 and d > 1:
        X[:, -1] = X[:, 0] * rng.choice([1, -2]) + rng.choice([0, 1e-6]) * X[:, -1]
    offset = float(rng.choice([0, 0, 0, 1, 1e3, 1e6, 1e9]))
    if dtype in ("uint8", "int8"):
        X = np.clip(np.round(X * 20 + (100 if dtype == "uint8" else 0)), -100, 250)
    elif dtype == "float16":
        X = np.clip(X, -1e3, 1e3)
    elif dtype == "int64":
        X = np.clip(np.round(10 * X + offset), -1e15, 1e15)
    else:
        X = X + offset
    X = X.astype(dtype)
    W = rng.normal(size=(d, K)) * np.exp(rng.uniform(-3, 3)) / d**0.5
    centred = X.astype(float) - X.astype(float).mean(axis=0)
    spread = centred.std(axis=0)
    Z = centred / np.where(spread > 0, spread, 1) @ W
    index = np.argmax(Z + rng.gumbel(size=Z.shape) * rng.choice([0, 1, 1, 3]), axis=1)
    if len(np.unique(index)) < 2:
        index[: n // 2] = (index[0] + 1) % K
    _, index = np.unique(index, return_inverse=True)
    kind = (
        str(rng.choice(LABELS)) if index.max() == 1 else str(rng.choice(LABELS[:1] + LABELS[1:2]))
    )
    names = {"int": np.arange(9), "str": np.array(list("abcdefghi")), "float": np.arange(9.0),
             "bool": np.array([False, True] * 5), "gaps": np.arange(9) * 7 - 3}[kind]  # fmt: skip
    layout = str(rng.choice(["C", "F", "step", "csr"]))
    if layout == "F":
        X = np.asfortranarray(X)
    elif layout == "step":
        X = np.repeat(X, 2, axis=0)[::2]
    elif layout == "csr" and dtype in ("float64", "float32"):
        X = sp.csr_matrix(X)
    weights = rng.uniform(0, 3, n) * (rng.random(n) < 0.9) if rng.random() < 0.3 else None
    if weights is not None and len(np.unique(index[weights > 0])) <= index.max():
        weights = None
    options = {
        "C": float(10 ** rng.uniform(-4, 5)),
        "l1_ratio": float(rng.choice([0, 0, 0, 0.5, 1])),
        "fit_intercept": bool(rng.random() < 0.85),
        "tol": float(rng.choice([1e-3, 1e-4, 1e-4, 1e-7])),
    }
    if options["l1_ratio"] == 0:
        options["solver"] = str(rng.choice(["auto", "lbfgs", "newton-cg", "newton-cholesky"]))
    words = f"{n} x {d} {dtype} {layout} offset {offset:g}, {index.max() + 1} {kind}, {options}"
    return X, names[index], index, weights, options, words


def faults(X, y, index, weights, options):
    """What a fit claims that float64 does not confirm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(backend="numpy", **options).fit(X, y, weights)
    rows = X.toarray() if sp.issparse(X) else X
    return list(_checked(model, rows.astype(float), index, weights, options))


def _checked(model, X, index, weights, options):  # noqa: PLR0915  one reference
    s = np.ones(len(X)) if weights is None else weights
    strength = 1 / (options["C"] * s.sum())
    s = s / s.sum()
    alpha, l1 = (1 - options["l1_ratio"]) * strength, options["l1_ratio"] * strength
    mean = s @ X if options["fit_intercept"] else np.zeros(X.shape[1])
    A = X - mean
    unit = np.sqrt(s @ (A * A))
    unit = np.where(unit > 1e-9 * (np.abs(mean) + 1e-300), unit, 1.0)
    A = A / unit
    K = len(model.classes_)
    W, b = model.coef_.T.astype(float), model.intercept_.astype(float) + mean @ model.coef_.T

    def function(params):
        V, c = params[: W.size].reshape(W.shape), params[W.size :]
        Z = A @ V + c
        if K == 2:
            m = np.where(index == 1, 1, -1) * Z[:, 0]
            loss, R = np.logaddexp(0, -m), (-np.where(index == 1, 1, -1) * _sigmoid(-m))[:, None]
        else:
            Z = Z - Z.max(axis=1, keepdims=True)
            total = np.exp(Z).sum(axis=1)
            loss, R = np.log(total) - Z[np.arange(len(Z)), index], np.exp(Z) / total[:, None]
            R[np.arange(len(Z)), index] -= 1
        value = s @ loss + np.sum((V / unit[:, None]) ** 2) * alpha / 2
        R = s[:, None] * R
        G = A.T @ R + alpha * V / unit[:, None] ** 2
        free = R.sum(axis=0) * options["fit_intercept"]
        return value, np.concatenate([G.reshape(-1), free])

    here = np.concatenate([(W * unit[:, None]).reshape(-1), b])
    value, _ = function(here)
    absolute = l1 * np.abs(W).sum()
    far = np.abs(mean / unit).max() * np.abs(here[: W.size]).sum() * np.finfo(model.coef_.dtype).eps
    slack = 1e-6 + 10 * far
    if not abs(model.objective_ - value - absolute) <= slack * max(1.0, abs(value)):
        yield f"objective_ {model.objective_!r}, float64 says {value + absolute!r}"
    if model.status_ not in (Status.CONVERGED, Status.ROUNDING):
        return
    lasso = np.repeat(l1 / unit, W.shape[1])
    size = len(lasso)

    def split(params):  # w = p - q, so that |w| is smooth
        w = np.concatenate([params[:size] - params[size : 2 * size], params[2 * size :]])
        loss, slope = function(w)
        both = np.concatenate([slope[:size] + lasso, lasso - slope[:size], slope[size:]])
        return loss + lasso @ (params[:size] + params[size : 2 * size]), both

    if l1:
        w = here[:size]
        start = np.concatenate([np.maximum(w, 0), np.maximum(-w, 0), here[size:]])
        bounds = [(0, None)] * (2 * size) + [(None, None)] * len(b)
        found = minimize(split, start, jac=True, method="L-BFGS-B", bounds=bounds,
                         options={"maxiter": 300, "ftol": 0, "gtol": 0})  # fmt: skip
    else:
        found = minimize(function, here, jac=True, method="L-BFGS-B",
                         options={"maxiter": 300, "ftol": 0, "gtol": 0})  # fmt: skip
    gain = value + absolute - found.fun
    allowed = 10 * max(options["tol"], 1e-9) * max(value, 1e-12) + slack * max(1.0, abs(value))
    if gain > allowed:
        yield f"{model.status_.name}, yet SciPy gains {gain:.3g} of {value + absolute:.6g}"
    if gain > model.gap_ + slack * max(1.0, abs(value)):
        yield f"gap_ {model.gap_:.3g}, yet SciPy gains {gain:.3g}"
    predicted = model.predict(X)
    if np.mean(predicted != _labels(model, A, here, W)) > 0.02 and far < 1e-6:
        yield "predictions are not those of the coefficients"


def _labels(model, A, here, W):
    Z = A @ here[: W.size].reshape(W.shape) + here[W.size :]
    place = (Z[:, 0] > 0).astype(int) if Z.shape[1] == 1 else Z.argmax(axis=1)
    return model.classes_[place]


def _sigmoid(z):
    return np.where(
        z > 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z)))
    )


def main():
    """Try problems until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    end, count, wrong = time.monotonic() + 60 * given.minutes, 0, 0
    while time.monotonic() < end:
        seed = given.seed + count
        count += 1
        *data, words = problem(np.random.default_rng(seed))
        try:
            found = faults(*data)
        except Exception:
            found = [traceback.format_exc(limit=-3)]
        for fault in found:
            wrong += 1
            print(f"seed {seed}: {words}\n    {fault}", flush=True)
    print(f"{count} problems from seed {given.seed}, {wrong} faults")
    sys.exit(min(wrong, 100))


if __name__ == "__main__":
    main()
