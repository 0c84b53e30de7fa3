"""The frequency graph's assembly against its slow twin, its symmetries, and its refusals."""

from __future__ import annotations

import doctest
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from mfvdm_fast.ext import hermitian, pattern
from mfvdm_fast.ext.hermitian import assemble_hermitian, assemble_o2, fill_values, fill_zero_frequency
from mfvdm_fast.ext.pattern import EdgePattern, build_pattern

from .reference import hermitian as twin

Lists = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def random_lists(seed: int, n: int = 12, n_neighbors: int = 5, isolated: int = 2) -> Lists:
    """Lists with repeats, self entries, empty slots, and the last ``isolated`` nodes never listed nor listing."""
    rng = np.random.default_rng(seed)
    indices = rng.integers(-1, max(n - isolated, 0), (n, n_neighbors))
    indices[n - isolated :] = -1
    mirrored = rng.random((n, n_neighbors)) < 0.5
    return indices, mirrored, rng.uniform(-np.pi, np.pi, indices.shape), rng.uniform(0.1, 2, indices.shape)


def rows_of(found: EdgePattern) -> np.ndarray:
    return np.repeat(np.arange(len(found.degrees)), np.diff(found.indptr))


def as_dictionary(found: EdgePattern) -> dict[twin.Edge, tuple[float, float]]:
    keys = zip(rows_of(found).tolist(), found.indices.tolist(), found.mirrored.tolist(), strict=True)
    return dict(zip(keys, zip(found.angles.tolist(), found.weights.tolist(), strict=True), strict=True))


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 14), st.integers(0, 6), st.integers(0, 3), st.booleans())
def test_pattern_equals_twin(seed: int, n: int, n_neighbors: int, isolated: int, weighted: bool) -> None:
    indices, mirrored, angles, weights = random_lists(seed, n, n_neighbors, min(isolated, n))
    given_weights = weights if weighted else None
    found = build_pattern(indices, mirrored, angles, given_weights)
    expected = twin.edge_dictionary(indices, mirrored, angles, given_weights)
    edges = as_dictionary(found)
    assert list(edges) == list(expected)  # the same edges, rows sorted by (j, mirrored)
    for key, (angle, weight) in expected.items():
        assert abs(np.angle(np.exp(1j * (edges[key][0] - angle)))) < 1e-7  # two opposite estimates: ill-conditioned
        assert edges[key][1] == pytest.approx(weight, rel=1e-12)
    degrees = np.bincount(rows_of(found), found.weights, minlength=n) if n else np.zeros(0)
    np.testing.assert_allclose(found.degrees, degrees, rtol=1e-12)
    assert [a.dtype.name for a in found] == ["int64", "int64", "bool", "float64", "float64", "float64"]


@pytest.mark.parametrize("seed", range(5))
def test_both_directions_are_exact_reverses(seed: int) -> None:
    found = build_pattern(*random_lists(seed, n=30, n_neighbors=12))
    edges = as_dictionary(found)
    assert len(edges) > 200
    for (i, j, flag), (angle, weight) in edges.items():
        assert edges[j, i, flag] == (angle if flag else -angle, weight)
        assert abs(angle) <= np.pi


def test_a_singly_listed_angle_is_kept_to_the_bit() -> None:
    angles = np.array([[np.pi, 0.1], [0, 0], [0, 0]])
    found = build_pattern([[1, 2], [-1, -1], [-1, -1]], [[False, True]] * 3, angles)
    assert found.angles.tolist() == [np.pi, 0.1, -np.pi, 0.1]


def test_opposite_estimates_keep_the_lower_nodes_angle() -> None:
    for flag in (False, True):
        upper = 0.25 + np.pi if flag else -0.25 - np.pi
        found = build_pattern([[1], [0]], [[flag], [flag]], [[0.25], [upper]])
        assert found.angles.tolist() == [0.25, 0.25 if flag else -0.25]


def test_mean_is_taken_across_the_cut_of_the_circle() -> None:
    found = build_pattern([[1], [0]], [[False], [False]], [[np.pi - 0.1], [np.pi - 0.3]])  # reversed: -pi + 0.3
    assert np.angle(np.exp(1j * (found.angles[0] - (np.pi + 0.1)))) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("k", [0, 1, 4])
