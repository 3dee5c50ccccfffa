"""Annotated pairs that one map recalls, and that another does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import some
from semiclip.metrics._map import GeneMap, in_tails, tails

if TYPE_CHECKING:
    from collections.abc import Sequence

    Levels = Sequence[tuple[float, float]]  # low and high thresholds


def distinct_pairs(found: GeneMap) -> tuple[np.ndarray, np.ndarray]:
    """Return the annotated pairs of all databases, each once, as positions in the map."""
    n = len(found.genes)
    return np.divmod(np.unique(found.pairs.first * n + found.pairs.second), n)


def recalled(found: GeneMap, pairs: tuple[np.ndarray, np.ndarray], levels: Levels) -> np.ndarray:
    """Say which pairs, given by position, the map recalls; shape (n_pairs, n_levels)."""
    return in_tails(found.cosine(*pairs), tails(found.cosines, levels))


def recalled_elsewhere(
    other: GeneMap, found: GeneMap, pairs: tuple[np.ndarray, np.ndarray], levels: Levels
) -> tuple[np.ndarray, np.ndarray, int]:
    """Say which pairs of ``found`` another map recalls, how many of its own at each level, and how many both hold.

    The other map may lack genes of this one: then it recalls none of their pairs.
    """
    its_pairs = distinct_pairs(other)
    hit = recalled(other, its_pairs, levels)
    position = _named(other, its_pairs).get_indexer(_named(found, pairs))
    if (position < 0).all():
        msg = (
            f"the maps share no annotated pair: one has genes such as {some(found.genes)}, the other "
            f"{some(other.genes)}; use one kind of gene label in both"
        )
        raise ValueError(msg)
    # a pair that it lacks has the position −1, which is that of the row added
    theirs = np.vstack([hit, np.zeros_like(hit, shape=(1, hit.shape[1]))])[position]
    return theirs, hit.sum(axis=0), int((position >= 0).sum())


def _named(found: GeneMap, pairs: tuple[np.ndarray, np.ndarray]) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([found.genes[positions] for positions in pairs])
