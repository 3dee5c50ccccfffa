from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from semiclip import metrics
from semiclip._checks import check_adata, read_column
from semiclip._design import Design
from semiclip._docs import document
from semiclip.correction import CorrectionSpec
from semiclip.errors import TooFew
from semiclip.tl._maps import read_corrected

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile


@document
def knn_accuracy(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    label_key: str,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    across_batches: bool = True,
    n_neighbors: int = 5,
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Return how often the nearest neighbours of a row, by cosine, vote for its label.

    Each representation is corrected on the controls, which are then left out. All other rows can be neighbours or,
    where batches are known, all rows of other batches.

    Parameters
    ----------
    adata
        Observations of perturbations, which need not be genetic.
    {representations}
    {columns}
    label_key
        ``obs`` column of the labels, for example mechanisms of action or the perturbations themselves. Controls need
        no label.
    {correction}
    across_batches
        Whether neighbours come from other batches alone, so that what a batch has in common does not help. Without
        ``batch_key`` this does nothing.
    n_neighbors
        Neighbours that vote, all with the same weight. Of labels that tie, the first in alphabetical order wins.
    n_permutations
        Number of random exchanges of the labels among the treated rows that measure chance, at least 2; 0 leaves
        chance out.
    rng
        Seed or generator of the exchanges.

    Returns
    -------
    One row per representation: ``metric``, ``representation``, ``key`` (``label_key``), ``value`` (the fraction of rows
    whose neighbours vote for their label), ``n_obs`` (the rows that count, whose label a possible neighbour has),
    ``chance`` (the fraction of them with the most frequent label) and, with permutations, ``chance_mean`` and
    ``chance_sd``.

    Raises
    ------
    KeyError, TypeError, ValueError
        As in :func:`recall`, or if there are fewer possible neighbours than ``n_neighbors``, all treated rows are in
        one batch, or no two rows share a label.

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20).knockouts["image"]
    >>> columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    >>> how = {"method": "center", "n_permutations": 0}
    >>> table = scl.tl.knn_accuracy(adata, use_rep="X_image", **columns, label_key="pathway", **how)
    >>> table.round(2)
             metric representation      key  value  n_obs  chance
    0  knn_accuracy        X_image  pathway    1.0     72    0.33
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    spec = CorrectionSpec(method, profile, ridge, fallback=fallback)
    treated = ~design.controls(check_adata(adata))
    labels = read_column(adata, label_key, "label_key", treated).to_numpy()
    batch = design.batches(adata)[0][treated] if batch_key is not None and across_batches else None
    representations = read_corrected(adata, use_rep, design, spec)
    if batch is not None and (batch == batch[0]).all():
        raise TooFew("batches of treated rows", 1, 2, "pass across_batches=False to take neighbours of the same batch")
    rows = []
    for corrected in representations:
        scores = metrics.knn_accuracy(
            corrected.x[treated], labels, batch, n_neighbors=n_neighbors, n_permutations=n_permutations, rng=rng
        )
        rows.append({"metric": "knn_accuracy", "representation": corrected.name, "key": label_key, **scores})
    return pd.DataFrame(rows)
