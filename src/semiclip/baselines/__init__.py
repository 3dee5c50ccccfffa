"""Closed-form baselines, one file each: what distillation has to beat. Arrays in, arrays out."""

from semiclip.baselines._cca import Cca
from semiclip.baselines._neighbours import Neighbours
from semiclip.baselines._procrustes import Procrustes
from semiclip.baselines._protocol import ClosedForm
from semiclip.baselines._random import Random
from semiclip.baselines._ridge import Ridge
from semiclip.baselines._unimodal import Unimodal

BASELINES: dict[str, type[Unimodal | Random | Ridge | Cca | Procrustes | Neighbours]] = {
    "unimodal": Unimodal,
    "random": Random,
    "ridge": Ridge,
    "cca": Cca,
    "procrustes": Procrustes,
    "knn": Neighbours,
}

__all__ = ["BASELINES", "Cca", "ClosedForm", "Neighbours", "Procrustes", "Random", "Ridge", "Unimodal"]
