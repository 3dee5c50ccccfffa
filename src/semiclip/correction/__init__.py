"""Control-based batch correction of embeddings: arrays and tensors in, arrays and tensors out."""

from semiclip.correction._correct import Correction, correct, fit_correction
from semiclip.correction._pea import LADDER, PEA
from semiclip.correction._spec import RECIPES, CorrectionSpec, Fallback, Method, Profile, Recipe
from semiclip.correction._steps import STEPS, Affine, fit
from semiclip.correction._views import Views, augment

__all__ = [
    "LADDER",
    "PEA",
    "RECIPES",
    "STEPS",
    "Affine",
    "Correction",
    "CorrectionSpec",
    "Fallback",
    "Method",
    "Profile",
    "Recipe",
    "Views",
    "augment",
    "correct",
    "fit",
    "fit_correction",
]
