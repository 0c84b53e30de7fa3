"""Every image of a stack once, in chunks that hold what they say."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..errors import InputError, counted
from ..records import Images, ImageStack, IndexArray


def checked_chunks(stack: ImageStack, max_images: int) -> Iterator[tuple[IndexArray, Images]]:
    """The ``chunks`` of a stack, whoever wrote it.

    Raises InputError unless they hold every particle once, as images (b, L, L) for rows (b,).

    >>> from ..io.stack import ParticleStack
    >>> stack = ParticleStack.from_array(np.random.default_rng(0).normal(size=(5, 4, 4)))
    >>> [len(rows) for rows, images in checked_chunks(stack, 2)]
    [2, 2, 1]
    """
    n, box_size = stack.n_particles, stack.box_size
    count = np.zeros(n, np.int64)
    for rows, images in stack.chunks(max_images):
        places = np.asarray(rows, np.int64)
        if images.shape != (len(places), box_size, box_size):
            raise InputError(
                f"chunks gave images of shape {images.shape} for {len(places)} rows; they must have shape "
                f"({len(places)}, {box_size}, {box_size})"
            )
        if len(places) and not 0 <= places.min() <= places.max() < n:
            raise InputError(f"chunks gave rows {places.min()} to {places.max()}; the stack has rows 0 to {n - 1}")
        np.add.at(count, places, 1)
        if len(places):
            yield places, images
        del images
    if (count != 1).any():
        wrong = int(np.argmax(count != 1))
        raise InputError(
            f"chunks gave row {wrong} {counted(int(count[wrong]), 'time')}; every particle must come once "
            f"(rows 0 to {n - 1})"
        )
