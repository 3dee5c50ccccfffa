"""Train and evaluate: distil, embed, recall known relationships."""

from semiclip.tl._aggregate import aggregate
from semiclip.tl._compare import compare, zscores
from semiclip.tl._distill import distill, embed, embed_teacher, semiclip
from semiclip.tl._dose import dose
from semiclip.tl._effects import consistency, magnitude, significant
from semiclip.tl._enrich import enrich
from semiclip.tl._gene_attribution import gene_attribution
from semiclip.tl._nearest import nearest
from semiclip.tl._position_baseline import position_baseline
from semiclip.tl._preservation import preservation
from semiclip.tl._recall import null_overlap, recall, similarity
from semiclip.tl._relationship_sets import relationship_sets
from semiclip.tl._retrieval import cross_modal_retrieval, knn_accuracy, replicate_retrieval
from semiclip.tl._sets import gains_losses, overlap, region

__all__ = [
    "aggregate", "compare", "consistency", "cross_modal_retrieval", "distill", "dose", "embed", "embed_teacher",
    "enrich", "gains_losses", "gene_attribution", "knn_accuracy", "magnitude", "nearest", "null_overlap", "overlap",
    "position_baseline", "preservation", "recall", "region", "relationship_sets", "replicate_retrieval", "semiclip",
    "significant", "similarity", "zscores",
]  # fmt: skip
