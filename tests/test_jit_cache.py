"""Where machine code is cached, and that an edit in any kernel file is seen although Numba looks at one file only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mfvdm_fast.kernels import _jit

HELPER = "from ._jit import kernel\n\n\n@kernel\ndef weight(x):\n    return {factor} * x\n"
USER = "from ._jit import kernel\nfrom .helper import weight\n\n\n@kernel\ndef total(x):\n    return weight(x) + 1.0\n"
SCRIPT = """
import sys
from planted.kernels.user import total
print(total(10.0), sum(total.stats.cache_hits.values()), sum(total.stats.cache_misses.values()))
"""


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A package with this project's ``_jit.py``, one kernel, and its helper in another file."""
    kernels = tmp_path / "planted" / "kernels"
    kernels.mkdir(parents=True)
    (kernels.parent / "__init__.py").touch()
    (kernels / "__init__.py").touch()
    shutil.copy(_jit.__file__, kernels / "_jit.py")
    (kernels / "helper.py").write_text(HELPER.format(factor=2.0))
    (kernels / "user.py").write_text(USER)
    return tmp_path


def run(folder: Path, **environment: str) -> tuple[float, int, int]:
    """The kernel's result, cache hits and cache misses, in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("MFVDM_CACHE_DIR", "NUMBA_CACHE_DIR")}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, cwd=folder, env=kept | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result, hits, misses = done.stdout.split()
    return float(result), int(hits), int(misses)


def test_an_edit_in_a_helper_is_seen(planted: Path) -> None:
    cache = str(planted / "cache")
    assert run(planted, MFVDM_CACHE_DIR=cache) == (21.0, 0, 1)
    assert run(planted, MFVDM_CACHE_DIR=cache) == (21.0, 1, 0)  # the cache is used ...
    (planted / "planted" / "kernels" / "helper.py").write_text(HELPER.format(factor=3.0))
    assert run(planted, MFVDM_CACHE_DIR=cache) == (31.0, 0, 1)  # ... and left when any file changes


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "TMPDIR"])
def test_a_folder_that_cannot_be_written_is_passed_over(planted: Path, variable: str) -> None:
    blocked, usable = planted / "a_file", planted / "usable"
    blocked.touch()  # a file, not a folder: not even root can write into it
    usable.mkdir()
    environment = {"MFVDM_CACHE_DIR": str(blocked), "HOME": str(blocked), "XDG_CACHE_HOME": str(blocked / "cache")}
    assert run(planted, **(environment | {variable: str(usable)}))[0] == 21.0
    assert len(list(usable.rglob("user.total*.nbc"))) == 1
    assert run(planted, **(environment | {variable: str(usable)})) == (21.0, 1, 0)


def test_without_any_folder_kernels_are_compiled_in_memory(planted: Path) -> None:
    (planted / "a_file").touch()
    script = SCRIPT.replace("import sys", "import tempfile; tempfile.tempdir = 'a_file'")
    blocked = str(planted / "a_file")
    environment = os.environ | {"MFVDM_CACHE_DIR": blocked, "NUMBA_CACHE_DIR": blocked, "XDG_CACHE_HOME": blocked}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=planted, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split()[0] == "21.0", done.stderr


def test_machine_code_is_never_taken_from_a_folder_others_may_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    private = _jit._candidates()[-1]
    assert private.parent == tmp_path
    assert private.stat().st_mode & 0o777 == 0o700
    private.chmod(0o777)
    assert private not in _jit._candidates()


def test_an_account_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with_home = _jit._candidates()
    monkeypatch.setattr(Path, "home", no_home)
    assert len(_jit._candidates()) == len(with_home) - 1


def test_digest_depends_on_every_file_and_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "b.py").write_text("y = 1")
    first = _jit.kernel_digest(tmp_path)
    assert first == _jit.kernel_digest(tmp_path)
    (tmp_path / "b.py").write_text("y = 2")
    second = _jit.kernel_digest(tmp_path)
    (tmp_path / "b.py").rename(tmp_path / "c.py")
    assert len({first, second, _jit.kernel_digest(tmp_path)}) == 3


SAME_BITS = """
import hashlib, numpy as np
from mfvdm_fast.kernels.peaks import peak_angles
from mfvdm_fast.kernels.spmm import PANEL, filter_panel
rng = np.random.default_rng(0)
n, edges = 200, 10
panels = rng.standard_normal((3, n, PANEL), np.float32)
values = (rng.standard_normal((n * edges, 2)) @ [1, 1j]).astype(np.complex64)
start = np.arange(0, n * edges + 1, edges)
filter_panel(start, start[:-1] + rng.integers(0, edges, n), rng.integers(0, n, n * edges, np.int32), values,
             2, panels, np.float32(0.2), np.float32(30), 3)
angles, _ = peak_angles((rng.standard_normal((50, 9, 2)) @ [1, 1j]).astype(np.complex64))
print(hashlib.sha256(panels.tobytes() + angles.tobytes()).hexdigest())
"""


def test_the_run_that_compiles_gives_the_bits_of_later_ones(tmp_path: Path) -> None:
    environment = os.environ | {"MFVDM_CACHE_DIR": str(tmp_path)}
    found = [
        subprocess.run([sys.executable, "-c", SAME_BITS], env=environment, check=True, capture_output=True, text=True)
        for _ in range(2)
    ]
    assert found[0].stdout == found[1].stdout != ""
    assert list(tmp_path.rglob("*.nbi"))


COMPILED = """
import importlib, pkgutil, sys
from mfvdm_fast import kernels
from mfvdm_fast.cli.main import main

def compiled():
    found = {}
    for name in [module.name for module in pkgutil.iter_modules(kernels.__path__)]:
        module = importlib.import_module(f"mfvdm_fast.kernels.{name}")
        for key, value in vars(module).items():
            if hasattr(value, "signatures"):
                found[f"{name}.{key}"] = set(value.signatures)
    return found

folder = sys.argv[1]
assert main(["warmup", "--threads", "1"]) == 0
before = compiled()
job = ["-n", "120", "-L", "33", "--pixel-size", "8", "--snr", "0.5", "-o", folder + "/sim"]
assert main(["simulate", *job, "--threads", "1"]) == 0
for name in ("default", "paper"):
    options = ["-o", f"{folder}/{name}", "--preset", name, "--neighbors", "8", "--threads", "1"]
    assert main(["denoise", folder + "/sim/particles.star", *options]) == 0
print("NEW", sorted(name for name, signatures in compiled().items() if signatures != before[name]))
"""


def test_warmup_leaves_nothing_to_compile(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMPILED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "NEW []"
