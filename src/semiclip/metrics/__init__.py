"""Measures of an embedding: pure functions of arrays."""

from semiclip.metrics._aggregate import group_mean
from semiclip.metrics._consistency import consistency
from semiclip.metrics._energy import energy_distance
from semiclip.metrics._enrichment import over_representation
from semiclip.metrics._gene_similarity import similarity
from semiclip.metrics._knn import knn_accuracy
from semiclip.metrics._paired import paired_wilcoxon, smallest_p
from semiclip.metrics._precision import average_precision
from semiclip.metrics._preservation import preservation, structural_integrity
from semiclip.metrics._rank import rank_p_value
from semiclip.metrics._recall import recalled_pairs, relationship_recall
from semiclip.metrics._retrieval import retrieval
from semiclip.metrics._spearman import spearman
from semiclip.metrics._splits import PreservationSplit, preservation_split

__all__ = [
    "PreservationSplit",
    "average_precision",
    "consistency",
    "energy_distance",
    "group_mean",
    "knn_accuracy",
    "over_representation",
    "paired_wilcoxon",
    "preservation",
    "preservation_split",
    "rank_p_value",
    "recalled_pairs",
    "relationship_recall",
    "retrieval",
    "similarity",
    "smallest_p",
    "spearman",
    "structural_integrity",
]
