from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from semiclip import datasets, metrics
from semiclip.metrics._map import pair_of_thresholds
from semiclip.tl._maps import corrected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile


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
    """Count the cosines of all pairs of perturbations, and of the annotated pairs, in bins (paper B.1).

    The map of each representation is that of :func:`recall`; see :func:`semiclip.metrics.similarity`.

    Parameters
    ----------
    adata, use_rep, perturbation_key, control, batch_key, relationships, method, profile, ridge, fallback
        As in :func:`recall`.
    thresholds, n_bins
        As in :func:`semiclip.metrics.similarity`.

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
    >>> table = scl.tl.similarity(
    ...     adata, use_rep="X_pca", perturbation_key="gene", control=None, relationships=known, method=None, n_bins=4
    ... )
    >>> table[["representation", "low", "high", "n_all", "n_annotated"]]
      representation  low  high  n_all  n_annotated
    0          X_pca -1.0  -0.5     41            0
    1          X_pca -0.5   0.0     58            1
    2          X_pca  0.0   0.5     50            0
    3          X_pca  0.5   1.0     41            1
    """
    level = pair_of_thresholds(thresholds)
    how: dict[str, Any] = {"method": method, "profile": profile, "ridge": ridge, "fallback": fallback}
    found = corrected(adata, use_rep, perturbation_key=perturbation_key, control=control, batch_key=batch_key, **how)
    known = datasets.relationships() if relationships is None else relationships
    tables = []
    for each in found:
        table = metrics.similarity(*each.means(), known, thresholds=level, n_bins=n_bins)
        table.insert(0, "representation", each.name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
