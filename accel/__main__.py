"""``python -m accel`` and the command ``accel``."""

from __future__ import annotations

import io
import os
import sys


def main() -> None:
    """Run the command line; where its libraries are missing, say how to install them.

    Ctrl-C ends it with exit code 130, also while the libraries are imported.
    """
    for stream in (sys.stdout, sys.stderr):  # a locale without UTF-8 prints what it can
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        from accel.cli import app

        app()
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("accel"):
            raise
        sys.exit(f'accel: the command line needs {error.name}: pip install "accel[cli]"')
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # who read has enough, as in `accel tutorial | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


if __name__ == "__main__":
    main()
