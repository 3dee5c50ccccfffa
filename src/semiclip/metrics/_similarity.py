from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip.metrics._map import gene_map, pair_of_thresholds, tails
from semiclip.metrics._null_overlap import distinct_pairs

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

RANGE = (-1.0, 1.0)  # of a cosine


def similarity(
    embedding: ArrayLike,
    genes: ArrayLike,
    relationships: pd.DataFrame,
    *,
    control: ArrayLike | None = None,
    thresholds: tuple[float, float] = (0.05, 0.95),
    n_bins: int = 100,
) -> pd.DataFrame:
    """Count the cosines of all pairs of genes, and of the annotated pairs, in bins (paper B.1).

    Where the annotated pairs lie further out than all pairs, in the tails beyond the cuts, a map recalls them.

    Parameters
    ----------
    embedding, genes, relationships, control
        As in :func:`relationship_recall`.
    thresholds
        Low and high quantile beyond which a pair is recalled, 0 ≤ low ≤ high ≤ 1.
    n_bins
        Number of bins of equal width from -1 to 1.

    Returns
    -------
    One row per bin: ``low`` and ``high`` (its edges; a cosine on the edge of two bins counts in the upper one),
    ``n_all`` and ``n_annotated`` (pairs in it; an annotated pair counts once however many databases have it), ``all``
    and ``annotated`` (densities: counts divided by their sum and by the width of a bin), and in each row alike
    ``cut_low`` and ``cut_high``, the cosines below which and above which a pair is recalled.

    Raises
    ------
    KeyError, TypeError, ValueError
        As in :func:`relationship_recall`, or if ``n_bins`` is less than 1.

    References
    ----------
    Bendidi et al., ICML 2025, section B.1, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> embedding = np.repeat(np.random.default_rng(0).normal(size=(20, 8)), 2, axis=0)
    >>> genes = [f"G{i:02}" for i in range(40)]
    >>> known = pd.DataFrame({"gene_a": genes[0::2], "gene_b": genes[1::2]})
    >>> table = similarity(embedding, genes, known, n_bins=4)
    >>> table[["low", "high", "n_all", "n_annotated", "annotated"]]
       low  high  n_all  n_annotated  annotated
    0 -1.0  -0.5     64            0        0.0
    1 -0.5   0.0    304            0        0.0
    2  0.0   0.5    304            0        0.0
    3  0.5   1.0    108           20        2.0
    """
    if isinstance(n_bins, bool) or not isinstance(n_bins, int | np.integer) or n_bins < 1:
        msg = f"n_bins={n_bins} must be a whole number of at least 1"
        raise ValueError(msg)
    limits = pair_of_thresholds(thresholds)
    found = gene_map(embedding, genes, relationships, control=control)
    ((cut_low, cut_high),) = tails(found.cosines, [limits])
    # with a number of bins NumPy goes through the values in blocks, with edges it would sort them
    n_all, edges = np.histogram(found.cosines, n_bins, RANGE)
    n_annotated, _ = np.histogram(found.cosine(*distinct_pairs(found)), n_bins, RANGE)
    width = (RANGE[1] - RANGE[0]) / n_bins
    return pd.DataFrame(
        {
            "low": edges[:-1],
            "high": edges[1:],
            "n_all": n_all,
            "n_annotated": n_annotated,
            "all": n_all / n_all.sum() / width,
            "annotated": n_annotated / n_annotated.sum() / width,
            "cut_low": cut_low,
            "cut_high": cut_high,
        }
    )
