from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from semiclip import datasets, metrics
from semiclip._design import Design
from semiclip._docs import document
from semiclip.correction import CorrectionSpec
from semiclip.errors import NameTaken
from semiclip.metrics._map import pair_of_thresholds
from semiclip.tl._maps import list_names, read_corrected
from semiclip.tl._sets import GENES, NOT_SETS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile


@document
def relationship_sets(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    relationships: pd.DataFrame | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    thresholds: tuple[float, float] = (0.05, 0.95),
) -> pd.DataFrame:
    """Return which representations recall each annotated gene pair, over all databases together.

    Parameters
    ----------
    adata
        Observations of genetic perturbations.
    {representations}
    {columns}
    {relationships}
    {correction}
    thresholds
        Low and high quantile beyond which a pair is recalled, 0 ≤ low ≤ high ≤ 1.

    Returns
    -------
    One row per annotated pair with both genes among the perturbations: ``gene_a``, ``gene_b`` (in alphabetical
    order), ``databases`` (joined by ``";"``) and a boolean column per representation, true where it recalls the pair.

    Raises
    ------
    KeyError, TypeError, ValueError
        As in :func:`recall`, or if a representation has the name of another column.

    References
    ----------
    Bendidi et al., ICML 2025, Figures 4 and 5, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import anndata
    >>> import numpy as np
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> genes = [f"G{i:02}" for i in range(20)]
    >>> adata = anndata.AnnData(obs=pd.DataFrame({"gene": genes}, index=genes))
    >>> adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(20, 4))
    >>> known = pd.DataFrame({"database": ["A", "B"], "gene_a": ["G00", "G01"], "gene_b": ["G01", "G00"]})
    >>> columns = {"perturbation_key": "gene", "control": None}
    >>> scl.tl.relationship_sets(adata, use_rep="X_pca", **columns, relationships=known, method=None)
      gene_a gene_b databases  X_pca
    0    G00    G01       A;B  False
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    spec = CorrectionSpec(method, profile, ridge, fallback=fallback)
    names = list_names(use_rep)
    if taken := [name for name in names if name in NOT_SETS]:
        raise NameTaken(taken, "a column of the result", "copy the representation to another key of obsm")
    level = pair_of_thresholds(thresholds)
    representations = read_corrected(adata, names, design, spec)
    annotated = datasets.relationships() if relationships is None else relationships
    recalled = {}
    for corrected in representations:
        pairs = metrics.recalled_pairs(*corrected.average(), annotated, thresholds=level)
        recalled[corrected.name] = pairs.groupby(GENES)["recalled"].first()
    # the sum of strings joins them, many times faster than a join per pair
    parts = pairs["database"].astype(object) + ";"
    databases = parts.groupby([pairs[gene] for gene in GENES]).sum().str.removesuffix(";")
    return pd.DataFrame({"databases": databases, **recalled}).reset_index()
