"""Algorithm 2: filtering of steerable coefficients in the eigenbasis of the frequency graph (Eqs. 10-11)."""

from __future__ import annotations

import numpy as np

from ..errors import ParameterError
from ..records import Coefficients, Eigenbasis, FloatArray

SPECTRAL_FILTERS = {
    "2λ-λ²": lambda values: 2 * values - values**2,
    "λ": lambda values: values,
}


def apply_spectral_filter(
    coefs: Coefficients, basis: Eigenbasis, degrees: FloatArray, spectral_filter: str = "2λ-λ²"
) -> Coefficients:
    """D^{-1/2} U h(Λ) U^T D^{1/2} applied to every column, in the real form (Re; Im).

    For k = 0 the mean over the particles is taken out first and put back afterwards.

    Parameters
    ----------
    coefs : (n, p) complex64, of angular frequency ``basis.k``.
    basis : the eigenbasis of that frequency.
    degrees : (n,) float64, node degrees of the graph.
    spectral_filter : h, "2λ-λ²" (Eq. 11) or "λ".

    Returns
    -------
    (n, p) complex64.

    Raises
    ------
    ParameterError
        When the filter is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from mfvdm_fast.records import Eigenbasis
    >>> u = np.full((4, 1), 0.5, np.complex64)
    >>> basis = Eigenbasis(1, np.array([1.0]), u, np.zeros(1), 1, "converged")
    >>> apply_spectral_filter(np.array([[1], [3], [1], [3]], np.complex64), basis, np.ones(4)).real.ravel().tolist()
    [2.0, 2.0, 2.0, 2.0]
    """
    if spectral_filter not in SPECTRAL_FILTERS:
        raise ParameterError(f"the spectral filter must be one of {list(SPECTRAL_FILTERS)}, got {spectral_filter!r}")
    weights = SPECTRAL_FILTERS[spectral_filter](basis.values).astype(np.float32)
    # A node without edges has no say and gets nothing: its square root of degree is 0, and so is its row of U.
    root = np.sqrt(degrees).astype(np.float32)[:, None]
    inverse = np.divide(1, root, out=np.zeros_like(root), where=root > 0)
    u = basis.vectors
    if basis.k == 0:
        mean = coefs.real.mean(axis=0, dtype=np.float64).astype(np.float32)
        amplitude = u.real.T @ (root * (coefs.real - mean))
        return (inverse * (u.real @ (weights[:, None] * amplitude)) + mean).astype(np.complex64)
    scaled = root * coefs
    amplitude = u.real.T @ scaled.real + u.imag.T @ scaled.imag
    amplitude *= weights[:, None]
    out = np.empty_like(scaled)
    out.real = inverse * (u.real @ amplitude)
    out.imag = inverse * (u.imag @ amplitude)
    return out
