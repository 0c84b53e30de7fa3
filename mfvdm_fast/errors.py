"""Every error raised on purpose; each message names the thing, the rule, the value found and the next step."""

from __future__ import annotations


class MfvdmError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is what the command line returns."""

    exit_code = 1


class ParameterError(MfvdmError, ValueError):
    """A parameter or argument breaks its rule."""

    exit_code = 2


class InputError(MfvdmError, ValueError):
    """An input file or array cannot be used."""

    exit_code = 3


class OutputError(MfvdmError, OSError):
    """An output cannot be written, or exists and would be overwritten."""

    exit_code = 4


class SolverError(MfvdmError, RuntimeError):
    """An iterative method did not reach what the next stage needs."""

    exit_code = 5


class MfvdmWarning(UserWarning):
    """Something the user should look at; the run goes on."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number and what it counts, for messages.

    >>> counted(1, "image"), counted(2, "image"), counted(0, "frequency", "frequencies")
    ('1 image', '2 images', '0 frequencies')
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
