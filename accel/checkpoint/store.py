"""The folder of a run: two files, written atomically, and the run that they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accel.backends import Backend
from accel.backends.base import first_line
from accel.checkpoint.packing import pack, pack_snapshot, unpack, unpack_snapshot
from accel.disk import (
    FileFormatError,
    prepare_folder,
    read_with_header,
    remove_leftovers,
    write_with_header,
)
from accel.solvers.epochs import Training
from accel.solvers.loop import Snapshot

Array = Any
FORMAT, VERSION = "accel-checkpoint", 1
LAST, BEST = "last.npz", "best.npz"
EPOCHS, FULL_BATCH = "epochs", "full batch"  # what a state is of


class CheckpointError(FileFormatError):
    """A checkpoint that is damaged, or of another run."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder with the last state of a run, and of one by epochs the best parameters.

    Parameters
    ----------
    folder : Path
        Where last.npz and best.npz are.
    every : int
        Epochs or updates between two states.
    run : mapping of str
        What the run is: its data and arguments. Another run is refused.
    plan : mapping of str, optional
        How it is computed, as coordinates and blocks of rows: what a state depends on, but not what
        the parameters mean. From a snapshot of another plan only its parameters are taken.

    Notes
    -----
    `save` and `load` are for a `Training`, by epochs; `save_snapshot` and `load_snapshot` for a
    `Snapshot`, of `minimize`. A state of the other kind is one of another run.
    """

    folder: Path
    every: int
    run: Mapping[str, str]
    plan: Mapping[str, str] = field(default_factory=dict)

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
            self._write(BEST, EPOCHS, about, {"params": best})
        # last: a kill in between repeats these epochs, bitwise
        self._write(LAST, EPOCHS, values, arrays)

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
        found = self._read(EPOCHS)
        return None if found is None else self._unpacked(unpack, *found[:2], backend)

    def save_snapshot(
        self, snapshot: Snapshot, backend: Backend, *, expand: Callable[[Array], Array]
    ) -> None:
        """Write the snapshot if it is due: at every so many updates, and at the end.

        Parameters
        ----------
        snapshot : Snapshot
            Before an update, or the last.
        backend : Backend
            Holds it.
        expand : callable
            Parameters of the snapshot -> those of the user's coordinates, which are written too.

        Raises
        ------
        OSError
            If the folder cannot be written; the file from before is whole.
        """
        if len(snapshot.history) % self.every and snapshot.ended is None:
            return
        values, arrays = pack_snapshot(snapshot, backend)
        arrays["params"] = backend.to_numpy(expand(snapshot.state.params))
        self._write(LAST, FULL_BATCH, values, arrays)

    def load_snapshot(self, backend: Backend) -> tuple[Snapshot | None, Array | None]:
        """Where to go on: from a snapshot, or from parameters where the plan has changed.

        Parameters
        ----------
        backend : Backend
            Where the fit goes on.

        Returns
        -------
        snapshot : Snapshot or None
            Of this run by this plan: what `minimize` resumes.
        start : array (n_params,) or None
            Of this run by another plan: its parameters in the user's coordinates, on the device.
            Both are None where there is no file.

        Raises
        ------
        CheckpointError
            If the file is damaged or of another run.
        """
        found = self._read(FULL_BATCH)
        if found is None:
            return None, None
        values, arrays, plan = found
        if plan != self.plan:
            return None, self._unpacked(_start, values, arrays, backend)
        return self._unpacked(unpack_snapshot, values, arrays, backend), None

    def _unpacked(self, unpack: Callable[..., Any], *packed: Any) -> Any:
        try:
            return unpack(*packed)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(LAST, error) from None

    def _write(
        self, name: str, kind: str, values: Mapping[str, Any], arrays: Mapping[str, Array]
    ) -> None:
        header = {
            "format": FORMAT,
            "version": VERSION,
            "run": {"kind": kind, **self.run},
            "plan": dict(self.plan),
            "values": values,
        }
        write_with_header(self.folder / name, header, arrays)

    def _read(self, kind: str) -> tuple[dict[str, Any], dict[str, Array], dict[str, str]] | None:
        """The last state; a damaged or foreign best.npz is refused now, not after hours of work."""
        last = self._read_file(LAST, kind)
        self._read_file(BEST, kind)
        return last

    def _read_file(
        self, name: str, kind: str
    ) -> tuple[dict[str, Any], dict[str, Array], dict[str, str]] | None:
        """Values, arrays and plan of a file of this run."""
        try:
            header, arrays = read_with_header(self.folder / name, FORMAT, VERSION)
            found = {"kind": EPOCHS, **header["run"]}  # the first files did not name their kind
            values, plan = header["values"], dict(header.get("plan", {}))
        except FileNotFoundError:
            return None
        except OSError:
            raise
        except Exception as error:  # a foreign file may be wrong in any way
            raise self._damaged(name, error) from None
        run = {"kind": kind, **self.run}
        different = [key for key in {**found, **run} if found.get(key) != run.get(key)]
        if different:
            raise CheckpointError(
                f"{self.folder / name} is of another run ({', '.join(sorted(different))} differ): "
                "give checkpoint another folder, or remove this one."
            )
        return values, arrays, plan

    def _damaged(self, name: str, error: BaseException) -> CheckpointError:
        return CheckpointError(
            f"{self.folder / name} is not a checkpoint of this version, or it is damaged "
            f"({first_line(error)}): remove it to start again."
        )


def _start(values: Mapping[str, Any], arrays: Mapping[str, Array], backend: Backend) -> Array:  # noqa: ARG001
    return backend.asarray(arrays["params"])
