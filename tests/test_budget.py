"""Predictions of memory, time and disk: their order, their bounds and their error, and runs that were measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mfvdm_fast.budget import CANDIDATES, IN_CELLS, MATCHED_WITH, PARTS, PER_NEIGHBOR, SPARE, predict
from mfvdm_fast.errors import ParameterError
from mfvdm_fast.neighbors import cells, groups, match
from mfvdm_fast.neighbors.groups import ALL_UP_TO
from mfvdm_fast.params import DenoiseParams, preset
from mfvdm_fast.records import DiskSupport
from mfvdm_fast.restore import templates

PARAMS = DenoiseParams()
LOW: dict[str, Any] = {"refine": True, "n_matchings": 2}  # what a low SNR decides (see params.settle)

# Particles, box, preset, disc on the grid of the basis; CPU-seconds and peak bytes of the whole command on one thread
# of an AMD EPYC (Zen 4): 70S ribosome, SNR .05 and .01.
MEASURED = [
    (3_000, 65, "paper", 29.1, 0.254, 4.5, 303e6),
    (10_000, 65, "paper", 29.1, 0.254, 19.6, 520e6),
    (10_000, 65, "paper", 26.8, 0.254, 18.2, 534e6),
    (3_000, 129, "paper", 64.0, 0.325, 9.3, 536e6),
    (3_000, 65, "default", 29.1, 0.254, 8.4, 335e6),
    (10_000, 65, "default", 29.1, 0.254, 19.1, 497e6),
    (10_000, 65, "default", 26.8, 0.254, 29.9, 521e6),
    (10_000, 129, "default", 64.0, 0.325, 49.4, 1080e6),
    (3_000, 129, "default", 64.0, 0.325, 12.6, 506e6),
    (1_000, 257, "default", 68.9, 0.399, 13.1, 653e6),
]


@pytest.mark.parametrize(("n", "box_size", "name", "radius", "bandlimit", "seconds", "peak"), MEASURED)
def test_measured_runs_are_predicted(
    n: int, box_size: int, name: str, radius: float, bandlimit: float, seconds: float, peak: float
) -> None:
    budget = predict(n, box_size, preset(name), support=DiskSupport(radius, bandlimit))
    assert 0.5 < budget.cpu_seconds / seconds < 2
    assert 0.75 < budget.memory_bytes / peak < 1.25


def test_needs_grow_with_the_job() -> None:
    small, large = predict(10_000, 65, PARAMS), predict(40_000, 65, PARAMS)
    assert small.least_memory_bytes < small.memory_bytes < large.memory_bytes < 4 * small.memory_bytes
    assert 8 * small.cpu_seconds > large.cpu_seconds > 4 * small.cpu_seconds
    assert large.output_bytes == 4 * small.output_bytes
    assert sum(small.stage_seconds.values()) == small.cpu_seconds


def test_what_is_left_out_costs_nothing() -> None:
    whole = predict(10_000, 65, replace(PARAMS, **LOW))
    plain = predict(10_000, 65, replace(PARAMS, refine=False, n_matchings=0))
    more = set(whole.stage_seconds) - set(plain.stage_seconds)
    assert more == {"eigenvectors", "refine", "centre", "templates", "match"}
    assert plain.cpu_seconds < whole.cpu_seconds
    fewer = predict(10_000, 65, replace(PARAMS, refine=True, n_eigenvectors=20))
    assert fewer.stage_bytes["refine"] < whole.stage_bytes["refine"]
    wiener = predict(10_000, 65, replace(PARAMS, method="cwf"))
    assert "search" not in wiener.stage_seconds
    assert wiener.memory_bytes < plain.memory_bytes
    paper = preset("paper")
    without = predict(10_000, 65, paper, has_ctf=False).stage_bytes["restore"]
    assert without < predict(10_000, 65, paper).stage_bytes["restore"]


def test_what_the_data_decide_is_taken_half_way() -> None:
    either, clear, noisy = (
        predict(10_000, 65, replace(PARAMS, **change))
        for change in ({}, {"refine": False, "n_matchings": 1}, {"refine": True, "n_matchings": 2})
    )
    assert either.cpu_seconds == pytest.approx((clear.cpu_seconds + noisy.cpu_seconds) / 2)
    assert clear.cpu_seconds < either.cpu_seconds < noisy.cpu_seconds


def test_a_look_at_the_images_counts() -> None:
    blind, seen = predict(10_000, 65, PARAMS), predict(10_000, 65, PARAMS, support=DiskSupport(25.0, 0.2))
    assert seen.memory_bytes < blind.memory_bytes
    assert seen.cpu_seconds < blind.cpu_seconds
    given = predict(10_000, 65, replace(PARAMS, radius_px=25.0, bandlimit=0.2))
    assert given.memory_bytes == seen.memory_bytes


def test_output_holds_images_and_both_tables() -> None:
    assert predict(100, 32, PARAMS).output_bytes == 100 * (4 * 32**2 + 2 * 25 * 12)


def test_lines_say_memory_time_and_disk() -> None:
    words = "\n".join(predict(10_000, 65, PARAMS).lines())
    for part in ("memory: about", "time: about", "CPU-seconds", "disk:"):
        assert part in words


def test_too_little_memory_is_refused() -> None:
    budget = predict(10_000, 65, PARAMS)
    budget.check(None)
    budget.check(budget.least_memory_bytes)
    with pytest.raises(
        ParameterError, match=r"needs about \d+ MiB of memory, .* \(--max-memory\) allows 96 MiB: allow"
    ):
        budget.check(100_000_000)


def test_matching_grows_with_the_templates_that_are_compared() -> None:
    assert MATCHED_WITH == ALL_UP_TO
    few, many = (predict(n, 65, PARAMS).stage_seconds["match"] for n in (40_000, 80_000))
    assert 1.95 < many / few < 2.05


def test_templates_in_cells_are_expected_where_there_are_cells() -> None:
    assert (IN_CELLS, PER_NEIGHBOR) == (groups.CELLS_FROM, groups.PARTICLES_PER_NEIGHBOR)
    assert (CANDIDATES, SPARE) == (cells.CANDIDATES, match.SPARE)

    def seconds(n: int) -> float:
        return predict(n, 65, PARAMS).stage_seconds["match"]

    assert seconds(IN_CELLS) < 0.7 * seconds(IN_CELLS - 1)
    assert seconds(MATCHED_WITH) < 0.5 * seconds(MATCHED_WITH + 1)


def test_memory_of_templates_is_that_of_all_their_parts() -> None:
    assert templates.PARTS == PARTS


def test_centring_is_predicted_where_it_is_asked_for_and_told_where_it_may_come() -> None:
    """Measured with --centre: CPU-seconds of the whole command on one thread, 70S at SNR .05 and .1."""
    for n, box_size, support, seconds in (
        (100, 65, DiskSupport(28.0, 0.25), 4.7),
        (200, 65, DiskSupport(30.2, 0.252), 7.4),
        (500, 65, DiskSupport(29.1, 0.254), 11.1),
        (400, 33, DiskSupport(16.0, 0.43), 10.7),
        (200, 129, DiskSupport(57.8, 0.177), 25),
        (400, 129, DiskSupport(57.8, 0.18), 34),
        (1_000, 65, DiskSupport(30.2, 0.252), 17.5),
        (5_000, 65, DiskSupport(29.1, 0.254), 61),
        (10_000, 65, DiskSupport(29.1, 0.254), 153),
        (3_000, 129, DiskSupport(64.0, 0.325), 123),
    ):
        forced, open_, never = (
            predict(n, box_size, preset("default", centre=centre), support=support) for centre in (True, None, False)
        )
        assert 0.5 < forced.cpu_seconds / seconds < 2
        assert forced.centring_seconds == never.centring_seconds == 0
        assert open_.centring_seconds == pytest.approx(forced.cpu_seconds - open_.cpu_seconds)
        assert f"{open_.centring_seconds:.0f} more, and a quarter more memory" in open_.lines()[1]
        assert not any("more, and" in line for budget in (forced, never) for line in budget.lines())
        assert forced.stage_bytes["centre"] > 1.25 * open_.stage_bytes["templates"]


def test_centring_counts_where_nothing_is_matched_after_it() -> None:
    with_it, without = (predict(1_000, 65, preset(n_matchings=0, centre=centre)) for centre in (True, None))
    assert with_it.cpu_seconds > 3 * without.cpu_seconds
    assert without.centring_seconds == 0
    assert with_it.memory_bytes > without.memory_bytes
