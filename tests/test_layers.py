"""Imports point down only: every import of the package is held against the table of layers."""

from __future__ import annotations

import ast
import shutil
import sys
from pathlib import Path

import pytest

import mfvdm_fast

PACKAGE = Path(mfvdm_fast.__file__).parent

BASE = {"errors", "records", "checks", "ctf_checks", "overlap", "threads", "progress"}
STAGES = ("imaging", "basis", "neighbors", "graph", "restore", "classes")
TOOLS = {"simulate", "synthetic", "imperfections", "metrics"}  # truth and scores: stand beside the pipeline, not in it

# What each part may import besides itself.
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"cli"},
    "errors": set(),
    "records": set(),
    "progress": set(),
    "overlap": {"threads"},
    "threads": {"errors"},
    "checks": {"errors", "records"},
    "ctf_checks": {"errors", "records"},
    "params": {"errors", "checks"},
    "kernels": set(),
    "ext": set(),
    **{stage: {"kernels", "ext"} | BASE for stage in STAGES},
    "io": BASE,
    **{tool: {"kernels", "ext", "imaging"} | TOOLS | BASE for tool in TOOLS},
    "budget": {"params"} | BASE,
    "result": {*STAGES, "params"} | BASE,
    "doubts": {"result"} | BASE,
    "prepare": {*STAGES, "params", "budget"} | BASE,
    "centring": {*STAGES, "params", "budget", "prepare"} | BASE,
    "lost": {*STAGES, "centring"} | BASE,
    "stages": {*STAGES, "params", "prepare"} | BASE,
    "run": {*STAGES, "params", "prepare", "centring", "lost", "stages", "result", "doubts"} | BASE,
    "units": {"result"} | BASE,
    "pipeline": {"params", "budget", "prepare", "centring", "run", "result", "units", "doubts"} | BASE,
    "report": {"params", "metrics"} | BASE,
    "cli": {"io", "pipeline", "result", "report", "params", "budget", "kernels", "__version__"} | TOOLS | BASE,
}
# Outside packages that a part is held to; all others may use any. llvmlite is how Numba intrinsics are written.
OUTSIDE = {"kernels": {"numpy", "numba", "llvmlite", "scipy"}, "ext": {"numpy", "scipy"}}


def imports(path: Path, package: Path) -> list[tuple[int, tuple[str, ...]]]:
    """(line, dotted name as parts) of every import in a file, relative ones made absolute, in functions too."""
    here = (package.name, *path.relative_to(package).with_suffix("").parts)
    found: list[tuple[int, tuple[str, ...]]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, tuple(alias.name.split("."))) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = here[: len(here) - node.level] if node.level else ()
            base = (*start, *(node.module.split(".") if node.module else ()))
            found += [(node.lineno, (*base, alias.name)) for alias in node.names]
    return found


def offences(package: Path) -> list[str]:
    """One line for each import that the table does not allow."""
    found = []
    for path in sorted(package.rglob("*.py")):
        inside = path.relative_to(package)
        part = inside.with_suffix("").parts[0]
        if part not in ALLOWED:
            found.append(f"{inside}: {part} is in no layer")
            continue
        for line, name in imports(path, package):
            if name[0] != package.name:
                if part in OUTSIDE and name[0] not in OUTSIDE[part] | sys.stdlib_module_names:
                    found.append(f"{inside}:{line}: {part} imports {name[0]}")
            elif len(name) > 1 and name[1] != part and name[1] not in ALLOWED[part]:
                found.append(f"{inside}:{line}: {part} imports {name[1]}")
    return found


def test_imports_point_down() -> None:
    assert offences(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "line", "offence"),
    [
        ("neighbors/planted.py", "from ..graph import affinity", "neighbors imports graph"),
        ("neighbors/planted.py", "from .. import graph", "neighbors imports graph"),
        ("neighbors/planted.py", "def late():\n    import mfvdm_fast.graph.affinity", "neighbors imports graph"),
        ("restore/deep/planted.py", "from ...basis.folded import x", "restore imports basis"),
        ("kernels/planted.py", "from ..errors import InputError", "kernels imports errors"),
        ("kernels/planted.py", "import mrcfile", "kernels imports mrcfile"),
        ("io/planted.py", "from ..imaging import ctf", "io imports imaging"),
        ("pipeline.py", "from .kernels import spmm", "pipeline imports kernels"),
        ("pipeline.py", "from .io.star import read_star", "pipeline imports io"),
        ("records.py", "from .pipeline import denoise", "records imports pipeline"),
        ("cli/planted.py", "from ..restore import spectral", "cli imports restore"),
        ("surprise.py", "", "surprise is in no layer"),
    ],
)
def test_a_planted_offender_is_found(file: str, line: str, offence: str, tmp_path: Path) -> None:
    package = tmp_path / "mfvdm_fast"
    shutil.copytree(PACKAGE, package, ignore=lambda _, names: [n for n in names if Path(n).suffix not in ("", ".py")])
    target = package / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(line)
    new = set(offences(package)) - set(offences(PACKAGE))
    assert {text.partition(": ")[2] for text in new} == {offence}


def test_allowed_imports_pass(tmp_path: Path) -> None:
    package = tmp_path / "mfvdm_fast"
    for file, line in {
        "neighbors/a.py": "import mrcfile\nfrom . import b\nfrom ..kernels.spmm import x\nfrom ..errors import E",
        "kernels/a.py": "from __future__ import annotations\nimport os\nimport numba, scipy.io\nfrom ._jit import k",
        "run.py": "from .graph import affinity\nfrom .params import DenoiseParams",
    }.items():
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).write_text(line)
    assert offences(package) == []