@pytest.mark.parametrize("seed", range(3))
def test_values_and_matrices_equal_twin(k: int, seed: int) -> None:
    lists = random_lists(seed)
    found, expected = build_pattern(*lists), twin.edge_dictionary(*lists)
    n = len(found.degrees)
    values = fill_values(found, k, dtype=np.complex128)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n) + 1j * rng.normal(size=n)
    taken = np.where(found.mirrored, np.conj(x[found.indices]), x[found.indices]) * values
    result = np.zeros(n, complex)
    np.add.at(result, rows_of(found), taken)
    reference = twin.operator(expected, x, k)
    np.testing.assert_allclose(result, reference, atol=1e-12)

    o2 = sp.csr_array(assemble_o2(found, k), shape=(2 * n, 2 * n))
    assert o2.has_sorted_indices
    np.testing.assert_allclose(o2.toarray(), twin.o2_matrix(expected, n, k).toarray(), atol=1e-12)
    stacked = o2 @ np.concatenate([x.real, x.imag])
    np.testing.assert_allclose(stacked[:n] + 1j * stacked[n:], reference, atol=1e-12)

    doubled = sp.csr_array(assemble_hermitian(found, k), shape=(2 * n, 2 * n))
    assert doubled.has_sorted_indices
    np.testing.assert_allclose(doubled.toarray(), twin.hermitian_matrix(expected, n, k), atol=1e-12)
    both = doubled @ np.concatenate([x, np.conj(x)])
    np.testing.assert_allclose(both[:n], reference, atol=1e-12)


@pytest.mark.parametrize("k", [0, 1, 3])
def test_o2_and_hermitian_spectra_agree_with_multiplicity(k: int) -> None:
    found = build_pattern(*random_lists(7, n=40, n_neighbors=6))
    shape = (80, 80)
    real = sp.csr_array(assemble_o2(found, k), shape=shape).toarray()
    doubled = sp.csr_array(assemble_hermitian(found, k), shape=shape).toarray()
    np.testing.assert_array_equal(real, real.T)
    np.testing.assert_array_equal(doubled, doubled.conj().T)
    values = np.linalg.eigvalsh(real)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(doubled), atol=1e-12)
    assert abs(values).max() <= 1 + 1e-12


def test_k_zero_splits_into_plain_and_signed_adjacency() -> None:
    found = build_pattern(*random_lists(3))
    n = len(found.degrees)
    whole = sp.csr_array(assemble_o2(found, 0), shape=(2 * n, 2 * n)).toarray()
    parts = []
    for sign in (1, -1):
        values = fill_zero_frequency(found, mirror_sign=sign, dtype=np.float64)
        parts.append(sp.csr_array((values, found.indices, found.indptr), shape=(n, n)).toarray())
    np.testing.assert_allclose(whole[:n, :n], parts[0], atol=1e-15)
    np.testing.assert_allclose(whole[n:, n:], parts[1], atol=1e-15)
    assert not whole[:n, n:].any()
    assert not whole[n:, :n].any()
    assert not np.array_equal(parts[0], parts[1])


def test_isolated_nodes_and_empty_lists_give_zero_rows() -> None:
    found = build_pattern(*random_lists(1, isolated=3))
    assert found.degrees[-3:].tolist() == [0, 0, 0]
    assert np.isfinite(fill_values(found, 2)).all()
    for n, n_neighbors in ((0, 0), (0, 3), (4, 0)):
        empty = np.zeros((n, n_neighbors))
        found = build_pattern(empty, empty, empty)
        assert found.indptr.tolist() == [0] * (n + 1)
        assert fill_values(found, 1).shape == fill_zero_frequency(found).shape == (0,)
        assert sp.csr_array(assemble_o2(found, 1), shape=(2 * n, 2 * n)).nnz == 0
        assert sp.csr_array(assemble_hermitian(found, 1), shape=(2 * n, 2 * n)).nnz == 0
    zero = build_pattern([[1], [0]], [[False]] * 2, [[0.0], [0.0]], [[0.0], [0.0]])  # degree 0, yet an edge
    assert fill_values(zero, 1).tolist() == [0, 0]


