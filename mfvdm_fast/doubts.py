"""What a run found that its user should look at: warnings about origins, shifts out of reach and much junk."""

from __future__ import annotations

import warnings

import numpy as np

from .errors import MfvdmWarning
from .records import BoolArray, FloatArray

TAKEN_BACK = 0.6  # of the shifts that the input gives: origins of something else, or of the wrong sign in much noise
FAR = 0.075  # of the particles, found beyond the reach
MUCH_JUNK = 0.4  # of a stack


def warn_about_origins(known_px: FloatArray | None, found_px: FloatArray, where: str = "") -> bool:
    """Warn (MfvdmWarning) and return True when the shifts found take back more than TAKEN_BACK of the known ones.

    ``known_px`` (n, 2) are those of the input, ``found_px`` (n, 2) all in all. Measured with shifts of 1 to 2 px (rms),
    their share that was taken back: none where right, .2 with errors of 1 px, 1.1 to 1.8 with the wrong sign.

    >>> import numpy as np
    >>> known = np.array([[2.0, 0.0], [0.0, -1.0]])
    >>> warn_about_origins(known, known + 0.1)
    False
    """
    if known_px is None or not known_px.any():
        return False
    share = float(((known_px - found_px) * known_px).sum() / (known_px**2).sum())
    if share > TAKEN_BACK:
        warnings.warn(
            f"{where}{share:.0%} of the origins that the input gives are taken back by what is found in the images: "
            "check their signs (a particle that stands at +x has a negative rlnOriginX), or leave them out",
            MfvdmWarning,
            stacklevel=2,
        )
    return share > TAKEN_BACK


def warn_about_reach(found_px: FloatArray, reach_px: float, junk: BoolArray | None = None, where: str = "") -> bool:
    """Warn (MfvdmWarning) and return True when more than FAR of the particles were found beyond the reach.

    The search for shifts goes twice as far as ``reach_px`` and then follows single particles; but those that stand
    farther than the reach are mostly too many to be told from each other, and what is not found leaves no other sign.
    Measured (64 px, SNR .05 to .2, normal shifts of so many px in each of x and y), the share found beyond and in
    brackets the share that was not found: 1 px 0 to .002 (.01), 1.7 px .04 to .06 (.01 to .06), 2 px .09 (.01), 2.5 px
    .17 to .21 (.03), 3 px .26 (.1), 4 px .22 to .27 (.5), 6 px .08 to .17 (.9). At SNR .02 the lost leave no such sign:
    4 px .03 to .06. A second and a third run from the origins found lose .36 and .26 instead of .62 (4 px).

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
            "Denoise again from the origins found (centred.star, with --centre), or extract the particles nearer to "
            "their centres",
            MfvdmWarning,
            stacklevel=2,
        )
    return share > FAR


def warn_about_junk(junk: BoolArray, where: str = "") -> bool:
    """Warn (MfvdmWarning) and return True when more than MUCH_JUNK of the images (n,) are flagged.

    >>> warn_about_junk(np.array([True, False, False]))
    False
    """
    share = float(np.mean(junk))
    if share > MUCH_JUNK:
        warnings.warn(
            f"{where}{share:.0%} of the images are likely no good particles (mfvdmJunk), and where so much is junk, "
            "more may not be told: leave out images of low scores (rlnLogLikeliContribution) and denoise the others",
            MfvdmWarning,
            stacklevel=2,
        )
    return share > MUCH_JUNK
