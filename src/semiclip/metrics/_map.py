"""The map of a set of perturbations: the cosines of all pairs of genes, and what is annotated and recalled in it."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import ceil, floor, inf
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from semiclip import errors
from semiclip._checks import check_finite
from semiclip._numerics import rows_at_once
from semiclip.metrics._cosines import Cosines, pair_position
from semiclip.metrics._matrices import read_mask, read_vectors

Thresholds = tuple[float, float] | Sequence[tuple[float, float]]
Levels = list[tuple[float, float]]  # low and high thresholds, read

MIN_GENES = 20  # below, the tails hold too few pairs to mean anything
HITS = 1 << 28  # pairs of which is held at a time whether they are recalled, times the number of thresholds
NOWHERE = np.zeros(0, dtype=np.intp)
MISSING = -2  # beside −1, a gene that is not in the map
COLUMNS = "it needs gene_a, gene_b and optionally database, as scl.datasets.relationships() returns them"
NA = "drop them with relationships.dropna(), or read the file with keep_default_na=False if a gene is called NA"
ONE_LABEL = "use one kind of gene label in both"


class GeneMap(NamedTuple):
    """Genes in alphabetical order, the cosines of all their pairs, and the annotated pairs, sorted, each once."""

    genes: pd.Index
    cosines: Cosines
    names: pd.Index
    """The databases in order of appearance."""
    database: np.ndarray
    """Database of each annotated pair, a position in ``names``; its genes are positions in ``genes``."""
    first: np.ndarray
    second: np.ndarray

    def position(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return where the cosine of each pair of genes stands."""
        return pair_position(first, second, len(self.genes))


def gene_map(
    embedding: ArrayLike, genes: ArrayLike, relationships: pd.DataFrame, *, control: ArrayLike | None = None
) -> GeneMap:
    """Return the map of one vector per gene, without the rows that the mask ``control`` marks."""
    x = read_vectors(embedding, "embedding").astype(np.float64, copy=False)
    labels = np.asarray(genes, dtype=object)
    if labels.shape != x.shape[:1]:
        raise errors.WrongShape("genes", labels.shape, f"{x.shape[:1]}, one label per row of the embedding")
    if control is not None:
        kept = ~read_mask(control, len(labels))
        x, labels = x[kept], labels[kept]
    if len(x) < MIN_GENES:
        raise errors.TooFew("genes in the map", len(x), MIN_GENES)
    if (kind := pd.api.types.infer_dtype(labels, skipna=False)) != "string":
        raise errors.WrongDtype("genes", kind, "strings without missing values", "convert them with astype(str)")
    names = pd.Index(labels)
    if not names.is_unique:
        repeated = names[names.duplicated()].unique()
        raise errors.Repeated("gene labels", repeated, "average their rows first with scl.metrics.group_mean")
    check_finite(x, names, "embedding")
    order = names.argsort()  # so that neither results nor rounding depend on the order of the rows
    names = names[order]
    pairs = read_pairs(relationships, names)
    return GeneMap(names, Cosines.of(x[order]), *pairs)


def check_relationships(relationships: pd.DataFrame) -> None:
    """Refuse what is no table of annotated pairs."""
    if not isinstance(relationships, pd.DataFrame):
        raise errors.WrongType("relationships", type(relationships), "a DataFrame", COLUMNS)
    for name in ("gene_a", "gene_b"):
        if name not in relationships:
            raise errors.MissingColumn(name, relationships.columns, "relationships", way_out=COLUMNS)


def read_pairs(relationships: pd.DataFrame, genes: pd.Index) -> tuple[pd.Index, np.ndarray, np.ndarray, np.ndarray]:
    """Return databases and the annotated pairs with both genes in the map, without self pairs and repeats."""
    check_relationships(relationships)
    if "database" in relationships:
        database, names = pd.factorize(pd.Index(relationships["database"], dtype=object))
    else:
        database, names = np.zeros(len(relationships), dtype=np.intp), pd.Index(["relationships"])
    if taken := sorted({"mean", "union"} & set(names)):
        raise errors.NameTaken(taken, "a row of the result", "rename this database")
    a, b = _locate(relationships["gene_a"], genes), _locate(relationships["gene_b"], genes)
    missing = (a == MISSING) | (b == MISSING) | (database < 0)
    if missing.any():
        raise errors.MissingValues("relationships", relationships.index[missing].tolist(), NA)
    kept = (a >= 0) & (b >= 0) & (a != b)
    if not kept.any():
        labels, sides = relationships["gene_a"].unique(), ("relationships", "the map")
        raise errors.NothingShared("pair of two genes", labels, genes, sides, ONE_LABEL)
    a, b, database = a[kept], b[kept], database[kept]
    shape = (len(names), len(genes), len(genes))
    unique = np.unique(np.ravel_multi_index((database, np.minimum(a, b), np.maximum(a, b)), shape))
    return names, *np.unravel_index(unique, shape)


