"""What a job will need, before it starts: memory, time and disk."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from .errors import ParameterError
from .params import DenoiseParams, settle, settle_size
from .records import DiskSupport

SAMPLE_BYTES = 128 * 2**20  # of images looked at to estimate noise and support
CHUNK_BYTES = 32 * 2**20  # of images read, flipped and expanded at a time

LIBRARIES = 140e6  # bytes: interpreter and libraries
PROGRAM = 205e6  # the same with the kernels in use
PLOTTING = 80e6  # the contact sheet and its libraries
EDGES_PER_ENTRY = 1.6  # of the symmetric graph, for each entry of the neighbour table
PCA_ROWS = 2048  # coefficients in work at once
EDGE_TRUST = 16  # bytes per entry of the neighbour table, where there is junk
CTF_CLASSES = 50  # particles that share a CTF; what is held for each is little
PARTS = 4  # of the particles; for each there are templates
PIECES = 50  # of all particles, that matrices of sums are made for besides: one for each, and those that are added up
MATCHED_WITH = 20_000  # templates at most that a particle is compared with
# Particles, and particles per neighbour, from which on templates are divided in cells, up to MATCHED_WITH; and
# how many of them a particle is compared with, for each of 2 K + SPARE.
IN_CELLS, PER_NEIGHBOR = 8000, 100
CANDIDATES, SPARE = 4, 8
CANDIDATE = 8 + 8 + 8 + 4 + 1  # bytes of each template that a particle is compared with on its own
COARSE = 1.1e-9  # seconds per particle, neighbour and vector of the eigenvectors that restorations are made of
KEPT = 0.75  # of these eigenvectors: those that wrong edges make are left out
KEPT_FEATURES = 0.8  # of the coefficients that templates have
CENTRING_MEMORY, MOVED_REFERENCES = 1.25, 30e6  # of what templates and matching need; bytes
# Of the centring: references and places that they are moved to; how many of them tell whether it is needed at all; the
# share of the particles that are looked for again at all places (.03 to 1), the templates that they are matched with;
# seconds per pair that is matched, and per pair of references whose common lines are looked for.
REFERENCES, PLACES, FIRST_REFERENCES, LOST_SHARE, LOST_TEMPLATES = 300, 37, 64, 0.15, 2000
PAIR, LINES = 7e-8, 6e-6
ROUNDS, SWEEPS = 2, 3  # of finding shifts by references, and of following templates; as many first tables in all
USEFUL_FREQUENCIES = 0.4  # of all: those that show a signal above the noise


@dataclass(frozen=True)
class Budget:
    """Predicted needs of one job; ``stage_bytes`` and ``stage_seconds`` say which stage needs what."""

    memory_bytes: int  # peak when all coefficients are kept in memory
    least_memory_bytes: int  # peak when they stand in a temporary file instead
    cpu_seconds: float
    output_bytes: int
    stage_bytes: dict[str, int] = field(default_factory=dict)  # alive together at the peak of each stage
    stage_seconds: dict[str, float] = field(default_factory=dict)
    centring_seconds: float = 0.0  # more, if particles turn out to stand off the centre

    def check(self, max_memory_bytes: int | None) -> None:
        """Raise ParameterError when even the thriftiest way does not fit ``max_memory_bytes``."""
        if max_memory_bytes is not None and self.least_memory_bytes > max_memory_bytes:
            raise ParameterError(
                f"the job needs about {mebibytes(self.least_memory_bytes)} of memory, but max_memory_bytes "
                f"(--max-memory) allows {mebibytes(max_memory_bytes)}: allow more, use fewer eigenvectors or "
                "frequencies, or split the stack"
            )

    def lines(self) -> list[str]:
        """The budget in words, for ``--dry-run``."""
        return [
            f"memory: about {mebibytes(self.memory_bytes)} ({mebibytes(self.least_memory_bytes)} with --max-memory)",
            f"time: about {self.cpu_seconds:.0f} CPU-seconds, once the kernels are compiled"
            + (
                f"; {self.centring_seconds:.0f} more, and a quarter more memory, where particles stand off the centre"
                if self.centring_seconds
                else ""
            ),
            f"disk: {mebibytes(self.output_bytes)} of output",
        ]


def mebibytes(size: float) -> str:
    """A number of bytes in words, rounded upwards, in the unit that ``--max-memory`` reads.

    >>> mebibytes(1500 * 2**20)
    '1500 MiB'
    """
    return f"{math.ceil(size / 2**20)} MiB"


@dataclass(frozen=True)
class _Job:
    """Sizes that the needs follow from."""

    n: int
    box: int
    pixels: float  # of the disc, on the grid of the basis
    n_coefs: float
    k_max: float
    params: DenoiseParams
    corrects_ctf: bool

    @property
    def n_neighbors(self) -> int:
        return self.params.n_neighbors or 0

    @property
    def sample_bytes(self) -> float:
        return 4.0 * self.box**2 * sample_size(self.n, self.box)

    @property
    def stack_bytes(self) -> float:
        return 4.0 * self.box**2 * self.n

    @property
    def coefs_bytes(self) -> float:
        return 8 * self.n * self.n_coefs

    @property
    def frequencies(self) -> float:
        """Those that are restored by way of the graph."""
        return 2 + USEFUL_FREQUENCIES * self.k_max


def predict(
    n_particles: int,
    box_size: int,
    params: DenoiseParams,
    *,
    has_ctf: bool = True,
    support: DiskSupport | None = None,
) -> Budget:
    """Memory, time and disk for denoising ``n_particles`` images of ``box_size`` pixels.

    ``support`` is the disc on the grid of the basis (``basis.radius_px``, ``basis.bandlimit``), as a look at the images
    gives it: memory then comes out within a quarter, and time within a factor of two on the machine that the constants
    were measured on (AMD Zen 4). Without it the disc is taken to fill the box at the widest bandlimit that is usually
    found (0.35), so that the prediction errs upwards. What the data will decide (see :func:`mfvdm_fast.params.settle`)
    is taken half-way.

    Examples
    --------
    >>> budget = predict(10_000, 65, DenoiseParams())
    >>> 300e6 < budget.memory_bytes < 2e9
    True
    """
    params = settle_size(params, n_particles)
    radius = support.radius_px if support else params.radius_px or box_size / 2
    bandlimit = support.bandlimit if support else params.bandlimit or 0.35
    phase = 2 * np.pi * radius * bandlimit  # at the rim of the disc; zeros of Bessel functions up to it are counted
    jobs = [
        _Job(n_particles, box_size, np.pi * radius**2, phase**2 / 8, 0.9 * phase, settled, has_ctf and params.ctf)
        for settled in (settle(params, 1.0, n_particles), settle(params, 0.0, n_particles))
    ]
    memory, seconds = _mean([_stage_bytes(job) for job in jobs]), _mean([_stage_seconds(job) for job in jobs])
    more = 0.0
    if params.centre is None and "centre" in seconds:
        centred = [replace(job, params=replace(job.params, centre=True)) for job in jobs]
        more = sum(_mean([_stage_seconds(job) for job in centred]).values()) - sum(seconds.values())
    late = max(value for name, value in memory.items() if name != "noise and support")
    return Budget(
        memory_bytes=int(max(memory["noise and support"], late + jobs[0].coefs_bytes)),
        least_memory_bytes=int(max(memory.values())),
        cpu_seconds=float(sum(seconds.values())),
        output_bytes=int(jobs[0].stack_bytes + 2 * 25 * n_particles * jobs[0].n_neighbors),
        stage_bytes={name: int(value) for name, value in memory.items()},
        stage_seconds=seconds,
        centring_seconds=more,
    )


def _mean(stages: list[dict[str, float]]) -> dict[str, float]:
    """Of every stage that occurs; of one that is left out nothing is needed, but what all stages need."""
    names = dict.fromkeys(name for one in stages for name in one)
    return {name: sum(one.get(name, 0.0) for one in stages) / len(stages) for name in names}


def _stage_bytes(job: _Job) -> dict[str, float]:
    """Peak of each stage, without the coefficients of all particles."""
    n, params = job.n, job.params
    chunk = min(job.stack_bytes, CHUNK_BYTES)
    matrices = 4 * job.pixels * job.n_coefs  # of the basis while it is made; half of them stay
    stages = {
        "noise and support": LIBRARIES + 2.1 * job.sample_bytes,
        "expand": PROGRAM - 15e6 + 2.6 * chunk + matrices,
        "principal components": PROGRAM - 15e6 + 32 * min(n, PCA_ROWS) * job.n_coefs + matrices,
        "write": PROGRAM + matrices / 2 + max(3 * chunk, PLOTTING),
    }
    if params.method == "cwf":
        return stages
    base = PROGRAM + matrices / 2 + 50 * n * job.n_neighbors + 8 * n * min(job.n_coefs / 3, 300)
    graph = 45 * EDGES_PER_ENTRY * n * job.n_neighbors

    def solver(m: float) -> float:
        m = min(m, n)
        return 32 * n * (m + 42) + 768 * n + 3 * 8 * n * m

    vectors = 8 * n * params.n_eigenvectors * params.n_frequencies if params.refine else 0
    if params.refine:
        stages["eigenvectors"] = base + graph + solver(params.n_eigenvectors) + vectors
        stages["refine"] = base + 6 * vectors
    if params.method == "spectral":
        transfer = 28 * n * job.k_max if job.corrects_ctf else 0
        stages["restore"] = base + graph + solver(params.n_eigenvectors) + transfer
        return stages
    if params.n_matchings or params.centre:
        m, last = KEPT * params.n_template_eigenvectors, min(params.n_template_frequencies, job.k_max)
        matched = job.n_coefs * (1 - (1 - min(1.0, (last + 1) / (job.k_max + 1))) ** 2)
        sums = 4 * PARTS * (CTF_CLASSES + PIECES) * m**2
        stages["templates"] = base + graph + solver(m) + sums + 8 * PARTS * n * matched
        candidates = CANDIDATE * _candidates(job) / PARTS if _in_cells(job) else 0
        stages["match"] = base + n * (8 * PARTS * matched + 48 * KEPT_FEATURES * matched + candidates)
    m = KEPT * params.n_restoration_eigenvectors
    graph += EDGE_TRUST * n * job.n_neighbors
    compared = 32 * (min(params.n_template_frequencies, job.k_max) + 1)  # with means, at each frequency
    matches = n * (20 * job.n_neighbors + compared) if params.n_matchings else 0
    stages["restore"] = base + graph + solver(m) + 8 * n * m + 4 * (CTF_CLASSES + PIECES) * m**2 + matches
    if params.centre:
        stages["centre"] = MOVED_REFERENCES + CENTRING_MEMORY * max(stages["templates"], stages["match"])
    return stages


def _stage_seconds(job: _Job) -> dict[str, float]:
    """CPU-seconds of each stage."""
    n, params, width = float(job.n), job.params, job.n_coefs
    folded = 1.1e-11 * n * job.pixels * width
    stages = {
        "start": 1.5,
        "noise and support": 1e-8 * job.sample_bytes,
        "expand": 3e-9 * job.stack_bytes + folded + 3.2e-12 * job.pixels * width**2,
        "principal components": 3e-8 * n * width,
        "write": 4e-9 * job.stack_bytes + folded,
    }
    if params.method == "cwf":
        return stages | {"restore": 1e-8 * n * width**1.5}

    def solve(m: float, rate: float = 5e-9) -> float:
        block = min(m, job.n) + 26
        slower = 1 + min(1.0, n / 10_000)  # once the vectors leave the second-level cache
        return rate * slower * n * job.n_neighbors * block + 1e-9 * block**3

    stages["search"] = 2.3e-8 * n**2 + 1e-7 * n * job.n_neighbors
    if params.refine:
        numbers = params.n_frequencies * params.n_eigenvectors
        stages["eigenvectors"] = params.n_frequencies * solve(params.n_eigenvectors)
        stages["refine"] = 1e-8 * n**2 + 2.2e-9 * n * job.n_neighbors * numbers
    if params.method == "spectral":
        stages["restore"] = job.frequencies * solve(params.n_eigenvectors)
        return stages
    if params.n_matchings or params.centre:
        last = min(params.n_template_frequencies, job.k_max)
        templates = (last + 1) * solve(KEPT * params.n_template_eigenvectors, COARSE)
        match = 4e-8 * n * min(job.n, MATCHED_WITH) + 2e-7 * n * job.n_neighbors
        if _in_cells(job):  # a fifth of the pairs, and the candidates of each particle
            match = 0.2 * match + 2.5e-7 * n * _candidates(job)
        if params.centre is not False:
            stages["centre"] = 0.5 + _moving_seconds(job, FIRST_REFERENCES * PLACES)
        if params.centre:
            tables = ("expand", "principal components", "search", "eigenvectors", "refine")
            again = (ROUNDS + SWEEPS) * sum(stages.get(name, 0.0) for name in tables)
            stages["centre"] += _centring_seconds(job) + again + (ROUNDS + SWEEPS + 1) * templates + SWEEPS * match
        stages["templates"], stages["match"] = ((params.n_matchings or 0) * once for once in (templates, match))
    filtered = 5e-9 * n * width**1.5  # by the covariance Wiener filter
    averaged = 1e-8 * n * job.n_neighbors * width if params.n_matchings else 0.0  # with their matches
    stages["restore"] = job.frequencies * solve(KEPT * params.n_restoration_eigenvectors, COARSE) + filtered + averaged
    return stages


def _in_cells(job: _Job) -> bool:
    """Whether particles are matched with the templates of the best cells alone."""
    return max(IN_CELLS, PER_NEIGHBOR * job.n_neighbors) <= job.n <= MATCHED_WITH


def _candidates(job: _Job) -> int:
    """Templates of the cells that a particle is compared with."""
    return CANDIDATES * (2 * job.n_neighbors + SPARE)


def _moving_seconds(job: _Job, count: float) -> float:
    """CPU-seconds of moving ``count`` restored images and expanding them again."""
    return count * job.pixels * (1.1e-11 * job.n_coefs + 2e-8 + 1.5e-12 * job.pixels)


def _centring_seconds(job: _Job) -> float:
    """CPU-seconds of finding the centres alone; measured with 100 to 10,000 particles."""
    n, references = float(job.n), min(job.n, REFERENCES)
    lost = (SWEEPS - 0.5) * LOST_SHARE * n * PLACES  # in the end with half as many templates
    seconds = _moving_seconds(job, 2 * ROUNDS * references * PLACES + lost) + SWEEPS * LINES * references**2
    return seconds + PAIR * (ROUNDS * references * PLACES * (references + n) + lost * min(n, LOST_TEMPLATES))


def sample_size(n_particles: int, box_size: int) -> int:
    """How many images are looked at to estimate noise and support: up to 4,096, and up to SAMPLE_BYTES.

    >>> sample_size(100, 65), sample_size(10_000, 65), sample_size(10_000, 129)
    (100, 4096, 2016)
    """
    return min(n_particles, 4096, max(64, SAMPLE_BYTES // (4 * box_size**2)))
