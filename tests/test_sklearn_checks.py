from __future__ import annotations

from sklearn.utils.estimator_checks import parametrize_with_checks

from accel import LogisticRegression


# The loop below is scikit-learn's own list; none of it is marked as expected to fail.
@parametrize_with_checks(
    [
        LogisticRegression(),
        LogisticRegression(backend="numpy", class_weight="balanced", C=10.0),
    ]
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)
