"""Every Python block of the documentation runs, and prints what the block after it says."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def python_blocks():
    for page in PAGES:
        blocks = BLOCK.findall(page.read_text())
        for (kind, code), (following, output) in zip(blocks, [*blocks[1:], ("", "")], strict=False):
            if kind == "python":
                wanted = output if following == "text" else None
                yield pytest.param(code, wanted, id=f"{page.name}: {code.splitlines()[0]}")


@pytest.mark.parametrize(("code", "wanted"), list(python_blocks()))
def test_python_blocks_run_and_print_what_they_say(code, wanted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "block", "exec"), {"__name__": "__main__"})
    if wanted is not None:
        assert printed.getvalue().strip() == wanted.strip()


def test_readme_names_real_commands():
    from typer.main import get_command

    from accel.cli import app

    commands = get_command(app).commands
    shown = re.findall(r"`accel ([a-z]+)", (ROOT / "README.md").read_text())
    assert set(shown) == set(commands)


def test_ci_runs_exactly_the_test_command_of_the_readme():
    blocks = [code.strip() for kind, code in BLOCK.findall((ROOT / "README.md").read_text())
              if kind == "sh"]  # fmt: skip
    test_command = next(code for code in blocks if "pytest" in code)
    assert test_command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_extras_of_the_readme_exist():
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = re.findall(r"\[(\w+)\]\"", (ROOT / "README.md").read_text())
    assert named
    assert set(named) <= set(extras)


def test_links_of_the_pages_exist():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("https://") or (page.parent / target).exists(), (page, target)
