from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from semiclip import metrics
from semiclip._checks import batches, column, controls, nonempty
from semiclip.tl._maps import corrected
from semiclip.tl._treated import Treated

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile


def knn_accuracy(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    label_key: str,
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    across_batches: bool = True,
    n_neighbors: int = 5,
    n_permutations: int = 0,
    rng: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Measure how often the nearest neighbours of a row, by cosine, have its label, such as its mechanism of action.

    Each representation is corrected on the controls, which are then left out. All other rows can be neighbours or,
    where batches are known, all rows of other batches.

    Parameters
    ----------
    adata, use_rep, perturbation_key, control, batch_key
        As in :func:`recall`; the perturbations need not be genetic.
    label_key
        Column of ``obs`` with what is to be found out, which may be the perturbation; controls need no label.
    method, profile, ridge, fallback
        Correction, see :func:`semiclip.correction.correct`; ``method=None`` takes the representation as it is.
    across_batches
        Whether neighbours come from other batches alone, so that what a batch has in common does not help. Without
        ``batch_key`` this does nothing.
    n_neighbors
        Neighbours that vote, each alike; of labels that tie, the first in their order wins.
    n_permutations, rng
        Number of random exchanges of the labels among the treated rows that measure chance, at least 2 or 0 for
        none, and their seed or generator.

    Returns
    -------
    One row per representation: ``metric``, ``representation``, ``key`` (``label_key``), ``value`` (the fraction of rows
    whose neighbours vote for their label), ``n_obs`` (the rows that count, whose label a possible neighbour has),
    ``chance`` (the fraction of them with the most frequent label) and, with permutations, ``chance_mean`` and
    ``chance_sd``.

    Raises
    ------
    KeyError
        If a column or representation does not exist.
    TypeError, ValueError
        If there are fewer possible neighbours than ``n_neighbors``, all treated rows are in the one batch, no label is
        found twice, or as in :func:`recall`.

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20).knockouts["image"]
    >>> table = scl.tl.knn_accuracy(
    ...     adata,
    ...     use_rep="X_image",
    ...     label_key="pathway",
    ...     perturbation_key="perturbation",
    ...     control="control",
    ...     batch_key="batch",
    ...     method="center",
    ... )
    >>> table.round(2)
             metric representation      key  value  n_obs  chance
    0  knn_accuracy        X_image  pathway    1.0     72    0.33
    """
    # a label that only controls lack is not missed
    perturbed = ~controls(nonempty(adata), perturbation_key, control)
    labels = column(adata[perturbed], label_key, "label_key").to_numpy()
    apart = batch_key is not None and across_batches
    rows = []
    for found in corrected(
        adata, use_rep, perturbation_key=perturbation_key, control=control, batch_key=batch_key,
        method=method, profile=profile, ridge=ridge, fallback=fallback,
    ):  # fmt: skip
        treated = Treated.of(found).rows
        batch = batches(adata, batch_key)[0][treated] if apart else None
        if batch is not None and (batch == batch[0]).all():
            msg = (
                f"all treated rows are in one batch of {batch_key!r}, so that none has a neighbour in another; "
                "across_batches=False looks in its own"
            )
            raise ValueError(msg)
        scores = metrics.knn_accuracy(
            found.x[treated], labels, batch,
            n_neighbors=n_neighbors, n_permutations=n_permutations, rng=rng,
        )  # fmt: skip
        rows.append({"metric": "knn_accuracy", "representation": found.name, "key": label_key, **scores})
    return pd.DataFrame(rows)
