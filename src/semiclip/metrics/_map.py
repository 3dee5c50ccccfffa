"""The map of a set of perturbations: the cosines of all pairs of genes, and what is annotated among them."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor, inf
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from semiclip._checks import finite_rows, some
from semiclip.metrics._cosine import pair_position, pairwise_cosines
from semiclip.metrics._pairs import Pairs, pairs_in_map

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

MIN_GENES = 20  # below, the tails hold too few pairs to mean anything


class GeneMap(NamedTuple):
    """Genes in alphabetical order, the cosines of all their pairs, and the annotated pairs."""

    genes: pd.Index
    cosines: np.ndarray
    pairs: Pairs

    def cosine(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the cosine of each pair of genes, given by their positions."""
        return self.cosines[pair_position(first, second, len(self.genes))]


def gene_map(embedding: ArrayLike, genes: ArrayLike, relationships: pd.DataFrame) -> GeneMap:
    """Check one vector per gene and relate all genes to each other."""
    x, labels = np.asarray(embedding, dtype=np.float64), np.asarray(genes, dtype=object)
    if x.ndim != 2 or labels.shape != x.shape[:1]:
        msg = f"embedding has shape {x.shape} and genes {labels.shape}; one row and one label per gene are needed"
        raise ValueError(msg)
    if len(x) < MIN_GENES:
        msg = f"the map has {len(x)} genes; recall looks at the tails of all pairs and needs at least {MIN_GENES}"
        raise ValueError(msg)
    if (kind := pd.api.types.infer_dtype(labels, skipna=False)) != "string":
        msg = f"gene labels must be strings without missing values, these are {kind}; convert them with astype(str)"
        raise TypeError(msg)
    names = pd.Index(labels)
    if not names.is_unique:
        repeated = names[names.duplicated()].unique()
        msg = f"gene labels repeat: {some(repeated)}; average their rows first with scl.metrics.group_mean"
        raise ValueError(msg)
    finite_rows(x, names, "embedding")
    order = names.argsort()  # so that neither results nor rounding depend on the order of the rows
    names = names[order]
    pairs = pairs_in_map(relationships, names)
    return GeneMap(names, pairwise_cosines(x[order]), pairs)


def tails(null: np.ndarray, thresholds: tuple[float, float]) -> tuple[float, float]:
    """Return the values below which and above which, strictly, a cosine lies in a tail of the null distribution.

    #{null ≤ v}/N ≤ low says that the null value of rank ⌊low·N⌋, counted from 0, exceeds v; #{null < v}/N ≥ high says
    that the one of rank ⌈high·N⌉ − 1 is below v. So two order statistics do for all pairs, and nothing is sorted.
    """
    if not 0 <= thresholds[0] <= thresholds[1] <= 1:
        msg = f"thresholds={thresholds} must be two quantiles with 0 ≤ low ≤ high ≤ 1, such as (0.05, 0.95)"
        raise ValueError(msg)
    # 0.95 is meant, not the binary float beside it
    low, high = (Fraction(threshold).limit_denominator(10**9) for threshold in thresholds)
    below, above = floor(low * null.size), ceil(high * null.size) - 1
    lower, upper = inf, -inf
    part = null.copy()
    # one rank at a time, which NumPy selects several times faster than two at once
    if below < null.size:
        part.partition(below)
        lower = float(part[below])
    if above >= 0:
        part.partition(above)
        upper = float(part[above])
    return lower, upper


def in_tails(cosine: np.ndarray, cuts: tuple[float, float]) -> np.ndarray:
    """Say which cosines lie in one of the :func:`tails`."""
    return (cosine < cuts[0]) | (cosine > cuts[1])
