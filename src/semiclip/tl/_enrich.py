"""Tests gene sets for over-representation among the pairs of a region."""

import logging
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import pandas as pd
from scipy import sparse

from semiclip import datasets, errors, metrics
from semiclip._arguments import check_choice, check_whole
from semiclip._docs import document
from semiclip.tl._maps import list_names
from semiclip.tl._sets import GENES, Sets, read_sets

Level = Literal["gene", "pair"]
TABLE = "the table of genes"
logger = logging.getLogger(__name__)

# long texts in the middle, which is left out where a table is printed
ENRICHED = {"gene_set": object, "n_overlap": np.intp, "fold": float, "genes": object}
ENRICHED |= dict.fromkeys(["n_region", "n_set", "n_background"], np.intp)
ENRICHED |= dict.fromkeys(["expected", "p_value", "p_adjusted"], float)


@document
def enrich(
    sets: pd.DataFrame,
    *,
    inside: str | Sequence[str],
    outside: str | Sequence[str] = (),
    gene_sets: str | os.PathLike[str] | Mapping[str, Iterable[str]],
    background: str | Iterable[str] | None = None,
    min_size: int = 3,
    level: Level = "gene",
) -> pd.DataFrame:
    """Return how over-represented gene sets are among the pairs of a region (paper Table 3), or in a list of genes.

    The test is :func:`semiclip.metrics.over_representation`.

    Parameters
    ----------
    sets, inside, outside
        What :func:`relationship_sets` returns, at one pair of thresholds, and the region, as in :func:`region`. Or a
        table with a row for each gene, such as :func:`gene_attribution` returns: its column ``gene``, and true or false
        in the columns that ``inside`` and ``outside`` name.
    gene_sets
        ``"hallmark"``, ``"reactome"`` or the path of a GMT file, see :func:`semiclip.datasets.gene_sets`, or a mapping
        of names to genes, labelled as in ``sets``.
    background
        What the region is drawn from: ``"recalled"``, the pairs that any representation in ``sets`` recalls (by
        default; of a table of genes all of them, which is ``"map"``);
        ``"inside"``, those that all of ``inside`` recall; the name of a representation, those that it recalls;
        ``"map"``, all pairs in ``sets``; or a list of genes. Parts of the region outside the background are left out,
        which is logged. The paper compares a region with the other pairs that the same method retrieves: name its
        representation, or say ``"inside"`` if it stands alone there.
    min_size
        Items in the background that a gene set must have to be tested, and to count in the adjustment.
    level
        What is counted. ``"gene"``: the distinct genes of the pairs. ``"pair"``: the pairs, which belong to a gene set
        if both of their genes do, and to a list of genes as background likewise. The two genes of an annotated pair
        mostly share gene sets, so that at the level of genes even a region of random pairs looks enriched. To claim
        that a region has a theme, test at the level of pairs too.

    Returns
    -------
    One row per gene set, sorted by p-value: ``gene_set``, ``n_overlap`` (items of the region in the gene set),
    ``n_region`` (in the region), ``n_set`` (of the background in the gene set), ``n_background``, ``expected`` (overlap
    at random), ``fold`` (overlap / expected), ``p_value``, ``p_adjusted`` (Benjamini and Hochberg, over all rows) and
    ``genes`` (of the overlap, joined by ``";"``). An empty region gives an empty table.

    {paper}
    Benjamini and Hochberg 1995, DOI 10.1111/j.2517-6161.1995.tb02031.x.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> sets = pd.DataFrame({"gene_a": ["A", "A", "B", "D", "E"], "gene_b": ["B", "C", "C", "E", "F"]})
    >>> sets = sets.assign(X_pca=[False, False, False, True, True], X_semiclip=[True, True, True, False, True])
    >>> table = scl.tl.enrich(sets, inside="X_semiclip", outside="X_pca", gene_sets={"complex": ["A", "B", "C"]})
    >>> table[["gene_set", "n_overlap", "n_set", "n_background", "p_value", "genes"]].round(2).to_numpy().tolist()
    [['complex', 3, 3, 6, 0.05, 'A;B;C']]
    """
    check_choice("level", level, Level)
    check_whole("min_size", min_size)
    named: set[Hashable] = set()
    if isinstance(sets, pd.DataFrame):
        named = {*sets, *sets.index.names}
        sets = sets.assign(**{name: _strip_genes(sets[name]) for name in ("gene", *GENES) if name in sets})
    if lists_genes := "gene" in named and not named & {*GENES}:
        sets = _pair_genes(sets, inside, outside)
    background = ("map" if lists_genes else "recalled") if background is None else background
    read = read_sets(sets)
    in_region = read.mark_region(inside, outside)
    members = _read_gene_sets(gene_sets)
    genes, gene_in, pair_in = _read_background(read, background, inside)
    if not in_region.any():
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in ENRICHED.items()})

    # an item is a pair of genes, or a gene as a pair with itself
    of_region = np.union1d(read.first[in_region], read.second[in_region])
    if level == "pair":
        first, second, drawn = read.first[pair_in], read.second[pair_in], in_region[pair_in]
        n_region = in_region.sum()
    else:
        first = second = np.flatnonzero(gene_in)
        drawn, n_region = np.isin(first, of_region), of_region.size
    if not drawn.any():
        sides, way_out = ("the region", "the background"), "use one kind of gene label, or another background"
        raise errors.NothingShared(level, genes[of_region], genes[gene_in], sides, way_out)
    if n_left := n_region - drawn.sum():
        logger.info("%d of %d %ss of the region are not in the background and are left out", n_left, n_region, level)
    # which gene set (row) has which gene, and which item (column)
    column = genes.get_indexer(pd.Index([gene for in_set in members.values() for gene in in_set], dtype=object))
    row = np.repeat(np.arange(len(members)), [len(in_set) for in_set in members.values()])[column >= 0]
    ones, shape = np.ones(len(row), dtype=np.int64), (len(members), len(genes))
    is_member = sparse.csc_array((ones, (row, column[column >= 0])), shape=shape)
    items = is_member[:, first] * is_member[:, second]
    n_set = np.asarray(items.sum(axis=1))
    tested = n_set >= min_size
    if not tested.any():
        way_out = f"lower min_size, or label genes as in sets, which has {errors.some(read.genes)}"
        what = f"{level}s of the largest gene set in the background"
        raise errors.TooFew(what, max(n_set, default=0), min_size, way_out)
    overlap, n_set = items[tested][:, drawn].tocsr(), n_set[tested]
    n_overlap, n_drawn, n_background = np.diff(overlap.indptr), drawn.sum(), len(first)
    expected = n_drawn * n_set / n_background
    p_value = metrics.over_representation(n_overlap, n_drawn, n_set, n_background)

    from scipy.stats import false_discovery_control

    columns = np.split(overlap.indices, overlap.indptr[1:-1])
    shared = [np.union1d(first[drawn][column], second[drawn][column]) for column in columns]
    table = pd.DataFrame({"gene_set": np.array(list(members), dtype=object)[tested], "n_overlap": n_overlap})
    table = table.assign(n_region=n_drawn, n_set=n_set, n_background=n_background, expected=expected)
    table = table.assign(fold=n_overlap / expected, p_value=p_value, p_adjusted=false_discovery_control(p_value))
    table["genes"] = [";".join(genes[which]) for which in shared]
    return table.astype(ENRICHED)[[*ENRICHED]].sort_values("p_value", kind="stable", ignore_index=True)


