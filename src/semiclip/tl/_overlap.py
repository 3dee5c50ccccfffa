from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import some
from semiclip.tl._sets import known, listed, read_sets

if TYPE_CHECKING:
    from collections.abc import Sequence

COUNTS = ["n_pairs", "n_genes"]
MOST = 16  # representations, beyond which the regions outnumber any set of pairs


def overlap(sets: pd.DataFrame, *, representations: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Count the recalled pairs in every region of the Venn diagram of the representations (paper Figure 4).

    Parameters
    ----------
    sets
        What :func:`relationship_sets` returns.
    representations
        Columns to compare; by default all representations.

    Returns
    -------
    One row for each of the 2^k − 1 regions, also empty ones, first those of one representation, then those of two:
    a boolean column per representation, true where the region lies inside its set, ``n_pairs`` (the pairs that just
    these representations recall; their sum is the union) and ``n_genes`` (the distinct genes of these pairs).

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
    names, recalled, genes, first, second = read_sets(sets, representations)
    if taken := [name for name in COUNTS if name in names]:
        msg = f"a representation is called {some(taken)}, which is a column of the result; rename the column"
        raise ValueError(msg)
    if len(names) > MOST:
        msg = f"{len(names)} representations make {2 ** len(names) - 1:,} regions; choose at most {MOST}"
        raise ValueError(msg)
    # the first representation is the highest bit, so that falling numbers are the order of the columns
    bits = 1 << np.arange(len(names))[::-1]
    region = recalled @ bits
    gene_region = np.unique(np.concatenate([region, region]) * len(genes) + np.concatenate([first, second]))
    n_pairs = np.bincount(region, minlength=2 ** len(names))
    n_genes = np.bincount(gene_region // max(len(genes), 1), minlength=2 ** len(names))
    regions = np.arange(1, 2 ** len(names))
    inside = (regions[:, None] & bits) > 0
    order = np.lexsort((-regions, inside.sum(axis=1)))
    table = pd.DataFrame(inside[order], columns=names)
    return table.assign(n_pairs=n_pairs[regions[order]], n_genes=n_genes[regions[order]])


def gains_losses(sets: pd.DataFrame, *, base: str, representations: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Count what each representation recalls beyond a base, what it loses of it and what it keeps (paper Figure 5).

    Parameters
    ----------
    sets
        What :func:`relationship_sets` returns.
    base
        Representation to compare with, such as the unimodal one that the others were distilled from.
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
    >>> table = scl.tl.gains_losses(sets, base="X_pca")
    >>> table.drop(columns="base")
      representation  preserved  gains  losses  total  base_total
    0     X_semiclip          1      2       1      3           2
    """
    read = read_sets(sets, representations if representations is None else [base, *listed(representations)])
    in_base = read.recalled[:, read.names.index(known([base], read.names)[0])]
    others = [name for name in read.names if name != base]
    if not others:
        msg = f"there is no representation to compare with the base {base!r}; at least two are needed"
        raise ValueError(msg)
    recalled = read.recalled[:, [name != base for name in read.names]]
    preserved = (recalled & in_base[:, None]).sum(axis=0)
    total = recalled.sum(axis=0)
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
        Representation or representations none of which may recall it; one in neither list does not matter.

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
    return sets[read_sets(sets).region(inside, outside)].reset_index(drop=True)