def _locate(labels: pd.Series, genes: pd.Index) -> np.ndarray:
    codes, unique = pd.factorize(pd.Index(labels))  # each label is looked up once
    return np.append(genes.get_indexer(unique), MISSING)[codes]  # code −1, a missing label, takes the last


def distinct_pairs(cosine_map: GeneMap) -> tuple[np.ndarray, np.ndarray]:
    """Return the annotated pairs of all databases, each once, as positions in the map."""
    n = len(cosine_map.genes)
    return np.divmod(np.unique(cosine_map.first * n + cosine_map.second), n)


def read_thresholds(thresholds: Thresholds, *, single: bool = False) -> Levels:
    """Return one pair of thresholds, or several, as a list of pairs."""
    levels: list[Any] = [tuple(level) for level in np.atleast_2d(np.asarray(thresholds, dtype=object)).tolist()]
    for level in levels:
        if len(level) != 2 or not all(isinstance(end, Real) for end in level) or not 0 <= level[0] <= level[1] <= 1:
            raise errors.BadValue("thresholds", level, "two quantiles with 0 ≤ low ≤ high ≤ 1, such as (0.05, 0.95)")
    if len(set(levels)) < len(levels):
        raise errors.Repeated("pairs of thresholds", levels)
    if single and len(levels) > 1:
        raise errors.TooMany("pairs of thresholds", len(levels), 1, "call once for each pair")
    return levels


def tails(null: Cosines, thresholds: Levels, positions: np.ndarray = NOWHERE) -> tuple[np.ndarray, np.ndarray]:
    """Return the values below which and above which, strictly, a cosine lies in a tail; shape (n_thresholds, 2).

    The cosines at some positions are returned beside them, for many of all cosines are read only once.
    """
    # #{null ≤ v}/N ≤ low says that the null value of rank ⌊low·N⌋, counted from 0, exceeds v; #{null < v}/N ≥ high says
    # that the value of rank ⌈high·N⌉ − 1 is below v. Order statistics therefore suffice, and nothing is sorted.
    ranks = []
    for pair in thresholds:
        # 0.95 is meant, not the binary float beside it
        low, high = (Fraction(threshold).limit_denominator(10**9) for threshold in pair)
        ranks.append((floor(low * null.size), ceil(high * null.size) - 1))
    inside = sorted({rank for pair in ranks for rank in pair if 0 <= rank < null.size})
    cosine, statistics = null.read(positions, inside)
    value = {-1: -inf, **dict(zip(inside, statistics, strict=True)), null.size: inf}
    return np.array([[value[below], value[above]] for below, above in ranks]), cosine


def in_tails(cosine: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Return which cosines, shape (n,), lie in one of the :func:`tails`; shape (n, n_thresholds)."""
    return (cosine[:, None] < cuts[:, 0]) | (cosine[:, None] > cuts[:, 1])


def read_hits(cosines: Cosines, cuts: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield which cosines lie in the tails, in strips of shape (n, n_thresholds), with the position of the first.

    Up to 23,000 genes and one pair of thresholds there is a single strip. A strip lasts until the next is asked for.
    """
    strip = np.empty((min(cosines.size, rows_at_once(HITS, len(cuts))), len(cuts)), dtype=bool)
    filled = 0
    for start, block in cosines.blocks():
        end = start
        while end < start + block.size:
            part = block[end - start :][: len(strip) - filled]
            strip[filled : filled + part.size] = in_tails(part, cuts)
            filled, end = filled + part.size, end + part.size
            if filled == len(strip):
                yield end - filled, strip
                filled = 0
    if filled:
        yield cosines.size - filled, strip[:filled]


def recalled(cosine_map: GeneMap, pairs: tuple[np.ndarray, np.ndarray], levels: Levels) -> np.ndarray:
    """Return which pairs, given by position, the map recalls; shape (n_pairs, n_levels)."""
    cuts, cosine = tails(cosine_map.cosines, levels, cosine_map.position(*pairs))
    return in_tails(cosine, cuts)


def recalled_elsewhere(
    other: GeneMap, cosine_map: GeneMap, pairs: tuple[np.ndarray, np.ndarray], levels: Levels
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return which pairs of a map another map recalls, how many of its own at each level, and how many both hold."""
    other_pairs = distinct_pairs(other)
    hit = recalled(other, other_pairs, levels)
    names, other_names = (
        pd.MultiIndex.from_arrays([held.genes[positions] for positions in both])
        for held, both in ((cosine_map, pairs), (other, other_pairs))
    )
    position = other_names.get_indexer(names)
    if (position < 0).all():
        raise errors.NothingShared("annotated pair", cosine_map.genes, other.genes, way_out=ONE_LABEL)
    # a pair that the other map lacks has the position −1, which is the row added: it is not recalled
    padded = np.vstack([hit, np.zeros_like(hit, shape=(1, hit.shape[1]))])
    return padded[position], hit.sum(axis=0), int((position >= 0).sum())