def test_renaming_the_images_renames_the_matrix() -> None:
    indices, mirrored, angles, weights = random_lists(5, n=20)
    old_of_new = np.random.default_rng(0).permutation(20)
    new_of_old = np.append(np.argsort(old_of_new), -1)
    before = build_pattern(indices, mirrored, angles, weights)
    after = build_pattern(*(a[old_of_new] for a in (new_of_old[indices], mirrored, angles, weights)))
    rows = np.concatenate([old_of_new, old_of_new + 20])
    first, second = (sp.csr_array(assemble_o2(p, 2), shape=(40, 40)).toarray() for p in (before, after))
    np.testing.assert_allclose(first[np.ix_(rows, rows)], second, atol=1e-14)


def test_turning_an_image_multiplies_its_row_by_a_phase() -> None:
    """Turning image i by beta turns every angle of i: S_k is conjugated by the phases."""
    indices, mirrored, angles, _ = random_lists(6, n=15)
    beta = np.random.default_rng(1).uniform(-3, 3, 15)
    sign = np.where(mirrored, 1, -1)
    turned = angles + beta[:, None] + sign * beta[indices]  # coef_i -> e^{-ik beta_i} coef_i
    before, after = build_pattern(indices, mirrored, angles), build_pattern(indices, mirrored, turned)
    phase = np.exp(-3j * beta)
    other = np.where(after.mirrored, phase[after.indices], np.conj(phase[after.indices]))
    expected = fill_values(before, 3, dtype=np.complex128) * phase[rows_of(before)] * other
    np.testing.assert_allclose(fill_values(after, 3, dtype=np.complex128), expected, atol=1e-7)


@pytest.mark.parametrize("threads", [2, 3, 7])
def test_any_number_of_threads_gives_the_same_bits(threads: int) -> None:
    lists = random_lists(9, n=200, n_neighbors=20)
    one, many = build_pattern(*lists), build_pattern(*lists, threads=threads)
    results = [
        (*p, fill_values(p, 3, threads=t), fill_zero_frequency(p, threads=t), *assemble_o2(p, 3, threads=t),
         *assemble_hermitian(p, 3, threads=t))
        for p, t in ((one, 1), (many, threads))
    ]  # fmt: skip
    assert all(a.tobytes() == b.tobytes() for a, b in zip(*results, strict=True))


def test_input_layout_and_precision_do_not_matter() -> None:
    indices, mirrored, angles, weights = random_lists(2)
    angles = angles.astype(np.float32).astype(np.float64)
    expected = build_pattern(indices, mirrored, angles, weights)
    for array in (indices, mirrored, angles, weights):
        array.flags.writeable = False
    variants = [
        (indices, mirrored, angles, weights),
        tuple(np.asfortranarray(a) for a in (indices, mirrored, angles, weights)),
        (np.repeat(indices, 2, 1)[:, ::2].astype(np.int32), mirrored, angles.astype(np.float32), weights),
    ]
    for variant in variants:
        assert all(a.tobytes() == b.tobytes() for a, b in zip(expected, build_pattern(*variant), strict=True))
    frozen = EdgePattern(*(a.copy() for a in expected))
    for array in frozen:
        array.flags.writeable = False
    np.testing.assert_array_equal(fill_values(frozen, 2), fill_values(expected, 2))
    single, double = fill_values(expected, 2), fill_values(expected, 2, dtype=np.complex128)
    np.testing.assert_array_equal(single, double.astype(np.complex64))
    single, double = assemble_o2(expected, 2, dtype=np.float32)[0], assemble_o2(expected, 2)[0]
    np.testing.assert_array_equal(single, double.astype(np.float32))


def test_out_is_filled_in_place() -> None:
    found = build_pattern(*random_lists(2))
    out = np.empty(len(found.indices), np.complex128)
    assert fill_values(found, 3, out=out) is out
    np.testing.assert_array_equal(out, fill_values(found, 3, dtype=np.complex128))
    real = np.empty(len(found.indices))
    assert fill_zero_frequency(found, out=real) is real
    np.testing.assert_array_equal(real, fill_zero_frequency(found, dtype=np.float64))


