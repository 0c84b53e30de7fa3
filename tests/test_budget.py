"""Predictions of memory, time and disk: their order, their bounds and their error."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mfvdm_fast.budget import predict
from mfvdm_fast.errors import ParameterError
from mfvdm_fast.params import DenoiseParams
from mfvdm_fast.records import DiskSupport

PARAMS = DenoiseParams()


def test_needs_grow_with_the_job() -> None:
    small, large = predict(10_000, 65, PARAMS), predict(40_000, 65, PARAMS)
    assert small.least_memory_bytes <= small.memory_bytes < large.memory_bytes < 4 * small.memory_bytes
    assert 8 * small.cpu_seconds > large.cpu_seconds > 4 * small.cpu_seconds
    assert large.output_bytes == 4 * small.output_bytes


def test_what_is_left_out_costs_nothing() -> None:
    whole = predict(10_000, 65, PARAMS)
    assert predict(10_000, 65, replace(PARAMS, refine=False)).cpu_seconds < whole.cpu_seconds
    fewer = predict(10_000, 65, replace(PARAMS, n_eigenvectors=20))
    assert fewer.stage_bytes["refine"] < whole.stage_bytes["refine"]
    assert predict(10_000, 65, PARAMS, has_ctf=False).stage_bytes["restore"] < whole.stage_bytes["restore"]
    narrow = predict(10_000, 65, PARAMS, support=DiskSupport(25.0, 0.2))
    assert narrow.memory_bytes < whole.memory_bytes


def test_output_holds_images_and_both_tables() -> None:
    assert predict(100, 32, PARAMS).output_bytes == 100 * (4 * 32**2 + 2 * 25 * 50)


def test_lines_say_memory_time_and_disk() -> None:
    words = "\n".join(predict(10_000, 65, PARAMS).lines())
    for part in ("memory: about", "time: about", "CPU-seconds", "disk:"):
        assert part in words


def test_too_little_memory_is_refused() -> None:
    budget = predict(10_000, 65, PARAMS)
    budget.check(None)
    budget.check(budget.least_memory_bytes)
    with pytest.raises(ParameterError, match=r"needs about \d+ MB of memory, but --max-memory allows 100 MB: allow"):
        budget.check(100_000_000)
