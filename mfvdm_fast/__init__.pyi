from .imaging.ctf_parameters import make_ctf as make_ctf
from .io.stack import ParticleStack as ParticleStack
from .io.stack import open_stack as open_stack
from .params import DenoiseParams as DenoiseParams
from .params import preset as preset
from .pipeline import denoise as denoise
from .records import NeighborTable as NeighborTable
from .records import SteerableCoefficients as SteerableCoefficients
from .result import DenoiseResult as DenoiseResult
from .simulate import SimulationSettings as SimulationSettings
from .simulate import simulate_stack as simulate_stack
from .synthetic import synthetic_particle as synthetic_particle

__version__: str
__all__: list[str]
