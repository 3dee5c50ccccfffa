from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip.errors import NameTaken, TooFew, TooMany
from semiclip.tl._sets import list_once, read_sets

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNTS = ["n_pairs", "n_genes"]
MOST = 16  # representations, beyond which the regions outnumber any set of pairs


def overlap(sets: pd.DataFrame, *, representations: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Return the number of recalled pairs in every region of the Venn diagram of the representations (paper Figure 4).

    Parameters
    ----------
    sets
        What :func:`relationship_sets` returns.
    representations
        Columns to compare; by default all representations.

    Returns
    -------
    One row for each of the 2^k − 1 regions, also empty ones: first the regions of one representation, then of two.
    A boolean column per representation is true where the region lies inside its set; ``n_pairs`` counts the pairs that
    just these representations recall, and the regions add up to the union; ``n_genes`` counts the genes of these pairs.

    Raises
    ------
    KeyError
        If ``sets`` lacks a column.
    ValueError
        If there is no representation or there are more than 16, a column is not boolean or has missing values, a pair
        repeats, or a representation has the name of a count.

    References
    ----------
    Bendidi et al., ICML 2025, Figure 4, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> sets = pd.DataFrame({"gene_a": ["A", "A", "B", "C"], "gene_b": ["B", "C", "C", "D"], "databases": "CORUM"})
    >>> sets = sets.assign(X_pca=[True, True, False, False], X_semiclip=[True, True, True, False])
    >>> scl.tl.overlap(sets)
       X_pca  X_semiclip  n_pairs  n_genes
    0   True       False        0        0
    1  False        True        1        2
    2   True        True        2        3
    """
    read = read_sets(sets, representations)
    names, genes = read.names, read.genes
    if taken := [name for name in COUNTS if name in names]:
        raise NameTaken(taken, "a column of the result", "rename the column of sets")
    if len(names) > MOST:
        raise TooMany("representations", len(names), MOST, f"they make {2 ** len(names) - 1:,} regions")
    # the first representation is the highest bit, so that falling numbers are the order of the columns
    bits = 1 << np.arange(len(names))[::-1]
    region = read.recalled @ bits
    gene_region = np.unique(np.concatenate([region, region]) * len(genes) + np.concatenate([read.first, read.second]))
    n_pairs = np.bincount(region, minlength=2 ** len(names))
    n_genes = np.bincount(gene_region // max(len(genes), 1), minlength=2 ** len(names))
    regions = np.arange(1, 2 ** len(names))
    inside = (regions[:, None] & bits) > 0
    order = np.lexsort((-regions, inside.sum(axis=1)))
    table = pd.DataFrame(inside[order], columns=names)
    return table.assign(n_pairs=n_pairs[regions[order]], n_genes=n_genes[regions[order]])


def gains_losses(sets: pd.DataFrame, *, base: str, representations: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Return how many pairs each representation gains over a base, loses and keeps (paper Figure 5).

    Parameters
    ----------
    sets
        What :func:`relationship_sets` returns.
    base
        Representation to compare with, for example the unimodal one that the others were distilled from.
    representations
        Columns to compare with it; by default all others.

    Returns
    -------
    One row per representation: ``representation``, ``base``, ``preserved`` (pairs that both recall), ``gains`` (only
    the representation), ``losses`` (only the base), ``total`` (= gains + preserved, all that the representation
    recalls) and ``base_total`` (= losses + preserved, the same in every row).

    Raises
    ------
    KeyError
        If ``sets`` lacks a column.
    ValueError
        If there is no representation beside the base, a column is not boolean or has missing values, or a pair repeats.

    References
    ----------
    Bendidi et al., ICML 2025, Figure 5, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> sets = pd.DataFrame({"gene_a": ["A", "A", "B", "C"], "gene_b": ["B", "C", "C", "D"], "databases": "CORUM"})
    >>> sets = sets.assign(X_pca=[True, True, False, False], X_semiclip=[True, False, True, True])
    >>> scl.tl.gains_losses(sets, base="X_pca").drop(columns="base")
      representation  preserved  gains  losses  total  base_total
    0     X_semiclip          1      2       1      3           2
    """
    read = read_sets(sets, representations if representations is None else [base, *list_once(representations)])
    in_base = read.columns([base])
    others = [name for name in read.names if name != base]
    if not others:
        raise TooFew("representations beside the base", 0, 1)
    recalled = read.columns(others)
    preserved, total = (recalled & in_base).sum(axis=0), recalled.sum(axis=0)
    return pd.DataFrame(
        {
            "representation": others,
            "base": base,
            "preserved": preserved,
            "gains": total - preserved,
            "losses": in_base.sum() - preserved,
            "total": total,
            "base_total": in_base.sum(),
        }
    )


def region(sets: pd.DataFrame, *, inside: str | Sequence[str], outside: str | Sequence[str] = ()) -> pd.DataFrame:
    """Return the pairs that some representations all recall and others do not.

    Parameters
    ----------
    sets
        What :func:`relationship_sets` returns.
    inside
        Representation or representations that must all recall a pair.
    outside
        Representation or representations of which none may recall it. Representations in neither list do not matter.

    Returns
    -------
    The rows of ``sets`` in the region, with the same columns.

    Raises
    ------
    KeyError
        If ``sets`` lacks a column.
    ValueError
        If ``inside`` is empty, a representation is in both, a column is not boolean or has missing values, or a pair
        repeats.

    References
    ----------
    Bendidi et al., ICML 2025, Figure 4 and Table 3, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> sets = pd.DataFrame({"gene_a": ["A", "A", "B", "C"], "gene_b": ["B", "C", "C", "D"]})
    >>> sets = sets.assign(X_pca=[True, True, False, False], X_semiclip=[True, False, True, True])
    >>> scl.tl.region(sets, inside="X_semiclip", outside="X_pca")
      gene_a gene_b  X_pca  X_semiclip
    0      B      C  False        True
    1      C      D  False        True
    """
    return sets[read_sets(sets).mark_region(inside, outside)].reset_index(drop=True)
