"""Reads the table of :func:`semiclip.tl.relationship_sets`, and counts what its sets share."""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from semiclip import errors
from semiclip._docs import document
from semiclip.tl._maps import list_names

GENES = ["gene_a", "gene_b"]
THRESHOLDS = ["threshold_low", "threshold_high"]
NOT_SETS = [*GENES, "databases", *THRESHOLDS]
COUNTS = ["n_pairs", "n_genes"]
MOST = 16  # representations, beyond which the regions outnumber any set of pairs
SOURCE = "pass what scl.tl.relationship_sets returns"


class Sets(NamedTuple):
    """Which representations recall which pairs of genes."""

    recalled: pd.DataFrame
    """Whether a representation (column) recalls a pair (row), numbered from 0."""
    genes: pd.Index
    first: np.ndarray
    """One gene of each pair, a position in ``genes``; shape (n_pairs,)."""
    second: np.ndarray

    def columns(self, names: Sequence[Hashable]) -> np.ndarray:
        """Return which pairs these representations recall, shape (n_pairs, len(names))."""
        if unknown := [name for name in names if name not in self.recalled]:
            raise errors.MissingEntry(unknown, self.recalled, "sets")
        return self.recalled[list(names)].to_numpy(dtype=bool)

    def mark_region(self, inside: str | Sequence[str], outside: str | Sequence[str]) -> np.ndarray:
        """Mark the pairs that all of ``inside`` and none of ``outside`` recall."""
        within = list_names(inside, "inside")
        without = [outside] if isinstance(outside, str) else list(outside)
        if both := [name for name in within if name in without]:
            raise errors.Repeated("representations in inside and outside", both, "leave each out of one")
        return np.logical_and.reduce(self.columns(within), axis=1) & ~self.columns(without).any(axis=1)


def read_sets(sets: pd.DataFrame, representations: str | Sequence[str] | None = None) -> Sets:
    """Check the table and return the chosen representations, by default all, in the order of the argument."""
    if not isinstance(sets, pd.DataFrame):
        raise errors.WrongType("sets", type(sets), "a DataFrame", SOURCE)
    check_single_level(sets, "sets")
    if absent := [name for name in GENES if name not in sets]:
        raise errors.MissingColumn(absent, sets.columns, "sets", way_out=SOURCE)
    names = all_names = [name for name in sets.columns if name not in NOT_SETS]
    if representations is not None:
        names = list_names(representations, "representations")
        if unknown := [name for name in names if name not in all_names]:
            raise errors.MissingEntry(unknown, all_names, "sets")
    if not names:
        raise errors.Empty("representations in sets", SOURCE)
    # a column without rows has no values that could be of the wrong kind
    wrong = [name for name in names if len(sets) and not pd.api.types.is_bool_dtype(sets[name].convert_dtypes())]
    if wrong:
        raise errors.Refused("columns of sets are not true or false", wrong, f"choose other columns, or {SOURCE}")
    missing = sets[[*GENES, *names]].isna().any(axis=1)
    if missing.any():
        raise errors.MissingValues("sets", sets.index[missing].tolist(), "keep the pairs that all tables share")
    one, other = (sets[name].to_numpy(dtype=object) for name in GENES)
    codes, genes = pd.factorize(np.concatenate([one, other]), sort=True)
    first, second = np.sort(codes.reshape(2, -1), axis=0)
    if (repeated := pd.Series(first * max(len(genes), 1) + second).duplicated().to_numpy()).any():
        named = [f"{a}–{b}" for a, b in zip(one[repeated], other[repeated], strict=True)]
        raise errors.Repeated("pairs in sets", named, "keep one row for each pair, or it would count more than once")
    return Sets(sets[names].astype(bool).reset_index(drop=True), pd.Index(genes), first, second)


def check_single_level(table: pd.DataFrame, name: str) -> None:
    """Refuse a table with rows of several pairs of thresholds, each of which would be counted."""
    if not set(THRESHOLDS) <= set(table.columns) or len(levels := table[THRESHOLDS].drop_duplicates()) < 2:
        return
    chosen = " & ".join(f"({name}[{end!r}] == {levels[end].tolist()[0]!r})" for end in THRESHOLDS)
    raise errors.TooMany(f"pairs of thresholds in {name}", len(levels), 1, f"choose one, such as {name}[{chosen}]")


