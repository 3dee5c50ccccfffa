from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from semiclip import datasets, metrics
from semiclip._design import Design
from semiclip._docs import document
from semiclip.correction import CorrectionSpec
from semiclip.metrics._map import pair_of_thresholds
from semiclip.tl._maps import read_corrected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile


@document
def similarity(
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
    n_bins: int = 100,
) -> pd.DataFrame:
    """Return histograms of the cosines of all pairs of perturbations and of the annotated pairs (paper B.1).

    The map of each representation is the one that :func:`recall` judges.

    Parameters
    ----------
    adata
        Observations of genetic perturbations.
    {representations}
    {columns}
    {relationships}
    {correction}
    thresholds
        Low and high quantile beyond which a pair is recalled; the table says at which cosines they lie.
    n_bins
        Number of bins between -1 and 1.

    Returns
    -------
    One row per representation and bin: ``representation`` and the columns of :func:`semiclip.metrics.similarity`.

    Raises
    ------
    KeyError, TypeError, ValueError
        As in :func:`recall`, or if ``n_bins`` is less than 1.

    References
    ----------
    Bendidi et al., ICML 2025, section B.1, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import anndata
    >>> import numpy as np
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> genes = [f"G{i:02}" for i in range(20)]
    >>> adata = anndata.AnnData(obs=pd.DataFrame({"gene": genes}, index=genes))
    >>> adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(20, 4))
    >>> known = pd.DataFrame({"gene_a": ["G00", "G01"], "gene_b": ["G01", "G02"]})
    >>> columns = {"perturbation_key": "gene", "control": None}
    >>> table = scl.tl.similarity(adata, use_rep="X_pca", **columns, relationships=known, method=None, n_bins=4)
    >>> table[["representation", "low", "high", "n_all", "n_annotated"]]
      representation  low  high  n_all  n_annotated
    0          X_pca -1.0  -0.5     41            0
    1          X_pca -0.5   0.0     58            1
    2          X_pca  0.0   0.5     50            0
    3          X_pca  0.5   1.0     41            1
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    spec = CorrectionSpec(method, profile, ridge, fallback=fallback)
    level = pair_of_thresholds(thresholds)
    representations = read_corrected(adata, use_rep, design, spec)
    annotated = datasets.relationships() if relationships is None else relationships
    tables = []
    for corrected in representations:
        table = metrics.similarity(*corrected.average(), annotated, thresholds=level, n_bins=n_bins)
        table.insert(0, "representation", corrected.name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
