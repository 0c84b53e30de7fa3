"""A picture of some particles before and after, one row for each kind of image."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..checks import check_positive
from ..errors import ParameterError
from ..records import Images

_CELL_INCHES, _LABEL_INCHES, _HEAD_INCHES, _DPI = 1.1, 1.25, 0.3, 100
_SHADES = (0.5, 99.5)  # percentiles of an image that are drawn black and white
_GAP = 0.04  # of a cell


def write_contact_sheet(
    path: str | os.PathLike[str], rows: Mapping[str, Images], titles: Sequence[str] | None = None
) -> None:
    """Draw ``rows`` (label -> images (b, L, L), the same b and order in each) as a PNG of grey images.

    Each image has a contrast of its own: from its 0.5th (black) to its 99.5th percentile (white). ``titles`` stand
    above the b columns. The bytes depend on the images alone. Raises ParameterError for no rows or rows of different
    length, OSError when the file cannot be written.

    >>> import tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> images = np.random.default_rng(0).normal(size=(3, 16, 16)).astype(np.float32)
    >>> write_contact_sheet(folder.name + "/sheet.png", {"raw": images, "low-pass": low_pass(images, 6.0)})
    >>> open(folder.name + "/sheet.png", "rb").read(4)
    b'\\x89PNG'
    >>> folder.cleanup()
    """
    counts = {label: len(images) for label, images in rows.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise ParameterError(f"rows must hold the same number of images, at least one, got {counts}")
    n_columns = next(iter(counts.values()))
    # Drawn without pyplot: no display is asked for, and nothing of the caller's plotting is changed.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = _LABEL_INCHES + n_columns * _CELL_INCHES
    height = _HEAD_INCHES + len(rows) * _CELL_INCHES
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    for line, (label, images) in enumerate(rows.items()):
        bottom = (len(rows) - 1 - line) * _CELL_INCHES / height
        middle = bottom + 0.5 * _CELL_INCHES / height
        figure.text(0.92 * _LABEL_INCHES / width, middle, label, ha="right", va="center", fontsize=9)
        for column, image in enumerate(images):
            place = ((_LABEL_INCHES + column * _CELL_INCHES) / width, bottom,
                     (1 - _GAP) * _CELL_INCHES / width, (1 - _GAP) * _CELL_INCHES / height)  # fmt: skip
            axes = figure.add_axes(place)
            axes.set_axis_off()
            black, white = shades(image)
            axes.imshow(image, cmap="gray", vmin=black, vmax=white, interpolation="nearest")
    for column, title in enumerate(titles or ()):
        centre = (_LABEL_INCHES + (column + 0.5 * (1 - _GAP)) * _CELL_INCHES) / width
        figure.text(centre, 1 - 0.5 * _HEAD_INCHES / height, title, ha="center", va="center", fontsize=9)
    canvas.print_png(path, metadata={"Software": None})  # the default names the version of Matplotlib


def shades(image: NDArray[np.floating]) -> tuple[float, float]:
    """The values of an image (L, L) that are drawn black and white; never equal.

    >>> shades(np.zeros((4, 4)))
    (0.0, 1.0)
    """
    black, white = np.percentile(image, _SHADES)
    return (float(black), float(white)) if white > black else (float(black), float(black) + 1.0)


def low_pass(images: Images, radius_px: float) -> Images:
    """Images (b, L, L) blurred by a Gaussian whose standard deviation is an eighth of the particle's radius.

    >>> bool(np.allclose(low_pass(np.ones((1, 8, 8), np.float32), 4.0), 1.0))
    True
    """
    sigma = check_positive("radius_px", radius_px) / 8
    box_size = images.shape[-1]
    along_y, along_x = scipy.fft.fftfreq(box_size)[:, None], scipy.fft.rfftfreq(box_size)[None, :]
    gaussian = np.exp(-2 * (np.pi * sigma) ** 2 * (along_y**2 + along_x**2)).astype(np.float32)
    return np.asarray(scipy.fft.irfft2(scipy.fft.rfft2(images) * gaussian, s=images.shape[1:]), np.float32)
