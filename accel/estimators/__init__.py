"""Estimators: the scikit-learn surface.

Here belongs what users call: constructor parameters, validation of what comes in, fitted
attributes, warnings. Arrays of any library come in here and NumPy attributes come out; the
mathematics is to the left of this package.
"""

from accel.estimators.logistic import LogisticRegression
from accel.estimators.logistic_cv import LogisticRegressionCV
from accel.estimators.mlp_classifier import MLPClassifier
from accel.estimators.mlp_regressor import MLPRegressor
from accel.estimators.path import LogisticPath, logistic_path

__all__ = [
    "LogisticPath",
    "LogisticRegression",
    "LogisticRegressionCV",
    "MLPClassifier",
    "MLPRegressor",
    "logistic_path",
]
