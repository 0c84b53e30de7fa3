"""Fixtures shared by all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from mfvdm_fast.cli.main import main

from .cli_runs import FAST, Cli, simulate_small

# The same examples in every run, however slow the machine; nothing is written beside the tests.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


def shared_data(*parts: str) -> Path:
    """Path below the shared data folder beside the repository; skips the calling test when it is not there."""
    path = SHARED.joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"the shared data folder beside the repository has no {'/'.join(parts) or 'data'}")
    return path


@pytest.fixture
def shared() -> Path:
    """The shared folder beside the repository (``data``, ``oracle``, ``docs``); skips when it is not there."""
    if not SHARED.is_dir():
        pytest.skip("no shared folder beside the repository")
    return SHARED


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with the same seed for every test."""
    return np.random.default_rng(20240607)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line, run in this process."""
    return Cli(capsys)


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small simulated stack; not to be changed."""
    return simulate_small(tmp_path_factory.mktemp("cli") / "simulated")


@pytest.fixture(scope="session")
def denoised(simulated: Path) -> Path:
    """Folder of that stack denoised; not to be changed."""
    folder = simulated.parent / "denoised"
    assert main(["denoise", str(simulated / "particles.star"), "-o", str(folder), *FAST]) == 0
    return folder


@pytest.fixture(scope="session")
def published(simulated: Path) -> Path:
    """The same by the paper's method."""
    folder = simulated.parent / "published"
    assert main(["denoise", str(simulated / "particles.star"), "-o", str(folder), *FAST, "--preset", "paper"]) == 0
    return folder


@pytest.fixture(autouse=True)
def hear_interrupts() -> Iterator[None]:
    """A shell starts what runs in its background deaf to SIGINT, and tests of interrupts need ears."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
