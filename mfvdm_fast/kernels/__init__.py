"""Numba kernels: plain arrays in, plain arrays out. Compiled when they are first called, never by importing them.

Those meant for other packages, by module:

- ``polar.PolarPlan``: Fourier transforms of many images on one polar grid (a type-2 NUFFT with shared points).
- ``distance.nearest_by_rotation``: the best partners of each particle, whatever its rotation, plain and mirrored.
- ``affinity.nearest_by_affinity``: the same by the affinity of arXiv:1904.07772, Eq. 7.
- ``matching.match_by_rotation``: the best of a set of templates for each particle.
- ``peaks.peak_angles``: where Re[C_0 + 2 sum_k C_k exp(i k alpha)] is largest.
- ``project.slice_grid``, ``project.slice_volume``: central slices of a volume's Fourier transform.

Kernels look at neither dtype nor NaN, and trust that shapes and numbers fit each other. The functions that check all
that, name the argument that is wrong, and hold the number of threads are ``neighbors.search.search_neighbors``,
``neighbors.search.search_affinity``, ``neighbors.match.match_neighbors``, ``neighbors.align.align_pairs``,
``basis.make.make_basis``, ``graph.frequency_graph.build_frequency_graph`` and ``graph.eigenbasis.solve_eigenbasis``:
call those where their records suit you.
"""
