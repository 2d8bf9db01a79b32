"""Checkpoints of a training: two files, written atomically, from which it goes on bitwise."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accel.backends import Backend
from accel.backends.base import first_line, row_blocks
from accel.backends.interchange import is_sparse, to_host
from accel.disk import (
    FileFormatError,
    prepare_folder,
    read_with_header,
    remove_leftovers,
    write_with_header,
)
from accel.solvers.epochs import Training
from accel.solvers.loop import Status

Array = Any
FORMAT, VERSION = "accel-checkpoint", 1
LAST, BEST = "last.npz", "best.npz"
HASH_BLOCK_BYTES = 16 << 20
NUMBERS = ("learning_rate", "epoch", "step", "t", "best_loss", "best_score", "best_epoch",
           "saved_epoch", "idle", "seed")  # fmt: skip


class CheckpointError(FileFormatError):
    """A checkpoint that is damaged, or of another run."""


def digest(*arrays: Array) -> str:
    """A hash of the contents, shapes and dtypes of arrays, read block by block.

    Parameters
    ----------
    *arrays : array or None
        NumPy, of another library, or sparse.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    total = hashlib.blake2b(digest_size=16)
    for array in arrays:
        parts = [array]
        if is_sparse(array):
            total.update(f"{array.shape}".encode())
            parts = [array.data, array.indices, array.indptr]
        for part in parts:
            if part is None:
                continue
            total.update(f"{part.shape} {part.dtype}".encode())
            row_bytes = 8 * int(np.prod(part.shape[1:]))
            for rows in row_blocks(part.shape[0], row_bytes, HASH_BLOCK_BYTES):
                total.update(np.ascontiguousarray(to_host(part[rows, ...])).tobytes())
    return total.hexdigest()


def pack(training: Training, backend: Backend) -> tuple[dict[str, Any], dict[str, Array]]:
    """A training as plain values and host arrays.

    Parameters
    ----------
    training : Training
        On the device.
    backend : Backend
        Holds it.

    Returns
    -------
    values : dict
        What JSON can hold.
    arrays : dict of ndarray
        The rest.
    """
    kind, keys, position, has_gauss, gauss = training.random_state.get_state()
    values = {name: getattr(training, name) for name in NUMBERS}
    values |= {
        "ended": training.ended.name if training.ended else None,
        "random": [kind, int(position), int(has_gauss), float(gauss)],
    }
    arrays = {
        "params": backend.to_numpy(training.params).copy(),
        "best_params": backend.to_numpy(training.best_params).copy(),
        "places": training.places,
        "random_keys": keys,
        "loss_curve": np.array(training.loss_curve),
        "validation_scores": np.array(training.validation_scores),
    }
    for k, array in enumerate(training.memory):
        arrays[f"memory_{k}"] = backend.to_numpy(array).copy()
    return values, arrays


def unpack(values: Mapping[str, Any], arrays: Mapping[str, Array], backend: Backend) -> Training:
    """The training that `pack` took apart, on the device.

    Parameters
    ----------
    values, arrays : mapping
        What `pack` returned.
    backend : Backend
        Where it goes on.

    Returns
    -------
    Training
        Ready for its next epoch.
    """
    kind, position, has_gauss, gauss = values["random"]
    random_state = np.random.RandomState()
    random_state.set_state((kind, arrays["random_keys"], position, has_gauss, gauss))
    n_arrays = sum(name.startswith("memory_") for name in arrays)

    def on_device(name: str) -> Array:
        return backend.asarray(arrays[name].copy())  # the steps write into it

    return Training(
        params=on_device("params"),
        memory=[on_device(f"memory_{k}") for k in range(n_arrays)],
        best_params=on_device("best_params"),
        places=arrays["places"],
        random_state=random_state,
        loss_curve=arrays["loss_curve"].tolist(),
        validation_scores=arrays["validation_scores"].tolist(),
        ended=Status[values["ended"]] if values["ended"] else None,
        **{name: values[name] for name in NUMBERS},
    )


@dataclass(frozen=True)
class Checkpoint:
    """A folder with the last state of a training and the parameters of its best epoch.

    Parameters
    ----------
    folder : Path
        Where last.npz and best.npz are.
    every : int
        Epochs between two states.
    run : mapping of str
        What the run is: its data and arguments. Another run is refused.
    """

    folder: Path
    every: int
    run: Mapping[str, str]

    def prepare(self) -> None:
        """Make the folder, prove that it can be written, and clear what killed runs left in it."""
        prepare_folder(self.folder)
        for name in (LAST, BEST):
            remove_leftovers(self.folder / name)

    def save(
        self,
        training: Training,
        backend: Backend,
        *,
        is_last: bool,
        expand: Callable[[Array], Array],
    ) -> None:
        """Write the state if it is due, and the best parameters if they are new.

        Parameters
        ----------
        training : Training
            After an epoch.
        backend : Backend
            Holds it.
        is_last : bool
            Whether no epoch follows: then it is due.
        expand : callable
            Parameters of a training -> those of X, which best.npz holds.

        Raises
        ------
        OSError
            If the folder cannot be written; the files from before are whole.
        """
        if training.epoch % self.every and not is_last:
            return
        is_new = training.best_epoch > training.saved_epoch
        training.saved_epoch = training.epoch
        values, arrays = pack(training, backend)
        if is_new:
            best = backend.to_numpy(expand(training.best_params))
            about = {name: values[name] for name in ("best_epoch", "best_loss", "best_score")}
            self._write(BEST, about, {"params": best})
        self._write(LAST, values, arrays)  # last: a kill in between repeats these epochs, bitwise

    def load(self, backend: Backend) -> Training | None:
        """The last state, on the device; None where there is none.

        Parameters
        ----------
        backend : Backend
            Where the training goes on.

        Returns
        -------
        Training or None
            The state.

        Raises
        ------
        CheckpointError
            If the file is damaged or of another run.
        """
        found = self._read(LAST)
        self._read(BEST)  # a damaged or foreign one is refused now, not after epochs of work
        if found is None:
            return None
        try:
            return unpack(*found, backend)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(LAST, error) from None

    def _write(self, name: str, values: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        header = {"format": FORMAT, "version": VERSION, "run": dict(self.run), "values": values}
        write_with_header(self.folder / name, header, arrays)

    def _read(self, name: str) -> tuple[dict[str, Any], dict[str, Array]] | None:
        try:
            header, arrays = read_with_header(self.folder / name, FORMAT, VERSION)
            run, values = header["run"], header["values"]
        except FileNotFoundError:
            return None
        except OSError:
            raise
        except Exception as error:  # a foreign file may be wrong in any way
            raise self._damaged(name, error) from None
        different = [key for key in {**run, **self.run} if run.get(key) != self.run.get(key)]
        if different:
            raise CheckpointError(
                f"{self.folder / name} is of another run ({', '.join(sorted(different))} differ): "
                "give checkpoint another folder, or remove this one."
            )
        return values, arrays

    def _damaged(self, name: str, error: BaseException) -> CheckpointError:
        return CheckpointError(
            f"{self.folder / name} is not a checkpoint of this version, or it is damaged "
            f"({first_line(error)}): remove it to start again."
        )
