from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from semiclip import datasets, metrics
from semiclip._checks import some
from semiclip.metrics._map import pair_of_thresholds
from semiclip.tl._maps import corrected, named

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile

PAIR = ["gene_a", "gene_b"]


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
    """Say of each annotated gene pair which representations recall it, over all databases together.

    Parameters
    ----------
    adata, use_rep, perturbation_key, control, batch_key, relationships, method, profile, ridge, fallback
        As in :func:`recall`.
    thresholds
        Low and high quantile beyond which a pair is recalled, 0 ≤ low ≤ high ≤ 1.

    Returns
    -------
    One row per annotated pair with both genes among the perturbations: ``gene_a``, ``gene_b`` (in alphabetical
    order), ``databases`` (joined by ``";"``) and a boolean column per representation, true where it recalls the pair.

    Raises
    ------
    KeyError, TypeError, ValueError
        As in :func:`recall`.

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
    >>> sets = scl.tl.relationship_sets(
    ...     adata, use_rep="X_pca", perturbation_key="gene", control=None, relationships=known, method=None
    ... )
    >>> sets
      gene_a gene_b databases  X_pca
    0    G00    G01       A;B  False
    """
    names = named(use_rep)
    if taken := {*PAIR, "databases"} & set(names):
        msg = f"a representation is called {some(taken)}, which is a column of the result; copy it to another key"
        raise ValueError(msg)
    level = pair_of_thresholds(thresholds)
    how: dict[str, Any] = {"method": method, "profile": profile, "ridge": ridge, "fallback": fallback}
    found = corrected(adata, names, perturbation_key=perturbation_key, control=control, batch_key=batch_key, **how)
    known = datasets.relationships() if relationships is None else relationships
    recalled = {}
    for each in found:
        pairs = metrics.recalled_pairs(*each.means(), known, thresholds=level)
        recalled[each.name] = pairs.groupby(PAIR)["recalled"].first()
    # the sum of strings joins them, many times faster than a join per pair
    listed = pairs["database"].astype(object) + ";"
    databases = listed.groupby([pairs[gene] for gene in PAIR]).sum().str.removesuffix(";")
    return pd.DataFrame({"databases": databases, **recalled}).reset_index()
