"""Edge lists to the CSR pattern of the frequency graph, in linear time.

The graph (arXiv:1904.07772, Eq. 2) has one node per image. Edge (i, j, mirrored) with angle alpha says
``coef_k(i) ~ exp(-i k alpha) coef_k(j)``, or ``exp(-i k alpha) conj(coef_k(j))`` when mirrored. The pattern is built
once and serves every angular frequency; ``hermitian`` fills in the values. The bits do not depend on the number of
threads: each row belongs to one thread.
"""

from collections import namedtuple

import numpy as np

from cython.parallel cimport prange
from libc.math cimport atan2, cos, hypot, sin
from libc.stdint cimport int64_t, uint8_t

cdef extern from *:
    """
    #ifdef _OPENMP
    #define MFVDM_OPENMP 1
    #else
    #define MFVDM_OPENMP 0
    #endif
    """
    const int MFVDM_OPENMP

HAS_OPENMP = bool(MFVDM_OPENMP)

EdgePattern = namedtuple("EdgePattern", ["indptr", "indices", "mirrored", "angles", "weights", "degrees"])
EdgePattern.__doc__ = """CSR pattern of the frequency graph; row i holds the edges of node i, sorted by (j, mirrored).

indptr (n + 1,) int64; indices (nnz,) int64; mirrored (nnz,) bool; angles (nnz,) float64, radians in [-pi, pi];
weights (nnz,) float64; degrees (n,) float64, the sum of the weights of each row. Both directions of every edge are
present, with exactly equal weights and exactly opposite (plain) or equal (mirrored) angles.
"""


cdef struct Lists:
    # The directed lists, and two orderings of their edges e = i * K + slot.
    int64_t K
    const int64_t* indices
    const uint8_t* mirrored
    const double* angles
    const double* weights
    const int64_t* in_ptr  # (2 n + 1,): in_ids[in_ptr[2 j + f]:] are the edges that list (j, f), by source
    const int64_t* in_ids
    const int64_t* out_ptr  # (n + 1,): out_ids[out_ptr[i]:] are the edges listed by i, by (j, f)
    const int64_t* out_ids


cdef struct Target:
    int64_t* indices
    uint8_t* mirrored
    double* angles
    double* weights


cdef struct Run:
    # Edges ids[first:last], all with one key.
    const int64_t* ids
    int64_t first
    int64_t last


cdef double merged_angle(const Lists* g, const Run* lower, const Run* upper, bint mirrored) noexcept nogil:
    """Mean on the circle of all estimates of one edge, as seen from its lower node.

    Estimates of the upper node are reversed first. Opposite estimates that cancel have no mean: the first one stands.
    """
    cdef int64_t a, count = (lower.last - lower.first) + (upper.last - upper.first)
    cdef double c = 0.0, s = 0.0, sign = 1.0 if mirrored else -1.0, first
    if lower.last > lower.first:
        first = g.angles[lower.ids[lower.first]]
    else:
        first = sign * g.angles[upper.ids[upper.first]]
    if count == 1:
        return first
    for a in range(lower.first, lower.last):
        c += cos(g.angles[lower.ids[a]])
        s += sin(g.angles[lower.ids[a]])
    for a in range(upper.first, upper.last):
        c += cos(g.angles[upper.ids[a]])
        s += sign * sin(g.angles[upper.ids[a]])
    return first if hypot(c, s) < 1e-9 * count else atan2(s, c)


cdef double merged_weight(const Lists* g, const Run* lower, const Run* upper) noexcept nogil:
    cdef int64_t a, count = (lower.last - lower.first) + (upper.last - upper.first)
    cdef double total = 0.0
    if g.weights == NULL:
        return 1.0
    for a in range(lower.first, lower.last):
        total += g.weights[lower.ids[a]]
    for a in range(upper.first, upper.last):
        total += g.weights[upper.ids[a]]
    return total / count


