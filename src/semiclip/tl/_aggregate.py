"""One row per perturbation, on which whatever works on an AnnData goes on."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData

from semiclip import metrics
from semiclip._arguments import check_choice
from semiclip._checks import check_adata
from semiclip._design import Design
from semiclip._docs import document
from semiclip._mudata import silence_mudata
from semiclip._provenance import record
from semiclip.correction import CorrectionSpec, Fallback, Method, Profile
from semiclip.errors import NameTaken, NotGiven
from semiclip.metrics._groups import agreement_mean, group_median
from semiclip.tl._maps import AGGREGATE, list_names, read_corrected

Average = Literal["mean", "median", "weighted"]
MEASURES = ("consistency", "effect_size")
AVERAGES = {"mean": metrics.group_mean, "median": group_median, "weighted": agreement_mean}


@document
def aggregate(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    by_batch: bool = False,
    average: Average = "mean",
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
) -> AnnData:
    """Return one row per perturbation: the average of its rows after correction on the controls, which are left out.

    Parameters
    ----------
    {samples}
    by_batch
        Whether to average the rows of each perturbation in each batch by themselves, in place of all its rows.
    average
        ``"mean"``; ``"median"`` of each dimension; or ``"weighted"``, a mean in which a row weighs its mean cosine with
        the other rows that are averaged with it, or 0 if that is negative. A single row weighs 1, and rows of which
        none agrees with the others weigh the same.
    {correction}

    Returns
    -------
    An AnnData with a row for each perturbation, or for each perturbation in each batch where it has a row, in
    alphabetical order. Each representation is where it was, in ``obsm`` or in ``X``, in float64. ``obs`` has the
    perturbation, with ``by_batch`` the batch, ``n_obs`` and ``n_batches`` (the rows averaged, and their batches), and
    two columns for each representation, such as ``X_pca``:

    - ``consistency_X_pca``: the mean cosine of all pairs of the rows averaged, see
      :func:`semiclip.metrics.consistency`; NaN for a single row.
    - ``effect_size_X_pca``: the Euclidean distance of the average from the mean of all controls (their median if
      ``average="median"``), or from 0 without controls, in units of the corrected representation. By chance it is
      larger for fewer rows: compare at equal ``n_obs``.

    The rows are corrected already and have no controls any more: pass them on with ``control=None, method=None``, as to
    :func:`nearest`. A second correction of the same representations is refused.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=24, n_pathways=6, n_genes=30, rng=0)
    >>> adata = study.knockouts["image"]
    >>> genes = scl.tl.aggregate(adata, use_rep="X_image", perturbation_key="perturbation", control="control")
    >>> genes.obsm["X_image"].shape, list(genes.obs_names[:2]), genes.obs["n_obs"].iloc[0].item()
    ((24, 128), ['gene_00', 'gene_01'], 6)
    >>> genes.obs[["consistency_X_image", "effect_size_X_image"]].round(2).iloc[0].tolist()
    [0.47, 18.05]

    Scanpy goes on from here. Its cosine graph is that of :func:`nearest`, with the weights that ``sc.tl.umap`` and
    ``sc.tl.leiden`` take:

    >>> import scanpy as sc
    >>> sc.pp.neighbors(genes, use_rep="X_image", n_neighbors=5, metric="cosine")
    >>> sorted(genes.obsp)
    ['connectivities', 'distances']
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    spec = CorrectionSpec(method, profile, ridge, fallback=fallback)
    check_choice("average", average, Average)
    if by_batch and batch_key is None:
        raise NotGiven("batch_key", "name the obs column of the batches, or pass by_batch=False")
    names = list_names(use_rep)
    made = {"n_obs", "n_batches", *(f"{measure}_{name}" for measure in MEASURES for name in names)}
    if taken := [name for name in (perturbation_key, batch_key) if name in made]:
        raise NameTaken(taken, "a column of the result", "rename the column of obs")
    representations = read_corrected(adata, names, design, spec)
    treated = ~design.controls(check_adata(adata))
    batch, batch_names = design.batches(adata)
    arrays: dict[str, np.ndarray] = {}
    measures: dict[str, np.ndarray] = {}
    columns: dict[str, Any] = {}
    for corrected in representations:
        x, codes, batch_of_row = corrected.x[treated], corrected.codes[treated], batch[treated]
        # perturbation and batch, in this order, as one number
        pairs, pair_of_row = np.unique(codes * len(batch_names) + batch_of_row, return_inverse=True)
        groups = pair_of_row if by_batch else codes
        n_groups = int(groups.max()) + 1
        averages = AVERAGES[average](x, groups, n_groups)
        arrays[corrected.name] = averages
        origin = _average_controls(corrected.x[~treated], average) if design.control is not None else 0.0
        values = metrics.consistency(x, groups, n_groups), np.linalg.norm(averages - origin, axis=1)
        measures |= {f"{measure}_{corrected.name}": value for measure, value in zip(MEASURES, values, strict=True)}
        if not columns:
            perturbation, batch_code = np.divmod(pairs, len(batch_names))
            of_row = perturbation if by_batch else np.arange(n_groups)
            columns[perturbation_key] = pd.Categorical.from_codes(of_row, pd.Index(corrected.labels))
            if by_batch:
                columns[str(batch_key)] = pd.Categorical.from_codes(batch_code, batch_names)
            columns["n_obs"] = np.bincount(groups, minlength=n_groups)
            columns["n_batches"] = np.ones(n_groups, dtype=int) if by_batch else np.bincount(perturbation)
    keys = [perturbation_key, str(batch_key)] if by_batch else [perturbation_key]
    obs = pd.DataFrame({**columns, **measures}).set_axis(_name_rows(*(columns[key] for key in keys)))
    with silence_mudata():
        x, var = (arrays.pop("X"), adata.var.copy()) if "X" in arrays else (None, None)
        result = AnnData(x, obs=obs, var=var, obsm=arrays)
    params = {**design.params, "use_rep": names, "by_batch": by_batch, "average": average, "method": method}
    record(result, AGGREGATE, {**params, "profile": profile, "ridge": ridge, "fallback": fallback})
    return result


def _name_rows(*labels: pd.Categorical) -> pd.Index:
    """Join the labels of each row to a name, "gene_plate"; should two rows have the same, to "('gene', 'plate')"."""
    texts = list(zip(*(map(str, label) for label in labels), strict=True))
    names = pd.Index(["_".join(parts) for parts in texts])
    return names if names.is_unique else pd.Index([str(parts) for parts in texts])


def _average_controls(x: np.ndarray, average: Average) -> np.ndarray:
    group = np.zeros(len(x), dtype=np.intp)
    return AVERAGES["median" if average == "median" else "mean"](x, group, 1)
