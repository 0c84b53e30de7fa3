"""What the main job gives back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .basis.interface import SteerableBasis
from .checks import check_rows
from .imaging.noise import radii_px
from .imaging.resample import resample_images
from .imaging.support import CENTRE
from .params import DenoiseParams
from .records import (
    BoolArray,
    DiskSupport,
    FloatArray,
    Images,
    IndexArray,
    NeighborTable,
    NoiseModel,
    SteerableCoefficients,
    SteerablePCA,
    Unevenness,
)
from .threads import use_threads

FAINT = 0.45  # of the particles: where more are faint, many centres found are wrong, and shifts may not be seen


@dataclass(frozen=True)
class DenoiseResult:
    """What :func:`mfvdm_fast.denoise` found. Images are synthesised when asked for: no stack is held whole.

    Attributes
    ----------
    neighbors : the final table. ``scores`` are log likelihoods after matching, up to a constant of each particle; the
        multi-frequency affinity after Algorithm 1 alone; the correlation without refinement. None for the method "cwf".
    initial_neighbors : the table of the exact rotation-invariant search; None for "cwf".
    log_likelihood : (n,), of each image with the best template that it has no part in, against noise alone;
        about half of the signal-to-noise energy for a particle, around 0 where there is none; None without matching.
    score : (n,), log likelihood of each image as a particle of the stack against the other explanations: nothing there,
        or something else besides (:mod:`mfvdm_fast.restore.score`). None without matching. Where it tells of junk,
        all are restored with weights: :func:`mfvdm_fast.restore.junk.trust_in`.
    junk_below : the score below which an image is taken for junk: -log(100), or more where much of the stack is
        (:func:`mfvdm_fast.restore.junk.junk_below`). None without a score.
    faint : share of the images, junk left out, of which it is not clear that they show a particle (log odds below 20 of
        one of the stack's views against noise alone). 0 without matching.
    may_be_noise : there may be no particles at all, which was warned about: scores then tell noise from noise.
    eigenvalues : per angular frequency k of the last graph, descending.
    box_size : of the images, L.
    basis, coefs : the restored particles, without CTF; the basis of a large box has a coarser grid of its own.
    pca : principal components of the phase-flipped images.
    shifts_px : (n, 2), (x, y) from the pixel L // 2 at which each particle stood and from which it was moved to the
        centre: what the input says, and what was found. None where neither says anything.
    ctf_corrected : whether there was a CTF to undo.
    noise, support : what was estimated; noise with a spectrum was whitened.
    unevenness : levels, ramps and scales in which images differed, and which were taken out of each. Where their scales
        did, the restored particles and ``noise`` are on that of most images (``unevenness.deviation``).
    params : with everything decided that was left to the data.
    seconds : wall-clock time per stage.
    threads : used, and to be used by :meth:`images`.
    """

    neighbors: NeighborTable | None
    initial_neighbors: NeighborTable | None
    log_likelihood: FloatArray | None
    score: FloatArray | None
    junk_below: float | None
    may_be_noise: bool
    faint: float
    eigenvalues: dict[int, FloatArray]
    box_size: int
    basis: SteerableBasis
    coefs: SteerableCoefficients
    pca: SteerablePCA
    shifts_px: FloatArray | None
    ctf_corrected: bool
    noise: NoiseModel
    support: DiskSupport
    unevenness: Unevenness
    params: DenoiseParams
    seconds: dict[str, float]
    threads: int

    @property
    def whitened(self) -> bool:
        return self.noise.relative_power is not None

    @property
    def junk(self) -> BoolArray | None:
        """(n,), True where the score is below ``junk_below``; None without a score."""
        return None if self.score is None or self.junk_below is None else self.score < self.junk_below

    @property
    def mostly_faint(self) -> bool:
        """Whether centres can hardly be found, or seen to be off, in so much noise."""
        return self.faint > FAINT

    def levels(self) -> FloatArray:
        """(n,), mean of each denoised particle within CENTRE radii, from its coefficients; the background is 0."""
        radial = int(self.coefs.offsets[1])
        units = np.eye(radial, self.basis.n_coefs, dtype=np.complex64)
        middle = radii_px(self.basis.box_size) <= CENTRE * self.basis.radius_px
        with use_threads(self.threads):
            means = self.basis.evaluate(units, threads=self.threads)[:, middle].mean(axis=1, dtype=np.float64)
        return np.asarray(self.coefs[0].real @ means)

    def images(self, rows: IndexArray | slice = slice(None)) -> Images:
        """Denoised particles (b, L, L) float32 in the units of the input, background 0; all without ``rows``.

        ``rows`` is a slice or (b,) whole numbers; ParameterError for anything else, and when out of range.
        """
        chosen = rows if isinstance(rows, slice) else check_rows(rows, self.coefs.n_particles, "a slice, or ")
        with use_threads(self.threads):
            images = self.basis.evaluate(self.coefs.packed[chosen], threads=self.threads)
            return resample_images(images, self.box_size, self.threads)
