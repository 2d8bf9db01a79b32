"""``python -m bench report`` and ``python -m bench compare``: what the JSON of a run says."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.compare import compare
from bench.report import load, newest, readme_table, report

README = Path(__file__).resolve().parents[1] / "README.md"


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two commands; bad input is one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("report", help="one Markdown page with tables and plots")
    one.add_argument("json", nargs="?", type=Path, help="default: the newest in bench/results/")
    one.add_argument("--out", type=Path, default=Path("bench-report"))
    one.add_argument("--readme", action="store_true", help="write the README's table as well")
    two = commands.add_parser("compare", help="what moved beyond noise between two runs")
    two.add_argument("before", type=Path)
    two.add_argument("after", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.command == "compare":
            print(compare(load(options.before), load(options.after)))
            return 0
        run = load(options.json or newest())
        print(f"written to {report(run, options.out)}")
        if options.readme:
            readme_table(run, README)
    except (OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
