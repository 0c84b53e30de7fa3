"""One ASPIRE job on a RELION project folder, for the interpreter that has aspire >= 0.14.1 (not imported by ours).

python aspire_job.py FOLDER cwf|classavg OUT.npz: denoises FOLDER/particles.star with ASPIRE's own defaults and writes
images (n, L, L) float32 and the CPU-seconds used.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from aspire.classification import TopClassSelector
from aspire.denoising import DenoisedSource, DenoiserCov2D, LegacyClassAvgSource
from aspire.source import RelionSource


def main() -> None:
    folder, method, out = Path(sys.argv[1]).resolve(), sys.argv[2], Path(sys.argv[3])
    start = time.process_time()
    source = RelionSource(str(folder / "particles.star"), data_folder=str(folder)).cache()
    if method == "cwf":
        denoised = DenoisedSource(source, DenoiserCov2D(source))
    else:
        # All particles in their order, 50 neighbours, rotations only: as in papers that compare with ASPIRE.
        flipped = source.phase_flip().cache()
        denoised = LegacyClassAvgSource(flipped, n_nbor=50, class_selector=TopClassSelector())
    # ASPIRE's CTF is the negative of RELION's, so its images come out black.
    images = -denoised.images[:].asnumpy().astype(np.float32)
    np.savez(out, images=images, cpu_s=time.process_time() - start)


if __name__ == "__main__":
    main()
