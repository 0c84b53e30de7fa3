"""What another Cython module may cimport: the value of one row of the frequency graph, without the GIL."""

from libc.stdint cimport int64_t, uint8_t

ctypedef fused real:
    float
    double


# Row ``row`` of ``values[e] = weight_ij exp(-i k alpha_ij) scale_i scale_j`` as (re, im) pairs, for the edges
# e = indptr[row] .. indptr[row + 1] - 1; ``scale`` is degree^(-1/2), 0 for an isolated node.
cdef void fill_row(int64_t row, double k, const int64_t* indptr, const int64_t* indices, const double* angles,
                   const double* weights, const double* scale, real* values) noexcept nogil

# Row ``row`` of y = S_k x for those values: mirrored edges take conj(x_j). x and y are (re, im) pairs.
cdef void apply_row(int64_t row, const int64_t* indptr, const int64_t* indices, const uint8_t* mirrored,
                    const real* values, const real* x, real* y) noexcept nogil
