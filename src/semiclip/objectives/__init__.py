"""Training objectives, a class each: modules that take paired embeddings and return a scalar loss."""

from typing import Any

from semiclip.objectives._contrastive import Clip, SemiClipped, SigLip
from semiclip.objectives._distillation import C2kd, Kd, Shake
from semiclip.objectives._logits import estimate_kendall, kendall, non_target_divergence, soft_divergence
from semiclip.objectives._moments import Dcca, Vicreg
from semiclip.objectives._paper import PAPER, PaperSettings
from semiclip.objectives._presets import PRESETS, PRETRAINING
from semiclip.objectives._protocol import LabelObjective, Objective, Spec

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
    "PAPER",
    "PRESETS",
    "PRETRAINING",
    "C2kd",
    "Clip",
    "Dcca",
    "Kd",
    "LabelObjective",
    "Objective",
    "PaperSettings",
    "SemiClipped",
    "Shake",
    "SigLip",
    "Spec",
    "Vicreg",
    "estimate_kendall",
    "kendall",
    "non_target_divergence",
    "soft_divergence",
]
