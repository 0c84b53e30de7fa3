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

_CELL_PX, _LARGEST_CELL_PX = (
    130,
    256,
)  # on the screen; an image is drawn at a whole multiple of its size up to the first
_LABEL_PX, _HEAD_PX, _EDGE_PX, _DPI = 110, 26, 6, 100
_SHADES = (0.5, 99.5)  # percentiles of an image that are drawn black and white
_GAP = 0.04  # between images, of their size


def write_contact_sheet(
    path: str | os.PathLike[str], rows: Mapping[str, Images], titles: Sequence[str] | None = None
) -> None:
    """Draw ``rows`` (label -> images (b, L, L), the same b and order in each) as a PNG of grey images.

    Each image has a contrast of its own: from its 0.5th (black) to its 99.5th percentile (white). ``titles`` stand
    above the b columns. The bytes depend on the images alone. Raises ParameterError for no rows or rows of different
    length, OSError when the file cannot be written.

    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> images = np.random.default_rng(0).normal(size=(3, 16, 16)).astype(np.float32)
    >>> write_contact_sheet(folder.name + "/sheet.png", {"raw": images, "low-pass": low_pass(images, 6.0)})
    >>> pathlib.Path(folder.name, "sheet.png").read_bytes()[:4]
    b'\\x89PNG'
    >>> folder.cleanup()
    """
    counts = {label: len(images) for label, images in rows.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise ParameterError(f"rows must hold the same number of images, at least one, got {counts}")
    # Drawn without pyplot: no display is asked for, and nothing of the caller's plotting is changed.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    mosaic, step = _mosaic(list(rows.values()))
    box_size = next(iter(rows.values())).shape[-1]
    # Whole screen pixels for each image pixel; only large boxes are drawn smaller than they are.
    scale = max(1, _CELL_PX // box_size) if box_size <= _LARGEST_CELL_PX else _LARGEST_CELL_PX / box_size
    height, width = (round(scale * length) for length in mosaic.shape)
    full_width, full_height = width + _LABEL_PX + _EDGE_PX, height + _HEAD_PX + _EDGE_PX
    figure = Figure(figsize=(full_width / _DPI, full_height / _DPI), dpi=_DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    place = (_LABEL_PX / full_width, _EDGE_PX / full_height, width / full_width, height / full_height)
    axes = figure.add_axes(place)
    axes.set_axis_off()
    axes.imshow(mosaic, cmap="gray", vmin=0.0, vmax=1.0, aspect="auto")
    centre = scale * box_size / 2
    for line, label in enumerate(rows):
        y = 1 - (_HEAD_PX + scale * step * line + centre) / full_height
        figure.text((_LABEL_PX - 8) / full_width, y, label, ha="right", va="center", fontsize=9)
    for column, title in enumerate(titles or ()):
        x = (_LABEL_PX + scale * step * column + centre) / full_width
        figure.text(x, 1 - 0.5 * _HEAD_PX / full_height, title, ha="center", va="center", fontsize=9)
    canvas.print_png(path, metadata={"Software": None})  # the default names the version of Matplotlib


def _mosaic(rows: list[Images]) -> tuple[NDArray[np.float64], int]:
    """All images side by side, 0 black to 1 white, and the distance in pixels from one to the next."""
    n_columns, box_size = len(rows[0]), rows[0].shape[-1]
    step = box_size + max(1, round(_GAP * box_size))
    mosaic = np.ones((len(rows) * step - step + box_size, n_columns * step - step + box_size))
    for line, images in enumerate(rows):
        for column, image in enumerate(images):
            black, white = shades(image)
            grey = (image.astype(np.float64) - black) / (white - black)
            y, x = line * step, column * step
            mosaic[y : y + box_size, x : x + box_size] = np.clip(grey, 0.0, 1.0)
    return mosaic, step


def shades(image: NDArray[np.floating]) -> tuple[float, float]:
    """The values of an image (L, L) that are drawn black and white; never equal.

    >>> shades(np.zeros((4, 4)))
    (0.0, 1.0)
    """
    black, white = np.percentile(image.astype(np.float64), _SHADES)
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
