"""``python -m accel`` and the command ``accel``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; where its libraries are missing, say how to install them."""
    try:
        from accel.cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("accel"):
            raise
        sys.exit(f'accel: the command line needs {error.name}: pip install "accel[cli]"')
    except KeyboardInterrupt:
        sys.exit(130)
    app()


if __name__ == "__main__":
    main()
