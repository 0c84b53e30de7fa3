"""The README's commands and code run as they stand there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from mfvdm_fast.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="the README is not beside the installed package's tests")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def commands(block: str) -> list[list[str]]:
    return [
        words for line in block.splitlines() for part in line.split("&&") if (words := shlex.split(part, comments=True))
    ]


def test_the_make_commands_exist() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for words in commands(blocks("sh")[0]):
        assert words[0] == "make"
        subprocess.run([*words, "--dry-run"], cwd=ROOT, check=True, capture_output=True)


def test_the_command_line_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "-n", "200", "-L", "33", "--snr", "0.2", "-o", "."]) == 0  # the user's particles.star
    for words in commands(blocks("sh")[1]):
        assert words[0] == "mfvdm-fast"
        assert main(words[1:]) == 0, words
    assert Path("out", "denoised.star").exists()
    assert Path("denoised", "contact_sheet.png").exists()
    select, again = commands(blocks("sh")[2])
    if shutil.which(select[0]) is None:
        pytest.skip("RELION is not installed")
    subprocess.run(select, check=True, capture_output=True)
    assert main(again[1:]) == 0
    assert Path("again", "observed.star").exists()


def test_the_python_example_runs() -> None:
    names: dict[str, object] = {}
    for block in blocks("python"):  # the second goes on where the first ends
        exec(compile(block, str(README), "exec"), names)
    shapes = {name: getattr(names[name], "shape", None) for name in ("denoised", "rings", "angles", "vectors")}
    assert shapes == {"denoised": (500, 33, 33), "rings": (500, 14, 32), "angles": (500, 10), "vectors": (500, 20)}


def test_the_pictures_are_there() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README.read_text(encoding="utf-8")):
        assert (ROOT / path).exists()
