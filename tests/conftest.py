"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

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
