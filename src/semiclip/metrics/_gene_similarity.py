import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from semiclip._arguments import check_whole
from semiclip._docs import document
from semiclip.metrics._map import gene_map, pair_of_thresholds, tails
from semiclip.metrics._null_overlap import distinct_pairs

RANGE = (-1.0, 1.0)  # of a cosine


@document
def similarity(
    embedding: ArrayLike,
    genes: ArrayLike,
    relationships: pd.DataFrame,
    *,
    control: ArrayLike | None = None,
    thresholds: tuple[float, float] = (0.05, 0.95),
    n_bins: int = 100,
) -> pd.DataFrame:
    """Count the cosines of all pairs of genes, and of the annotated pairs, in bins, see :func:`relationship_recall`.

    Where the annotated pairs lie further out than all pairs, in the tails beyond the cuts, a map recalls them.

    Parameters
    ----------
    {gene_map}
    thresholds
        Low and high quantile beyond which a pair is recalled, 0 ≤ low ≤ high ≤ 1.
    n_bins
        Number of bins of equal width from -1 to 1.

    Returns
    -------
    One row per bin: ``low`` and ``high`` (its edges; a cosine on the edge of two bins counts in the upper one),
    ``n_all`` and ``n_annotated`` (pairs in it; an annotated pair counts once however many databases have it), ``all``
    and ``annotated`` (densities: counts divided by their sum and by the width of a bin), and ``cut_low`` and
    ``cut_high``, the cosines below and above which a pair is recalled, the same in each row.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> embedding = np.repeat(np.random.default_rng(0).normal(size=(20, 8)), 2, axis=0)
    >>> genes = [f"G{i:02}" for i in range(40)]
    >>> annotated = pd.DataFrame({"gene_a": genes[0::2], "gene_b": genes[1::2]})
    >>> table = similarity(embedding, genes, annotated, n_bins=4)
    >>> table[["low", "high", "n_all", "n_annotated", "annotated"]]
       low  high  n_all  n_annotated  annotated
    0 -1.0  -0.5     64            0        0.0
    1 -0.5   0.0    304            0        0.0
    2  0.0   0.5    304            0        0.0
    3  0.5   1.0    108           20        2.0
    """
    check_whole("n_bins", n_bins)
    limits = pair_of_thresholds(thresholds)
    cosine_map = gene_map(embedding, genes, relationships, control=control)
    ((cut_low, cut_high),) = tails(cosine_map.cosines, [limits])
    # with a number of bins NumPy goes through the values in blocks, with edges it would sort them
    n_all, edges = np.histogram(cosine_map.cosines, n_bins, RANGE)
    n_annotated, _ = np.histogram(cosine_map.cosine(*distinct_pairs(cosine_map)), n_bins, RANGE)
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
