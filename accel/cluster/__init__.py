"""Rows that lie on the workers of a dask cluster. Importing this imports no dask.

The workers hold their rows and compute on them; what they hand out are sums. No mathematics of a
model belongs here: a part is whatever has ``value_and_grad``, ``curvature`` and ``second_order``.
"""

from accel.cluster.distributed import ClusterError, Distributed, is_distributed
from accel.cluster.inputs import Spread, frame, is_dask, spread

__all__ = ["ClusterError", "Distributed", "Spread", "frame", "is_dask", "is_distributed", "spread"]
