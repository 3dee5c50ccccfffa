from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip import metrics
from semiclip.metrics._consistency import random_consistency
from semiclip.tl._maps import corrected
from semiclip.tl._treated import Treated, drawn_p_values, inactive, measured, p_values, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile

MAX_DRAWN = 1000  # rows of a random set


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
    """Measure for each perturbation how alike its replicates are: the mean cosine of all their pairs.

    Each representation is corrected on the controls, which are then left out.

    Parameters
    ----------
    adata, use_rep, perturbation_key, control, batch_key
        As in :func:`recall`; the perturbations need not be genetic.
    method, profile, ridge, fallback
        Correction, see :func:`semiclip.correction.correct`; ``method=None`` takes the representation as it is.
    null
        Perturbations known to be inactive, such as genes that are not expressed: their values are the null
        distribution. ``None`` draws it: sets of as many random treated rows.
    n_permutations
        Number of random sets for each number of rows.
    rng
        Seed or generator of the sets. With an integer all representations meet the same sets.

    Returns
    -------
    One row per representation and perturbation: ``metric``, ``representation``, ``key`` (the perturbation), ``value``,
    ``n_obs`` (its rows) and ``p_value``. A perturbation of one row has neither value nor p-value (NaN), and those of
    ``null`` have no p-value, since they are what the others are compared with.

    Raises
    ------
    KeyError
        If a column or representation does not exist.
    TypeError, ValueError
        If no perturbation has two rows, a label of ``null`` is not there, none of them has two rows, or as in
        :func:`recall`.

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
    >>> table = scl.tl.consistency(
    ...     adata, use_rep="X_image", perturbation_key="perturbation", control="control", method="center", rng=0
    ... )
    >>> table.round(3).head(2)
            metric representation      key  value  n_obs  p_value
    0  consistency        X_image  gene_00  0.413      6    0.001
    1  consistency        X_image  gene_01  0.346      6    0.001
    """
    tables = []
    for found in corrected(
        adata, use_rep, perturbation_key=perturbation_key, control=control, batch_key=batch_key,
        method=method, profile=profile, ridge=ridge, fallback=fallback,
    ):  # fmt: skip
        treated = Treated.of(found)
        known = inactive(treated, null, n_permutations)
        measured(treated, 2, known)
        x = found.x[treated.rows]
        values = metrics.consistency(x, treated.codes, len(treated.labels))
        draw = partial(random_consistency, x, n_draws=n_permutations, rng=np.random.default_rng(rng))
        if known is None:
            p = drawn_p_values(values, np.minimum(treated.counts, MAX_DRAWN), draw)
        else:
            p = p_values(values, known)
        tables.append(table("consistency", found.name, treated, values, p))
    return pd.concat(tables, ignore_index=True)