def _pair_genes(table: pd.DataFrame, inside: str | Sequence[str], outside: str | Sequence[str]) -> pd.DataFrame:
    """Return a table of genes as one of pairs, each gene with itself."""
    if "gene" not in table:
        raise errors.MissingColumn("gene", table.columns, TABLE, way_out="it is in the index: call reset_index() first")
    columns = [*list_names(inside, "inside"), *([outside] if isinstance(outside, str) else outside)]
    if absent := [name for name in columns if name not in table]:
        raise errors.MissingColumn(absent, table.columns, TABLE)
    wrong = [name for name in columns if len(table) and not pd.api.types.is_bool_dtype(table[name].convert_dtypes())]
    if wrong:
        way_out = 'make them by a comparison, such as table["top"] = table["rank"] <= 50'
        raise errors.Refused(f"columns of {TABLE} are not true or false", wrong, way_out)
    if (missing := table[["gene", *columns]].isna().any(axis=1)).any():
        raise errors.MissingValues(TABLE, table.index[missing].tolist(), "drop these rows")
    if (repeated := table["gene"].duplicated()).any():
        raise errors.Repeated(f"genes in {TABLE}", table["gene"][repeated].tolist(), "keep one row for each gene")
    return table[list(dict.fromkeys(columns))].assign(**dict.fromkeys(GENES, table["gene"]))


def _read_gene_sets(gene_sets: str | os.PathLike[str] | Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return the genes of each set, each once."""
    if isinstance(gene_sets, str | os.PathLike):
        return datasets.gene_sets(gene_sets)
    if not isinstance(gene_sets, Mapping):
        raise errors.WrongType("gene_sets", type(gene_sets), "a name, the path of a GMT file or a mapping")
    for name, genes in gene_sets.items():
        if isinstance(genes, str) or not isinstance(genes, Iterable):
            raise errors.WrongType(f"gene_sets[{name!r}]", type(genes), "a list of genes")
    return {name: _read_genes(f"gene_sets[{name!r}]", genes) for name, genes in gene_sets.items()}


def _strip_genes(genes: Iterable[str]) -> list[str]:
    """Return labels without blanks around them, which people do not see in spreadsheets."""
    return [gene.strip() if isinstance(gene, str) else gene for gene in genes]


def _read_genes(name: str, genes: Iterable[str]) -> list[str]:
    """Return genes without blanks around them, each once; what is missing is no gene."""
    listed = pd.Series(_strip_genes(genes), dtype=object)
    if missing := np.flatnonzero(listed.isna() | listed.isin(["", "nan", "<NA>"])).tolist():  # also as text of pandas
        raise errors.MissingValues(name, missing, "drop them")
    return list(dict.fromkeys(listed.tolist()))


def _read_background(
    read: Sets, background: str | Iterable[str], inside: str | Sequence[str]
) -> tuple[pd.Index, np.ndarray, np.ndarray]:
    """Return the genes of ``read`` and of the background, and which of them and which pairs are the background."""
    if isinstance(background, str):
        words = {"recalled": read.recalled.any(axis=1), "map": read.recalled.notna().all(axis=1)}
        words["inside"] = pd.Series(read.mark_region(inside, ()))
        if background in words and background in read.recalled:
            raise errors.NameTaken(background, "a representation in sets", "rename that column")
        choices = words | dict(read.recalled.items())
        if background not in choices:
            raise errors.UnknownChoice("background", background, choices, "or pass a list of genes")
        pair_in = choices[background].to_numpy()
        gene_in = np.zeros(len(read.genes), dtype=bool)
        gene_in[read.first[pair_in]] = gene_in[read.second[pair_in]] = True
        return read.genes, gene_in, pair_in
    listed = pd.Index(_read_genes("background", background), dtype=object)
    genes = read.genes.append(listed[~listed.isin(read.genes)])
    gene_in = np.asarray(genes.isin(listed))
    return genes, gene_in, np.logical_and(gene_in[read.first], gene_in[read.second])
