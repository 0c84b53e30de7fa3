"""What a stack of somebody else's making may give in chunks."""

from __future__ import annotations

import doctest
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mfvdm_fast import DenoiseParams, ParticleStack, denoise
from mfvdm_fast.errors import InputError
from mfvdm_fast.imaging import chunks as module
from mfvdm_fast.imaging.chunks import checked_chunks

N, BOX = 7, 8
IMAGES = np.random.default_rng(0).normal(size=(N, BOX, BOX)).astype(np.float32)


class Given:
    """A stack whose chunks are those that it was given."""

    n_particles, box_size, pixel_size, ctf = N, BOX, None, None

    def __init__(self, *chunks: tuple[Any, np.ndarray]) -> None:
        self.given = chunks

    def chunks(self, max_images: int) -> Iterator[tuple[Any, np.ndarray]]:
        yield from self.given

    def read(self, rows: np.ndarray) -> np.ndarray:
        return IMAGES[rows]


def of_rows(*rows: int) -> tuple[list[int], np.ndarray]:
    return list(rows), IMAGES[[row % N for row in rows]]


def test_what_is_complete_passes_in_any_order() -> None:
    stack = Given(of_rows(4, 3, 0), of_rows(), of_rows(1, 2, 5, 6))
    found = list(checked_chunks(stack, 4))
    assert [rows.tolist() for rows, _ in found] == [[4, 3, 0], [1, 2, 5, 6]]
    np.testing.assert_array_equal(found[1][1], IMAGES[[1, 2, 5, 6]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([of_rows(0, 1, 2)], r"chunks gave row 3 0 times; every particle must come once \(rows 0 to 6\)"),
        ([of_rows(0, 1, 2, 3, 4, 5, 6), of_rows(2)], "chunks gave row 2 2 times; every particle must come once"),
        ([of_rows(0, 7)], "chunks gave rows 0 to 7; the stack has rows 0 to 6"),
        ([of_rows(-1, 3)], "chunks gave rows -1 to 3; the stack has rows 0 to 6"),
        ([([0, 1], IMAGES[:2, :4, :4])], r"images of shape \(2, 4, 4\) for 2 rows; they must have shape \(2, 8, 8\)"),
        ([([0, 1, 2], IMAGES[:2])], r"images of shape \(2, 8, 8\) for 3 rows; they must have shape \(3, 8, 8\)"),
    ],
)
def test_what_is_missing_or_wrong_is_refused(given: list[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(checked_chunks(Given(*given), 4))


def test_a_job_checks_its_chunks() -> None:
    images = np.random.default_rng(0).normal(size=(60, 32, 32)).astype(np.float32)

    class Short(ParticleStack):
        def chunks(self, max_images: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            return ((rows[:-1], part[:-1]) for rows, part in super().chunks(max_images))

    stack = ParticleStack.from_array(images)
    stack.__class__ = Short
    with pytest.raises(InputError, match="chunks gave row 59 0 times"):
        denoise(stack, DenoiseParams(method="cwf"))


def test_docstring_examples() -> None:
    result = doctest.testmod(module)
    assert result.attempted >= 2
    assert result.failed == 0
