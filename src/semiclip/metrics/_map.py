"""The map of a set of perturbations: the cosines of all pairs of genes, and what is annotated among them."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor, inf
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from semiclip._checks import finite_rows, some
from semiclip.metrics._cosine import pair_position, pairwise_cosines
from semiclip.metrics._matrices import vectors
from semiclip.metrics._order import order_statistics
from semiclip.metrics._pairs import Pairs, pairs_in_map

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    Thresholds = tuple[float, float] | Sequence[tuple[float, float]]

MIN_GENES = 20  # below, the tails hold too few pairs to mean anything


class GeneMap(NamedTuple):
    """Genes in alphabetical order, the cosines of all their pairs, and the annotated pairs."""

    genes: pd.Index
    cosines: np.ndarray
    pairs: Pairs

    def cosine(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the cosine of each pair of genes, given by their positions."""
        return self.cosines[pair_position(first, second, len(self.genes))]


def gene_map(
    embedding: ArrayLike, genes: ArrayLike, relationships: pd.DataFrame, *, control: ArrayLike | None = None
) -> GeneMap:
    """Check one vector per gene, leave out the rows that the mask ``control`` marks, and relate all genes."""
    x = vectors(embedding, "embedding").astype(np.float64, copy=False)
    labels = np.asarray(genes, dtype=object)
    if x.ndim != 2 or labels.shape != x.shape[:1]:
        msg = f"embedding has shape {x.shape} and genes {labels.shape}; one row and one label per gene are needed"
        raise ValueError(msg)
    if control is not None:
        mask = np.asarray(control)
        if mask.dtype != bool or mask.shape != labels.shape:
            msg = (
                f"control holds {mask.dtype} of shape {mask.shape}; it is a mask with one boolean per gene, of shape "
                f"{labels.shape}, such as np.isin(genes, ['non-targeting'])"
            )
            raise TypeError(msg)
        x, labels = x[~mask], labels[~mask]
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


def pairs_of_thresholds(thresholds: Thresholds) -> list[tuple[float, float]]:
    """Return thresholds, one pair or several, as a list of pairs."""
    given = _listed(thresholds)
    pairs: list[Any] = [tuple(_listed(pair)) for pair in (given if any(map(_several, given)) else [given])]
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(each, Real) for each in pair) or not 0 <= pair[0] <= pair[1] <= 1:
            msg = f"thresholds={pair} must be two quantiles with 0 ≤ low ≤ high ≤ 1, such as (0.05, 0.95)"
            raise ValueError(msg)
    if len(set(pairs)) < len(pairs):
        msg = f"thresholds={pairs} repeats a pair; name each once"
        raise ValueError(msg)
    return pairs


def pair_of_thresholds(thresholds: tuple[float, float]) -> tuple[float, float]:
    """Return the only pair of thresholds."""
    pairs = pairs_of_thresholds(thresholds)
    if len(pairs) > 1:
        msg = f"thresholds={pairs} are {len(pairs)} pairs, and one is needed here; call once for each"
        raise ValueError(msg)
    return pairs[0]


def _several(given: Any) -> bool:
    return np.iterable(given) and not isinstance(given, str)


def _listed(given: Any) -> list[Any]:
    return list(given) if _several(given) else [given]


def tails(null: np.ndarray, thresholds: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return the values below which and above which, strictly, a cosine lies in a tail; shape (n_thresholds, 2).

    #{null ≤ v}/N ≤ low says that the null value of rank ⌊low·N⌋, counted from 0, exceeds v; #{null < v}/N ≥ high says
    that the one of rank ⌈high·N⌉ − 1 is below v. So order statistics do for all pairs, and nothing is sorted.
    """
    ranks = []
    for pair in thresholds:
        # 0.95 is meant, not the binary float beside it
        low, high = (Fraction(threshold).limit_denominator(10**9) for threshold in pair)
        ranks.append((floor(low * null.size), ceil(high * null.size) - 1))
    wanted = sorted({rank for pair in ranks for rank in pair if 0 <= rank < null.size})
    value = {-1: -inf, **dict(zip(wanted, order_statistics(null, wanted), strict=True)), null.size: inf}
    return np.array([[value[below], value[above]] for below, above in ranks])


def in_tails(cosine: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Say which cosines, shape (n,), lie in one of the :func:`tails`; shape (n, n_thresholds)."""
    return (cosine[:, None] < cuts[:, 0]) | (cosine[:, None] > cuts[:, 1])
