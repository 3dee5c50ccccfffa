"""Measures of an embedding: pure functions of arrays."""

from semiclip.metrics._aggregate import group_mean
from semiclip.metrics._recall import recalled_pairs, relationship_recall
from semiclip.metrics._retrieval import retrieval

__all__ = ["group_mean", "recalled_pairs", "relationship_recall", "retrieval"]
