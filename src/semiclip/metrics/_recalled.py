from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from semiclip.metrics._map import gene_map, in_tails, pair_of_thresholds, tails

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def recalled_pairs(
    embedding: ArrayLike,
    genes: ArrayLike,
    relationships: pd.DataFrame,
    *,
    control: ArrayLike | None = None,
    thresholds: tuple[float, float] = (0.05, 0.95),
) -> pd.DataFrame:
    """Say of each annotated gene pair whether the map recalls it (paper B.1).

    Parameters
    ----------
    embedding, genes, relationships, control
        As in :func:`relationship_recall`.
    thresholds
        Low and high quantile beyond which a pair is recalled, 0 ≤ low ≤ high ≤ 1.

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
    pair = pair_of_thresholds(thresholds)
    found = gene_map(embedding, genes, relationships, control=control)
    names, database, first, second = found.pairs
    cosine = found.cosine(first, second)
    return pd.DataFrame(
        {
            "database": names[database],
            "gene_a": found.genes[first],
            "gene_b": found.genes[second],
            "cosine": cosine,
            "recalled": in_tails(cosine, tails(found.cosines, [pair]))[:, 0],
        }
    )
