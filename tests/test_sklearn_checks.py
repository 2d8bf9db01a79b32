from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from accel import LogisticRegression, LogisticRegressionCV, MLPClassifier, MLPRegressor

# Most checks fit a few rows for 200 epochs: too few, and said so, by scikit-learn's networks too.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

TO_THE_OPTIMUM = {"solver": "lbfgs", "alpha": 1.0, "tol": 1e-11, "max_iter": 5000}


# The loop below is scikit-learn's own list; none of it is marked as expected to fail.
@parametrize_with_checks(
    [
        LogisticRegression(),
        LogisticRegression(backend="numpy", class_weight="balanced", C=10.0),
        LogisticRegressionCV(Cs=3, cv=3),
        LogisticRegressionCV(Cs=[0.1, 10.0], cv=2, scoring="neg_log_loss", refit=False),
        MLPClassifier(),
        MLPRegressor(),
        # without alpha the checks' tiny data is fitted until a probability is 0, whose log they ask
        MLPClassifier(backend="numpy", activation="tanh", **TO_THE_OPTIMUM),
        MLPRegressor(backend="numpy", activation="gelu", **TO_THE_OPTIMUM),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
