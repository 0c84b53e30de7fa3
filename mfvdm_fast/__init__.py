"""Denoising of 2D cryo-EM particle images, and neighbours of the same view, by Multi-Frequency Vector Diffusion Maps.

The public names below are loaded when they are first asked for, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

# A thread that waits at the end of a parallel loop spins for milliseconds under GNU OpenMP. When another program wants
# that core, the thread everybody waits for does not get it: two threads were seen to take 20 times as long as one.
# The library reads this when it is loaded, so before any other module of ours.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Public name -> the module that defines it. A name must not be that of a submodule, which would hide it once imported.
_HOME = {
    "DenoiseParams": "params",
    "DenoiseResult": "result",
    "NeighborTable": "records",
    "ParticleStack": "io.stack",
    "SimulationSettings": "simulate",
    "SteerableCoefficients": "records",
    "denoise": "pipeline",
    "make_ctf": "imaging.ctf_parameters",
    "open_stack": "io.stack",
    "preset": "params",
    "simulate_stack": "simulate",
    "synthetic_particle": "synthetic",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    if name == "__version__":
        try:
            value: object = version("mfvdm_fast")
        except PackageNotFoundError:  # a checkout that was never installed
            value = "0.0.0"
    elif name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, "__version__"})
