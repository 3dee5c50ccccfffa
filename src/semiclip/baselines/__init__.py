"""Closed-form baselines, a class each: what distillation has to beat. Arrays in, arrays out."""

from semiclip.baselines._closed_form import ClosedForm, Neighbours, Random, Unimodal
from semiclip.baselines._linear import Cca, Procrustes, Ridge

BASELINES: dict[str, type[Unimodal | Random | Ridge | Cca | Procrustes | Neighbours]] = {
    "unimodal": Unimodal,
    "random": Random,
    "ridge": Ridge,
    "cca": Cca,
    "procrustes": Procrustes,
    "knn": Neighbours,
}

__all__ = ["BASELINES", "Cca", "ClosedForm", "Neighbours", "Procrustes", "Random", "Ridge", "Unimodal"]
