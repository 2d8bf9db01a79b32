from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from accel.backends import BACKENDS, BackendUnavailable, get_backend
from tests import strict

settings.register_profile("accel", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("accel")

BACKENDS["strict"] = strict  # last: "auto" never takes it
CUPY_SKIPS = "cupy cannot be used"


def pytest_addoption(parser):
    parser.addoption(
        "--backend",
        action="append",
        choices=["numpy", "strict", "cupy"],
        help="run the tests of the core on this backend only; required, not skipped, if unusable",
    )


def pytest_generate_tests(metafunc):
    if "backend" in metafunc.fixturenames:
        names = metafunc.config.getoption("backend") or ["numpy", "strict", "cupy"]
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request):
    """A backend of the table; its name is what an estimator takes."""
    try:
        return get_backend(request.param)
    except BackendUnavailable as error:
        if request.config.getoption("backend"):
            pytest.fail(str(error))
        pytest.skip(str(error))


def pytest_terminal_summary(terminalreporter):
    skipped = [
        report
        for report in terminalreporter.stats.get("skipped", [])
        if CUPY_SKIPS in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.write_line(
            f"{len(skipped)} tests did NOT run on cupy: green here says nothing about a GPU"
        )


@pytest.fixture(autouse=True)
def auto_is_numpy(request, monkeypatch):
    """A test means the CPU unless it says otherwise, on a machine with a GPU too."""
    if request.module.__name__.endswith("test_backends"):
        monkeypatch.delenv("ACCEL_BACKEND", raising=False)
    else:
        monkeypatch.setenv("ACCEL_BACKEND", "numpy")


@pytest.fixture
def rng():
    return np.random.default_rng(20240611)


@pytest.fixture(scope="session")
def sign_digits():
    """The folder with the real data, or a skip that says where it was looked for."""
    root = Path(__file__).resolve().parents[2]
    places = [
        Path(os.environ.get("ACCEL_SIGN_DIGITS", "")),
        root / "shared" / "data" / "sign-language-digits-dataset",
    ]
    for place in places:
        if place.name and (place / "X.npy").exists() and (place / "reference.json").exists():
            return place
    pytest.skip(f"no sign-language digits in $ACCEL_SIGN_DIGITS or {places[1]}")
