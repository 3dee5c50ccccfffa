"""Control-based batch correction of embeddings: arrays and tensors in, arrays and tensors out."""

from semiclip.correction._correct import RECIPES, Recipe, correct
from semiclip.correction._steps import STEPS, Affine, fit

__all__ = ["RECIPES", "STEPS", "Affine", "Recipe", "correct", "fit"]
