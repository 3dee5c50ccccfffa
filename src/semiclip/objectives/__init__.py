"""Training objectives, one file each: modules that take paired embeddings and return a scalar loss."""

from semiclip.objectives._clip import Clip
from semiclip.objectives._dcca import Dcca
from semiclip.objectives._protocol import Objective
from semiclip.objectives._siglip import SigLip
from semiclip.objectives._vicreg import Vicreg

OBJECTIVES: dict[str, type[Clip | SigLip | Vicreg | Dcca]] = {
    "semiclip": Clip,
    "siglip": SigLip,
    "vicreg": Vicreg,
    "dcca": Dcca,
}

__all__ = ["OBJECTIVES", "Clip", "Dcca", "Objective", "SigLip", "Vicreg"]
