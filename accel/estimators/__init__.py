"""Estimators: the scikit-learn surface.

Here belongs what users call: constructor parameters, validation of what comes in, fitted
attributes, warnings. Arrays of any library come in here and NumPy attributes come out; the
mathematics is to the left of this package.
"""

from accel.estimators.logistic import LogisticRegression

__all__ = ["LogisticRegression"]
