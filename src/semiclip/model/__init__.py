"""The scvi-tools model that distils a teacher embedding into a student embedding."""

from semiclip.model._model import SemiClip

__all__ = ["SemiClip"]
