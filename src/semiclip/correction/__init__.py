"""Control-based batch correction of embeddings: arrays and tensors in, arrays and tensors out."""

from semiclip.correction._correct import RECIPES, Correction, Recipe, correct, fit_correction
from semiclip.correction._pea import LADDER, PEA
from semiclip.correction._steps import STEPS, Affine, fit

__all__ = ["LADDER", "PEA", "RECIPES", "STEPS", "Affine", "Correction", "Recipe", "correct", "fit", "fit_correction"]
