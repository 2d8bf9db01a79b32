"""``python -m bench``: what the JSON of a run says, and the minima that fits are judged by."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from textwrap import fill

from accel.backends import BackendUnavailable
from bench import coordinates, layouts, networks_page, optima, scale_page
from bench.compare import compare
from bench.convergence_report import WIDTH, pictures, summary
from bench.gpu_page import readme_rows
from bench.report import between_marks, load, machine_line, newest, readme_table, report

ROOT = Path(__file__).resolve().parents[1]
README, PAGE = ROOT / "README.md", ROOT / "docs" / "convergence.md"
NETWORKS = ROOT / "docs" / "networks.md"
SCALE = ROOT / "docs" / "scale.md"
GPU_MARKS = ("<!-- gpu -->", "<!-- /gpu -->")
PAGE_MARKS = ("<!-- convergence -->", "<!-- /convergence -->")


def _report(options: argparse.Namespace) -> None:
    run = load(options.json) if options.json else newest("pass", "bench")
    print(f"written to {report(run, options.out)}")
    if options.readme:
        readme_table(newest("pass", "bench", "accel numpy"), README)
        gpu = newest("pass", "bench", "accel cupy")
        between_marks(README, GPU_MARKS, f"{readme_rows(gpu)}\n\n{machine_line(gpu)}")


def _compare(options: argparse.Namespace) -> None:
    print(compare(load(options.before), load(options.after)))


def _convergence(options: argparse.Namespace) -> None:
    suite = "bench/test_convergence.py"
    run = load(options.json) if options.json else newest("convergence", suite)
    text = f"{fill(machine_line(run), WIDTH)}\n\n{summary(run['rows'])}"
    print(text)
    if options.docs:
        between_marks(PAGE, PAGE_MARKS, f"```text\n{text}\n```")
    if options.plots:
        written = pictures(run["rows"], options.plots)
        print(f"\n{len(written)} pictures written to {options.plots}")


def _networks(options: argparse.Namespace) -> None:
    run = load(options.json) if options.json else newest("training", "bench")
    networks_page.write(run, NETWORKS)
    print(f"written to {NETWORKS}")


def _scale(options: argparse.Namespace) -> None:
    run = load(options.json) if options.json else newest("stream", "bench/test_scale.py")
    scale_page.write(run, SCALE)
    print(f"written to {SCALE}")


def _optima(options: argparse.Namespace) -> None:
    optima.write(options.case)


def _layouts(options: argparse.Namespace) -> None:
    layouts.run(options.out, options.case)
    print(f"written to {options.out}")


def _coordinates(options: argparse.Namespace) -> None:
    print(f"written to {coordinates.draw(options.out)}")


COMMANDS = {
    "report": _report,
    "compare": _compare,
    "convergence": _convergence,
    "networks": _networks,
    "scale": _scale,
    "optima": _optima,
    "coordinates": _coordinates,
    "layouts": _layouts,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one of the commands; bad input is one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("report", help="one Markdown page with tables and plots")
    one.add_argument("json", nargs="?", type=Path, help="default: the newest in bench/results/")
    one.add_argument("--out", type=Path, default=Path("bench-report"))
    one.add_argument("--readme", action="store_true", help="write the README's table as well")
    two = commands.add_parser("compare", help="what moved beyond noise between two runs")
    two.add_argument("before", type=Path)
    two.add_argument("after", type=Path)
    three = commands.add_parser("convergence", help="time to a gap, the targets, and pictures")
    three.add_argument("json", nargs="?", type=Path, help="default: the newest in bench/results/")
    three.add_argument("--docs", action="store_true", help="write the page's figures as well")
    three.add_argument("--plots", metavar="DIR", type=Path, help="time against gap as PNGs")
    four = commands.add_parser("optima", help="find and store the minima of the convergence suite")
    four.add_argument("case", nargs="*", help="default: all of them")
    five = commands.add_parser("coordinates", help="draw what each change of variables is worth")
    five.add_argument("--out", type=Path, default=Path("docs/pictures/coordinates.png"))
    six = commands.add_parser("networks", help="write the figures of docs/networks.md")
    six.add_argument("json", nargs="?", type=Path, help="default: the newest in bench/results/")
    seven = commands.add_parser("scale", help="write the figures of docs/scale.md")
    seven.add_argument("json", nargs="?", type=Path, help="default: the newest in bench/results/")
    eight = commands.add_parser("layouts", help="time layouts of the CUDA kernels on this GPU")
    eight.add_argument("case", nargs="*", help="texts of cases, as '784 float32'; default: all")
    eight.add_argument("--out", type=Path, default=Path("layouts.json"))
    options = parser.parse_args(arguments)
    try:
        COMMANDS[options.command](options)
    except (OSError, ValueError, BackendUnavailable) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
