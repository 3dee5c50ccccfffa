from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ._registry import FILES, fetch

if TYPE_CHECKING:
    from collections.abc import Sequence

_FILES = {
    name.removeprefix("relationships/").removesuffix(".txt"): name
    for name in FILES
    if name.startswith("relationships/")
}


def relationships(
    *, databases: str | Sequence[str] = ("CORUM", "HuMAP", "Reactome", "SIGNOR", "StringDB")
) -> pd.DataFrame:
    """Annotated gene pairs, the known relationships that a map of perturbations is judged by (Appendix B.1).

    The lists are those of EFAAR_benchmarking. CORUM and SIGNOR may not be used commercially (CC BY-NC 4.0); HuMAP and
    StringDB are CC BY 4.0, Reactome is CC0.

    Parameters
    ----------
    databases
        One name or several.

    Returns
    -------
    A table with the columns ``database``, ``gene_a`` and ``gene_b``, one row for each pair in a database, sorted. Pairs
    have no direction: ``gene_a < gene_b``, no pair repeats within a database and no gene is paired with itself.

    Raises
    ------
    ValueError
        If a database is unknown or none is named.

    Notes
    -----
    Source: 10.48550/arXiv.2505.21317, Appendix B.1. All five hold 37,649 (CORUM), 58,538 (HuMAP), 18,565 (Reactome),
    11,617 (SIGNOR) and 58,059 (StringDB) pairs; 143,252 are distinct.

    Examples
    --------
    >>> import semiclip as scl
    >>> scl.datasets.relationships(databases="SIGNOR").shape  # doctest: +SKIP
    (11617, 3)
    """
    names = [databases] if isinstance(databases, str) else sorted(set(databases))
    if unknown := [name for name in names if name not in _FILES]:
        msg = f"unknown database(s) {', '.join(map(repr, unknown))}; choose from {', '.join(_FILES)}"
        raise ValueError(msg)
    if not names:
        msg = f"databases names none; choose from {', '.join(_FILES)}"
        raise ValueError(msg)
    return pd.concat([_pairs(name) for name in names], ignore_index=True)


def _pairs(database: str) -> pd.DataFrame:
    """Read one list, which gives many pairs in both orders."""
    # a gene symbol that spells a missing value stays a symbol
    listed = pd.read_csv(fetch(_FILES[database]), dtype=str, keep_default_na=False)
    genes = np.sort(listed[["entity1", "entity2"]].to_numpy(dtype=object), axis=1)
    pairs = pd.DataFrame({"database": database, "gene_a": genes[:, 0], "gene_b": genes[:, 1]})
    pairs = pairs[pairs["gene_a"] != pairs["gene_b"]]
    return pairs.drop_duplicates().sort_values(["gene_a", "gene_b"])
