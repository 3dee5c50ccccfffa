from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip.metrics._map import GeneMap, gene_map, in_tails, tails

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def recalled_pairs(
    embedding: ArrayLike,
    genes: ArrayLike,
    relationships: pd.DataFrame,
    *,
    thresholds: tuple[float, float] = (0.05, 0.95),
) -> pd.DataFrame:
    """Say of each annotated gene pair whether the map recalls it (paper B.1).

    Parameters
    ----------
    embedding, genes, relationships, thresholds
        As in :func:`relationship_recall`.

    Returns
    -------
    One row per database and unique unordered pair with both genes in the map: ``database``, ``gene_a``, ``gene_b``
    (in alphabetical order), ``cosine`` and ``recalled``.

    Raises
    ------
    KeyError, TypeError, ValueError
        As in :func:`relationship_recall`.

    References
    ----------
    Bendidi et al., ICML 2025, section B.1, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> embedding = np.random.default_rng(0).normal(size=(30, 8))
    >>> embedding[1] = embedding[0]
    >>> genes = [f"G{i:02}" for i in range(30)]
    >>> known = pd.DataFrame({"gene_a": ["G01", "G02"], "gene_b": ["G00", "absent"]})
    >>> recalled_pairs(embedding, genes, known)
            database gene_a gene_b  cosine  recalled
    0  relationships    G00    G01     1.0      True
    """
    found = gene_map(embedding, genes, relationships)
    names, database, first, second = found.pairs
    cosine = found.cosine(first, second)
    return pd.DataFrame(
        {
            "database": names[database],
            "gene_a": found.genes[first],
            "gene_b": found.genes[second],
            "cosine": cosine,
            "recalled": in_tails(cosine, tails(found.cosines, thresholds)),
        }
    )


def relationship_recall(
    embedding: ArrayLike,
    genes: ArrayLike,
    relationships: pd.DataFrame,
    *,
    thresholds: tuple[float, float] = (0.05, 0.95),
    n_permutations: int = 0,
    rng: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Measure how many known gene relationships stand out in a map of perturbations (paper B.1).

    The cosines of all pairs of genes are the null distribution. An annotated pair is recalled if the share of null
    cosines that are at most its own is no more than the low threshold, or the share of those strictly below its own
    is no less than the high threshold. Recall is the recalled fraction of the annotated pairs in the map; a map that
    knows nothing recalls ``low + 1 − high`` of them.

    Parameters
    ----------
    embedding
        One vector per gene, shape (n_genes, d).
    genes
        Gene labels of the rows, unique.
    relationships
        Annotated pairs, columns ``gene_a``, ``gene_b`` and, optionally, ``database``. Order within a pair, repeats,
        self pairs and genes that are not in the map do not matter.
    thresholds
        Low and high quantile beyond which a pair is recalled, 0 ≤ low ≤ high ≤ 1.
    n_permutations
        Number of random exchanges of the gene labels that measure chance on these annotations; 0 for none.
    rng
        Seed or generator of the exchanges.

    Returns
    -------
    One row per database (``key``), in order of appearance, and one for their ``"mean"``: ``metric``
    (``"relationship_recall"``), ``key``, ``value``, ``n_pairs``, ``n_recalled``, ``error`` (binomial standard error)
    and ``chance``. The mean is the unweighted mean of the databases with a pair in the map; it counts a pair that
    several of them have once, and so does its error. Pairs that share a gene depend on each other all the same: trust
    ``chance_sd`` more. A database without a pair in the map keeps its row, with ``n_pairs``
    0 and no value. With permutations also ``chance_mean`` and ``chance_sd``, the mean and standard deviation over them.

    Raises
    ------
    KeyError
        If ``relationships`` lacks a column.
    TypeError
        If gene labels are not strings.
    ValueError
        If there are fewer than 20 genes, labels repeat, lengths differ, values are not finite, thresholds are out of
        order, or no annotated pair has both genes in the map.

    References
    ----------
    Bendidi et al., ICML 2025, section B.1, DOI 10.48550/arXiv.2505.21317; Celik et al., PLOS Computational Biology
    2024, DOI 10.1371/journal.pcbi.1012463.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> complexes = rng.normal(size=(20, 16))
    >>> embedding = np.repeat(complexes, 2, axis=0) + rng.normal(size=(40, 16))
    >>> genes = [f"G{i:02}" for i in range(40)]
    >>> known = pd.DataFrame({"gene_a": genes[0::2], "gene_b": genes[1::2]})
    >>> relationship_recall(embedding, genes, known)[["key", "value", "n_pairs", "chance"]].round(2)
                 key  value  n_pairs  chance
    0  relationships   0.85       20     0.1
    1           mean   0.85       20     0.1
    """
    if n_permutations < 0 or n_permutations == 1:
        msg = f"n_permutations={n_permutations}: a mean and a standard deviation need at least 2, and 0 leaves them out"
        raise ValueError(msg)
    found = gene_map(embedding, genes, relationships)
    names, database, first, second = found.pairs
    cuts = tails(found.cosines, thresholds)
    n_pairs = np.bincount(database, minlength=len(names))
    hit = in_tails(found.cosine(first, second), cuts)
    n_recalled = np.bincount(database[hit], minlength=len(names))
    value = _fraction(n_recalled, n_pairs)
    error = np.sqrt(_fraction(value * (1 - value), n_pairs))
    held = n_pairs > 0
    # databases share pairs: each counts once, with its weight in the mean, or the error would come out too small
    _, row, pair = np.unique(first * len(found.genes) + second, return_index=True, return_inverse=True)
    weight = np.bincount(pair, weights=1 / n_pairs[database]) / held.sum()
    spread = hit[row].mean() * (1 - hit[row].mean())
    table = pd.DataFrame(
        {
            "metric": "relationship_recall",
            "key": [*names, "mean"],
            "value": [*value, value[held].mean()],
            "n_pairs": [*n_pairs, len(row)],
            "n_recalled": [*n_recalled, hit[row].sum()],
            "error": [*error, np.sqrt((weight**2).sum() * spread)],
            "chance": thresholds[0] + 1 - thresholds[1],
        }
    )
    if n_permutations:
        draws = _fraction(_permuted_counts(found, cuts, n_permutations, np.random.default_rng(rng)), n_pairs)
        draws = np.column_stack([draws, draws[:, held].mean(axis=1)])
        table["chance_mean"], table["chance_sd"] = draws.mean(axis=0), draws.std(axis=0, ddof=1)
    return table


def _fraction(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide; nothing out of nothing is missing."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _permuted_counts(
    found: GeneMap, cuts: tuple[float, float], n_permutations: int, rng: np.random.Generator
) -> np.ndarray:
    """Count the recalled pairs per database, shape (n_permutations, n_databases), after exchanging gene labels.

    Exchanging labels moves the annotations over the same cosines, so nothing is computed anew.
    """
    names, database, first, second = found.pairs
    counts = np.empty((n_permutations, len(names)), dtype=np.intp)
    for row in counts:
        moved = rng.permutation(len(found.genes))
        hit = in_tails(found.cosine(moved[first], moved[second]), cuts)
        row[:] = np.bincount(database[hit], minlength=row.size)
    return counts
