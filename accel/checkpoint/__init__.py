"""Checkpoints: the state of a run on disk, written atomically, from which it goes on bitwise.

Here belongs what turns a state into a file and back: `Checkpoint` (the folder, its files, whose run
they are of), `pack` and `unpack` (states as plain values and host arrays), `digest` (what the data
of a run are). How a state comes about is not known here.
"""

from accel.checkpoint.hashing import digest
from accel.checkpoint.packing import pack, pack_snapshot, unpack, unpack_snapshot
from accel.checkpoint.store import Checkpoint, CheckpointError

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "digest",
    "pack",
    "pack_snapshot",
    "unpack",
    "unpack_snapshot",
]
