"""What is installed, and how the build finds out about OpenMP."""

from __future__ import annotations

import importlib.util
import re
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mfvdm_fast
from mfvdm_fast.ext import pattern

ROOT = Path(__file__).parents[1]
PACKAGE = Path(mfvdm_fast.__file__).parent


def repository_file(name: str) -> Path:
    if not (ROOT / name).exists():
        pytest.skip(f"{name} is not beside the tests: they run against an installed package")
    return ROOT / name


def test_typing_marker_and_cython_declarations_are_shipped() -> None:
    for name in ("py.typed", "ext/hermitian.pxd", "ext/hermitian.pyi", "ext/pattern.pyi"):
        assert (PACKAGE / name).is_file(), name


def test_stubs_name_what_the_extensions_offer() -> None:
    for name in ("hermitian", "pattern"):
        module = __import__(f"mfvdm_fast.ext.{name}", fromlist=["x"])
        stub = (PACKAGE / "ext" / f"{name}.pyi").read_text()
        functions = re.findall(r"^def (\w+)", stub, re.MULTILINE)
        public = [n for n, v in vars(module).items() if type(v).__name__ == "cython_function_or_method" and n[0] != "_"]
        assert sorted(functions) == sorted(public)
    assert pattern.EdgePattern._fields == tuple(re.findall(r"^    (\w+): NDArray", stub, re.MULTILINE))


def test_the_changelog_starts_with_this_version() -> None:
    project = tomllib.loads(repository_file("pyproject.toml").read_text())["project"]
    versions = re.findall(r"^## \[([\d.]+)\]", repository_file("CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == project["version"]


@pytest.fixture
def openmp_flags(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """``openmp_flags`` of setup.py with the compiler that the environment names; nothing is built."""
    path = repository_file("setup.py")
    setuptools = pytest.importorskip("setuptools")
    cython_build = pytest.importorskip("Cython.Build")
    monkeypatch.delenv("MFVDM_NO_OPENMP", raising=False)
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    monkeypatch.setattr(cython_build, "cythonize", lambda extensions, **_: extensions)
    spec = importlib.util.spec_from_file_location("mfvdm_fast_setup", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def flags() -> list[str]:
        from setuptools._distutils.ccompiler import new_compiler  # type: ignore[import-untyped]
        from setuptools._distutils.sysconfig import customize_compiler  # type: ignore[import-untyped]

        command: Any = module.BuildExtensions(setuptools.Distribution())
        command.compiler = new_compiler()
        customize_compiler(command.compiler)
        result: list[str] = command.openmp_flags()
        return result

    return flags


def test_serial_build_on_request(
    openmp_flags: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MFVDM_NO_OPENMP", "1")
    assert openmp_flags() == []
    assert "MFVDM_NO_OPENMP is set; building the extensions serial" in capsys.readouterr().err


def test_serial_build_when_the_compiler_has_no_openmp(
    openmp_flags: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    compiler = tmp_path / "plain-cc"
    compiler.write_text("#!/bin/sh\necho unknown option -fopenmp >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    assert openmp_flags() == []
    said = capfd.readouterr().err
    assert "plain-cc) cannot build an OpenMP program" in said
    assert "building the extensions serial" in said
    assert "install a compiler with OpenMP" in said


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc, which has OpenMP")
def test_openmp_is_found(openmp_flags: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "gcc")
    monkeypatch.setenv("MFVDM_NO_OPENMP", "0")
    assert openmp_flags() == ["-fopenmp"]
