"""stub"""

from accel.sources.base import DataError, Source, take
from accel.sources.memory import ArraySource

__all__ = ["ArraySource", "DataError", "Source", "take"]


def as_source(X):
    import numpy as np

    if hasattr(X, "reader"):
        return X
    return None


def open_data(p):
    raise NotImplementedError
