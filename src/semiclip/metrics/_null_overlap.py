"""Annotated pairs that one map recalls, and that another does."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from semiclip.errors import NothingShared
from semiclip.metrics._map import GeneMap, in_tails, tails

Levels = Sequence[tuple[float, float]]  # low and high thresholds


def distinct_pairs(cosine_map: GeneMap) -> tuple[np.ndarray, np.ndarray]:
    """Return the annotated pairs of all databases, each once, as positions in the map."""
    n = len(cosine_map.genes)
    return np.divmod(np.unique(cosine_map.pairs.first * n + cosine_map.pairs.second), n)


def recalled(cosine_map: GeneMap, pairs: tuple[np.ndarray, np.ndarray], levels: Levels) -> np.ndarray:
    """Return which pairs, given by position, the map recalls; shape (n_pairs, n_levels)."""
    return in_tails(cosine_map.cosine(*pairs), tails(cosine_map.cosines, levels))


def recalled_elsewhere(
    other: GeneMap, cosine_map: GeneMap, pairs: tuple[np.ndarray, np.ndarray], levels: Levels
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return which pairs of a map another map recalls, how many of its own at each level, and how many both hold.

    The other map may lack genes of this map: then it recalls none of their pairs.
    """
    other_pairs = distinct_pairs(other)
    hit = recalled(other, other_pairs, levels)
    position = _named(other, other_pairs).get_indexer(_named(cosine_map, pairs))
    if (position < 0).all():
        raise NothingShared(
            "annotated pair", cosine_map.genes, other.genes, way_out="use one kind of gene label in both maps"
        )
    # a pair that the other map lacks has the position −1, which is the row added
    padded = np.vstack([hit, np.zeros_like(hit, shape=(1, hit.shape[1]))])
    return padded[position], hit.sum(axis=0), int((position >= 0).sum())


def _named(cosine_map: GeneMap, pairs: tuple[np.ndarray, np.ndarray]) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([cosine_map.genes[positions] for positions in pairs])
