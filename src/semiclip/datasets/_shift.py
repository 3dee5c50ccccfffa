"""The samples of a data set as another assay would measure them, for tests on data unlike those of training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from semiclip._arguments import check_choice, check_number, check_whole
from semiclip._checks import check_adata, read_column
from semiclip._mudata import silence_mudata
from semiclip.encoders._expression import check_counts, is_fractional, normalize_expression, read_counts
from semiclip.errors import BadValue, IdleArgument, NameTaken, TooFew

if TYPE_CHECKING:
    from anndata import AnnData

Assay = Literal["l1000", "single_cell"]

SAMPLE = "sample"  # obs column of the sample that a cell is of


def shift_assay(
    adata: AnnData,
    *,
    assay: Assay,
    batch_key: str | None = None,
    gene_share: float | None = None,
    n_cells: int | None = None,
    depth: float | None = None,
    rng: int | np.random.Generator | None = None,
) -> AnnData:
    """Return the samples of a data set of counts as another assay would measure them.

    The paper trains on one assay and evaluates on three unseen data sets: bulk counts, as in training, z-scores of
    L1000's landmark genes, and single cells. This makes the latter two of the first.

    * ``"l1000"`` draws the genes that it measures at random. A value is the z-score of a gene among all samples of the
      batch (population standard deviation), after scaling each sample to 10,000 counts of all genes and log1p. A gene
      that does not vary in a batch is 0 there.
    * ``"single_cell"`` deals the molecules of each sample out to its cells. A molecule is in each cell with probability
      ``depth`` and in no more than one. With the defaults the cells of a sample have all of its molecules together, so
      that a lower ``depth`` makes data that tell less.

    Parameters
    ----------
    adata
        Counts, such as ``study.knockouts["rna"]`` of :func:`simulate`; dense or sparse.
    assay
        ``"l1000"`` or ``"single_cell"``.
    batch_key
        ``obs`` column of the batches within which ``"l1000"`` takes z-scores; ``None`` makes all rows one batch.
    gene_share
        Share of the genes that ``"l1000"`` measures; ``None`` is 0.6.
    n_cells, depth
        Cells of each sample in ``"single_cell"``, and the share of the sample's molecules that a cell has on average;
        ``None`` is 5 and 0.2. Together the cells have no more than all molecules: ``n_cells * depth`` is at most 1.
    rng
        Seed or generator; ``None`` draws other genes or molecules each time.

    Returns
    -------
    An AnnData with float32 ``X`` and the ``obs`` and ``var`` of ``adata``; its ``obsm``, ``layers`` and ``uns``, which
    describe what it measured, are left out. ``"l1000"`` has the same samples and fewer genes in the same order.
    ``"single_cell"`` has the same genes and ``n_cells`` rows for each sample, one after the other, with the sample's
    name in ``obs["sample"]``; ``X`` is sparse if that of ``adata`` is.

    Raises
    ------
    ValueError
        If the data are no counts, a batch has a single sample, cells would have more than all molecules, or ``obs`` has
        a column ``"sample"`` already.
    TypeError
        If an argument of the other assay is given.

    References
    ----------
    Bendidi et al., ICML 2025, section 4, DOI 10.48550/arXiv.2505.21317. L1000: Subramanian et al. 2017, DOI
    10.1016/j.cell.2017.10.049.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=24, n_pathways=6, n_genes=50, rng=0)
    >>> counts = study.knockouts["rna"]
    >>> counts.shape
    (336, 50)
    >>> l1000 = scl.datasets.shift_assay(counts, assay="l1000", batch_key="batch", rng=0)
    >>> l1000.shape, bool(abs(l1000.X.mean()) < 1e-6)
    ((336, 30), True)
    >>> cells = scl.datasets.shift_assay(counts, assay="single_cell", rng=0)
    >>> cells.shape, float(cells.X.sum() / counts.X.sum())
    ((1680, 50), 1.0)

    A PCA of counts embeds the z-scores by ``scl.pp.encode(l1000, encoder=encoder, zscores=True)``, once
    ``encoder.min_overlap`` allows for the genes that they lack.
    """
    check_choice("assay", assay, Assay)
    of_others: dict[str, dict[str, object]] = {
        "l1000": {"n_cells": n_cells, "depth": depth},
        "single_cell": {"batch_key": batch_key, "gene_share": gene_share},
    }
    if idle := [name for name, value in of_others[assay].items() if value is not None]:
        raise IdleArgument(idle, f"with assay={assay!r}")
    check_adata(adata)
    counts = normalize_expression(read_counts(adata, None), adata.obs_names, normalize=False)  # which must be finite
    wrong = "negative or fractional"
    check_counts(counts, adata.obs_names, wrong, lambda x: (x < 0) | is_fractional(x), "put counts in X")
    rng = np.random.default_rng(rng)
    if assay == "l1000":
        return _measure_landmarks(adata, counts, batch_key, 0.6 if gene_share is None else gene_share, rng)
    return _measure_cells(adata, counts, 5 if n_cells is None else n_cells, 0.2 if depth is None else depth, rng)


def _measure_landmarks(
    adata: AnnData, counts: Any, batch_key: str | None, gene_share: float, rng: np.random.Generator
) -> AnnData:
    check_number("gene_share", gene_share, above=0, most=1)
    n_genes = max(1, round(gene_share * adata.n_vars))
    genes = np.sort(rng.choice(adata.n_vars, n_genes, replace=False))
    values = normalize_expression(counts, adata.obs_names, normalize=True)[:, genes]
    values = values.toarray() if sparse.issparse(values) else values
    batch = np.zeros(adata.n_obs, dtype=np.intp)
    if batch_key is not None:
        batch = pd.factorize(read_column(adata, batch_key, "batch_key"))[0]
    scores = np.zeros(values.shape, dtype=np.float32)
    for code in range(batch.max() + 1):
        rows = np.flatnonzero(batch == code)
        if len(rows) < 2:
            raise TooFew("samples in a batch", len(rows), 2, "drop that batch, or leave out batch_key")
        # relative to the first row, so that nothing but zeros is left of a gene that does not vary
        centred = values[rows].astype(np.float64) - values[rows[0]]
        centred -= centred.mean(axis=0)
        sd = centred.std(axis=0)
        scores[rows] = np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 0)
    return _annotate(scores, adata.obs.copy(), adata.var.iloc[genes].copy())


def _measure_cells(adata: AnnData, counts: Any, n_cells: int, depth: float, rng: np.random.Generator) -> AnnData:
    check_whole("n_cells", n_cells)
    check_number("depth", depth, above=0, most=1)
    if n_cells * depth > 1 + 1e-9:
        needed = f"at most 1/n_cells, {1 / n_cells:g}"
        raise BadValue("depth", depth, needed, "for no molecule is in two cells of a sample")
    if SAMPLE in adata.obs:
        raise NameTaken(SAMPLE, "a column of obs", "rename that column")
    left = sparse.csr_array(counts, dtype=np.int64, copy=True)
    left.sum_duplicates()  # also sorts, so that dense and sparse counts are drawn alike
    left.eliminate_zeros()
    cells = []
    for cell in range(n_cells):
        # one of several outcomes after the other: a multinomial draw, which may leave molecules in no cell
        drawn = rng.binomial(left.data, min(1.0, depth / (1 - cell * depth)))
        cells.append(sparse.csr_array((drawn.astype(np.float32), left.indices, left.indptr), shape=left.shape))
        left.data = left.data - drawn
    order = np.arange(adata.n_obs * n_cells).reshape(n_cells, adata.n_obs).T.ravel()
    x = sparse.vstack(cells, format="csr")[order]
    x.eliminate_zeros()
    obs = adata.obs.iloc[np.repeat(np.arange(adata.n_obs), n_cells)].copy()
    obs[SAMPLE] = pd.Categorical(obs.index)
    obs.index = [f"{name}_{cell}" for name in adata.obs_names for cell in range(n_cells)]
    kind = type(counts) if sparse.issparse(counts) else None
    return _annotate(x.toarray() if kind is None else kind(x), obs, adata.var.copy())


def _annotate(values: Any, obs: pd.DataFrame, var: pd.DataFrame) -> AnnData:
    from anndata import AnnData

    with silence_mudata():
        return AnnData(values, obs=obs, var=var)
