"""The scvi-tools models that distil a teacher embedding into a student embedding, and their baselines."""

from semiclip.model._baseline import Baseline
from semiclip.model._model import SemiClip

__all__ = ["Baseline", "SemiClip"]
