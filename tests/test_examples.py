"""The examples in the docstrings of every module do what they say; those of the graph are run by its own tests."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import mfvdm_fast

ELSEWHERE = ("mfvdm_fast.__main__", "mfvdm_fast.graph")
MODULES = [
    module.name
    for module in pkgutil.walk_packages(mfvdm_fast.__path__, "mfvdm_fast.")
    if not module.name.startswith(ELSEWHERE)
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = doctest.testmod(importlib.import_module(name))
    assert found.failed == 0, capsys.readouterr().out


def test_an_example_that_is_wrong_is_seen() -> None:
    assert len(MODULES) > 60
    assert "mfvdm_fast.params" in MODULES
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner().run(example, out=lambda _: None).failed == 1
