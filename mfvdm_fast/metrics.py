"""How good neighbours, angles and denoised images are, given the truth of a simulation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import uniform_filter

from .errors import ParameterError
from .imaging.fourier_shift import shift_images
from .records import FloatArray, Images, NeighborTable

_BLOCK_PAIRS = 200_000  # pairs of rotation matrices in work at once: about 60 MB
_SSIM_WINDOW = 7
_SSIM_K1, _SSIM_K2 = 0.01, 0.03  # of the SSIM paper (Wang et al. 2004)


def centre_images(images: Images, shifts_px: FloatArray) -> Images:
    """``images`` (b, L, L) with what stands at ``shifts_px`` (b, 2), x and y from the pixel L // 2, brought there.

    >>> image = np.zeros((1, 5, 5), np.float32)
    >>> image[0, 2, 3] = 1
    >>> int(centre_images(image, np.array([[1.0, 0.0]])).argmax())
    12
    """
    return shift_images(images, shifts_px, threads=1)


@dataclass(frozen=True)
class NeighborErrors:
    """Errors of every (particle, neighbour) pair of a table, in degrees."""

    view_deg: FloatArray  # (n, K), 0 to 180: angle between the viewing directions, the mirrored one turned round
    in_plane_deg: FloatArray  # (n, K), 0 to 180: distance of the angle from the true in-plane rotation

    @property
    def mean_view_deg(self) -> float:
        return float(self.view_deg.mean())


@dataclass(frozen=True)
class ImageScores:
    """Scores of denoised images against clean images without CTF."""

    relative_mse: float  # sum |denoised - clean|^2 / sum |clean|^2
    psnr_db: float  # 10 log10(data_range^2 / mean squared error over the whole stack)
    ssim: float  # mean over the images
    n_images: int


@dataclass(frozen=True)
class StackSummary:
    """First and second moments and extremes of all pixels of a stack."""

    n_images: int
    mean: float
    variance: float
    minimum: float
    maximum: float

    @property
    def data_range(self) -> float:
        """The peak that PSNR and SSIM refer to."""
        return self.maximum - self.minimum


def pair_truth(
    rotations: ArrayLike, first: ArrayLike, second: ArrayLike, mirrored: ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """True (view distance in degrees, in-plane angle in radians), both of shape (p,), of pairs (first, second).

    ``rotations`` (n, 3, 3) have x_volume = R x_image. The distance is arccos(+-<v_i, v_j>), v = R[:, 2], minus for a
    mirrored pair. The angle is that of ``NeighborTable``: image i is image j (mirrored y -> -y first where flagged)
    turned by it, from +x towards +y; it maximises the overlap of the in-plane axes of R_i^T R_j, with R_j
    diag(1, -1, -1) in place of R_j when mirrored.

    >>> view, angle = pair_truth(np.stack([np.eye(3), np.eye(3)]), [0], [1], [False])
    >>> view.tolist(), angle.tolist()
    ([0.0], [0.0])
    """
    rotations = _check_rotations(rotations)
    i, j = np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)
    sign = np.where(np.asarray(mirrored, dtype=np.bool_), -1.0, 1.0)
    one, other = rotations[i], rotations[j]
    x = np.einsum("pa,pab->pb", one[:, :, 0], other)  # first two rows of R_i^T R_j; mirroring negates columns 1 and 2
    y = np.einsum("pa,pab->pb", one[:, :, 1], other)
    angle = np.arctan2(y[:, 0] - sign * x[:, 1], x[:, 0] + sign * y[:, 1])
    there, back = one[:, :, 2], sign[:, None] * other[:, :, 2]
    # Unlike arccos, this keeps its digits near 0 and 180 degrees.
    half = np.arctan2(np.linalg.norm(there - back, axis=1), np.linalg.norm(there + back, axis=1))
    return np.degrees(2.0 * half), angle


def evaluate_neighbors(table: NeighborTable, rotations: ArrayLike) -> NeighborErrors:
    """View and in-plane errors of every pair of ``table`` (n, K), given the true ``rotations`` (n, 3, 3).

    Raises ParameterError when the table and the rotations do not belong to the same particles.

    >>> table = NeighborTable(np.array([[1], [0]]), np.zeros((2, 1), bool), np.zeros((2, 1)), np.ones((2, 1)))
    >>> evaluate_neighbors(table, np.stack([np.eye(3)] * 2)).mean_view_deg
    0.0
    """
    rotations = _check_rotations(rotations)
    n, k = table.indices.shape
    if len(rotations) != n:
        raise ParameterError(f"rotations has {len(rotations)} rows for {n} particles in the table; give one each")
    if table.indices.size and (table.indices.min() < 0 or table.indices.max() >= n):
        bad = int(table.indices.min() if table.indices.min() < 0 else table.indices.max())
        raise ParameterError(f"neighbour indices must lie in 0 ... {n - 1}, got {bad}; score the table it belongs to")
    view, error = np.empty((n, k)), np.empty((n, k))
    block = max(1, _BLOCK_PAIRS // max(k, 1))
    for start in range(0, n, block):
        rows = slice(start, min(start + block, n))
        first = np.repeat(np.arange(rows.start, rows.stop), k)
        distance, angle = pair_truth(rotations, first, table.indices[rows].ravel(), table.mirrored[rows].ravel())
        view[rows] = distance.reshape(-1, k)
        error[rows] = angle_error_deg(table.angles[rows], angle.reshape(-1, k))
    return NeighborErrors(view, error)


def angle_error_deg(angles: ArrayLike, truth: ArrayLike) -> FloatArray:
    """Distance on the circle, 0 to 180 degrees, of two angles in radians.

    >>> angle_error_deg(np.pi, -np.pi).round(9).tolist()
    0.0
    """
    difference = np.asarray(angles, dtype=np.float64) - np.asarray(truth, dtype=np.float64)
    return np.abs(np.degrees(np.remainder(difference + np.pi, 2 * np.pi) - np.pi))


def summarize_images(chunks: Iterable[NDArray[np.floating]]) -> StackSummary:
    """Mean, variance and range over all pixels of chunks (b, L, L), read once.

    >>> summarize_images([np.array([[[0.0, 1.0], [2.0, 3.0]]])]).data_range
    3.0
    """
    count, pixels, total, square = 0, 0, 0.0, 0.0
    low, high = np.inf, -np.inf
    for chunk in chunks:
        images = _as_stack(chunk, "chunks")
        count, pixels = count + len(images), pixels + images.size
        total += float(images.sum(dtype=np.float64))
        square += float(np.square(images, dtype=np.float64).sum())
        low, high = min(low, float(images.min())), max(high, float(images.max()))
    if not pixels:
        raise ParameterError("chunks held no images; give at least one (an iterator can be read only once)")
    mean = total / pixels
    return StackSummary(count, mean, max(square / pixels - mean**2, 0.0), low, high)


def fit_affine(
    clean_chunks: Iterable[NDArray[np.floating]], denoised_chunks: Iterable[NDArray[np.floating]]
) -> tuple[float, float]:
    """The (gain, offset) that make gain * denoised + offset closest to clean, one pair for the whole stack.

    >>> clean = np.arange(8.0).reshape(1, 2, 4)[:, :, :2]
    >>> np.round(fit_affine([clean], [2 * clean + 1]), 9).tolist()
    [0.5, -0.5]
    """
    count, moments = 0, np.zeros(4)
    for clean, denoised in _pairs(clean_chunks, denoised_chunks):
        x, y = denoised.astype(np.float64), clean.astype(np.float64)
        count += x.size
        moments += x.sum(), y.sum(), (x * x).sum(), (x * y).sum()
    mean_x, mean_y, mean_xx, mean_xy = moments / count
    variance = mean_xx - mean_x**2
    if variance <= 1e-14 * mean_xx:
        raise ParameterError("denoised_chunks are constant, so no gain can be fitted; score them without an affine fit")
    gain = (mean_xy - mean_x * mean_y) / variance
    return float(gain), float(mean_y - gain * mean_x)


def evaluate_images(
    clean_chunks: Iterable[NDArray[np.floating]],
    denoised_chunks: Iterable[NDArray[np.floating]],
    data_range: float,
    affine: tuple[float, float] = (1.0, 0.0),
) -> ImageScores:
    """Scores of a denoised stack, read once in chunks (b, L, L); both sides must be cut at the same places.

    ``data_range`` is the range of the whole clean stack (:func:`summarize_images`). ``affine`` is applied to the
    denoised images; use the same rule for every method compared, and say which. Raises ParameterError.

    >>> clean = np.random.default_rng(0).random((2, 8, 8))
    >>> evaluate_images([clean], [clean + 0.1], 1.0).psnr_db.__round__(6)
    20.0
    """
    return _score(_pairs(clean_chunks, denoised_chunks), data_range, affine)


def evaluate_constant(clean_chunks: Iterable[NDArray[np.floating]], summary: StackSummary) -> ImageScores:
    """Scores of an image that holds nothing: the mean of the clean stack in every pixel. Print it beside every method.

    >>> clean = np.random.default_rng(0).random((2, 8, 8))
    >>> evaluate_constant([clean], summarize_images([clean])).psnr_db < 12
    True
    """
    stacks = (_as_stack(chunk, "clean_chunks") for chunk in clean_chunks)
    return _score(((clean, np.full_like(clean, summary.mean)) for clean in stacks), summary.data_range, (1.0, 0.0))


def structural_similarity(first: NDArray[np.floating], second: NDArray[np.floating], data_range: float) -> FloatArray:
    """SSIM (b,) float64 of image pairs (b, L, L): 7 x 7 uniform window, sample covariance, border of 3 px left out.

    Equal to ``skimage.metrics.structural_similarity`` with its default settings. Raises ParameterError for images
    smaller than the window.

    >>> images = np.random.default_rng(0).random((1, 16, 16))
    >>> structural_similarity(images, images, 1.0).tolist()
    [1.0]
    """
    if min(first.shape[-2:]) < _SSIM_WINDOW:
        raise ParameterError(f"images must be at least {_SSIM_WINDOW} px for SSIM, got shape {first.shape}")
    x, y = first.astype(np.float64), second.astype(np.float64)
    size = (1, _SSIM_WINDOW, _SSIM_WINDOW)
    mean_x, mean_y = uniform_filter(x, size), uniform_filter(y, size)
    sample = _SSIM_WINDOW**2 / (_SSIM_WINDOW**2 - 1)
    var_x = sample * (uniform_filter(x * x, size) - mean_x * mean_x)
    var_y = sample * (uniform_filter(y * y, size) - mean_y * mean_y)
    cov = sample * (uniform_filter(x * y, size) - mean_x * mean_y)
    c1, c2 = (_SSIM_K1 * data_range) ** 2, (_SSIM_K2 * data_range) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    bottom = (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    border = slice(_SSIM_WINDOW // 2, -(_SSIM_WINDOW // 2))
    return np.asarray((top / bottom)[:, border, border].mean(axis=(1, 2)))


def _score(
    pairs: Iterable[tuple[NDArray[np.floating], NDArray[np.floating]]], data_range: float, affine: tuple[float, float]
) -> ImageScores:
    if not data_range > 0:
        raise ParameterError(f"data_range must be above 0, got {data_range}; give the range of the clean stack")
    gain, offset = affine
    count, pixels, error, signal, similarity = 0, 0, 0.0, 0.0, 0.0
    for clean, denoised in pairs:
        truth = clean.astype(np.float64)
        fitted = gain * denoised.astype(np.float64) + offset
        count, pixels = count + len(truth), pixels + truth.size
        error += float(np.square(fitted - truth).sum())
        signal += float(np.square(truth).sum())
        similarity += float(structural_similarity(truth, fitted, data_range).sum())
    if not count or signal == 0:
        raise ParameterError("clean_chunks held no signal to compare with; give at least one image that is not 0")
    psnr = 10 * np.log10(data_range**2 * pixels / error) if error else np.inf
    return ImageScores(error / signal, float(psnr), similarity / count, count)


def _pairs(
    clean_chunks: Iterable[NDArray[np.floating]], denoised_chunks: Iterable[NDArray[np.floating]]
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.floating]]]:
    """Matching chunks of the two stacks; ParameterError where they part."""
    done = 0
    first, second = iter(clean_chunks), iter(denoised_chunks)
    while True:
        clean, denoised = next(first, None), next(second, None)
        if clean is None and denoised is None:
            if not done:
                raise ParameterError("clean_chunks and denoised_chunks held no images; iterators can be read only once")
            return
        if clean is None or denoised is None:
            name = "clean_chunks" if clean is None else "denoised_chunks"
            raise ParameterError(f"{name} ended after {done} images, the other goes on; give the same particles")
        one, other = _as_stack(clean, "clean_chunks"), _as_stack(denoised, "denoised_chunks")
        if one.shape != other.shape:
            raise ParameterError(
                f"chunks differ in shape after {done} images: clean {one.shape}, denoised {other.shape}; "
                "cut both stacks at the same places"
            )
        done += len(one)
        yield one, other


def _as_stack(chunk: NDArray[np.floating], name: str) -> NDArray[np.floating]:
    images = np.asarray(chunk)
    if images.ndim != 3:
        raise ParameterError(
            f"{name} must yield arrays of shape (b, L, L), got {images.shape}; wrap a stack in memory in a list"
        )
    return images


def _check_rotations(rotations: ArrayLike) -> FloatArray:
    array = np.asarray(rotations, dtype=np.float64)
    if array.ndim != 3 or array.shape[1:] != (3, 3):
        raise ParameterError(f"rotations must have shape (n, 3, 3), got {array.shape}; give one matrix per particle")
    return array
