"""Values of the frequency graph's matrices on a CSR pattern, for any angular frequency k.

S_k (arXiv:1904.07772, Eqs. 2-3) comes in three forms: complex values with a mirror flag per edge
(the fast one), a real symmetric 2n x 2n matrix, and the complex Hermitian 2n x 2n matrix of the authors' release.
Indices are int64, angles and degrees float64. The bits do not depend on the number of threads: each row belongs to one
thread.
"""

import numpy as np

from cython.parallel cimport prange
from libc.stdint cimport int64_t, uint8_t

cdef enum:
    AT_ONCE = 64  # edges whose phases are made together
cdef double TURN = 6.283185307179586
cdef double TO_WHOLE = 6755399441055744.0  # 1.5 * 2^52: what is added to it is rounded to a whole number


cdef void fill_row(int64_t row, double k, const int64_t* indptr, const int64_t* indices, const double* angles,
                   const double* weights, const double* scale, real* values) noexcept nogil:
    cdef int64_t first = indptr[row], e, n
    cdef double[AT_ONCE] size
    while first < indptr[row + 1]:
        n = min(<int64_t>AT_ONCE, indptr[row + 1] - first)
        for e in range(n):
            size[e] = weights[first + e] * (scale[row] * scale[indices[first + e]])  # the same from both ends
        turn(n, k / TURN, angles + first, size, values + 2 * first)
        first += n


cdef void turn(int64_t n, double rate, const double* angles, const double* size, real* values) noexcept nogil:
    """values = size exp(-i k angle) of n edges, rate = k / 2 pi, to k 1e-15, in a quarter of the time that libm takes.

    The compiler makes several at once. Of the angle, less whole turns, cosine and sine are polynomials: those that
    interpolate cosine, and sine over the angle, as functions of its square, at eleven Chebyshev points.
    """
    cdef int64_t e
    cdef double t, u, c, s
    for e in range(n):
        t = rate * angles[e]
        t = t - ((t + TO_WHOLE) - TO_WHOLE)
        u = t * t
        c = -0.03613799750625231 + u * 0.003359681235523837
        c = 7.90353412220057 + u * (-1.7143738456523254 + u * (0.28192457358542744 + u * c))
        c = -85.45681720637181 + u * (60.244641361563566 + u * (-26.426256590547734 + u * c))
        c = 1.0 + u * (-19.739208802178684 + u * (64.93939402266314 + u * c))
        s = -0.01196429252399198 + u * 0.001015633374901565
        s = 3.8199519652259584 + u * (-0.718117658816189 + u * (0.10420677083286779 + u * s))
        s = -76.70585975297237 + u * (42.05869394205057 + u * (-15.094642523653157 + u * s))
        s = 6.283185307179586 + u * (-41.34170224039975 + u * (81.60524927607362 + u * s))
        values[2 * e] = <real>(size[e] * c)
        values[2 * e + 1] = <real>(-size[e] * (t * s))


cdef void apply_row(int64_t row, const int64_t* indptr, const int64_t* indices, const uint8_t* mirrored,
                    const real* values, const real* x, real* y) noexcept nogil:
    cdef int64_t e, j
    cdef double re = 0.0, im = 0.0, x_im
    for e in range(indptr[row], indptr[row + 1]):
        j = indices[e]
        x_im = -x[2 * j + 1] if mirrored[e] else x[2 * j + 1]
        re += values[2 * e] * x[2 * j] - values[2 * e + 1] * x_im
        im += values[2 * e] * x_im + values[2 * e + 1] * x[2 * j]
    y[2 * row] = <real>re
    y[2 * row + 1] = <real>im


def fill_values(pattern, k, *, dtype=np.complex64, out=None, int threads=1):
    """Values ``weight exp(-i k alpha_ij) / sqrt(d_i d_j)`` on the pattern (Eq. 3), shape (nnz,), complex.

    In (S_k x)_i = sum_j values_ij x_j the mirrored edges take conj(x_j): with that, S_k is self-adjoint for
    ``Re sum conj(x_i) y_i``. ``k`` is a whole number of at least 0. ``out`` (nnz,) complex64 or complex128 is filled in
    place and fixes the dtype.

    Raises ValueError when the pattern is inconsistent, k is negative or ``out`` does not fit.

    >>> from mfvdm_fast.ext.pattern import build_pattern
    >>> pattern = build_pattern([[1], [0]], [[False], [False]], [[0.5], [-0.5]])
    >>> fill_values(pattern, 2, dtype="complex128").round(3).tolist()
    [(0.54-0.841j), (0.54+0.841j)]
    """
    _check_pattern(pattern, k)
    _check_threads(threads)
    values = _output(out, len(pattern.indices), dtype, (np.complex64, np.complex128))
    if len(values):
        _fill_values(values.view(values.real.dtype), k, pattern, _scale(pattern.degrees), threads)
    return values


