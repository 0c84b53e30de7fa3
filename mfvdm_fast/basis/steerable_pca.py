"""Steerable PCA: the principal components per angular frequency that stand above the noise.

Zhao, Shkolnisky & Singer (2016).
"""

from __future__ import annotations

import numpy as np

from ..checks import check_coefficients, check_kind, check_positive
from ..errors import InputError
from ..records import Coefficients, FloatArray, IndexArray, SteerableCoefficients, SteerablePCA
from ..threads import map_in_order, resolve_threads

TRACY_WIDOM = 3.27  # 99.9 % point of the Tracy-Widom law of order 1


def shrink_eigenvalues(eigenvalues: FloatArray, noise_variance: float, gamma: float) -> tuple[FloatArray, FloatArray]:
    """Signal eigenvalue and Wiener-like weight of every sample eigenvalue in the spiked covariance model.

    Parameters
    ----------
    eigenvalues : (p,) float64, of the sample covariance, noise included.
    noise_variance : sigma^2 per coefficient.
    gamma : number of components over the number of samples.

    Returns
    -------
    signal, weight : (p,) float64; both 0 where the eigenvalue does not exceed sigma^2 (1 + sqrt(gamma))^2.

    Examples
    --------
    >>> import numpy as np
    >>> signal, weight = shrink_eigenvalues(np.array([5.0, 1.0]), noise_variance=1.0, gamma=0.01)
    >>> signal.round(3).tolist(), weight.round(3).tolist()
    ([3.987, 0.0], [0.799, 0.0])
    """
    d = np.asarray(eigenvalues, np.float64)
    keep = d > noise_variance * (1 + np.sqrt(gamma)) ** 2
    excess = d - (gamma + 1) * noise_variance
    root = np.sqrt(np.maximum(excess**2 - 4 * gamma * noise_variance**2, 0))
    signal = np.where(keep, 0.5 * (excess + root), 0.0)
    snr = signal / noise_variance
    snr_gamma = np.maximum(snr**2 - gamma, 0) / (snr + gamma)
    weight = np.where(keep, snr_gamma / (1 + snr_gamma), 0.0)
    return signal, weight


def noise_edge(n_components: int, n_samples: int, noise_variance: float) -> float:
    """The largest sample eigenvalue that pure white noise shows, at one chance in a thousand (Johnstone 2001).

    sigma^2 (1 + sqrt(gamma))^2 is only where it lies on average as n grows: among a hundred frequencies a few of noise
    alone pass that, most of them at the highest k, where each makes the search and the eigenbases longer.

    >>> 1.0 < noise_edge(5, 10_000, 1.0) < 1.1
    True
    """
    root_n, root_p = np.sqrt(n_samples - 1.0), np.sqrt(n_components)
    centre = (root_n + root_p) ** 2
    width = (root_n + root_p) * (1 / root_n + 1 / root_p) ** (1 / 3)
    return float(noise_variance * (centre + TRACY_WIDOM * width) / n_samples)


class CovarianceSums:
    """Sums for mean and covariance of each angular frequency, fed block by block, so that no stack need be held.

    ``offsets`` as in ``records.SteerableCoefficients``. The sums are float64 in the order of the blocks.
    """

    def __init__(self, offsets: IndexArray) -> None:
        widths = np.diff(offsets)
        self.offsets = offsets
        self.count = 0
        self.first = np.zeros(int(widths[0]))
        self.second = [np.zeros((int(p), int(p))) for p in widths]

    def add(self, packed: Coefficients, threads: int = 1) -> None:
        """Add a block (b, sum p_k) of coefficients."""
        self.count += len(packed)

        def add_frequency(k: int) -> None:
            y = packed[:, self.offsets[k] : self.offsets[k + 1]]
            re = y.real.astype(np.float64)
            self.second[k] += re.T @ re
            if k == 0:
                self.first += re.sum(axis=0)
            else:
                im = y.imag.astype(np.float64)
                self.second[k] += im.T @ im

        map_in_order(add_frequency, range(len(self.second)), threads)

    def mean(self) -> FloatArray:
        """Mean coefficient (p_0,) of k = 0; all others vanish under uniform in-plane rotation."""
        return self.first / self.count

    def covariance(self, k: int) -> FloatArray:
        """C_k = Re(Y_k^H Y_k) / n about the mean, real since a particle and its mirror are equally likely."""
        covariance = self.second[k] / self.count
        return covariance - np.outer(self.mean(), self.mean()) if k == 0 else covariance


