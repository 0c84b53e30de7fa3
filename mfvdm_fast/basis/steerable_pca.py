"""Steerable PCA: per angular frequency, the principal components that stand above the noise (Zhao, Shkolnisky & Singer 2016)."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from ..records import Coefficients, FloatArray, SteerableCoefficients, SteerablePCA


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
    ([3.987, 0.0], [0.796, 0.0])
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


def estimate_steerable_pca(coefs: SteerableCoefficients, noise_variance: float) -> SteerablePCA:
    """Principal components of each angular frequency that stand above white noise.

    The mean is that of k = 0 alone: all others vanish under uniform in-plane rotation. C_k = Re(Y_k^H Y_k)/n, since a
    particle and its mirror image are equally likely. Peak memory: one copy of the largest ``coefs[k]``.

    Parameters
    ----------
    coefs : coefficients of n phase-flipped images.
    noise_variance : sigma^2 per coefficient, in squared units of the images.

    Raises
    ------
    InputError
        When no component stands above the noise.

    Examples
    --------
    >>> import numpy as np
    >>> from mfvdm_fast.records import SteerableCoefficients
    >>> rng = np.random.default_rng(0)
    >>> packed = (rng.normal(size=(500, 4)) * [3, 1, 0, 0] + 0j).astype(np.complex64)
    >>> pca = estimate_steerable_pca(SteerableCoefficients(packed, np.array([0, 2, 4])), noise_variance=0.5)
    >>> pca.n_components
    (2, 0)
    """
    n = coefs.n_particles
    mean = coefs[0].real.mean(axis=0, dtype=np.float64)
    components, eigenvalues, weights = [], [], []
    for k in range(coefs.k_max + 1):
        y = coefs[k]
        p = y.shape[1]
        gamma = p / n if k == 0 else p / (2 * n)
        values, vectors = np.linalg.eigh(_covariance(y, mean if k == 0 else None))
        values, vectors = values[::-1], vectors[:, ::-1]
        _, weight = shrink_eigenvalues(values, noise_variance, gamma)
        kept = np.flatnonzero(weight > 0)
        components.append(_fix_signs(vectors[:, kept]))
        eigenvalues.append(values[kept])
        weights.append(weight[kept])
    if not any(len(w) for w in weights):
        raise InputError(
            f"no principal component of the {n} images stands above the noise (variance {noise_variance:.4g} per pixel): "
            "check that the images hold particles, that their contrast and particle diameter are right, or use more images"
        )
    return SteerablePCA(mean, tuple(components), tuple(eigenvalues), tuple(weights))


def _covariance(y: np.ndarray, mean: FloatArray | None) -> FloatArray:
    """Re(Y^H Y)/n with float64 sums over blocks of rows."""
    n, p = y.shape
    total = np.zeros((p, p))
    for start in range(0, n, 4096):
        block = y[start : start + 4096]
        re = block.real.astype(np.float64)
        if mean is not None:
            re -= mean
        total += re.T @ re
        if mean is None:
            im = block.imag.astype(np.float64)
            total += im.T @ im
    return total / n


def _fix_signs(vectors: FloatArray) -> FloatArray:
    """Make the largest entry of every column positive: the sign of an eigenvector is otherwise up to the library."""
    if vectors.shape[1] == 0:
        return np.ascontiguousarray(vectors)
    largest = np.abs(vectors).argmax(axis=0)
    signs = np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return np.ascontiguousarray(vectors * signs)


def project_features(coefs: SteerableCoefficients, pca: SteerablePCA) -> SteerableCoefficients:
    """Weighted principal coefficients of unit norm: the features of the neighbour search.

    b_k = weight * (Y_k - mean) components, scaled so that sum |b_0|^2 + 2 sum_{k>=1} |b_k|^2 = 1 for every particle.

    Returns
    -------
    SteerableCoefficients with p_k = the number of components kept at k (many are 0).
    """
    n = coefs.n_particles
    offsets = np.concatenate([[0], np.cumsum(pca.n_components)]).astype(np.int64)
    last = max(k for k, count in enumerate(pca.n_components) if count)
    offsets = offsets[: last + 2]
    packed = np.zeros((n, int(offsets[-1])), np.complex64)
    norm2 = np.zeros(n)
    for k in range(last + 1):
        if pca.n_components[k] == 0:
            continue
        matrix = (pca.components[k] * pca.weights[k]).astype(np.float32)
        y = coefs[k]
        b = packed[:, offsets[k] : offsets[k + 1]]
        if k == 0:
            b.real = (y.real - pca.mean.astype(np.float32)) @ matrix
        else:
            b.real = y.real @ matrix
            b.imag = y.imag @ matrix
        norm2 += (1 if k == 0 else 2) * np.einsum("ij,ij->i", b, b.conj(), dtype=np.complex128).real
    packed /= np.sqrt(np.maximum(norm2, np.finfo(np.float32).tiny))[:, None].astype(np.float32)
    return SteerableCoefficients(packed, offsets)


def project_components(y: Coefficients, pca: SteerablePCA, k: int) -> Coefficients:
    """Coefficients (n, p_k) of frequency k projected onto the principal components kept, the mean of k = 0 left in.

    >>> import numpy as np
    >>> pca = SteerablePCA(np.zeros(2), (np.array([[1.0], [0.0]]),), (np.ones(1),), (np.ones(1),))
    >>> project_components(np.array([[2, 3]], np.complex64), pca, 0).real.tolist()
    [[2.0, 0.0]]
    """
    projector = (pca.components[k] @ pca.components[k].T).astype(np.float32)
    if k == 0:
        mean = pca.mean.astype(np.float32)
        return ((y - mean) @ projector + mean).astype(np.complex64)
    return (y @ projector).astype(np.complex64)