def _fill_values(real[::1] values, double k, pattern, const double[::1] scale, int threads):
    cdef const int64_t[::1] indptr = pattern.indptr, indices = pattern.indices
    cdef const double[::1] angles = pattern.angles, weights = pattern.weights
    cdef int64_t i
    for i in prange(scale.shape[0], nogil=True, num_threads=threads, schedule="dynamic", chunksize=64):
        fill_row(i, k, &indptr[0], &indices[0], &angles[0], &weights[0], &scale[0], &values[0])


def fill_zero_frequency(pattern, *, int mirror_sign=1, dtype=np.float32, out=None, int threads=1):
    """Real values for k = 0, where S_0 splits: ``weight / sqrt(d_i d_j)`` acts on Re x, and the same with
    ``mirror_sign=-1`` on the mirrored edges acts on Im x. Shape (nnz,), float32 or float64.

    Raises ValueError as :func:`fill_values` does, or when ``mirror_sign`` is not 1 or -1.

    >>> from mfvdm_fast.ext.pattern import build_pattern
    >>> pattern = build_pattern([[1], [0]], [[True], [True]], [[0.5], [0.5]])
    >>> fill_zero_frequency(pattern).tolist(), fill_zero_frequency(pattern, mirror_sign=-1).tolist()
    ([1.0, 1.0], [-1.0, -1.0])
    """
    if mirror_sign not in (1, -1):
        raise ValueError(f"mirror_sign must be 1 or -1, got {mirror_sign}")
    _check_pattern(pattern, 0)
    _check_threads(threads)
    values = _output(out, len(pattern.indices), dtype, (np.float32, np.float64))
    if len(values):
        _fill_zero(values, pattern, _scale(pattern.degrees), mirror_sign, threads)
    return values


def _fill_zero(real[::1] values, pattern, const double[::1] scale, int mirror_sign, int threads):
    cdef const int64_t[::1] indptr = pattern.indptr, indices = pattern.indices
    cdef const uint8_t[::1] mirrored = pattern.mirrored.view(np.uint8)
    cdef const double[::1] weights = pattern.weights
    cdef int64_t i, e
    cdef double size
    for i in prange(scale.shape[0], nogil=True, num_threads=threads, schedule="dynamic", chunksize=64):
        for e in range(indptr[i], indptr[i + 1]):
            size = weights[e] * (scale[i] * scale[indices[e]])
            values[e] = <real>(mirror_sign * size if mirrored[e] else size)


def assemble_o2(pattern, k, *, dtype=np.float64, int threads=1):
    """S_k as a real symmetric 2n x 2n matrix on (Re x; Im x): (data, indices, indptr) for ``scipy.sparse.csr_array``.

    Every edge is one 2 x 2 block, plain [[c, s], [-s, c]] and mirrored [[c, -s], [-s, -c]] with c = cos k alpha,
    s = sin k alpha, times ``weight / sqrt(d_i d_j)``. Columns are sorted; a pair listed both plain and mirrored keeps
    two entries per column, which SciPy adds. float32 or float64. Raises ValueError as :func:`fill_values` does.

    >>> from mfvdm_fast.ext.pattern import build_pattern
    >>> pattern = build_pattern([[1], [0]], [[True], [True]], [[0.0], [0.0]])
    >>> data, indices, indptr = assemble_o2(pattern, 1)
    >>> indptr.tolist(), indices[::2].tolist(), data[::2].tolist()
    ([0, 2, 4, 6, 8], [1, 0, 1, 0], [1.0, 1.0, -0.0, -0.0])
    """
    if np.dtype(dtype) not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {np.dtype(dtype)}; pass one of these")
    complex_dtype = np.complex64 if np.dtype(dtype) == np.float32 else np.complex128
    values = fill_values(pattern, k, dtype=complex_dtype, threads=threads)
    data = np.empty(4 * len(values), dtype)
    indices = np.empty(4 * len(values), np.int64)
    if len(values):
        _spread_o2(values.view(dtype), pattern, data, indices, threads)
    return data, indices, _doubled(pattern.indptr, 2)


def _spread_o2(const real[::1] values, pattern, real[::1] data, int64_t[::1] indices, int threads):
    cdef const int64_t[::1] indptr = pattern.indptr, columns = pattern.indices
    cdef const uint8_t[::1] mirrored = pattern.mirrored.view(np.uint8)
    cdef int64_t i, e, upper, lower, degree, n = indptr.shape[0] - 1, half = 2 * columns.shape[0]
    cdef real sign
    for i in prange(n, nogil=True, num_threads=threads, schedule="dynamic", chunksize=64):
        degree = indptr[i + 1] - indptr[i]
        for e in range(indptr[i], indptr[i + 1]):
            upper = indptr[i] + e  # row i of the top half starts at 2 indptr[i]
            lower = half + upper
            sign = -1 if mirrored[e] else 1
            indices[upper] = indices[lower] = columns[e]
            indices[upper + degree] = indices[lower + degree] = columns[e] + n
            data[upper] = values[2 * e]
            data[upper + degree] = -sign * values[2 * e + 1]
            data[lower] = values[2 * e + 1]
            data[lower + degree] = sign * values[2 * e]


