"""The command ``mfvdm-fast``: runs one subcommand and turns every failure into one line and an exit code."""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from ..errors import MfvdmError, ParameterError
from .console import console

_COMMANDS = {
    "denoise": "denoise a particle stack and find the neighbours of every particle",
    "simulate": "make a particle stack with known truth",
    "evaluate": "score a denoised stack against the truth of its simulation",
    "info": "show what is in a particle file, and whether it can be denoised",
    "demo": "simulate, denoise and evaluate a small stack",
    "warmup": "compile all kernels now instead of during the first run",
}
_EPILOG = """exit codes:
    0  success
    1  unexpected error
    2  wrong usage or parameter
    3  the input cannot be used
    4  the output cannot be written, or exists already
    5  numerical failure
  130  interrupted (Ctrl-C, SIGTERM); nothing unfinished is kept

environment:
  MFVDM_CACHE_DIR  folder for compiled kernels      MFVDM_DEBUG=1  show tracebacks, as --verbose does
  OMP_NUM_THREADS  most threads to use when --threads is not given
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ParameterError(f"{message[:1].lower()}{message[1:]}; see {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (that of the process when left out) and return its exit code.

    >>> main(["info", "no_such_file.star"])
    3
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in arguments or bool(os.environ.get("MFVDM_DEBUG"))
    options: dict[str, str] = {}
    with console(verbose) as shown:
        try:
            code = _run(arguments, options, shown)
            sys.stdout.flush()
            return code
        except KeyboardInterrupt:
            return _fail("interrupted: nothing unfinished was kept", 130, verbose)
        except MfvdmError as error:
            text = _as_option(str(error), options) if isinstance(error, ParameterError) else str(error)
            return _fail(f"error: {text}", error.exit_code, verbose)
        except BrokenPipeError:  # the reader of our output went away, as "head" does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except MemoryError:
            return _fail("error: out of memory; set a limit with --max-memory, or use fewer particles", 1, verbose)
        except Exception as error:
            hint = "" if verbose else "; run again with --verbose to see where"
            return _fail(f"error: unexpected {type(error).__name__}: {error}{hint}", 1, verbose)


def _run(arguments: list[str], options: dict[str, str], shown: list[str]) -> int:
    try:
        args = _parse(arguments, options)
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    args.warnings = shown
    return int(args.run(args) or 0)


def _fail(line: str, code: int, verbose: bool) -> int:
    if verbose:
        traceback.print_exc()
    print(line, file=sys.stderr)
    return code


def _parse(arguments: list[str], options: dict[str, str]) -> argparse.Namespace:
    """The parsed arguments; ``options`` is filled with the option that sets each of them."""
    look: dict[str, Any] = {
        "epilog": _EPILOG,
        "allow_abbrev": False,
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }
    parser = _Parser(prog="mfvdm-fast", description=_description(), **look)
    parser.add_argument("--version", action="version", version=f"mfvdm-fast {_version()}")
    _add_verbose(parser, False)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    for name, text in _COMMANDS.items():
        command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", **look)
        _add_verbose(command, argparse.SUPPRESS)
        if name == wanted:  # the others stay unread: importing them takes a second
            module = import_module(f".{name}", __package__)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
            words = {word.partition("=")[0] for word in arguments if word.startswith("--")}
            for action in command._actions:  # --refine and --no-refine set one parameter: the one that was typed
                names = action.option_strings
                options.update({action.dest: next((o for o in names if o in words), names[-1])} if names else {})
    args, unknown = parser.parse_known_args(arguments)
    if unknown:  # of the subcommand, whose help says what there is
        commands.choices[args.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def _add_verbose(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument("--verbose", action="store_true", default=default, help="show details, and where errors arise")


def _as_option(text: str, options: dict[str, str]) -> str:
    """The message with the option in place of the parameter's name that it starts with.

    A switch says by its name what was given: its value is left out.
    """
    name = re.match(r"\w+", text)
    if name is None or name[0] not in options:
        return text
    return options[name[0]] + re.sub(r", got (True|False)\b", "", text[name.end() :])


def _description() -> str:
    return (import_module(__package__.partition(".")[0]).__doc__ or "").partition("\n")[0]


def _version() -> str:
    return str(import_module(__package__.partition(".")[0]).__version__)
