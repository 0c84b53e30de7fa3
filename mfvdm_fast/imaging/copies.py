"""Images that stand in a stack more than once: each finds its copy first, and takes their common noise for signal."""

from __future__ import annotations

import warnings

import numpy as np

from ..errors import InputError, MfvdmWarning
from ..records import Images, IndexArray
from .blocks import map_blocks, mean_image

STEP = 0.01  # of the standard deviation of the pixels that are compared for copies
LEAST_DIFFERENCE = 0.01  # of the standard deviation of an image; views of an octahedral particle differ by half of it


def image_keys(images: Images) -> IndexArray:
    """A number (b,) int64 for each of the images (b, L, L): equal for copies in one run, else different.

    It is a hash of two rows of pixels, about a third of the box from its edges: in other images they are never the
    same, for the noise in them, and to hash all pixels would take as long as to expand the image. The rows are taken in
    steps of STEP of their own standard deviation from their own mean, so that copies in other units are copies.
    (Of those, a few in a thousand are missed: where a pixel lies as near to a step as single precision goes.)

    >>> keys = image_keys(np.array([np.eye(4), np.ones((4, 4)), 2 + 3 * np.eye(4)], np.float32))
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    third = images.shape[1] // 3
    rows = images[:, third : 2 * third + 1 : max(1, third)].astype(np.float64).reshape(len(images), -1)
    rows -= rows.mean(axis=1, keepdims=True)
    deviation = rows.std(axis=1, keepdims=True)
    steps = np.rint(np.divide(rows, STEP * deviation, out=rows, where=deviation > 0)).astype(np.int64)
    return np.array([hash(image.tobytes()) for image in steps], np.int64)


def refuse_all_alike(images: Images, sigma: float, threads: int | None = None) -> None:
    """Raise InputError when the images (b, L, L) are all the same one, or nearly: none tells anything of another view.

    ``sigma`` is the standard deviation of an image that is like most.

    >>> refuse_all_alike(np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32), 1.0)
    """
    mean = mean_image(images, threads)
    difference = np.median(map_blocks(lambda block: (block - mean).std(axis=(1, 2)), images, threads)) / sigma
    if difference < LEAST_DIFFERENCE:
        raise InputError(
            f"the images are all alike: they differ from their mean by {difference:.2g} of their standard deviation, "
            f"and by less than {LEAST_DIFFERENCE:g} nothing tells views apart; check that the stack holds different "
            "particles, not copies of one image"
        )


def warn_about_copies(keys: IndexArray, where: str = "") -> None:
    """Warn (MfvdmWarning) when images of the stack are the same, from the keys (n,) of all of them.

    ``where`` begins the message.

    >>> warn_about_copies(np.array([7, 8, 9]))
    """
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    if not len(same):
        return
    first, second = min(zip(order[same].tolist(), order[same + 1].tolist(), strict=True))
    count = f"{len(same)} images are copies" if len(same) > 1 else "one image is a copy"
    warnings.warn(
        f"{where}{count} of another image in the stack, such as those of particles {first + 1} and {second + 1}: each "
        "takes the noise of its copy for signal and keeps it; leave the copies out",
        MfvdmWarning,
        stacklevel=2,
    )