def _count_by_level(sets: pd.DataFrame, count: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    """Return what ``count`` makes of the table or, where it has thresholds, of the rows at each pair of them."""
    if not len(sets) or not set(THRESHOLDS) <= set(sets.columns):
        return count(sets)
    if (missing := sets[THRESHOLDS].isna().any(axis=1)).any():  # which a grouping would leave out
        raise errors.MissingValues("thresholds in sets", sets.index[missing].tolist())
    tables = []
    for level, rows in sets.groupby(THRESHOLDS, sort=False):
        table = count(rows)
        for place, (name, threshold) in enumerate(zip(THRESHOLDS, level, strict=True)):
            table.insert(place, name, [threshold] * len(table))
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


@document
def overlap(sets: pd.DataFrame, *, representations: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Return the number of recalled pairs in every region of the Venn diagram of representations (paper Figure 4).

    Parameters
    ----------
    sets, representations
        What :func:`relationship_sets` returns, and the columns to compare, at most 16; by default all representations.

    Returns
    -------
    One row for each of the 2^k − 1 regions, also empty ones: first the regions of one representation, then of two.
    A boolean column per representation is true where the region lies inside its set; ``n_pairs`` and ``n_genes`` count
    the pairs that just these representations recall, and their genes. If ``sets`` has several pairs of thresholds, the
    regions of each follow one another, after columns ``threshold_low`` and ``threshold_high``.

    {paper}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> sets = pd.DataFrame({"gene_a": ["A", "A", "B", "C"], "gene_b": ["B", "C", "C", "D"]})
    >>> scl.tl.overlap(sets.assign(X_pca=[True, True, False, False], X_semiclip=[True, True, True, False]))
       X_pca  X_semiclip  n_pairs  n_genes
    0   True       False        0        0
    1  False        True        1        2
    2   True        True        2        3
    """
    return _count_by_level(sets, lambda rows: _count_regions(read_sets(rows, representations)))


def _count_regions(read: Sets) -> pd.DataFrame:
    names, n_genes = list(read.recalled), len(read.genes)
    if taken := [name for name in COUNTS if name in names]:
        raise errors.NameTaken(taken, "a column of the result", "rename the column of sets")
    if len(names) > MOST:
        raise errors.TooMany("representations", len(names), MOST, f"they make {2 ** len(names) - 1:,} regions")
    # the first representation is the highest bit, so that falling numbers are the order of the columns
    bits = 1 << np.arange(len(names))[::-1]
    region_of_pair = read.recalled.to_numpy() @ bits
    with_genes = [region_of_pair * n_genes + gene for gene in (read.first, read.second)]
    region_of_gene = np.unique(np.concatenate(with_genes)) // max(n_genes, 1)
    counts = [np.bincount(regions, minlength=2 ** len(names)) for regions in (region_of_pair, region_of_gene)]
    regions = np.arange(1, 2 ** len(names))
    inside = (regions[:, None] & bits) > 0
    order = np.lexsort((-regions, inside.sum(axis=1)))
    table = pd.DataFrame(inside[order], columns=names)
    return table.assign(**{name: count[regions[order]] for name, count in zip(COUNTS, counts, strict=True)})


@document
def gains_losses(sets: pd.DataFrame, *, base: str, representations: str | Sequence[str] | None = None) -> pd.DataFrame:
    """Return how many pairs each representation gains over a base, loses and keeps (paper Figure 5).

    Parameters
    ----------
    sets
        What :func:`relationship_sets` returns.
    base, representations
        Representation to compare with, for example the unimodal one that the others were distilled from, and the
        columns to compare with it; by default all others.

    Returns
    -------
    One row per representation: ``representation``, ``base``, ``preserved`` (pairs that both recall), ``gains`` (only
    the representation), ``losses`` (only the base), ``total`` (= gains + preserved, all that the representation
    recalls) and ``base_total`` (= losses + preserved, the same in every row). If ``sets`` has several pairs of
    thresholds, there is such a row for each, after columns ``threshold_low`` and ``threshold_high``.

    {paper}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> sets = pd.DataFrame({"gene_a": ["A", "A", "B", "C"], "gene_b": ["B", "C", "C", "D"]})
    >>> sets = sets.assign(X_pca=[True, True, False, False], X_semiclip=[True, False, True, True])
    >>> scl.tl.gains_losses(sets, base="X_pca").drop(columns="base")
      representation  preserved  gains  losses  total  base_total
    0     X_semiclip          1      2       1      3           2
    """
    if representations is not None:
        representations = [base, *list_names(representations, "representations")]
    return _count_by_level(sets, lambda rows: _compare(read_sets(rows, representations), base))


def _compare(read: Sets, base: str) -> pd.DataFrame:
    in_base, others = read.columns([base]), [name for name in read.recalled if name != base]
    if not others:
        raise errors.TooFew("representations beside the base", 0, 1)
    recalled = read.columns(others)
    preserved, total, base_total = (recalled & in_base).sum(axis=0), recalled.sum(axis=0), in_base.sum()
    changes = {"preserved": preserved, "gains": total - preserved, "losses": base_total - preserved}
    return pd.DataFrame({"representation": others, "base": base, **changes, "total": total, "base_total": base_total})


@document
def region(sets: pd.DataFrame, *, inside: str | Sequence[str], outside: str | Sequence[str] = ()) -> pd.DataFrame:
    """Return the pairs that some representations all recall and others do not (paper Figure 4).

    Parameters
    ----------
    sets
        What :func:`relationship_sets` returns, at one pair of thresholds.
    inside, outside
        Representations that must all recall a pair, and representations of which none may recall it. Those in neither
        list do not matter.

    Returns
    -------
    The rows of ``sets`` in the region, with the same columns.

    {paper}

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> sets = pd.DataFrame({"gene_a": ["A", "A", "B"], "gene_b": ["B", "C", "C"]})
    >>> sets = sets.assign(X_pca=[True, True, False], X_semiclip=[True, False, True])
    >>> scl.tl.region(sets, inside="X_semiclip", outside="X_pca")
      gene_a gene_b  X_pca  X_semiclip
    0      B      C  False        True
    """
    return sets[read_sets(sets).mark_region(inside, outside)].reset_index(drop=True)
