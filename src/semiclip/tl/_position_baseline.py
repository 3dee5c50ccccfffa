"""How much of what a representation retrieves the positions on the plates would retrieve alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from semiclip import metrics
from semiclip._checks import check_adata
from semiclip._design import Design
from semiclip._docs import document
from semiclip.correction import CorrectionSpec, Fallback, Method, Profile
from semiclip.errors import Empty
from semiclip.io import _tables
from semiclip.metrics._nearby import nearby_precision
from semiclip.tl._columns import order_columns
from semiclip.tl._maps import read_corrected

ALL, OTHERS = "all positions", "other positions"


@document
def position_baseline(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    well_key: str = "well",
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    across_batches: bool = True,
) -> pd.DataFrame:
    """Return how well a row finds the replicates of its perturbation by its position on the plate alone.

    Where replicates stand in the same wells of all plates, or in wells near each other, effects of the position (edges,
    dispensers, gradients) look like effects of the perturbation. The first rows of the result rank all treated rows by
    the distance of their wells, the others by the cosine of a representation, as :func:`replicate_retrieval` does;
    each also without the candidates in the well of the query, which a representation must find some other way.

    Parameters
    ----------
    {samples}
    well_key
        ``obs`` column of the wells, such as A01 or AF48.
    {correction}
    across_batches
        Whether a row ranks the rows of other batches alone.

    Returns
    -------
    Two rows for the positions, ``representation`` ``"position"``, and for each representation: ``metric``,
    ``representation``, ``key``, ``value``, ``n_obs`` and ``chance`` as in :func:`replicate_retrieval`. ``key`` says
    which candidates are ranked: ``"all positions"``, or ``"other positions"`` than the query's own. ``value`` is NaN
    and ``n_obs`` 0 where no perturbation has a second row there.

    Wells that are equally far are in a random order: their mean over all orders counts.

    A representation that scores no higher than the position may have found nothing else. One that falls to chance
    among the other positions has found nothing else, or each perturbation has one position alone.

    Raises
    ------
    ValueError
        If names of wells cannot be read, or no perturbation has a second row.

    References
    ----------
    Arevalo et al. 2024, DOI 10.1038/s41467-024-50613-5, on position effects in such screens.

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20, rng=0).knockouts["image"]
    >>> adata.obs["well"] = [f"B{code + 1:02}" for code in adata.obs["perturbation"].cat.codes]  # on all plates
    >>> columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    >>> table = scl.tl.position_baseline(adata, use_rep="X_image", **columns)
    >>> table[["representation", "key", "value", "chance"]].round(2).to_numpy().tolist()
    [['position', 'all positions', 1.0, 0.13], ['position', 'other positions', nan, nan],
     ['X_image', 'all positions', 0.67, 0.13], ['X_image', 'other positions', nan, nan]]
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    across = batch_key is not None and across_batches
    treated = ~design.controls(check_adata(adata))
    position = _tables.read_well_positions(adata, well_key, treated)
    site = np.unique(position, axis=0, return_inverse=True)[1].ravel()
    batch = design.batches(adata)[0][treated] if across else None
    representations = read_corrected(adata, use_rep, design, CorrectionSpec(method, profile, ridge, fallback=fallback))
    rows: list[dict[str, Any]] = []
    for corrected in representations:
        codes = corrected.codes[treated]
        if not rows:
            for key, apart in ((ALL, None), (OTHERS, site)):
                scores = _average(*nearby_precision(position, codes, batch, apart=apart is not None))
                rows.append({"representation": "position", "key": key, **scores})
            if not rows[0]["n_obs"]:
                way_out = "pass across_batches=False to look in the same batch too" if across else ""
                raise Empty(f"perturbations with a second row{' in another batch' if across else ''}", way_out)
        for key, apart in ((ALL, None), (OTHERS, site)):
            scores = _average(*metrics.average_precision(corrected.x[treated], codes, batch, apart))
            rows.append({"representation": corrected.name, "key": key, **scores})
    table = pd.DataFrame(rows).assign(metric="position_baseline")
    return order_columns(table, ["representation", "key"], ["chance", "value"])


def _average(value: np.ndarray, chance: np.ndarray) -> dict[str, float]:
    """Return the means over the rows that have a replicate to find."""
    judged = ~np.isnan(value)
    means = (float(x[judged].mean()) if judged.any() else np.nan for x in (value, chance))
    return dict(zip(("value", "chance"), means, strict=True)) | {"n_obs": int(judged.sum())}
