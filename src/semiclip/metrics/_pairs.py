"""Annotated gene pairs as integers of a map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from semiclip._checks import some

MISSING = -2  # beside −1, a gene that is not in the map


class Pairs(NamedTuple):
    """Annotated pairs of each database, unordered, unique, sorted by database and genes.

    ``database`` indexes ``names`` (order of first appearance); ``first`` and ``second`` index the genes of the map,
    with ``first < second``.
    """

    names: pd.Index
    database: np.ndarray
    first: np.ndarray
    second: np.ndarray


def pairs_in_map(relationships: pd.DataFrame, genes: pd.Index) -> Pairs:
    """Return the annotated pairs of which both genes are in the map; self pairs and repeats are left out."""
    if not isinstance(relationships, pd.DataFrame):
        msg = (
            f"relationships is a {type(relationships).__name__}, not a DataFrame; it needs the columns gene_a, gene_b "
            "and optionally database, as scl.datasets.relationships() returns them"
        )
        raise TypeError(msg)
    for name in ("gene_a", "gene_b"):
        if name not in relationships:
            msg = (
                f"relationships has no column {name!r}, only {some(relationships.columns)}; it needs gene_a, gene_b "
                "and optionally database, as scl.datasets.relationships() returns them"
            )
            raise KeyError(msg)
    if "database" in relationships:
        database, names = pd.factorize(pd.Index(relationships["database"], dtype=object))
    else:
        database, names = np.zeros(len(relationships), dtype=np.intp), pd.Index(["relationships"])
    if taken := {"mean", "union"} & set(names):
        msg = f"relationships has a database called {some(map(repr, sorted(taken)))}, a row of the result; rename it"
        raise ValueError(msg)
    a, b = _positions(relationships["gene_a"], genes), _positions(relationships["gene_b"], genes)
    missing = (a == MISSING) | (b == MISSING) | (database < 0)
    if missing.any():
        rows = relationships.index[missing]
        msg = (
            f"relationships has no gene or no database in {len(rows)} row(s): {some(rows)}; drop them with "
            "relationships.dropna(), or read the file with keep_default_na=False if a gene is called NA"
        )
        raise ValueError(msg)
    kept = (a >= 0) & (b >= 0) & (a != b)
    if not kept.any():
        msg = (
            "no annotated pair of two different genes has both in the map: relationships has genes such as "
            f"{some(relationships['gene_a'].head())}, the map {some(genes[:5])}; use one kind of gene label in both"
        )
        raise ValueError(msg)
    a, b, database = a[kept], b[kept], database[kept]
    shape = (len(names), len(genes), len(genes))
    unique = np.unique(np.ravel_multi_index((database, np.minimum(a, b), np.maximum(a, b)), shape))
    return Pairs(names, *np.unravel_index(unique, shape))


def _positions(labels: pd.Series, genes: pd.Index) -> np.ndarray:
    codes, unique = pd.factorize(pd.Index(labels))  # each label is looked up once
    return np.append(genes.get_indexer(unique), MISSING)[codes]  # code −1, a missing label, takes the last
