"""Rows that lie on disk, or behind any object that slices, read block by block."""

from accel.sources.base import Data, DataError, Reader, Source, close, is_source
from accel.sources.memory import ArraySource
from accel.sources.opening import as_source, open_data, open_rows
from accel.sources.take import gather, take

__all__ = [
    "ArraySource",
    "Data",
    "DataError",
    "Reader",
    "Source",
    "as_source",
    "close",
    "gather",
    "is_source",
    "open_data",
    "open_rows",
    "take",
]
