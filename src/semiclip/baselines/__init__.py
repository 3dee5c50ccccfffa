"""Closed-form baselines, a class each: what distillation has to beat. Arrays in, arrays out."""

from semiclip.baselines._linear import Cca, Procrustes, Ridge
from semiclip.baselines._protocol import ClosedForm
from semiclip.baselines._references import Neighbours, Random, Unimodal

BASELINES: dict[str, type[Unimodal | Random | Ridge | Cca | Procrustes | Neighbours]] = {
    "unimodal": Unimodal,
    "random": Random,
    "ridge": Ridge,
    "cca": Cca,
    "procrustes": Procrustes,
    "knn": Neighbours,
}

__all__ = ["BASELINES", "Cca", "ClosedForm", "Neighbours", "Procrustes", "Random", "Ridge", "Unimodal"]
