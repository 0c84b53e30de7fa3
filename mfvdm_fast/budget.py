"""What a job will need, before it starts: memory, time and disk."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .errors import ParameterError
from .params import DenoiseParams
from .records import DiskSupport

SAMPLE_BYTES = 128 * 2**20  # of images looked at to estimate noise and support
CHUNK_BYTES = 32 * 2**20  # of images read, flipped and expanded at a time

PROGRAM_BYTES = 330 * 2**20  # interpreter, libraries, compiled kernels
TYPICAL_COMPONENTS = 160  # principal components above the noise
EDGES_PER_ENTRY = 1.6  # of the symmetric graph, for each entry of the neighbour table


@dataclass(frozen=True)
class Budget:
    """Predicted needs of one job; ``bytes_by_part`` holds what is alive together at the peak of each stage."""

    memory_bytes: int  # peak when all coefficients are kept
    least_memory_bytes: int  # peak when the stack is read and expanded twice instead
    cpu_seconds: float
    output_bytes: int
    stage_bytes: dict[str, int] = field(default_factory=dict)

    def check(self, max_memory_bytes: int | None) -> None:
        """Raise ParameterError when even the thriftiest way does not fit ``max_memory_bytes``."""
        if max_memory_bytes is not None and self.least_memory_bytes > max_memory_bytes:
            raise ParameterError(
                f"the job needs about {_mega(self.least_memory_bytes)} of memory, but --max-memory allows "
                f"{_mega(max_memory_bytes)}: allow more, use fewer eigenvectors or frequencies, or split the stack"
            )

    def lines(self) -> list[str]:
        """The budget in words, for ``--dry-run``."""
        return [
            f"memory: about {_mega(self.memory_bytes)} ({_mega(self.least_memory_bytes)} when the stack is read twice)",
            f"time: about {self.cpu_seconds:.0f} CPU-seconds, once the kernels are compiled",
            f"disk: {_mega(self.output_bytes)} of output",
        ]


def _mega(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


def predict(
    n_particles: int,
    box_size: int,
    params: DenoiseParams,
    *,
    has_ctf: bool = True,
    support: DiskSupport | None = None,
) -> Budget:
    """Memory, time and disk for denoising ``n_particles`` images of ``box_size`` pixels.

    Without ``support`` the disc is taken to fill the box at the widest bandlimit that is usually found (0.35), so that
    the prediction errs upwards. The constants were measured; see ``benchmarks/README.md``.

    Examples
    --------
    >>> budget = predict(10_000, 65, DenoiseParams())
    >>> 300e6 < budget.memory_bytes < 2e9
    True
    """
    n, length = n_particles, box_size
    radius = support.radius_px if support else params.radius_px or length / 2
    bandlimit = support.bandlimit if support else params.bandlimit or 0.35
    n_coefs = (np.pi * radius * bandlimit) ** 2 / 2 + np.pi * radius * bandlimit
    n_components = min(n_coefs, TYPICAL_COMPONENTS)
    image_bytes = 4 * length**2
    neighbors, m = params.n_neighbors, min(params.n_eigenvectors, n)
    frequencies = params.n_frequencies if params.refine else 0

    sample = 3 * image_bytes * sample_size(n, length)
    chunk = 6 * min(n * image_bytes, CHUNK_BYTES) + 8 * n_coefs * CHUNK_BYTES / image_bytes + 40 * n_coefs * length
    coordinates = 8 * n * n_components
    tables = 2 * 25 * n * neighbors
    graph = 41 * EDGES_PER_ENTRY * n * neighbors
    solver = 5 * 2 * 4 * n * (1.2 * m + 8)
    vectors = 8 * n * m * frequencies
    transfer = 28 * n * (4 * bandlimit * length + 2) if has_ctf and params.ctf else 0
    stages = {
        "look": sample,
        "expand": chunk + coordinates,
        "search": 4 * coordinates + tables,
        "eigenvectors": coordinates + tables + graph + solver + vectors,
        "refine": coordinates + tables + graph + 3 * vectors,
        "restore": coordinates + tables + graph + solver + 8 * n * m + transfer,
    }
    least = PROGRAM_BYTES + max(stages.values())
    kept = PROGRAM_BYTES + max(stages["expand"] + 8 * n * n_coefs, max(stages.values()))
    solves = frequencies + 25
    seconds = (
        n * (1.2e-8 * length**2 * np.log2(length) + 1.5e-9 * n_coefs * length**2 / 5)
        + n**2 * (0.5e-9 * n_components + 2e-12 * m * frequencies * 20)
        + solves * 3.5e-10 * EDGES_PER_ENTRY * n * neighbors * m * 40
        + 5e-6 * n * neighbors
    )
    return Budget(int(kept), int(least), float(seconds), n * (image_bytes + 2 * 25 * neighbors), _rounded(stages))


def sample_size(n_particles: int, box_size: int) -> int:
    """How many images are looked at to estimate noise and support: up to 4,096, and up to SAMPLE_BYTES.

    >>> sample_size(100, 65), sample_size(10_000, 65), sample_size(10_000, 129)
    (100, 4096, 2016)
    """
    return min(n_particles, 4096, max(64, SAMPLE_BYTES // (4 * box_size**2)))


def _rounded(stages: dict[str, float]) -> dict[str, int]:
    return {name: int(value) for name, value in stages.items()}
