"""Published knockdowns and knockouts of genes, expression and images of two laboratories: the real genetic pairing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._mudata import make_mudata
from semiclip.datasets._assemble import make_adata, read_r
from semiclip.datasets._files import fetch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

_GENE = "Metadata_Foci_Barcode_MatchedTo_GeneCode"
_LEAST = 0.05  # share of the lists that a gene has to be in


def rpe1_periscope() -> MuData:
    """Expression of 585 knockdowns in RPE1 and images of 3,454 knockouts in HeLa: the real genetic pairing.

    Two laboratories made the modalities, in two cell lines and by two ways of silencing, so what a model finds across
    them is biology and no layout of plates. 364 genes are in both, under the same observation name. The other 221 of
    expression never had an image: they are a natural test of what carries over.

    Each profile is already a difference from non-targeting cells, and there is one for each gene. The published data
    have **no controls, no batches and no replicates**: pass ``control=None`` and ``batch_key=None``, and pair by
    ``perturbation`` alone.

    Returns
    -------
    A MuData whose modalities both have float32 ``X`` and ``obs["perturbation"]``, the symbol of the perturbed gene:

    ``rna``
        585 knockdowns (CRISPR interference) × 4,925 genes. Published are, for each knockdown, the 1,000 genes that rise
        most above non-targeting cells, in order. The first has the value 1, each one after it 0.001 less, and a gene
        that is not in the list 0. Genes in fewer than 5 % of the lists are left out.
    ``image``
        3,454 knockouts (CRISPR) × 56 principal components of features of cell morphology, the hits of the screen in
        HPLM medium; the components are also in ``obsm["X_image"]`` as a teacher representation. The row ``CTRL`` is
        not a control.

    Notes
    -----
    Reading the expression takes about ten seconds. Symbols are those of the publications, of different years: a gene
    that has been renamed between them finds no partner unless :func:`semiclip.pp.match_genes` renames it.

    Sources: expression, Replogle et al., Cell 2022, 10.1016/j.cell.2022.05.013, as ranked lists in
    ``montilab/sigrecon``, CC-BY 4.0; images, PERISCOPE (Ramezani et al., Nature Methods 2025,
    10.1038/s41592-024-02537-7), ``broadinstitute/2022_PERISCOPE``, BSD-3-Clause, data CC0.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.rpe1_periscope()  # doctest: +SKIP
    >>> report = scl.pp.pair(mdata, pair_on="perturbation", control=None)  # doctest: +SKIP
    >>> report.attrs["summary"]["shared_keys"]  # doctest: +SKIP
    364
    """
    table = pd.read_csv(fetch("HeLa_HPLM_hit_list_PCA.csv"), index_col=_GENE)
    components = [f"image_{name}" for name in table.columns]
    obs = {"perturbation": table.index}
    image = make_adata(table.to_numpy(), obs=obs, obs_names=table.index, var_names=components)
    image.obsm["X_image"] = np.asarray(image.X)

    signatures = read_r(fetch("perturbseq.rpe1.rda"))["perturbseq.rpe1"]
    knockdowns = [str(gene) for gene in signatures]
    values, genes = score_ranks({gene: signatures[gene]["up_full"] for gene in signatures})
    rna = make_adata(values, obs={"perturbation": knockdowns}, obs_names=knockdowns, var_names=genes)
    return make_mudata(rna=rna, image=image)


def score_ranks(lists: Mapping[str, Sequence[str]], *, least: float = _LEAST) -> tuple[np.ndarray, np.ndarray]:
    """Return a score of each gene in each ranked list, 1 for the first down to 1/n, 0 if absent, and the genes.

    Genes are in alphabetical order, those in a share of at least ``least`` of the lists.
    """
    sizes = [len(ranked) for ranked in lists.values()]
    genes, column, counts = np.unique(
        np.concatenate([np.asarray(ranked, dtype=str) for ranked in lists.values()]),
        return_inverse=True,
        return_counts=True,
    )
    scores = np.zeros((len(sizes), len(genes)), dtype=np.float32)
    scores[np.repeat(np.arange(len(sizes)), sizes), column] = np.concatenate([np.arange(n, 0, -1) / n for n in sizes])
    kept = counts >= least * len(sizes)
    return scores[:, kept], genes[kept]
