"""Control-based batch correction of embeddings: arrays and tensors in, arrays and tensors out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from semiclip.correction._correct import Correction, CorrectionSpec, correct, fit_correction
from semiclip.correction._pea import LADDER, PEA
from semiclip.correction._steps import RECIPES, STEPS, Affine, Fallback, Method, Profile, Recipe, fit
from semiclip.correction._views import Views, augment

if TYPE_CHECKING:
    from semiclip.correction._augmentation import Augmentation, Draw

__all__ = [
    "LADDER",
    "PEA",
    "RECIPES",
    "STEPS",
    "Affine",
    "Augmentation",
    "Correction",
    "CorrectionSpec",
    "Draw",
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


def __getattr__(name: str) -> Any:
    if name not in ("Augmentation", "Draw"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}._augmentation"), name)  # on first use, since it needs torch
