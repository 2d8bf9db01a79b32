"""Exact changes of variables: the same objective in coordinates that are cheaper to walk in.

Here belongs what moves a linear model into other coordinates and leads back, exactly, without
touching X: `RowSpace` (as many coordinates as rows), `Standardised` (centred and scaled columns),
and `suited`, which takes large means from the columns. Each has the members of `Objective` that a
solver sees (`value_and_grad`, `quadratic`, `error`, `gap`, `certify`, `effort`, `backend`) and
`expand`, which leads back to the user's coordinates. A second-order model in `Standardised`
coordinates also has `design`, `penalty` and `noise`, which
the Newton methods read. No loss and no solver is named here.
"""

from accel.conditioning.columns import look
from accel.conditioning.offsets import suited
from accel.conditioning.rowspace import RowSpace, row_space
from accel.conditioning.standardised import Standardised, coordinates

__all__ = ["RowSpace", "Standardised", "coordinates", "look", "row_space", "suited"]
