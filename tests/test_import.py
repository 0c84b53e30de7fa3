"""What importing the package brings with it, and which names it offers."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mfvdm_fast

ROOT = Path(mfvdm_fast.__file__).parents[1]

PUBLIC_NAMES = [
    "DenoiseParams",
    "DenoiseResult",
    "NeighborTable",
    "ParticleStack",
    "SimulationSettings",
    "SteerableCoefficients",
    "denoise",
    "make_ctf",
    "open_stack",
    "preset",
    "simulate_stack",
    "synthetic_particle",
]


def modules_after(statement: str) -> set[str]:
    script = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_public_names_are_pinned() -> None:
    assert mfvdm_fast.__all__ == PUBLIC_NAMES
    assert len(PUBLIC_NAMES) <= 12
    for name in PUBLIC_NAMES:
        assert getattr(mfvdm_fast, name).__module__.startswith("mfvdm_fast.")
    assert set(PUBLIC_NAMES) <= set(dir(mfvdm_fast))


def test_type_checkers_see_the_public_names() -> None:
    stub = Path(mfvdm_fast.__file__).with_suffix(".pyi").read_text()
    assert sorted(re.findall(r"^from \S+ import (\w+) as \1$", stub, re.MULTILINE)) == PUBLIC_NAMES


def test_no_public_name_is_hidden_by_a_submodule() -> None:
    submodules = {module.name for module in pkgutil.iter_modules(mfvdm_fast.__path__)}
    assert {"kernels", "records"} <= submodules
    assert not submodules & set(PUBLIC_NAMES)


def test_unknown_names_and_version() -> None:
    with pytest.raises(AttributeError, match="module 'mfvdm_fast' has no attribute 'nonsense'"):
        mfvdm_fast.nonsense  # type: ignore[attr-defined]  # noqa: B018
    assert re.fullmatch(r"\d+\.\d+\.\d+", str(mfvdm_fast.__version__))


def test_version_of_a_checkout_that_is_not_installed(tmp_path: Path) -> None:
    package = tmp_path / "mfvdm_fast"
    package.mkdir()
    (package / "__init__.py").write_text(Path(mfvdm_fast.__file__).read_text())
    script = (
        "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n"
        "import mfvdm_fast; print(mfvdm_fast.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0.0.0"


def test_importing_the_package_loads_nothing_heavy() -> None:
    loaded = modules_after("import mfvdm_fast")
    assert "mfvdm_fast" in loaded
    assert not loaded & {"numpy", "numba", "scipy", "matplotlib", "rich", "mrcfile", "mfvdm_fast.kernels"}


def test_a_public_name_brings_only_what_it_needs() -> None:
    loaded = modules_after("from mfvdm_fast import NeighborTable")
    assert "mfvdm_fast.records" in loaded
    assert not loaded & {"numba", "scipy", "matplotlib"}


def test_reading_the_command_line_loads_no_plotting() -> None:
    """Every module can be imported, and none of them imports what is only needed for pictures and bars."""
    modules = pkgutil.walk_packages(mfvdm_fast.__path__, "mfvdm_fast.")
    names = [m.name for m in modules if not m.name.endswith("__main__")]
    assert len(names) > 10
    loaded = modules_after("\n".join(f"import {name}" for name in names))
    assert set(names) <= loaded
    assert not loaded & {"matplotlib", "rich", "threadpoolctl"}


def test_importing_the_kernels_compiles_nothing() -> None:
    folder = importlib.import_module("mfvdm_fast.kernels").__path__
    names = [f"mfvdm_fast.kernels.{m.name}" for m in pkgutil.iter_modules(folder)]
    script = "\n".join(
        [
            "from numba.core import event",
            "class Listener(event.Listener):",
            "    def on_start(self, e): raise SystemExit(f'compiled {e.data}')",
            "    def on_end(self, e): pass",
            "event.register('numba:compile', Listener())",
            *(f"import {name}" for name in names),
            "{extra}",
        ]
    )
    for extra, code in (("", 0), ("import numba; numba.njit(lambda: 1)()", 1)):
        command = [sys.executable, "-c", script.replace("{extra}", extra)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
