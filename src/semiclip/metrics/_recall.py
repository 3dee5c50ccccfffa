from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip.metrics._map import gene_map, in_tails, pairs_of_thresholds, tails
from semiclip.metrics._shares import Shares

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from semiclip.metrics._map import Thresholds


def relationship_recall(
    embedding: ArrayLike,
    genes: ArrayLike,
    relationships: pd.DataFrame,
    *,
    control: ArrayLike | None = None,
    thresholds: Thresholds = (0.05, 0.95),
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
    control
        Mask of rows that are no genes, such as non-targeting guides, and are left out; boolean, shape (n_genes,).
    thresholds
        Low and high quantile beyond which a pair is recalled, 0 ≤ low ≤ high ≤ 1; one such pair or a list of them.
    n_permutations
        Number of random exchanges of the gene labels that measure chance on these annotations; 0 for none.
    rng
        Seed or generator of the exchanges.

    Returns
    -------
    For each pair of thresholds a row per database (``key``) in order of appearance, one for their ``"mean"`` and one
    for their ``"union"``:

    ``metric``, ``key``, ``value``
        ``"relationship_recall"``, and the recall. The mean is the unweighted mean of the databases with a pair in the
        map; the union holds each distinct pair once.
    ``threshold_low``, ``threshold_high``, ``n_pairs``, ``n_recalled``
        What it was counted from. A database without a pair in the map keeps its row, with ``n_pairs`` 0 and no value.
    ``error``, ``ci_low``, ``ci_high``
        Standard error and 95 % interval. The error is the binomial one, or larger where pairs that share a gene are
        recalled together, which makes them worth fewer independent pairs. The interval is Wilson's for that number: no
        point, even where nothing is recalled; that of the mean is put together from those of the databases.
    ``chance``
        What a map that knows nothing recalls; with permutations also ``chance_mean`` and ``chance_sd``, the mean and
        standard deviation over them, and ``p_value``, one-sided: (1 + number of permutations that recall as much or
        more) / (1 + ``n_permutations``).
    ``n_genes``, ``n_annotated``
        Genes of the map, and those among them with an annotated pair; the others only make up the null.

    Raises
    ------
    KeyError
        If ``relationships`` lacks a column.
    TypeError
        If gene labels are not strings, or ``control`` is not a mask.
    ValueError
        If there are fewer than 20 genes, labels repeat, lengths differ, values are not finite, thresholds are out of
        order, or no annotated pair has both genes in the map.

    References
    ----------
    Bendidi et al., ICML 2025, section B.1, DOI 10.48550/arXiv.2505.21317; Celik et al., PLOS Computational Biology
    2024, DOI 10.1371/journal.pcbi.1012463; Wilson, JASA 1927, DOI 10.1080/01621459.1927.10502953; the error: Aronow,
    Samii and Assenova, Political Analysis 2015, DOI 10.1093/pan/mpv018; the interval of the mean: Zou and Donner,
    Statistics in Medicine 2008, DOI 10.1002/sim.3095.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> complexes = rng.normal(size=(20, 16))
    >>> embedding = np.repeat(complexes, 2, axis=0) + rng.normal(size=(40, 16))
    >>> genes = [f"G{i:02}" for i in range(40)]
    >>> known = pd.DataFrame({"gene_a": genes[0::2], "gene_b": genes[1::2]})
    >>> table = relationship_recall(embedding, genes, known, n_permutations=99, rng=0)
    >>> table[["key", "value", "n_pairs", "ci_low", "ci_high", "chance", "p_value"]].round(2)
                 key  value  n_pairs  ci_low  ci_high  chance  p_value
    0  relationships   0.85       20    0.64     0.95     0.1     0.01
    1           mean   0.85       20    0.64     0.95     0.1     0.01
    2          union   0.85       20    0.64     0.95     0.1     0.01
    """
    if n_permutations < 0 or n_permutations == 1:
        msg = f"n_permutations={n_permutations}: a mean and a standard deviation need at least 2, and 0 leaves them out"
        raise ValueError(msg)
    limits = pairs_of_thresholds(thresholds)
    rng = np.random.default_rng(rng)
    found = gene_map(embedding, genes, relationships, control=control)
    shares = Shares.of(found)
    cuts = tails(found.cosines, limits)
    hit = in_tails(found.cosine(shares.first, shares.second), cuts)
    value = shares(hit)
    per_threshold = [shares.uncertainty(*column) for column in zip(hit.T, value.T, strict=True)]
    error, low, high = np.array(per_threshold).transpose(1, 2, 0)

    n_pairs, n_annotated, n_recalled = shares.n_pairs, shares.n_genes, shares.counts(hit)
    keys = [*found.pairs.names, "mean", "union"]
    union = [*range(len(n_pairs)), -1]  # the mean looks at the pairs of the union
    columns = {
        "value": value,
        "threshold_low": np.array([limit[0] for limit in limits]),
        "threshold_high": np.array([limit[1] for limit in limits]),
        "n_pairs": n_pairs[union, None],
        "n_recalled": n_recalled[union],
        "error": error,
        "ci_low": low,
        "ci_high": high,
        "chance": np.array([limit[0] + 1 - limit[1] for limit in limits]),
    }
    if n_permutations:
        draws = shares.permuted(found, cuts, n_permutations, rng)
        columns["chance_mean"], columns["chance_sd"] = draws.mean(axis=-1), draws.std(axis=-1, ddof=1)
        # shares of equal counts are equal, however their sums were rounded
        as_high = (draws.round(12) >= value[..., None].round(12)).sum(axis=-1)
        columns["p_value"] = np.where(n_pairs[union, None] > 0, (1 + as_high) / (1 + n_permutations), np.nan)
    columns |= {"n_genes": np.array(len(found.genes)), "n_annotated": n_annotated[union, None]}
    shape = (len(keys), len(limits))
    table = pd.DataFrame({name: np.broadcast_to(array, shape).T.ravel() for name, array in columns.items()})
    table.insert(0, "key", keys * len(limits))
    table.insert(0, "metric", "relationship_recall")
    return table
