"""Images that stand in a stack more than once: each finds its copy first, and takes their common noise for signal."""

from __future__ import annotations

import warnings

import numpy as np

from ..errors import MfvdmWarning
from ..records import Images, IndexArray


def image_keys(images: Images) -> IndexArray:
    """A number (b,) int64 for each of the images (b, L, L): equal for equal images of one run, else different.

    It is a hash of two rows of pixels, about a third of the box from its edges: in other images they are never the
    same, for the noise in them, and to hash all pixels would take as long as to expand the image.

    >>> keys = image_keys(np.array([np.eye(4), np.ones((4, 4)), np.eye(4)], np.float32))
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    third = images.shape[1] // 3
    rows = np.ascontiguousarray(images[:, third : 2 * third + 1 : max(1, third)])
    return np.array([hash(image.tobytes()) for image in rows], np.int64)


def warn_about_copies(keys: IndexArray) -> None:
    """Warn (MfvdmWarning) when images of the stack are the same, from the keys (n,) of all of them.

    >>> warn_about_copies(np.array([7, 8, 9]))
    """
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    if not len(same):
        return
    first, second = min(zip(order[same].tolist(), order[same + 1].tolist(), strict=True))
    count = f"{len(same)} images are copies" if len(same) > 1 else "one image is a copy"
    warnings.warn(
        f"{count} of another image in the stack, such as those of particles {first + 1} and {second + 1}: each takes "
        "the noise of its copy for signal and keeps it; leave the copies out",
        MfvdmWarning,
        stacklevel=2,
    )