PAIR: dict[str, Any] = {"indices": [[1], [0]], "mirrored": [[False], [False]], "angles": [[0.5], [-0.5]]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"indices": [[2], [0]]}, r"indices\[0, 0\] is 2; an index must be 0 ... 1, or -1 for no neighbour"),
        ({"indices": [[1], [-2]]}, r"indices\[1, 0\] is -2; an index must be 0 ... 1"),
        ({"indices": [1, 0]}, r"indices must be \(n, K\) like indices \(2,\), got shape \(2,\)"),
        ({"indices": [[1.0], [0.0]]}, "indices must hold int64, got float64; convert it first"),
        ({"mirrored": [[False, True]] * 2}, r"mirrored must be \(n, K\) like indices \(2, 1\), got shape \(2, 2\)"),
        ({"mirrored": [[0], [2]]}, "mirrored must hold bool, got int64; convert it first"),
        ({"angles": [[np.nan], [0]]}, r"angles\[0, 0\] is nan; angles must be finite radians"),
        ({"weights": [[1.0], [-1.0]]}, r"weights\[1, 0\] is -1.0; weights must be finite and at least 0"),
        ({"weights": [[np.inf], [1.0]]}, r"weights\[0, 0\] is inf; weights must be finite and at least 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
    ],
)
def test_build_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_pattern(**(PAIR | change))


def test_fill_refuses() -> None:
    found = build_pattern(**PAIR)
    with pytest.raises(ValueError, match="k must be a whole number of at least 0, got -1"):
        fill_values(found, -1)
    with pytest.raises(ValueError, match="threads must be at least 1, got 0"):
        fill_values(found, 1, threads=0)
    with pytest.raises(ValueError, match="mirror_sign must be 1 or -1, got 0"):
        fill_zero_frequency(found, mirror_sign=0)
    with pytest.raises(ValueError, match="dtype must be float32 or float64, got int64"):
        assemble_o2(found, 1, dtype=np.int64)
    with pytest.raises(ValueError, match=r"complex64 or complex128 array of shape \(2,\), got float32 \(2,\)"):
        fill_values(found, 1, dtype=np.float32)
    with pytest.raises(ValueError, match=r"contiguous float32 or float64 array of shape \(2,\), got float64 \(3,\)"):
        fill_zero_frequency(found, out=np.empty(3))
    with pytest.raises(ValueError, match="the pattern is inconsistent: 2 degrees, 3 row pointers, 1 indices"):
        fill_values(found._replace(indices=found.indices[:1]), 1)
    with pytest.raises(ValueError, match=r"the pattern has an index outside 0 ... 1"):
        fill_values(found._replace(indices=found.indices + 1), 1)


def test_docstring_examples() -> None:
    for module in (pattern, hermitian):
        result = doctest.testmod(module)
        assert result.attempted > 4
        assert result.failed == 0


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="needs a C compiler")
def test_another_cython_module_can_cimport_the_kernels(tmp_path: Path) -> None:
    pytest.importorskip("Cython")
    (tmp_path / "guest.pyx").write_text(
        textwrap.dedent("""\
        # cython: language_level=3, boundscheck=False, wraparound=False
        from libc.stdint cimport int64_t, uint8_t
        from mfvdm_fast.ext.hermitian cimport apply_row

        def apply(const int64_t[::1] indptr, const int64_t[::1] indices, const uint8_t[::1] mirrored,
                  const double[::1] values, const double[::1] x, double[::1] y):
            cdef int64_t i
            with nogil:
                for i in range(indptr.shape[0] - 1):
                    apply_row(i, &indptr[0], &indices[0], &mirrored[0], &values[0], &x[0], &y[0])
        """)
    )
    (tmp_path / "setup.py").write_text(
        "from setuptools import setup\nfrom Cython.Build import cythonize\nsetup(ext_modules=cythonize('guest.pyx'))\n"
    )
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    root = str(Path(pattern.__file__).parents[2])
    environment = {"PYTHONPATH": root, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "CFLAGS": "-O0"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lists = random_lists(4)
    found = build_pattern(*lists)
    n = len(found.degrees)
    x = np.random.default_rng(0).normal(size=2 * n).view(complex)
    np.savez(tmp_path / "in.npz", x=x.view(float), values=fill_values(found, 2, dtype=np.complex128).view(float),
             **{name: getattr(found, name) for name in ("indptr", "indices", "mirrored")})  # fmt: skip
    script = (
        "import numpy as np, guest; a = np.load('in.npz'); y = np.zeros_like(a['x']); "
        "guest.apply(a['indptr'], a['indices'], a['mirrored'].view('u1'), a['values'], a['x'], y); np.save('y.npy', y)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    y = np.load(tmp_path / "y.npy").view(complex)
    np.testing.assert_allclose(y, twin.operator(twin.edge_dictionary(*lists), x, 2), atol=1e-12)
