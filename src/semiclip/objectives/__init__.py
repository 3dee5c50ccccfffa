"""Training objectives, one file each: modules that take paired embeddings and return a scalar loss."""

from semiclip.objectives._clip import Clip

__all__ = ["Clip"]