def pca_from_sums(sums: CovarianceSums, noise_variance: float) -> SteerablePCA:
    """:func:`estimate_steerable_pca` from sums over blocks."""
    n = sums.count
    components, eigenvalues, weights = [], [], []
    for k in range(len(sums.second)):
        width, samples = len(sums.second[k]), n if k == 0 else 2 * n
        values, vectors = np.linalg.eigh(sums.covariance(k))
        values, vectors = values[::-1], vectors[:, ::-1]
        _, weight = shrink_eigenvalues(values, noise_variance, width / samples)
        kept = np.flatnonzero((weight > 0) & (values > noise_edge(width, samples, noise_variance)))
        components.append(_fix_signs(vectors[:, kept]))
        eigenvalues.append(values[kept])
        weights.append(weight[kept])
    if not any(len(w) for w in weights):
        raise InputError(
            f"no principal component of the {n} images stands above the noise (variance {noise_variance:.4g} per "
            "pixel): check that the images hold particles, that their contrast and particle diameter are right, or use "
            "more images"
        )
    return SteerablePCA(sums.mean(), tuple(components), tuple(eigenvalues), tuple(weights))


def estimate_steerable_pca(
    coefs: SteerableCoefficients, noise_variance: float, threads: int | None = None
) -> SteerablePCA:
    """Principal components of each angular frequency that stand above white noise.

    Peak memory: a float64 copy of 4,096 rows of the widest ``coefs[k]``.

    Parameters
    ----------
    coefs : coefficients of n phase-flipped images.
    noise_variance : sigma^2 per coefficient, in squared units of the images.
    threads : the result does not depend on it.

    Raises
    ------
    InputError
        When no component stands above the noise, or the coefficients are none, not finite or do not fit their offsets.
    ParameterError
        When the noise variance is no number above 0, or ``coefs`` are no SteerableCoefficients.

    Examples
    --------
    >>> from mfvdm_fast.records import SteerableCoefficients
    >>> rng = np.random.default_rng(0)
    >>> packed = (rng.normal(size=(500, 4)) * [3, 1, 0, 0] + 0j).astype(np.complex64)
    >>> pca = estimate_steerable_pca(SteerableCoefficients(packed, np.array([0, 2, 4])), noise_variance=0.5)
    >>> pca.n_components
    (2, 0)
    """
    packed, offsets = check_coefficients("coefs", coefs)
    check_positive("noise_variance", noise_variance)
    sums, count = CovarianceSums(offsets), resolve_threads(threads)
    for start in range(0, len(packed), 4096):
        sums.add(packed[start : start + 4096], count)
    if not (len(packed) and all(np.isfinite(second).all() for second in sums.second)):
        raise InputError(
            f"coefs must be finite, and of one particle at least, got {len(packed)}: leave out particles that hold NaN "
            "or infinity"
        )
    return pca_from_sums(sums, noise_variance)


def _check_pca(pca: SteerablePCA) -> SteerablePCA:
    return check_kind("pca", pca, SteerablePCA, "make it with estimate_steerable_pca")


def _fix_signs(vectors: FloatArray) -> FloatArray:
    """Make the largest entry of every column positive: the sign of an eigenvector is otherwise up to the library."""
    if vectors.shape[1] == 0:
        return np.ascontiguousarray(vectors)
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return np.ascontiguousarray(vectors * signs)


