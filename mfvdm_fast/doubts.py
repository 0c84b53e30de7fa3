"""What a run found that its user should look at: warnings about origins, shifts, noise, contrast, scales and junk."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

from .errors import MfvdmWarning
from .records import BoolArray, FloatArray, OriginColumns
from .result import FAINT

TAKEN_BACK = 0.6  # of the shifts that the input gives: origins of something else, or of the wrong sign in much noise
LEFT_OVER = 0.25  # of the squares of the shifts found, at most, where the input gives twice or half of these
FAR = 0.22  # of the particles, found beyond the reach
MUCH_JUNK = 1 / 3  # of a stack
MIXED = 0.05  # of the particles, of either contrast
_NAMED = 5  # how many particles a message names
SCALES = 1.5  # between the noise of the middle 90 % of the images


def warn_about_origins(
    known_px: FloatArray | None, found_px: FloatArray, columns: OriginColumns | None = None, where: str = ""
) -> bool:
    """Warn (MfvdmWarning) and return True when the shifts found take back more than TAKEN_BACK of the known ones.

    ``known_px`` (n, 2) are those of the input, ``found_px`` (n, 2) all in all. Measured with shifts of 1 to 2 px (rms),
    their share that was taken back: none where right, .2 with errors of 1 px, 1.1 to 1.8 with the wrong sign. Also when
    the shifts found are half or twice the known ones, but for LEFT_OVER of their squares. Measured (three particles,
    shifts of 1 to 2 px, SNR .05 and .1): .02 to .19 is left over where they are, .51 to .57 where half is taken back
    because the known ones are in error by as much as they say.
    ``columns`` are those that the message names, and ``where`` begins it.

    >>> import numpy as np
    >>> known = np.array([[2.0, 0.0], [0.0, -1.0]])
    >>> warn_about_origins(known, known + 0.1)
    False
    """
    if known_px is None or not known_px.any():
        return False
    columns = columns or OriginColumns()
    share = float(((known_px - found_px) * known_px).sum() / (known_px**2).sum())
    rest = float(np.square(found_px - (1 - share) * known_px).sum())
    for factor, size, remedy in ((0.5, "twice", "halve"), (2.0, "half of", "double")):
        if abs((1 - share) / factor - 1) < 0.2 and rest < LEFT_OVER * float(np.square(found_px).sum()):
            warnings.warn(
                f"{where}the origins that the input gives are about {size} what is found in the images: if they are of "
                f"another binning, {remedy} both columns, {columns.x} and {columns.y}",
                MfvdmWarning,
                stacklevel=2,
            )
            return True
    if share > TAKEN_BACK:
        warnings.warn(
            f"{where}{share:.0%} of the origins that the input gives are taken back by what is found in the images: "
            f"check their signs (a particle that stands at +x has a negative {columns.x}), their unit, and whether x "
            "and y are exchanged, or leave them out",
            MfvdmWarning,
            stacklevel=2,
        )
    return share > TAKEN_BACK


def warn_about_reach(found_px: FloatArray, reach_px: float, junk: BoolArray | None = None, where: str = "") -> bool:
    """Warn (MfvdmWarning) and return True when more than FAR of the particles were found beyond the reach.

    The search for shifts looks as far as ``reach_px`` at once, and follows single particles to three times as far; the
    more stand beyond, the more are lost there. Measured (70S, 65 px, 1,000 and 2,000 particles, a reach of 4.4 to 4.7
    px, normal shifts of so many px in each of x and y): the share found beyond, which is about the true one; in
    brackets the share that is lost (more than 1.5 px off) at SNR .05 and .1, and the PSNR lost against centred ones:

        1.75 px  .04 (.005, 0; 0.5, 0.3 dB)              2 px    .09 (.01, 0; 0.8, 0.3 dB)
        2.5 px   .19 (.02, .002; 1.0, 0.5 dB)            2.9 px  .28 (.03 to .05, .006; 1.4, 0.7 dB)
        3.5 px   .40 (.13, .015; 2.1, 1.0 dB)            4 px    .49 (.08 to .22, .04 to .07; 2.5, 1.9 dB)
        5 px     .54 to .61 (.54, .31; 4, 3 dB)

    Where particles are faint the lost leave no such sign: :func:`warn_about_faint`.

    Parameters
    ----------
    found_px : (n, 2), beyond what the input gives.
    junk : (n,), which may stand anywhere: left out.
    where : begins the message.

    Examples
    --------
    >>> warn_about_reach(np.full((9, 2), 1.0), 4.0)
    False
    """
    distance = np.hypot(*(found_px if junk is None else found_px[~junk]).T)
    share = float(np.mean(distance > reach_px)) if len(distance) else 0.0
    if share > FAR:
        warnings.warn(
            f"{where}{share:.0%} of the particles were found more than {reach_px:.1f} px off the centre, the farthest "
            f"{distance.max():.1f} px: that is about as far as is searched, and particles farther off may be lost. "
            "Denoise again from the origins found (observed.star, with --centre), or extract the "
            "particles nearer to their centres",
            MfvdmWarning,
            stacklevel=2,
        )
    return share > FAR


def warn_about_faint(share: float, where: str = "") -> bool:
    """Warn (MfvdmWarning) and return True when so many particles are faint that many centres found may be wrong.

    ``share`` is that of the particles of which it is not clear that they are there (``DenoiseResult.faint``). Measured
    as in :func:`warn_about_reach`, and in brackets the share that is lost, of shifts of 1.75 and 2.9 px: .05 (.005,
    .05) at SNR .05, .49 and .56 (.18, .38) at SNR .02; .3 and .42 (.13, .38) at SNR .05 in noise whose power falls by
    4; in 33 px at SNR .05, .7 to .95 (.3 and more, of shifts of .6 to 1.25 px).

    >>> warn_about_faint(0.1)
    False
    """
    if share > FAINT:
        warnings.warn(
            f"{where}{share:.0%} of the particles hardly stand out from the noise, where many of the centres found may "
            "be wrong: use more particles, or compare with what comes out without (--no-centre)",
            MfvdmWarning,
            stacklevel=2,
        )
    return share > FAINT


def warn_about_junk(junk: BoolArray, trust: FloatArray | None = None, where: str = "") -> bool:
    """Warn (MfvdmWarning) and return True when more than MUCH_JUNK of the images are junk, by their flags or scores.

    Where much is junk less of it is flagged than there is. Measured (four particles, SNR .05 to .2, with coloured
    noise, uneven contrast and shifts), the share that the scores tell: .35 to .58 of .5 (flagged .24 to .43), .24 to
    .38 of .3, .19 to .29 of .2, 0 to .04 of none.

    Parameters
    ----------
    junk : (n,), flagged.
    trust : (n,), the chance of each image to be no junk; None: all are trusted.
    where : begins the message.

    Examples
    --------
    >>> warn_about_junk(np.array([True, False, False, False]))
    False
    """
    flagged = float(np.mean(junk))
    share = flagged if trust is None else max(flagged, 1 - float(np.mean(trust)))
    if share > MUCH_JUNK:
        warnings.warn(
            f"{where}about {share:.0%} of the images are likely no good particles; {flagged:.0%} are told (mfvdmJunk), "
            "and where so much is junk, others may not be: leave out images of low scores (rlnLogLikeliContribution in "
            "observed.star) and denoise the others",
            MfvdmWarning,
            stacklevel=2,
        )
    return share > MUCH_JUNK


def warn_about_contrast(radial: ArrayLike, levels: FloatArray, junk: BoolArray | None = None, where: str = "") -> bool:
    """Warn (MfvdmWarning) and return True when some of the restored particles are white and some are black.

    What is round in the particles of a stack is much the same in all: they lie on one side of 0 along its principal
    axis. Black are those that lie beyond half of the median distance on the other side and are darker in their middles
    than the background. Measured (70S, six synthetic particles and real ones of apoferritin, 1,000 of each), the share
    that is black in 80 stacks of white protein: 0 to .012 (SNR .003 to .05, up to half junk, contrasts that differ by
    50 %, shifts, coloured noise, high-passed, CTF not corrected, all methods). Where half are black .38 to .51 (SNR .01
    and .05), of a quarter .19 and .23, of a tenth .08; at SNR .05 all of these are black, at .01 nine in ten.

    Parameters
    ----------
    radial : (n, q), real coefficients of frequency 0 of the restored particles.
    levels : (n,), of the same, mean of their middles.
    junk : (n,), left out.
    where : begins the message.

    Examples
    --------
    >>> warn_about_contrast(np.ones((9, 2)), np.ones(9))
    False
    """
    radial = np.asarray(radial, np.float64)
    good = np.ones(len(radial), bool) if junk is None else ~junk
    if not good.any():
        return False
    along = radial @ np.linalg.eigh(radial[good].T @ radial[good])[1][:, -1]
    along *= np.sign(along[good] @ levels[good])
    clear = good & (np.abs(along) > 0.5 * np.median(np.abs(along[good])))
    white, black = (clear & (sign * along > 0) & (sign * levels > 0) for sign in (1, -1))
    share = black.sum() / good.sum()
    if min(white.sum() / good.sum(), share) <= MIXED:
        return False
    rows = ", ".join(str(row + 1) for row in np.flatnonzero(black)[:_NAMED])
    warnings.warn(
        f"{where}{share:.0%} of the particles are darker than their background, such as those of rows {rows}, and "
        "others are brighter: this program expects white protein in all images; if stacks of white and of black "
        "protein were merged, multiply the black images by -1 first",
        MfvdmWarning,
        stacklevel=2,
    )
    return True


def warn_about_scales(ratio: float, deviation: float, where: str = "") -> bool:
    """Warn (MfvdmWarning) and return True when the noise of the images differs by a factor of more than SCALES.

    Such images are brought to one scale (:mod:`mfvdm_fast.imaging.background`).

    Parameters
    ----------
    ratio : between the deviations of the backgrounds of the middle 90 % of the images.
    deviation : that all were scaled to, in the units of the input.
    where : begins the message.

    Examples
    --------
    >>> warn_about_scales(1.2, 1.0)
    False
    """
    if ratio > SCALES:
        warnings.warn(
            f"{where}the noise of the images differs by a factor of {ratio:.3g} between the middle 90 % of them: each "
            f"was scaled to a standard deviation of {deviation:.3g}, and what is restored is on that scale; if stacks "
            "were merged, check that they show the same particle at the same pixel size and contrast",
            MfvdmWarning,
            stacklevel=2,
        )
    return ratio > SCALES
