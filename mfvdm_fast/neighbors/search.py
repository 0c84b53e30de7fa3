"""Exact nearest neighbours among all pairs (first, plain NumPy version)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..kernels.distance import nearest_by_rotation
from ..records import NeighborTable, SteerableCoefficients
from ..threads import use_threads
from .align import align_pairs


def _pair_coefs(features, rows, cols):
    """Real and imaginary parts (2 mirrors, k, rows, cols)."""
    ks = features.k_max + 1
    shape = (2, ks, rows.stop - rows.start, cols.stop - cols.start)
    re, im = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for k in range(ks):
        f = features[k]
        if f.shape[1] == 0:
            continue
        a, b = f[rows], f[cols]
        ar, ai = np.ascontiguousarray(a.real), np.ascontiguousarray(a.imag)
        br, bi = np.ascontiguousarray(b.real), np.ascontiguousarray(b.imag)
        p, q, x, y = ar @ br.T, ai @ bi.T, ai @ br.T, ar @ bi.T
        re[0, k], im[0, k], re[1, k], im[1, k] = p + q, x - y, p - q, x + y
    return re, im


def _angle_max(re, im):
    ks, r, c = re.shape[1:]
    half = max(4, 2 * ks)
    alpha = np.arange(half + 1) * np.pi / half
    w = np.where(np.arange(ks) == 0, 1.0, 2.0)
    cos = (np.cos(np.outer(alpha, np.arange(ks))) * w).astype(np.float32)
    sin = (np.sin(np.outer(alpha, np.arange(ks))) * w).astype(np.float32)
    out = np.empty((2, r, c), np.float32)
    for m in range(2):
        s = np.abs(sin @ im[m].reshape(ks, -1))
        s += cos @ re[m].reshape(ks, -1)
        out[m] = s.max(0).reshape(r, c)
    return out


def _top(features, n_neighbors, score, threads, progress):
    n = features.n_particles
    idx, mir, sc = (np.empty((n, n_neighbors), t) for t in (np.int64, np.bool_, np.float64))
    with use_threads(threads):
        for a in range(0, n, 128):
            rows = slice(a, min(n, a + 128))
            kept_s = np.empty((rows.stop - a, 0), np.float32)
            kept_c = np.empty((rows.stop - a, 0), np.int64)
            for b in range(0, n, 1024):
                cols = slice(b, min(n, b + 1024))
                s = score(*_pair_coefs(features, rows, cols))
                for i in range(rows.start, rows.stop):
                    if cols.start <= i < cols.stop:
                        s[:, i - a, i - b] = -np.inf
                code = (2 * np.arange(cols.start, cols.stop)[None] + np.arange(2)[:, None]).ravel()
                kept_s = np.concatenate([kept_s, s.transpose(1, 0, 2).reshape(len(kept_s), -1)], 1)
                kept_c = np.concatenate([kept_c, np.broadcast_to(code, (len(kept_s), len(code)))], 1)
                if kept_s.shape[1] > n_neighbors:
                    part = np.argpartition(-kept_s, n_neighbors - 1, axis=1)[:, :n_neighbors]
                    kept_s, kept_c = np.take_along_axis(kept_s, part, 1), np.take_along_axis(kept_c, part, 1)
            for r in range(len(kept_s)):
                o = np.lexsort((kept_c[r], -kept_s[r]))
                idx[a + r], mir[a + r], sc[a + r] = kept_c[r][o] // 2, kept_c[r][o] % 2, kept_s[r][o]
            if progress is not None:
                progress(rows.stop, n)
    return idx, mir, sc


def search_neighbors(
    features: SteerableCoefficients,
    n_neighbors: int,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NeighborTable:
    """The n_neighbors best partners (plain or mirrored) of each image by max over alpha of the correlation."""
    with use_threads(threads):
        _, codes = nearest_by_rotation(features.packed, features.offsets, n_neighbors, progress)
    idx, mir = codes // 2, codes % 2 == 1
    ang, sc = align_pairs(features, idx, mir, threads=threads)
    order = np.argsort(-sc, axis=1, kind="stable")
    idx, mir, ang, sc = (np.take_along_axis(v, order, 1) for v in (idx, mir, ang, sc))
    return NeighborTable(idx, mir, ang, sc)


def search_affinity(
    features: SteerableCoefficients,
    n_neighbors: int,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
):
    """(indices, mirrored, affinities), the best of A = sum_k |C_k|^2 per image, best first."""
    return _top(features, n_neighbors, lambda re, im: (re * re + im * im).sum(1), threads, progress)