def project(packed: Coefficients, offsets: IndexArray, pca: SteerablePCA, threads: int | None = 1) -> Coefficients:
    """Coordinates of coefficients in the principal components, the mean of k = 0 taken out.

    Parameters
    ----------
    packed : (b, sum p_k) complex64, laid out by ``offsets``.

    Returns
    -------
    (b, sum r_k) complex64, laid out by ``pca.offsets``.

    Raises
    ------
    InputError
        When the offsets do not fit the array, or the components are of another basis.
    ParameterError
        When ``pca`` is no SteerablePCA.

    Examples
    --------
    >>> pca = SteerablePCA(np.ones(2), (np.array([[1.0], [0.0]]),), (np.ones(1),), (np.ones(1),))
    >>> project(np.array([[3, 5]], np.complex64), np.array([0, 2]), pca).real.tolist()
    [[2.0]]
    """
    packed, offsets = check_coefficients("coefs", SteerableCoefficients(packed, offsets))
    widths = np.diff(offsets).tolist()
    expected = [len(components) for components in _check_pca(pca).components]
    if widths != expected:
        raise InputError(
            f"coefs have {widths} components at k = 0, 1, ..., and pca is of {expected}: both must be of one basis"
        )
    out = np.zeros((len(packed), int(pca.offsets[-1])), np.complex64)

    def project_frequency(k: int) -> None:
        y = packed[:, offsets[k] : offsets[k + 1]]
        matrix = pca.components[k].astype(np.float32)
        target = out[:, pca.offsets[k] : pca.offsets[k + 1]]
        if k == 0:
            target.real = (y.real - pca.mean.astype(np.float32)) @ matrix
        else:
            target.real = y.real @ matrix
            target.imag = y.imag @ matrix

    map_in_order(project_frequency, np.flatnonzero(pca.n_components).tolist(), resolve_threads(threads))
    return out


def expand_components(coordinates: Coefficients, offsets: IndexArray, pca: SteerablePCA) -> Coefficients:
    """The inverse of :func:`project` on the principal subspace: (b, sum r_k) -> (b, sum p_k), the mean put back.

    >>> pca = SteerablePCA(np.ones(2), (np.array([[1.0], [0.0]]),), (np.ones(1),), (np.ones(1),))
    >>> expand_components(np.array([[2]], np.complex64), np.array([0, 2]), pca).real.tolist()
    [[3.0, 1.0]]
    """
    packed = np.zeros((len(coordinates), int(offsets[-1])), np.complex64)
    for k, components in enumerate(pca.components):
        target = packed[:, offsets[k] : offsets[k + 1]]
        if components.shape[1]:
            b = coordinates[:, pca.offsets[k] : pca.offsets[k + 1]]
            matrix = np.ascontiguousarray(components.T, np.float32)
            target.real = b.real @ matrix
            target.imag = b.imag @ matrix
        if k == 0:
            target.real += pca.mean.astype(np.float32)
            target.imag = 0
    return packed


def weigh_features(coordinates: SteerableCoefficients, pca: SteerablePCA) -> SteerableCoefficients:
    """Weighted coordinates of unit norm, sum |b_0|^2 + 2 sum_{k>=1} |b_k|^2 = 1: the features of the neighbour search.

    Raises InputError for coordinates that :func:`project` did not make with ``pca``, ParameterError when either is of
    another kind.

    >>> pca = SteerablePCA(np.zeros(2), (np.eye(2),), (np.ones(2),), (np.full(2, 0.5),))
    >>> features = weigh_features(SteerableCoefficients(np.array([[3, 4]], np.complex64), pca.offsets), pca)
    >>> features.packed.real.astype(float).round(3).tolist()
    [[0.6, 0.8]]
    """
    packed, offsets = check_coefficients("coordinates", coordinates)
    if not np.array_equal(offsets, _check_pca(pca).offsets):
        raise InputError(
            f"coordinates have the offsets {offsets.tolist()} and pca {pca.offsets.tolist()}: give what project made "
            "with this pca"
        )
    packed = packed * np.concatenate(pca.weights).astype(np.float32)
    double = np.where(np.arange(packed.shape[1]) < pca.offsets[1], 1.0, 2.0).astype(np.float32)
    norm2 = np.zeros(len(packed))
    for start in range(0, len(packed), 4096):
        block = packed[start : start + 4096]
        norm2[start : start + 4096] = (block.real**2 + block.imag**2).astype(np.float64) @ double
    packed /= np.sqrt(np.maximum(norm2, np.finfo(np.float32).tiny))[:, None].astype(np.float32)
    return SteerableCoefficients(packed, pca.offsets)