cdef int64_t merge_row(int64_t i, const Lists* g, const Target* target, int64_t start) noexcept nogil:
    """Merge what i lists with what lists i; count the distinct edges and, given a target, write them from start."""
    cdef int64_t own = g.out_ptr[i], own_end = g.out_ptr[i + 1]
    cdef int64_t plain = g.in_ptr[2 * i], plain_end = g.in_ptr[2 * i + 1]
    cdef int64_t mirror = plain_end, mirror_end = g.in_ptr[2 * i + 2]
    cdef int64_t count = 0, key, j, e, none = 0x7FFFFFFFFFFFFFFF
    cdef bint flag
    cdef double angle
    cdef Run listed, listing
    listed.ids = g.out_ids
    listing.ids = g.in_ids
    while True:
        key = none
        if own < own_end:
            key = 2 * g.indices[g.out_ids[own]] + g.mirrored[g.out_ids[own]]
        if plain < plain_end:
            key = min(key, 2 * (g.in_ids[plain] // g.K))
        if mirror < mirror_end:
            key = min(key, 2 * (g.in_ids[mirror] // g.K) + 1)
        if key == none:
            return count
        flag = key & 1
        j = key >> 1
        listed.first = own
        while own < own_end and 2 * g.indices[g.out_ids[own]] + g.mirrored[g.out_ids[own]] == key:
            own += 1
        listed.last = own
        listing.first = mirror if flag else plain
        if flag:
            while mirror < mirror_end and g.in_ids[mirror] // g.K == j:
                mirror += 1
        else:
            while plain < plain_end and g.in_ids[plain] // g.K == j:
                plain += 1
        listing.last = mirror if flag else plain
        if target != NULL:
            e = start + count
            target.indices[e] = j
            target.mirrored[e] = flag
            # Both ends of the edge compute from the lower node's side: the two results are exact reverses.
            if i < j:
                target.angles[e] = merged_angle(g, &listed, &listing, flag)
                target.weights[e] = merged_weight(g, &listed, &listing)
            else:
                angle = merged_angle(g, &listing, &listed, flag)
                target.angles[e] = angle if flag else -angle
                target.weights[e] = merged_weight(g, &listing, &listed)
        count += 1


cdef void count_edges(int64_t n, int64_t K, const int64_t* indices, const uint8_t* mirrored, int64_t* in_ptr,
                      int64_t* out_ptr, int64_t first, int64_t last) noexcept nogil:
    """How many edges point to each (node, flag), and start from each node, of the nodes first:last."""
    cdef int64_t i, e
    for i in range(n):
        for e in range(i * K, i * K + K):
            if first <= indices[e] < last and indices[e] != i:
                in_ptr[2 * indices[e] + mirrored[e] + 1] += 1
            if first <= i < last and indices[e] >= 0 and indices[e] != i:
                out_ptr[i + 1] += 1


cdef void sort_by_target(int64_t n, int64_t K, const int64_t* indices, const uint8_t* mirrored, int64_t* in_ptr,
                         int64_t* in_ids, int64_t first, int64_t last) noexcept nogil:
    """The edges that point to the nodes first:last, by (node, flag); moves every start to the next one's."""
    cdef int64_t i, e, key
    for i in range(n):
        for e in range(i * K, i * K + K):
            if first <= indices[e] < last and indices[e] != i:
                key = 2 * indices[e] + mirrored[e]
                in_ids[in_ptr[key]] = e
                in_ptr[key] += 1


cdef void sort_by_source(int64_t K, const int64_t* in_ids, int64_t count, int64_t* out_ptr, int64_t* out_ids,
                         int64_t first, int64_t last) noexcept nogil:
    """Those that start from the nodes first:last, stably by node; moves every start to the next one's."""
    cdef int64_t a, i
    for a in range(count):
        if first * K <= in_ids[a] < last * K:
            i = in_ids[a] // K
            out_ids[out_ptr[i]] = in_ids[a]
            out_ptr[i] += 1


cdef void order_edges(int64_t n, int64_t K, const int64_t* indices, const uint8_t* mirrored, int64_t* in_ptr,
                      int64_t* in_ids, int64_t* out_ptr, int64_t* out_ids, int threads) noexcept nogil:
    """Two counting sorts: edges by the (node, flag) they point to, then, stably, by the node they start from.

    Every thread looks at all edges and sorts those of its own nodes.
    """
    cdef int64_t i, part, count
    for part in prange(threads, num_threads=threads, schedule="static"):
        count_edges(n, K, indices, mirrored, in_ptr, out_ptr, n * part // threads, n * (part + 1) // threads)
    for i in range(2 * n):
        in_ptr[i + 1] += in_ptr[i]
    for i in range(n):
        out_ptr[i + 1] += out_ptr[i]
    count = in_ptr[2 * n]
    for part in prange(threads, num_threads=threads, schedule="static"):
        sort_by_target(n, K, indices, mirrored, in_ptr, in_ids, n * part // threads, n * (part + 1) // threads)
    for part in prange(threads, num_threads=threads, schedule="static"):
        sort_by_source(K, in_ids, count, out_ptr, out_ids, n * part // threads, n * (part + 1) // threads)
    for i in range(2 * n, 0, -1):
        in_ptr[i] = in_ptr[i - 1]
    for i in range(n, 0, -1):
        out_ptr[i] = out_ptr[i - 1]
    in_ptr[0] = 0
    out_ptr[0] = 0


def build_pattern(indices, mirrored, angles, weights=None, *, int threads=1):
    """The CSR pattern of the union of directed neighbour lists (arXiv:1904.07772, Eq. 2), in linear time.

    Parameters
    ----------
    indices : (n, K) integers; node j in slot (i, s) is a neighbour of i. -1 marks an empty slot; i itself is left out.
    mirrored : (n, K) bool.
    angles : (n, K) radians, ``coef_k(i) ~ exp(-i k angle) coef_k(j)`` (``conj(coef_k(j))`` when mirrored).
    weights : (n, K) of at least 0, or None for 1 each.
    threads : number of OpenMP threads.

    Returns
    -------
    EdgePattern with both directions of every edge (i, j, mirrored) that either end lists. An edge listed more than
    once gets the mean on the circle of its angles (each seen from the same end) and the mean of its weights.
    Peak memory beside input and output: 16 n (K + 2) bytes.

    Raises ValueError when shapes differ, an index is outside -1 ... n - 1, an angle is not finite, or a weight is
    negative or not finite.

    >>> pattern = build_pattern([[1], [0], [1]], [[False], [False], [True]], [[0.5], [-0.3], [1.0]])
    >>> pattern.indptr.tolist(), pattern.indices.tolist(), pattern.mirrored.tolist()
    ([0, 1, 3, 4], [1, 0, 2, 1], [False, False, True, True])
    >>> pattern.angles.round(3).tolist()
    [0.4, -0.4, 1.0, 1.0]
    """
    cdef const int64_t[:, ::1] listed = _table(indices, "indices", np.int64, np.shape(indices))
    cdef int64_t i, n = listed.shape[0], K = listed.shape[1], nnz
    shape = (n, K)
    cdef const uint8_t[:, ::1] flags = _table(mirrored, "mirrored", np.bool_, shape).view(np.uint8)
    cdef const double[:, ::1] turned = _table(angles, "angles", np.float64, shape)
    cdef const double[:, ::1] given = None if weights is None else _table(weights, "weights", np.float64, shape)
    _check_lists(np.asarray(listed), np.asarray(turned), None if weights is None else np.asarray(given))
    _check_threads(threads)
    cdef int64_t[::1] in_ptr = np.zeros(2 * n + 1, np.int64), in_ids = np.empty(n * K, np.int64)
    cdef int64_t[::1] out_ptr = np.zeros(n + 1, np.int64), out_ids = np.empty(n * K, np.int64)
    cdef int64_t[::1] indptr = np.zeros(n + 1, np.int64)
    cdef Lists g
    cdef Target target
    if n > 0 and K > 0:
        g = Lists(K, &listed[0, 0], &flags[0, 0], &turned[0, 0], NULL, &in_ptr[0], &in_ids[0], &out_ptr[0], &out_ids[0])
        if weights is not None:
            g.weights = &given[0, 0]
        with nogil:
            order_edges(n, K, g.indices, g.mirrored, &in_ptr[0], &in_ids[0], &out_ptr[0], &out_ids[0],
                        threads)
            for i in prange(n, num_threads=threads, schedule="dynamic", chunksize=64):
                indptr[i + 1] = merge_row(i, &g, NULL, 0)
            for i in range(n):
                indptr[i + 1] += indptr[i]
    nnz = indptr[n]
    cdef int64_t[::1] columns = np.empty(nnz, np.int64)
    cdef uint8_t[::1] mirror = np.empty(nnz, np.uint8)
    cdef double[::1] merged = np.empty(nnz), symmetric = np.empty(nnz), degrees = np.zeros(n)
    if nnz > 0:
        target = Target(&columns[0], &mirror[0], &merged[0], &symmetric[0])
        with nogil:
            for i in prange(n, num_threads=threads, schedule="dynamic", chunksize=64):
                merge_row(i, &g, &target, indptr[i])
                degrees[i] = sum_range(&symmetric[0], indptr[i], indptr[i + 1])
    return EdgePattern(np.asarray(indptr), np.asarray(columns), np.asarray(mirror).view(np.bool_),
                       np.asarray(merged), np.asarray(symmetric), np.asarray(degrees))


cdef double sum_range(const double* values, int64_t first, int64_t last) noexcept nogil:
    cdef int64_t e
    cdef double total = 0.0
    for e in range(first, last):
        total += values[e]
    return total


def _table(array, name, dtype, shape):
    array = np.asarray(array)
    if array.ndim != 2 or array.shape != tuple(shape):
        raise ValueError(f"{name} must be (n, K) like indices {tuple(shape)}, got shape {array.shape}; "
                         "pass the arrays of one neighbour table")
    if array.size and not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"{name} must hold {np.dtype(dtype)}, got {array.dtype}; convert it first")
    return np.ascontiguousarray(array, dtype)


def _check_lists(indices, angles, weights):
    n = len(indices)
    wrong = (indices < -1) | (indices >= n)
    if wrong.any():
        i, s = np.argwhere(wrong)[0]
        raise ValueError(f"indices[{i}, {s}] is {indices[i, s]}; an index must be 0 ... {n - 1}, or -1 for no neighbour")
    wrong = ~np.isfinite(angles)
    if wrong.any():
        i, s = np.argwhere(wrong)[0]
        raise ValueError(f"angles[{i}, {s}] is {angles[i, s]}; angles must be finite radians, use index -1 to leave out a slot")
    if weights is not None:
        wrong = ~(np.isfinite(weights) & (weights >= 0))
        if wrong.any():
            i, s = np.argwhere(wrong)[0]
            raise ValueError(f"weights[{i}, {s}] is {weights[i, s]}; weights must be finite and at least 0")


def _check_threads(threads):
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
