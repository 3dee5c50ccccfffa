"""Train and evaluate: distil, embed, recall known relationships."""

from semiclip.tl._compare import compare, zscores
from semiclip.tl._consistency import consistency
from semiclip.tl._distill import distill, semiclip
from semiclip.tl._embed import embed
from semiclip.tl._enrich import enrich
from semiclip.tl._knn import knn_accuracy
from semiclip.tl._magnitude import magnitude
from semiclip.tl._null_overlap import null_overlap
from semiclip.tl._overlap import gains_losses, overlap, region
from semiclip.tl._preservation import preservation
from semiclip.tl._recall import recall
from semiclip.tl._relationship_sets import relationship_sets
from semiclip.tl._retrieval import cross_modal_retrieval, replicate_retrieval
from semiclip.tl._significant import significant
from semiclip.tl._similarity import similarity

__all__ = [
    "compare",
    "consistency",
    "cross_modal_retrieval",
    "distill",
    "embed",
    "enrich",
    "gains_losses",
    "knn_accuracy",
    "magnitude",
    "null_overlap",
    "overlap",
    "preservation",
    "recall",
    "region",
    "relationship_sets",
    "replicate_retrieval",
    "semiclip",
    "significant",
    "similarity",
    "zscores",
]
