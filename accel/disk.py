"""The disk: files written whole or not at all, and arrays read without pickle."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from accel.backends.base import first_line


class FileFormatError(ValueError):
    """A file that is not what it should be, or a damaged one."""


def read_arrays(path: Path) -> Any:
    """What a .npy or .npz file holds; no pickle is ever loaded.

    Parameters
    ----------
    path : Path
        The file.

    Returns
    -------
    ndarray or dict of ndarray
        The array of a .npy file, the arrays of an .npz file by name.

    Raises
    ------
    FileFormatError
        If the content is not plain NumPy arrays.
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        is_zip = file.read(2) == b"PK"
        file.seek(0)
        # A damaged archive sends its reader anywhere, so that one reads from memory: what then
        # goes wrong is the content's fault and never the disk's.
        source: IO[bytes] = io.BytesIO(file.read()) if is_zip else file
        try:
            content = np.load(source, allow_pickle=False)
            return dict(content) if is_zip else content
        except OSError as error:
            if error.errno is not None:
                raise
            raise FileFormatError(first_line(error)) from None
        except Exception as error:  # zipfile, zlib, struct and NumPy raise a dozen types
            pickled = "allow_pickle" in str(error)
            reason = "it is no file of plain arrays" if pickled else first_line(error)
            raise FileFormatError(reason) from None


def write_atomically(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file beside its place and rename it: a kill in the middle leaves the old file.

    Parameters
    ----------
    path : Path
        Where it goes.
    write : callable
        Writes to the binary file it is given.

    Raises
    ------
    OSError
        If the folder cannot be written or the disk is full; no partial file is left.
    """
    path = Path(os.path.realpath(path))  # a link stays a link, its target is replaced
    writer = f"{threading.get_ident()}.{os.getpid()}"
    temporary = path.with_name(f".{path.name}.{writer}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError):
            error.filename = str(path)  # the place the user knows
        temporary.unlink(missing_ok=True)
        raise


def write_with_header(path: Path, header: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """Write arrays and a JSON header as one .npz file, atomically.

    Parameters
    ----------
    path : Path
        The file.
    header : mapping
        With a "format" and a "version".
    arrays : mapping of ndarray
        By name; none is "header".
    """
    text = np.frombuffer(json.dumps(dict(header)).encode(), dtype=np.uint8)
    write_atomically(path, lambda file: np.savez(file, header=text, **dict(arrays)))


def read_with_header(path: Path, form: str, version: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and arrays of such a file.

    Parameters
    ----------
    path : Path
        The file.
    form : str
        The format it must have.
    version : int
        The version it must have.

    Returns
    -------
    header : dict
        As it was written.
    arrays : dict of ndarray
        By name.

    Raises
    ------
    OSError
        If it cannot be read.
    Exception
        Of any type, if it is another file or damaged: the caller says of what.
    """
    arrays = read_arrays(path)
    header = json.loads(bytes(arrays.pop("header")))
    if header["format"] != form or header["version"] != version:
        raise ValueError(f"format {header['format']!r}, version {header['version']!r}")
    return header, arrays


def remove_leftovers(path: Path) -> None:
    """Delete what processes that were killed while they wrote this file left beside it."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        process = leftover.name.split(".")[-2]
        if process.isdecimal() and not _is_running(int(process)):
            leftover.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def prepare_folder(path: Path) -> None:
    """Make an output folder and prove that it can be written, before any work is done."""
    path.mkdir(parents=True, exist_ok=True)
    probe = path / f".accel.{os.getpid()}.tmp"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        error.filename = str(path)
        raise
