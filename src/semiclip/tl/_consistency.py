from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip import metrics
from semiclip._design import Design
from semiclip._docs import document
from semiclip.correction import CorrectionSpec
from semiclip.metrics._consistency import random_consistency
from semiclip.tl._maps import read_corrected
from semiclip.tl._p_values import find_inactive, find_measured, rank_among_inactive, rank_among_sets, tabulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile

MAX_DRAWN = 1000  # rows of a random set


@document
def consistency(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    null: Sequence[str] | None = None,
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Return how alike the replicates of each perturbation are: the mean cosine of all their pairs.

    Each representation is corrected on the controls, which are then left out.

    Parameters
    ----------
    adata
        Observations of perturbations, which need not be genetic.
    {representations}
    {columns}
    {correction}
    null
        Perturbations known to be inactive, for example genes that are not expressed: their values are the null
        distribution. ``None`` draws it: random sets of as many treated rows.
    n_permutations
        Number of random sets for each number of rows.
    rng
        Seed or generator of the sets. With an integer all representations meet the same sets.

    Returns
    -------
    One row per representation and perturbation: ``metric``, ``representation``, ``key`` (the perturbation), ``value``,
    ``n_obs`` (its rows) and ``p_value``. A perturbation of one row has neither value nor p-value (NaN). Perturbations
    in ``null`` have no p-value, since the others are compared with them.

    Raises
    ------
    KeyError, TypeError, ValueError
        As in :func:`recall`, or if no perturbation has two rows, a label in ``null`` does not exist, or none of these
        perturbations has two rows.

    Notes
    -----
    The p-value is (1 + #{random sets at least as consistent}) / (1 + n_permutations), so that it cannot be 0, or the
    share of the inactive perturbations that are at least as consistent. Random sets ignore batches: where a correction
    leaves some of a batch, replicates that share it look consistent for that alone. Perturbations of more than 1000
    rows meet sets of 1000, which vary more, so that their p-values err towards 1.

    References
    ----------
    Celik et al. 2024, DOI 10.1371/journal.pcbi.1012463.

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20).knockouts["image"]
    >>> columns = {"perturbation_key": "perturbation", "control": "control"}
    >>> table = scl.tl.consistency(adata, use_rep="X_image", **columns, method="center", rng=0)
    >>> table.round(3).head(2)
            metric representation      key  value  n_obs  p_value
    0  consistency        X_image  gene_00  0.413      6    0.001
    1  consistency        X_image  gene_01  0.346      6    0.001
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    spec = CorrectionSpec(method, profile, ridge, fallback=fallback)
    tables = []
    for corrected in read_corrected(adata, use_rep, design, spec):
        inactive = find_inactive(corrected, null, n_permutations)
        find_measured(corrected, 2, inactive)
        x = corrected.x[corrected.treated]
        values = metrics.consistency(x, corrected.codes[corrected.treated], len(corrected.labels))
        if inactive is None:
            draw = partial(random_consistency, x, n_draws=n_permutations, rng=np.random.default_rng(rng))
            p = rank_among_sets(values, np.minimum(corrected.counts, MAX_DRAWN), draw)
        else:
            p = rank_among_inactive(values, inactive)
        tables.append(tabulate("consistency", corrected, values, p))
    return pd.concat(tables, ignore_index=True)
