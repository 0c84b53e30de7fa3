"""Presets, and which parameters go together."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from functools import partial

import pytest

from mfvdm_fast.errors import ParameterError
from mfvdm_fast.params import USED_BY, DenoiseParams, left_idle, preset, settle, settle_matchings, settle_size, uses


def test_presets_and_their_errors() -> None:
    assert preset() == preset("default") == DenoiseParams()
    assert preset("paper") == DenoiseParams(method="spectral", refine=True, n_neighbors=50, n_frequencies=10)
    assert preset("paper", n_neighbors=9).n_neighbors == 9
    with pytest.raises(ParameterError, match="preset must be one of 'default', 'paper', got 'best'"):
        preset("best")
    with pytest.raises(ParameterError, match="no such parameter"):
        preset("paper", neighbours=9)


def test_parameters_without_effect_are_refused() -> None:
    assert set(USED_BY) <= {field.name for field in fields(DenoiseParams)}
    other = {"refine": True, "centre": True, "solver": "eigsh", "spectral_filter": "λ"}
    for method in ("graph_map", "spectral", "cwf"):
        for name in USED_BY:
            change = {"method": method, name: other.get(name, 3)}
            if uses(method, name):
                assert getattr(DenoiseParams(**change), name) == getattr(preset(**change), name) == change[name]
                continue
            for make in (DenoiseParams, preset, partial(preset, "paper")):
                text = f"{name} has no effect with the method '{method}', got {change[name]!r}: leave it out, or take"
                with pytest.raises(ParameterError, match=re.escape(text)):
                    make(**change)
    with pytest.raises(ParameterError, match="n_frequencies has no effect with the method 'cwf', got 6"):
        preset(method="cwf", n_frequencies=6)  # the default, but asked for
    assert preset("paper", method="cwf") == DenoiseParams(method="cwf")  # what the preset sets nobody asked for
    assert preset("paper", method="graph_map") == DenoiseParams(refine=True, n_neighbors=50, n_frequencies=10)


def test_parameters_of_a_refinement_that_is_left_out_are_refused() -> None:
    for name in ("n_frequencies", "diffusion_time", "n_eigenvectors"):
        with pytest.raises(ParameterError, match=rf"{name} has no effect without the refinement .*, got 3: leave it"):
            preset(refine=False, **{name: 3})
        assert getattr(preset(**{name: 3}), name) == getattr(preset("paper", **{name: 3}), name) == 3
    with pytest.raises(ParameterError, match="n_frequencies has no effect without the refinement"):
        preset("paper", refine=False, n_frequencies=10)  # the default, but asked for
    assert preset("paper", refine=False, n_eigenvectors=20).n_eigenvectors == 20  # of Algorithm 2


def test_parameters_of_a_refinement_that_the_data_do_without_are_told() -> None:
    given = preset(n_frequencies=2, n_eigenvectors=8)
    assert list(left_idle(given, refined=False)) == ["n_frequencies", "n_eigenvectors"]
    assert left_idle(given, refined=True) == left_idle(preset(), refined=False) == {}
    assert left_idle(preset("paper"), refined=True) == left_idle(preset(method="cwf"), refined=None) == {}
    spectral = preset(method="spectral", diffusion_time=2, n_eigenvectors=8)  # these are Algorithm 2's too
    assert list(left_idle(spectral, refined=False)) == ["diffusion_time"]
    assert left_idle(preset(n_eigenvectors=8, refine=True), refined=True) == {}


def test_parameters_of_a_matching_that_is_not_done_are_named() -> None:
    given = preset(n_matchings=0, centre=False, n_template_eigenvectors=100, n_frequencies=2)
    idle = left_idle(given, refined=True)
    assert list(idle) == ["centre", "n_template_eigenvectors"]
    assert all(why.startswith("nothing is matched (--matchings 0)") for why in idle.values())
    assert "n_frequencies" in left_idle(given, refined=False)
    assert left_idle(preset(n_matchings=0, centre=True, n_template_eigenvectors=100), refined=True) == {}
    assert left_idle(preset(n_matchings=0), refined=True) == left_idle(preset(centre=False), refined=True) == {}


@pytest.mark.parametrize("params", [preset(), preset("paper"), preset("paper", refine=None), preset(method="cwf")])
def test_settled_parameters_stay_valid(params: DenoiseParams) -> None:
    settled = settle(settle_size(params, 1000), 0.0, 1000)
    assert (settled.n_neighbors is None) == (params.method == "cwf")
    assert settled.n_matchings == (2 if params.method == "graph_map" else None)
    assert settled.refine is (None if params.method == "cwf" else True)
    assert replace(settled, seed=1).seed == 1
    assert settle(settle_size(settled, 1000), 1.0, 1000) == settled


def test_lists_of_large_stacks_may_close_less() -> None:
    matchings = [settle(preset(), 0.26, n).n_matchings for n in (10_000, 20_000, 80_000)]
    assert matchings == [2, 2, 1]
    assert settle(preset(), 0.1, 80_000).n_matchings == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"n_neighbors": 0}, "n_neighbors must be a whole number of at least 1, got 0"),
        ({"n_eigenvectors": 2.5}, "n_eigenvectors must be a whole number of at least 1"),
        ({"spectral_filter": "x"}, "spectral_filter must be one of"),
        ({"basis": "wavelets"}, "basis must be one of"),
        ({"solver": "lapack"}, "solver must be one of"),
        ({"bandlimit": 0.7}, r"bandlimit must be at most 0\.5"),
        ({"radius_px": -1}, "radius_px must be a finite number above 0"),
        ({"method": "median"}, "method must be one of"),
        ({"n_matchings": -1}, "n_matchings must be a whole number of at least 0"),
        ({"n_matchings": 11}, "n_matchings must be at most 10, got 11"),
        ({"ctf": "no"}, "ctf must be True or False, got 'no'; give a Python bool, without quotes"),
        ({"ctf": None}, "ctf must be True or False, got None"),
        ({"ctf": 1}, "ctf must be True or False, got 1"),
        ({"whiten": "no"}, "whiten must be True, False or None, got 'no'; give a Python bool, without quotes"),
        ({"refine": 0}, "refine must be True, False or None, got 0"),
        ({"centre": "yes"}, "centre must be True, False or None, got 'yes'"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"radius_px": 9, "particle_diameter_angstrom": 90}, "give radius_px or particle_diameter_angstrom, not both"),
    ],
)
def test_parameters_are_checked(change: dict[str, object], text: str) -> None:
    with pytest.raises(ParameterError, match=text):
        DenoiseParams(**change)  # type: ignore[arg-type]


def test_particles_are_matched_again_while_their_lists_agree_little() -> None:
    assert [settle_matchings(done, 0.2) for done in (1, 2, 3, 4, 7)] == [1, 3, 3, 4, 7]
    assert [settle_matchings(done, 0.7) for done in (1, 2, 3, 4, 7)] == [1, 2, 3, 4, 7]
