from __future__ import annotations

from sklearn.utils.estimator_checks import parametrize_with_checks

from accel import LogisticRegression, LogisticRegressionCV


# The loop below is scikit-learn's own list; none of it is marked as expected to fail.
@parametrize_with_checks(
    [
        LogisticRegression(),
        LogisticRegression(backend="numpy", class_weight="balanced", C=10.0),
        LogisticRegressionCV(Cs=3, cv=3),
        LogisticRegressionCV(Cs=[0.1, 10.0], cv=2, scoring="neg_log_loss", refit=False),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
