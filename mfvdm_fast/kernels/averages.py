"""Weighted means of turned neighbours, a few coefficients of each."""

from __future__ import annotations

import math

import numpy as np

from ._jit import kernel

_TO_WHOLE = 1.5 * 2.0**52  # what is added to it is rounded to a whole number


@kernel
def _phases(rate, angles, weights, re, im):  # type: ignore[no-untyped-def]
    """weights exp(-2 pi i rate angles), to 1e-10: several at once, in a quarter of the time of the library.

    Of the angle, less whole turns, cosine and sine are polynomials: those that interpolate cosine, and sine over the
    angle, as functions of its square, at eight Chebyshev points.
    """
    for e in range(len(angles)):
        t = rate * angles[e]
        t -= (t + _TO_WHOLE) - _TO_WHOLE
        u = t * t
        c = 60.24212492771494 + u * (-26.404630603916303 + u * (7.800022165291011 - u * 1.4529874920845032))
        c = 0.999999999884617 + u * (-19.739208743087502 + u * (64.9393890524762 + u * (-85.45665775339239 + u * c)))
        s = 42.057751863590966 + u * (-15.086552631575614 + u * (3.781282164156437 - u * 0.6207367777824402))
        s = 6.283185307136348 + u * (-41.34170221825741 + u * (81.6052474139701 + u * (-76.7058000303764 + u * s)))
        re[e] = weights[e] * c
        im[e] = -weights[e] * (t * s)


@kernel
def turned_means(x, k, angles, weights, others, begins, ends, out):  # type: ignore[no-untyped-def]
    """out_i = sum_e weights_e exp(-i k angles_e) x_j over the edges e from ``begins[i]`` to ``ends[i]``, j = others_e.

    Where ``others`` (e,) int64 is n + j, x_j is conjugated. ``x`` (n, 2 p) and ``out`` (r, 2 p) float32: real parts,
    then imaginary ones. ``angles`` (e,) float64, rad; ``weights`` (e,) float32; ``begins`` and ``ends`` (r,) int64.
    """
    n, p = len(x), x.shape[1] // 2
    longest = 0
    for i in range(len(begins)):
        longest = max(longest, ends[i] - begins[i])
    cosines, sines = np.empty(longest, np.float32), np.empty(longest, np.float32)
    total = np.empty(2 * p, np.float32)
    for i in range(len(begins)):
        start, stop = begins[i], ends[i]
        _phases(k / (2 * math.pi), angles[start:stop], weights[start:stop], cosines, sines)
        total[:] = 0
        for e in range(start, stop):
            c, s, j = cosines[e - start], sines[e - start], others[e]
            turn, sign = (s, np.float32(1)) if j < n else (-s, np.float32(-1))
            row = x[j if j < n else j - n]
            for q in range(p):
                re, im = row[q], row[p + q]
                total[q] += c * re - turn * im
                total[p + q] += sign * c * im + s * re
        for q in range(2 * p):
            out[i, q] = total[q]
