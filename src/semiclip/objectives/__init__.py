"""Training objectives, one file each: modules that take paired embeddings and return a scalar loss."""

from typing import Any

from semiclip.objectives._c2kd import C2kd
from semiclip.objectives._clip import Clip
from semiclip.objectives._dcca import Dcca
from semiclip.objectives._kd import Kd
from semiclip.objectives._kendall import kendall
from semiclip.objectives._labels import LabelObjective
from semiclip.objectives._presets import PRESETS, PRETRAINING
from semiclip.objectives._protocol import Objective
from semiclip.objectives._semiclip import SemiClipped
from semiclip.objectives._shake import Shake
from semiclip.objectives._siglip import SigLip
from semiclip.objectives._soft_targets import non_target_divergence, soft_divergence
from semiclip.objectives._spec import Spec
from semiclip.objectives._vicreg import Vicreg

OBJECTIVES: dict[str, type[Any]] = {
    "semiclip": SemiClipped,
    "clip": Clip,
    "siglip": SigLip,
    "vicreg": Vicreg,
    "dcca": Dcca,
    "kd": Kd,
    "shake": Shake,
    "c2kd": C2kd,
}

__all__ = [
    "OBJECTIVES",
    "PRESETS",
    "PRETRAINING",
    "C2kd",
    "Clip",
    "Dcca",
    "Kd",
    "LabelObjective",
    "Objective",
    "SemiClipped",
    "Shake",
    "SigLip",
    "Spec",
    "Vicreg",
    "kendall",
    "non_target_divergence",
    "soft_divergence",
]
