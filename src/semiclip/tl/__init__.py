"""Train and evaluate: distil, embed, recall known relationships."""

from semiclip.tl._embed import embed
from semiclip.tl._recall import recall, relationship_sets
from semiclip.tl._semiclip import semiclip

__all__ = ["embed", "recall", "relationship_sets", "semiclip"]
