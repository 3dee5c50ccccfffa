"""The map of a set of perturbations: the cosines of all pairs of genes, and what is annotated and recalled in it."""

from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from semiclip import errors
from semiclip._checks import check_finite
from semiclip.metrics._cosines import Cosines
from semiclip.metrics._matrices import read_mask, read_vectors

Thresholds = tuple[float, float] | Sequence[tuple[float, float]]
Levels = list[tuple[float, float]]  # low and high thresholds, read

MIN_GENES = 20  # below, the tails hold too few pairs to mean anything
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
    """Database of each annotated pair, a position in ``names``; its genes are positions in ``genes``, in order."""
    first: np.ndarray
    second: np.ndarray


def gene_map(
    embedding: ArrayLike, genes: ArrayLike, relationships: pd.DataFrame, *, control: ArrayLike | None = None
) -> GeneMap:
    """Return the map of one vector per gene, without the rows that the mask ``control`` marks."""
    x = read_vectors(embedding, "embedding")
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
