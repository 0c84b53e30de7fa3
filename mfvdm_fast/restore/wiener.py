"""Covariance Wiener filtering (CWF) of steerable coefficients, for any CTF and noise spectrum.

Bhamre, Zhang & Singer (2016), in the fast form of Marshall, Mickelin, Shi & Singer (2023): in a basis where a radial
filter is diagonal, y = h x + noise holds coefficient by coefficient, and angular frequencies separate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError, ParameterError
from ..records import Coefficients, FloatArray, IndexArray, SteerableCoefficients
from ..threads import map_in_order

Real = NDArray[np.float32]
BLOCK = 2048  # rows whose products are summed in one go; fixed, so that results depend on nothing else


@dataclass(frozen=True)
class Observation:
    """How coefficients were observed: y = h x + noise. Make it with :func:`describe_observation`.

    Attributes
    ----------
    transfer : (g, P) float64, signed CTF h of each class of particles that share one, per coefficient.
    group : (n,) int64, the class of every particle.
    noise_power : (P,) float64, variance of the noise per coefficient.
    trust : (n,) float64, how far each particle has a say in what all have in common (means, covariances, amplitudes):
        the chance that it is no junk. None: all have the same.
    """

    transfer: FloatArray
    group: IndexArray
    noise_power: FloatArray
    trust: FloatArray | None = None

    def columns(self, start: int, stop: int) -> Observation:
        """The same for some of the coefficients."""
        return Observation(self.transfer[:, start:stop], self.group, self.noise_power[start:stop], self.trust)

    def rows(self, rows: IndexArray) -> Observation:
        """The same for some of the particles."""
        trust = None if self.trust is None else self.trust[rows]
        return Observation(self.transfer, self.group[rows], self.noise_power, trust)

    @property
    def precision(self) -> FloatArray:
        """(g, P): h^2 / noise power, what one particle of each class tells about each coefficient."""
        return self.transfer**2 / self.noise_power

    @property
    def counts(self) -> FloatArray:
        """(g,) number of particles in each class."""
        return np.bincount(self.group, minlength=len(self.transfer)).astype(np.float64)

    @property
    def weights(self) -> FloatArray:
        """(g,) sum of the trust in the particles of each class; their number where all are trusted."""
        return np.bincount(self.group, self.trust, minlength=len(self.transfer)).astype(np.float64)

    def members(self) -> list[IndexArray]:
        """The particles of each class, ascending."""
        return members_of(self.group, len(self.transfer))


def members_of(group: IndexArray, n_groups: int) -> list[IndexArray]:
    """The members of each group, ascending, of the group (n,) of each.

    >>> [members.tolist() for members in members_of(np.array([1, 0, 1]), 3)]
    [[1], [0, 2], []]
    """
    # Sixteen bits are sorted by their value, in a tenth of the time.
    order = np.argsort(group.astype(np.uint16) if n_groups < 2**16 else group, kind="stable")
    return np.split(order, np.cumsum(np.bincount(group, minlength=n_groups))[:-1])


def describe_observation(
    coefs: SteerableCoefficients,
    noise_power: ArrayLike,
    transfer: ArrayLike | None = None,
    group: ArrayLike | None = None,
) -> Observation:
    """The observation of ``coefs``, checked; without ``transfer`` and ``group`` there is no CTF (h = 1).

    Parameters
    ----------
    coefs : n particles, P coefficients, as observed (not phase-flipped when ``transfer`` is signed).
    noise_power : (P,) variance of the noise of each coefficient, or one number for white noise.
    transfer : (g, P) CTF of each class at the radial frequency of each coefficient.
    group : (n,) class of each particle.

    Raises
    ------
    InputError
        When coefficients or CTF are not finite, shapes do not fit the coefficients, or a class does not exist.
    ParameterError
        When a noise power is not above 0, or only one of ``transfer`` and ``group`` is given.

    Examples
    --------
    >>> coefs = SteerableCoefficients(np.zeros((3, 2), np.complex64), np.array([0, 1, 2]))
    >>> describe_observation(coefs, 0.5).precision.tolist()
    [[2.0, 2.0]]
    """
    n, width = coefs.packed.shape
    finite = np.isfinite(coefs.packed.sum(axis=1))
    if not finite.all():
        raise InputError(f"the coefficients of particle {int(np.argmin(finite))} hold NaN or infinity; leave it out")
    power = np.asarray(noise_power, np.float64)
    power = np.full(width, power) if power.ndim == 0 else power
    if power.shape != (width,):
        raise InputError(f"noise_power must have shape ({width},), one per coefficient, got {power.shape}")
    if not (np.isfinite(power).all() and (power > 0).all()):
        worst = int(np.argmin(np.where(np.isfinite(power), power, -np.inf)))
        raise ParameterError(f"noise_power[{worst}] is {power[worst]:g}; it must be a finite number above 0")
    if (transfer is None) != (group is None):
        raise ParameterError("transfer and group belong together: give both, or neither when there is no CTF")
    if transfer is None or group is None:
        return Observation(np.ones((1, width)), np.zeros(n, np.int64), power)
    h, member = np.ascontiguousarray(transfer, np.float64), np.ascontiguousarray(group, np.int64)
    if h.ndim != 2 or h.shape[1] != width or member.shape != (n,):
        raise InputError(
            f"transfer must have shape (g, {width}) and group ({n},), got {h.shape} and {member.shape}; "
            "sample the CTF of each class at the basis' radial nodes"
        )
    if n and (member.min() < 0 or member.max() >= len(h)):
        bad = int(np.argmax((member < 0) | (member >= len(h))))
        raise InputError(f"group[{bad}] is {member[bad]}, but transfer has rows 0 to {len(h) - 1}")
    if not np.isfinite(h).all():
        row, column = np.argwhere(~np.isfinite(h))[0]
        raise InputError(f"transfer[{row}, {column}] is {h[row, column]}; correct the CTF parameters of class {row}")
    return Observation(h, member, power)


def estimate_mean(coefs: Coefficients, seen: Observation) -> FloatArray:
    """Mean of the clean coefficients, sum h y / sum h^2: (p,) float64; 0 where h vanishes. For k = 0.

    >>> seen = Observation(np.array([[2.0], [1.0]]), np.array([0, 1]), np.ones(1))
    >>> estimate_mean(np.array([[6], [3]], np.complex64), seen).tolist()
    [3.0]
    """
    top = np.zeros(coefs.shape[1])
    for g, rows in enumerate(seen.members()):
        y = coefs.real[rows]
        total = y.sum(axis=0, dtype=np.float64) if seen.trust is None else seen.trust[rows] @ y
        top += total * seen.transfer[g]
    bottom = seen.weights @ seen.transfer**2
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def match(coefs: Coefficients, seen: Observation, mean: FloatArray, real: bool, threads: int = 1) -> Real:
    """h (y - h mean) / noise power in the real form (Re; Im): (2 n, p) float32, or (n, p) when ``real``.

    All that restoration needs of the data: sufficient for the clean coefficients.

    >>> seen = Observation(np.array([[2.0]]), np.array([0]), np.array([4.0]))
    >>> match(np.array([[3 + 1j]], np.complex64), seen, np.array([1.0]), real=False).tolist()
    [[0.5], [0.5]]
    """
    weight = (seen.transfer / seen.noise_power).astype(np.float32)
    shift = (seen.precision * mean).astype(np.float32)
    n = len(coefs)
    out = np.empty((n if real else 2 * n, coefs.shape[1]), np.float32)

    def weigh(start: int) -> None:
        rows = slice(start, min(start + BLOCK, n))
        member = seen.group[rows]
        out[rows] = coefs[rows].real * weight[member] - shift[member]
        if not real:
            out[n + rows.start : n + rows.stop] = coefs[rows].imag * weight[member]

    map_in_order(weigh, range(0, n, BLOCK), threads)
    return out


def sum_products(a: Real, b: Real, threads: int = 1, trust: FloatArray | None = None) -> FloatArray:
    """a^T b, float64, summed over blocks of BLOCK rows; ``threads`` of up to 32 groups of blocks at once.

    ``trust`` (n,) weighs the rows of n particles, those of Re and of Im alike: a^T diag(trust) b.

    >>> ones = np.ones((2, 1), np.float32)
    >>> sum_products(ones, ones).tolist(), sum_products(ones, ones, trust=np.array([0.5])).tolist()
    ([[2.0]], [[1.0]])
    """
    weight = None if trust is None else np.tile(trust.astype(np.float32)[:, None], (len(a) // len(trust), 1))
    size = BLOCK * max(1, -(-len(a) // (32 * BLOCK)))

    def add(first: int) -> FloatArray:
        total = np.zeros((a.shape[1], b.shape[1]))
        for start in range(first, min(first + size, len(a)), BLOCK):
            rows = slice(start, start + BLOCK)
            total += a[rows].T @ (b[rows] if weight is None else weight[rows] * b[rows])
        return total

    parts = map_in_order(add, range(0, len(a), size), threads)
    return np.add.reduce([np.zeros((a.shape[1], b.shape[1])), *parts])


def shrink_spectrum(values: FloatArray, gamma: float) -> FloatArray:
    """Signal part of sample eigenvalues when the noise has variance 1 (spiked model); 0 up to (1 + sqrt(gamma))^2.

    >>> shrink_spectrum(np.array([5.0, 1.0]), 0.01).round(3).tolist()
    [3.987, 0.0]
    """
    excess = values - (1 + gamma)
    root = np.sqrt(np.maximum(excess**2 - 4 * gamma, 0))
    return np.where(values > (1 + np.sqrt(gamma)) ** 2, 0.5 * (excess + root), 0.0)


def estimate_covariance(matched: Real, seen: Observation, threads: int = 1) -> FloatArray:
    """Covariance (p, p) of the clean coefficients, E|x|^2 on its diagonal, from matched ones of mean 0 (real form).

    B = mean w w^T of w = h y / s^2 has noise part N = mean h^2 / s^2 and signal part Sigma * L, L_qq' = mean of
    (h_q^2 / s_q^2)(h_q'^2 / s_q'^2): whiten by N, shrink, divide by L, clip at 0.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(20000, 2)) * [2, 0]
    >>> y = (x + rng.normal(size=x.shape)).astype(np.float32)
    >>> estimate_covariance(y, Observation(np.ones((1, 2)), np.zeros(20000, np.int64), np.ones(2))).round(1).tolist()
    [[4.1, 0.0], [0.0, 0.0]]
    """
    copies = len(matched) // len(seen.group)
    return covariance_of_products(sum_products(matched, matched, threads, seen.trust), seen, copies)


def covariance_of_products(products: FloatArray, seen: Observation, copies: int) -> FloatArray:
    """The same from the sum of w w^T (p, p), each by its trust, over n particles in ``copies`` parts (Re; Im)."""
    counts, precision = seen.weights, seen.precision
    n = counts.sum()
    noise = np.maximum(counts @ precision / n, np.finfo(np.float64).tiny)
    root = np.sqrt(noise)
    # Re and Im each carry half of the noise and of the signal, so that their sum over n is that of one complex number.
    values, vectors = np.linalg.eigh(products / n / np.outer(root, root))
    values = shrink_spectrum(values, len(root) / (copies * n))
    signal = (vectors * values) @ vectors.T * np.outer(root, root)
    overlap = (precision * counts[:, None]).T @ precision / n
    covariance = np.divide(signal, overlap, out=np.zeros_like(signal), where=overlap > 1e-12 * overlap.max(initial=0))
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.maximum(values, 0)) @ vectors.T


def apply_wiener(matched: Real, covariance: FloatArray, seen: Observation, threads: int = 1) -> Real:
    """Posterior mean (Sigma^-1 + H^2/s^2)^-1 w of clean coefficients of mean 0; shape of ``matched``.

    Equal to Sigma H (H Sigma H + s^2)^-1 y, with one factor per class and no inverse of Sigma.

    >>> seen = Observation(np.array([[2.0]]), np.array([0]), np.array([1.0]))
    >>> apply_wiener(np.array([[5.0]], np.float32), np.array([[0.25]]), seen).tolist()
    [[0.625]]
    """
    n, width = len(seen.group), matched.shape[1]
    out = np.empty_like(matched)

    def filter_class(one: tuple[IndexArray, FloatArray]) -> None:
        rows, precision = one
        factor = np.linalg.solve(np.eye(width) + covariance * precision, covariance).T.astype(np.float32)
        for offset in range(0, len(matched), n):
            out[offset + rows] = matched[offset + rows] @ factor

    map_in_order(filter_class, zip(seen.members(), seen.precision, strict=True), threads)
    return out


def to_complex(matched: Real, n: int) -> Coefficients:
    """(n, p) complex64 of the real form (2 n, p), or of n real rows."""
    out = np.zeros((n, matched.shape[1]), np.complex64)
    out.real = matched[:n]
    if len(matched) > n:
        out.imag = matched[n:]
    return out


def restore_wiener(
    coefs: SteerableCoefficients, seen: Observation, out: Coefficients | None = None
) -> SteerableCoefficients:
    """CWF of all angular frequencies: the posterior mean of every particle's clean coefficients, CTF and noise undone.

    Extra memory: the result, and three float32 copies of the widest ``coefs[k]``.

    Parameters
    ----------
    coefs : (n, P), as observed.
    seen : from :func:`describe_observation`.
    out : (n, P) where the result goes; may be ``coefs.packed``.

    Returns
    -------
    (n, P) complex64, real at k = 0.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = SteerableCoefficients((3 * rng.normal(size=(5000, 1)) + 0j).astype(np.complex64), np.array([0, 1]))
    >>> gain = restore_wiener(y, describe_observation(y, 1.0)).packed.real.std() / y.packed.real.std()
    >>> round(float(gain), 2)  # (9 - 1) / 9
    0.89
    """
    out, n = np.empty(coefs.packed.shape, np.complex64) if out is None else out, coefs.n_particles
    for k in range(coefs.k_max + 1):
        start, stop = int(coefs.offsets[k]), int(coefs.offsets[k + 1])
        part = seen.columns(start, stop)
        mean = estimate_mean(coefs[k], part) if k == 0 else np.zeros(stop - start)
        matched = match(coefs[k], part, mean, real=k == 0)
        covariance = estimate_covariance(matched, part)
        out[:, start:stop] = 0
        if covariance.any():
            out[:, start:stop] = to_complex(apply_wiener(matched, covariance, part), n)
        if k == 0:
            out[:, start:stop] += mean.astype(np.float32)
    return SteerableCoefficients(out, coefs.offsets)