def assemble_hermitian(pattern, k, *, dtype=np.complex128, int threads=1):
    """The doubled graph of the authors' release: complex Hermitian 2n x 2n, (data, indices, indptr) as CSR.

    Node i + n is the mirror image of node i (conjugate coefficients). A plain edge joins (i, j) and, conjugated,
    (i + n, j + n); a mirrored edge joins (i, j + n) and, conjugated, (i + n, j). Its spectrum is that of
    :func:`assemble_o2`, multiplicities included. complex64 or complex128. Raises ValueError as :func:`fill_values` does.

    >>> from mfvdm_fast.ext.pattern import build_pattern
    >>> pattern = build_pattern([[1], [0]], [[True], [True]], [[0.0], [0.0]])
    >>> data, indices, indptr = assemble_hermitian(pattern, 1)
    >>> indptr.tolist(), indices.tolist()
    ([0, 1, 2, 3, 4], [3, 2, 1, 0])
    """
    values = fill_values(pattern, k, dtype=dtype, threads=threads)
    data = np.empty(2 * len(values), dtype)
    indices = np.empty(2 * len(values), np.int64)
    if len(values):
        _spread_hermitian(values.view(values.real.dtype), pattern, data.view(values.real.dtype), indices, threads)
    return data, indices, _doubled(pattern.indptr, 1)


def _spread_hermitian(const real[::1] values, pattern, real[::1] data, int64_t[::1] indices, int threads):
    cdef const int64_t[::1] indptr = pattern.indptr, columns = pattern.indices
    cdef const uint8_t[::1] mirrored = pattern.mirrored.view(np.uint8)
    cdef int64_t i, e, upper, lower, n = indptr.shape[0] - 1, nnz = columns.shape[0]
    for i in prange(n, nogil=True, num_threads=threads, schedule="dynamic", chunksize=64):
        # Sorted columns: the first half of the nodes holds the plain edges of row i and the mirrored ones of row i + n.
        upper = lower = indptr[i]
        for e in range(indptr[i], indptr[i + 1]):
            if mirrored[e]:
                put(&data[0], &indices[0], nnz + lower, columns[e], values[2 * e], -values[2 * e + 1])
                lower = lower + 1
            else:
                put(&data[0], &indices[0], upper, columns[e], values[2 * e], values[2 * e + 1])
                upper = upper + 1
        for e in range(indptr[i], indptr[i + 1]):
            if mirrored[e]:
                put(&data[0], &indices[0], upper, columns[e] + n, values[2 * e], values[2 * e + 1])
                upper = upper + 1
            else:
                put(&data[0], &indices[0], nnz + lower, columns[e] + n, values[2 * e], -values[2 * e + 1])
                lower = lower + 1


cdef void put(real* data, int64_t* indices, int64_t at, int64_t column, real re, real im) noexcept nogil:
    indices[at] = column
    data[2 * at] = re
    data[2 * at + 1] = im


def _doubled(indptr, entries):
    """Row pointers of a 2n matrix whose two halves repeat the pattern with ``entries`` entries for each edge."""
    return np.concatenate([entries * indptr, entries * (indptr[len(indptr) - 1] + indptr[1:])])


def _scale(degrees):
    scale = np.zeros(len(degrees))
    np.divide(1.0, np.sqrt(degrees), out=scale, where=degrees > 0)
    return scale


def _check_threads(threads):
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")


def _check_pattern(pattern, k):
    if k < 0 or k != int(k):
        raise ValueError(f"k must be a whole number of at least 0, got {k}; negative frequencies are the conjugates")
    indptr, nnz, n = pattern.indptr, len(pattern.indices), len(pattern.degrees)
    lengths = {len(pattern.mirrored), len(pattern.angles), len(pattern.weights)}
    if len(indptr) != n + 1 or indptr[0] != 0 or indptr[n] != nnz or (np.diff(indptr) < 0).any() or lengths != {nnz}:
        raise ValueError(f"the pattern is inconsistent: {n} degrees, {len(indptr)} row pointers, {nnz} indices and per-edge "
                         f"arrays of lengths {sorted(lengths)}; use one that build_pattern returned")
    if nnz and (pattern.indices.min() < 0 or pattern.indices.max() >= n):
        raise ValueError(f"the pattern has an index outside 0 ... {n - 1}; use one that build_pattern returned")


def _output(out, size, dtype, allowed):
    if out is None:
        out = np.empty(size, dtype)
    names = " or ".join(np.dtype(a).name for a in allowed)
    if out.dtype not in allowed or out.shape != (size,) or not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError(f"the values must be a writable contiguous {names} array of shape ({size},), "
                         f"got {out.dtype} {out.shape}; pass another dtype or out")
    return out
