"""Measures of an embedding: pure functions of arrays."""

from semiclip.metrics._blend import BlendWeight, choose_weight
from semiclip.metrics._groups import consistency, energy_distance, group_mean
from semiclip.metrics._neighbours import average_precision, knn_accuracy, retrieval
from semiclip.metrics._p_values import over_representation, paired_wilcoxon, rank_p_value, smallest_p
from semiclip.metrics._preservation import (
    PreservationSplit,
    preservation,
    preservation_split,
    spearman,
    structural_integrity,
)
from semiclip.metrics._recall import recalled_pairs, relationship_recall, similarity
from semiclip.metrics._shared import SharedDirections, shared_directions

__all__ = [
    "BlendWeight", "PreservationSplit", "SharedDirections", "average_precision", "choose_weight", "consistency",
    "energy_distance", "group_mean", "knn_accuracy", "over_representation",
    "paired_wilcoxon", "preservation", "preservation_split", "rank_p_value",
    "recalled_pairs", "relationship_recall", "retrieval", "shared_directions", "similarity", "smallest_p",
    "spearman", "structural_integrity",
]  # fmt: skip
