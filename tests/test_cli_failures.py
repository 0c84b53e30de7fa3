"""The command line when things go wrong: usage, failures while working, signals, warnings."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

import mfvdm_fast
from mfvdm_fast import (
    DenoiseResult,
)
from mfvdm_fast.cli import denoise, info
from mfvdm_fast.cli.arguments import parse_memory
from mfvdm_fast.cli.console import console
from mfvdm_fast.cli.main import main
from mfvdm_fast.errors import MfvdmWarning, ParameterError, SolverError

from .cli_runs import Cli

ROOT = Path(mfvdm_fast.__file__).parents[1]


def process(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "mfvdm_fast", *arguments], env=environment, **(pipes | options))


# What a run writes


def test_exit_codes_are_documented(cli: Cli) -> None:
    for arguments in (["--help"], ["denoise", "--help"], ["info", "--help"]):
        done = cli(*arguments)
        assert done.code == 0
        for line in ("0  success", "2  wrong usage", "3  the input", "4  the output", "130  interrupted"):
            assert line in done.out


LIMITS = {
    "simulate": {
        "--particles": "1 or more",
        "--box-size": "16 or more",
        "--snr": "above 0",
        "--defocus-groups": "1 or more",
        "--voltage": "at most 10000",
        "--cs": "0 or more",
        "--amplitude-contrast": "0 to 1",
        "--shift": "0 or more",
        "--contrast": "0 or more",
        "--noise-falloff": "above 0",
        "--junk": "0 or more and below 1",
        "--seed": "0 or more",
        "--threads": "1 or more",
    },
    "denoise": {
        "--matchings": "0 to 10",
        "--restoration-eigenvectors": "1 or more",
        "--neighbors": "1 or more",
        "--frequencies": "1 or more",
        "--eigenvectors": "1 or more",
        "--particle-diameter": "from 8 pixels to the box",
        "--seed": "0 or more",
    },
    "demo": {"--particles": "21 or more"},
}


@pytest.mark.parametrize("command", LIMITS)
def test_limits_of_numbers_are_in_the_help(command: str, cli: Cli) -> None:
    listing = " ".join(cli(command, "--help").out.partition("options:")[2].split())
    for option, limit in LIMITS[command].items():
        text = listing[listing.index(f"{option} ") :].partition(" --")[0]
        assert limit in text, (option, text)


def test_version(cli: Cli) -> None:
    assert cli("--version").out == f"mfvdm-fast {mfvdm_fast.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "the following arguments are required: COMMAND; see mfvdm-fast --help"),
        (["polish"], "argument COMMAND: invalid choice: 'polish'"),
        (["denoise", "a.star"], "the following arguments are required: -o/--output; see mfvdm-fast denoise --help"),
        (["denoise", "a.star", "-o", "x", "--neigh", "4"], "--neigh 4; see mfvdm-fast denoise --help"),
        (["denoise", "a.star", "-o", ""], "argument -o/--output: the name is empty; give that of a folder"),
        (["denoise", "a.star", "-o", "x", "--neighbors", "many"], "argument --neighbors: invalid int value: 'many'"),
        (
            ["denoise", "a.star", "-o", "x", "--neighbors", "0"],
            "--neighbors must be a whole number of at least 1, got 0",
        ),
        (["denoise", "a.star", "-o", "x", "--basis", "wavelet"], "--basis must be one of 'disk_harmonics', "),
        (["denoise", "a.star", "-o", "x", "--solver", "magic"], "--solver must be one of 'chebyshev', 'eigsh'"),
        (["denoise", "a.star", "-o", "x", "--preset", "magic"], "--preset must be one of 'default', 'paper'"),
        (["denoise", "a.star", "-o", "x", "--seed", "-1"], "--seed must be a whole number of at least 0, got -1"),
        (["denoise", "a.star", "-o", "x", "--particle-diameter", "0"], "--particle-diameter must be a finite number"),
        (["denoise", "a.star", "-o", "x", "--max-memory", "lots"], "--max-memory must be a size above 0 such as 1500M"),
        (
            ["denoise", "a.star", "-o", "x", "--method", "cwf", "--matchings", "2"],
            "--matchings has no effect with the method 'cwf', got 2: leave it out, or take the method 'graph_map'",
        ),
        (
            ["denoise", "a.star", "-o", "x", "--method=cwf", "--neighbors=30"],
            "--neighbors has no effect with the method 'cwf', got 30: leave it out, or take the method 'graph_map' or "
            "'spectral'",
        ),
        (
            ["denoise", "a.star", "-o", "x", "--method", "cwf", "--frequencies", "10"],  # the default, but asked for
            "--frequencies has no effect with the method 'cwf', got 10",
        ),
        (
            ["denoise", "a.star", "-o", "x", "--method", "cwf", "--refine"],
            "--refine has no effect with the method 'cwf': leave it out, or take the method 'graph_map' or 'spectral'",
        ),
        (
            ["denoise", "a.star", "-o", "x", "--method", "cwf", "--no-refine"],
            "--no-refine has no effect with the method 'cwf': leave it out, or take the method 'graph_map'",
        ),
        (
            ["denoise", "a.star", "-o", "x", "--no-centre", "--method", "cwf"],
            "--no-centre has no effect with the method 'cwf': leave it out, or take the method 'graph_map'",
        ),
        (
            ["denoise", "a.star", "-o", "x", "--preset", "paper", "--matchings", "1"],
            "--matchings has no effect with the method 'spectral', got 1: leave it out",
        ),
        (
            ["denoise", "a.star", "-o", "x", "--method", "spectral", "--restoration-eigenvectors", "100"],
            "--restoration-eigenvectors has no effect with the method 'spectral', got 100",
        ),
        (
            ["denoise", "a.star", "-o", "x", "--no-refine", "--frequencies", "5"],
            "--frequencies has no effect without the refinement (Algorithm 1), got 5: leave it out, or refine",
        ),
        (["denoise", "a.star", "-o", "x", "--threads", "0"], "--threads must be a whole number of at least 1, got 0"),
        (["denoise", "a.star", "-o", "x", "--threads", "-2"], "--threads must be a whole number of at least 1, got -2"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    arguments: list[str], text: str, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.count("\n") == 1
    assert text in done.errors[0]
    assert list(tmp_path.iterdir()) == []


def test_memory_sizes() -> None:
    assert [parse_memory(text) for text in ("1500M", "2g", "1.5 GiB", "7", "3KB")] == [
        1500 * 2**20,
        2 * 2**30,
        3 * 2**29,
        7,
        3072,
    ]
    for text in ("0", "-1G", "G", "1E", ""):
        with pytest.raises(ParameterError, match="must be a size above 0"):
            parse_memory(text)


def test_memory_is_printed_in_the_unit_in_which_it_is_read(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    command = ("denoise", simulated / "particles.star", "-o", tmp_path / "out", "--dry-run")
    told = re.search(r"memory: about \d+ MiB \((\d+) MiB with --max-memory\)", cli(*command).out)
    assert told is not None
    assert cli(*command, "--max-memory", f"{told[1]}M").code == 0
    refused = cli(*command, "--max-memory", f"{int(told[1]) - 1}M")
    assert refused.code == 2
    assert f"of memory, but max_memory_bytes (--max-memory) allows {int(told[1]) - 1} MiB:" in refused.err
    assert "M and G are MiB and GiB" in " ".join(cli("denoise", "--help").out.split())


def test_too_little_memory_is_refused_before_the_work(cli: Cli, simulated: Path, tmp_path: Path) -> None:
    done = cli("denoise", simulated / "particles.star", "-o", tmp_path / "out", "--max-memory", "1M")
    assert done.code == 2
    assert "the job needs about" in done.errors[0]
    assert "(--max-memory) allows 1 MiB" in done.errors[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RuntimeError("boom"), 1, "error: unexpected RuntimeError: boom; run again with --verbose to see where"),
        (MemoryError(), 1, "error: out of memory; set a limit with --max-memory, or use fewer particles"),
        (SolverError("no convergence"), 5, "error: no convergence"),
        (KeyboardInterrupt(), 130, "interrupted: nothing unfinished was kept"),
    ],
)
def test_failures_while_working_leave_nothing(
    error: BaseException,
    code: int,
    text: str,
    cli: Cli,
    simulated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(DenoiseResult, "images", fail)
    done = cli.denoise(simulated / "particles.star", "-o", tmp_path / "out")
    assert (done.code, done.err.splitlines()[-1]) == (code, text)
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("MFVDM_DEBUG", "1")
    assert "Traceback" in cli.denoise(simulated / "particles.star", "-o", tmp_path / "out").err
    monkeypatch.delenv("MFVDM_DEBUG")
    assert "Traceback" in cli.denoise(simulated / "particles.star", "-o", tmp_path / "out", "--verbose").err


def test_sigterm_stops_a_run_as_ctrl_c_does(
    cli: Cli, simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DenoiseResult, "images", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    done = cli.denoise(simulated / "particles.star", "-o", tmp_path / "out")
    assert done.code == 130
    assert not (tmp_path / "out").exists()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_does_not_stop_the_tidying_up(
    number: signal.Signals, cli: Cli, simulated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tidy = shutil.rmtree

    def interrupted(path: Path, **options: Any) -> None:
        os.kill(os.getpid(), number)
        tidy(path, **options)

    monkeypatch.setattr(DenoiseResult, "images", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    monkeypatch.setattr(shutil, "rmtree", interrupted)
    before = signal.getsignal(signal.SIGINT)
    done = cli.denoise(simulated / "particles.star", "-o", tmp_path / "out")
    monkeypatch.undo()
    assert done.code == 130
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is before is signal.default_int_handler


def test_a_later_interrupt_counts_again() -> None:
    with console():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)


def test_a_process_that_is_deaf_to_ctrl_c_stays_deaf() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with console():
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def cut(path: Path) -> None:
    with open(path, "r+b") as file:
        file.truncate(2000)


def rewrite(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


GONE = "cannot be read (No such file or directory); was it removed?"
CHANGED = "was changed after the run began; unless all of it had been read by then, run again"


@pytest.mark.parametrize(
    ("name", "change", "text", "threads"),
    [
        ("particles.mrcs", lambda path: path.unlink(missing_ok=True), GONE, 1),
        ("particles.mrcs", lambda path: path.unlink(missing_ok=True), GONE, 2),
        ("particles.star", lambda path: path.unlink(missing_ok=True), GONE, 1),
        ("particles.mrcs", cut, CHANGED, 1),
        ("particles.star", rewrite, CHANGED, 2),
    ],
)
def test_input_that_changes_once_read_costs_its_checksum_alone(
    name: str,
    change: Any,
    text: str,
    threads: int,
    cli: Cli,
    simulated: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = shutil.copytree(simulated, tmp_path / "in")
    usual = denoise.denoise

    def then_change(*args: Any, **options: Any) -> DenoiseResult:
        result = usual(*args, **options)
        change(given / name)
        return result

    monkeypatch.setattr(denoise, "denoise", then_change)
    done = cli.denoise(given / "particles.star", "-o", tmp_path / "out", "--threads", str(threads))
    assert (done.code, done.errors) == (0, [])
    (line,) = [text for text in done.warnings if "checksum" in text]
    assert f"{name}: {text} The results are complete, but the manifest has no checksum" in line
    found = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert found["input"]["sha256"] is None
    assert any("checksum" in text for text in found["warnings"])
    for output in ("contact_sheet.png", "denoised.mrcs", "denoised.star", "observed.star"):
        assert (tmp_path / "out" / output).stat().st_size > 1000


def test_ctrl_c_in_a_real_process(simulated: Path, tmp_path: Path) -> None:
    def listen() -> None:  # a shell starts what runs in its background deaf to the signal, and this is inherited
        signal.signal(signal.SIGINT, signal.default_int_handler)

    arguments = ("denoise", str(simulated / "particles.star"), "-o", str(tmp_path / "out"), "--neighbors", "40")
    job = process(*arguments, preexec_fn=listen)
    assert job.stderr is not None
    said = []
    for line in job.stderr:
        said.append(line)
        if "expand: started" in line:  # with all the work still to come
            job.send_signal(signal.SIGINT)
            break
    said += job.stderr.readlines()
    assert job.wait(timeout=120) == 130
    assert said[-1] == "interrupted: nothing unfinished was kept\n"
    assert "Traceback" not in "".join(said)
    assert list(tmp_path.iterdir()) == []
    job.communicate()


def test_exit_code_and_closed_pipe_of_a_real_process(simulated: Path) -> None:
    missing = process("info", "missing.star")
    out, err = missing.communicate(timeout=120)
    assert (missing.returncode, out) == (3, "")
    assert err.startswith("error: ")
    assert "missing.star: cannot be read (No such file or directory)" in err
    closed = process("info", str(simulated / "particles.star"))
    assert closed.stdout is not None
    closed.stdout.close()  # as "mfvdm-fast info ... | head -0"
    assert closed.stderr is not None
    assert (closed.stderr.read(), closed.wait(timeout=120)) == ("", 1)
    closed.stderr.close()


def test_warnings_are_lines_shown_once_and_all_is_put_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = warnings.showwarning
    handlers = list(logging.getLogger("mfvdm_fast").handlers)
    level = logging.getLogger("mfvdm_fast").level

    def warn(args: Any) -> int:
        for text in ("look\n  here", "look here", "and there"):
            warnings.warn(text, MfvdmWarning, stacklevel=1)
        with pytest.raises(DeprecationWarning):  # other warnings keep the rule of this process
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.getLogger("mfvdm_fast.x").debug("detail")
        return 0 if args.warnings == ["look here", "and there"] else 1

    monkeypatch.setattr(info, "run", warn)
    assert main(["info", "x"]) == 0
    assert capsys.readouterr().err == "warning: look here\nwarning: and there\n"
    assert main(["--verbose", "info", "x"]) == 0
    assert "detail\n" in capsys.readouterr().err
    assert warnings.showwarning is shown
    assert logging.getLogger("mfvdm_fast").handlers == handlers
    assert logging.getLogger("mfvdm_fast").level == level


def test_other_warnings_are_shown_as_python_does() -> None:
    with pytest.warns(UserWarning, match="odd") as record, console() as shown:
        warnings.warn("odd", UserWarning, stacklevel=1)
    assert len(record) == 1
    assert shown == []


def test_main_runs_outside_the_main_thread(capsys: pytest.CaptureFixture[str]) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["info", "missing.star"])))
    thread.start()
    thread.join()
    assert codes == [3]
