"""Two large sets of genetic perturbations, expression alone: single RPE1 cells, and L1000 in many cell lines."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import some

from ._replogle import joined
from ._zenodo import locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

logger = logging.getLogger(__name__)

_RECORDS = ("10.5281/zenodo.14037432", "10.5281/zenodo.14037465", "10.5281/zenodo.14039051")
_RPE1_CELLS = 247_914
_FLAG, _LABEL, _SYMBOL = "is_control", "non-targeting", "gene_name"


def replogle_rpe1(
    *,
    perturbation_key: str = "gene_name",
    batch_key: str = "dataset_batch_num",
    guide_key: str | None = None,
    control: str | Sequence[str] | None = None,
    files: Sequence[str] | None = None,
    backed: bool = True,
    progress_bar: bool = True,
) -> AnnData:
    """Single RPE1 cells under CRISPR interference of essential genes (Replogle et al. 2022): the large test of shift.

    On first use the file is downloaded from Zenodo; a download that breaks goes on where it stopped, in the same call
    or the next. It is published in three parts, which are then joined into one file in the cache, so that twice the
    size of the parts is needed on disk. To free it, move the joined file to ``SEMICLIP_DATA_DIR`` under the name
    ``replogle_2022.h5ad`` and remove the parts.

    Parameters
    ----------
    perturbation_key
        Column of the published ``obs`` with the symbol of the perturbed gene.
    batch_key
        Column of the published ``obs`` with the batch.
    guide_key
        Column of the published ``obs`` with the guide; by default ``sgID_AB`` where the file has it.
    control
        Label(s) in ``perturbation_key`` that mark controls. By default the rows of which the published ``is_control``
        is true or, where there is no such column, those labelled ``"non-targeting"``.
    files
        Names of the file(s) in the record, parts in their order, where the published names have changed.
    backed
        Whether ``X`` stays on disk (``adata.to_memory()`` loads it, also of a subset of rows).
    progress_bar
        Whether bars show the download and the joining; ``TQDM_DISABLE=1`` in the environment hides them too.

    Returns
    -------
    An AnnData of cells × genes. ``obs`` has, before the published columns, ``perturbation`` (gene symbol;
    ``"control"`` for controls), ``batch`` and, where it is known, ``guide``, all categories of text; a published column
    of one of these names is kept as ``<name>_published``. ``var_names`` are the symbols of ``var["gene_name"]`` where
    the file has this column: a gene without one keeps its published name, a second gene of the same symbol gets
    ``-1``, and the names of the file are in ``var["published_name"]``. ``X`` is as published.

    Raises
    ------
    KeyError
        If a column, or the file in the records, does not exist; those that do are named.
    ValueError
        If the controls are not found, a treated row has no gene, a row no batch, or a file is not the published one.
    OSError
        If a file is neither in ``SEMICLIP_DATA_DIR`` nor can be downloaded or stored.

    Notes
    -----
    What is known of the files, and from where. The file names, the split into three parts and the three records
    (10.5281/zenodo.14037432, .14037465, .14039051) are those of the README of ``valence-labs/Tx-Evaluation``. The
    columns ``gene_name``, ``dataset_batch_num`` and ``is_control`` of ``obs``, the label ``non-targeting`` and the
    column ``gene_name`` of ``var`` are those that its code reads. The cell line and the figures, 247,914 cells of RPE1
    and 2,393 perturbed genes, are those of the paper on distillation that evaluates on these data (arXiv:2505.21317);
    another number of cells is logged as a warning. A card of a later copy of the RPE1 cells, by an author of both
    papers, gives 8,749 genes, 56 batches and raw counts in ``X``. None of it was checked on the files. Which record
    holds which file is not documented there, so the records are asked in turn. Sizes, MD5 checksums and licence were
    not known when this was written; sizes and checksums are read from the records, and the licence stands on their
    pages: look there before you share anything.

    The MD5 is checked once, after the download; afterwards a file in the cache is trusted by its size, since reading
    it all takes minutes. A file of the published name in ``SEMICLIP_DATA_DIR`` is taken as it is, be it
    ``replogle_2022.h5ad`` or the parts ``replogle_2022_part1.h5ad`` to ``…_part3.h5ad``.

    References
    ----------
    Replogle et al., Cell 2022, 10.1016/j.cell.2022.05.013. Bendidi et al., 2024, arXiv:2410.13956 (the files).

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.replogle_rpe1()  # doctest: +SKIP
    >>> controls = adata[adata.obs["perturbation"] == "control"].to_memory()  # doctest: +SKIP
    """
    alternatives = [["replogle_2022.h5ad"], [f"replogle_2022_part{part}.h5ad" for part in (1, 2, 3)]]
    paths = locate(_names(files, alternatives), _RECORDS, progress_bar=progress_bar)
    adata = _read(joined(paths, progress_bar=progress_bar), backed=backed)
    if adata.n_obs != _RPE1_CELLS:
        logger.warning(
            "replogle_2022 holds %d cells, not the %d that are reported of RPE1: look at obs for another selection of "
            "cells or another cell line",
            adata.n_obs,
            _RPE1_CELLS,
        )
    if guide_key is None and "sgID_AB" in adata.obs:
        guide_key = "sgID_AB"
    return _harmonised(adata, perturbation_key, batch_key, guide_key, control)


def l1000_crispr(
    *,
    perturbation_key: str = "gene_name",
    batch_key: str = "dataset_batch_num",
    guide_key: str | None = None,
    control: str | Sequence[str] | None = None,
    files: Sequence[str] | None = None,
    backed: bool = True,
    progress_bar: bool = True,
) -> AnnData:
    """L1000 expression under CRISPR knock-out in many cell lines (LINCS, Subramanian et al. 2017).

    Downloaded from Zenodo on first use, like :func:`replogle_rpe1`, whose description of parameters, result and errors
    holds here too, but for what follows.

    Parameters
    ----------
    perturbation_key, batch_key, control, files, backed, progress_bar
        As in :func:`replogle_rpe1`.
    guide_key
        Column of the published ``obs`` with the guide; by default there is no ``guide``.

    Returns
    -------
    An AnnData of profiles × genes with ``obs["perturbation"]`` and ``obs["batch"]``; see :func:`replogle_rpe1`. The
    cell line, which differs between rows, is in the column of the file that names it.

    Raises
    ------
    KeyError
        If a column, or the file in the records, does not exist; those that do are named.
    ValueError
        If the controls are not found, a treated row has no gene, a row no batch, or a file is not the published one.
    OSError
        If a file is neither in ``SEMICLIP_DATA_DIR`` nor can be downloaded or stored.

    Notes
    -----
    The code of ``valence-labs/Tx-Evaluation`` calls the file ``crispr_l1000.h5ad`` and its README ``l1000_crispr``: a
    file of either name is taken. Its settings for this set name the same columns as for :func:`replogle_rpe1`. The
    paper on distillation that evaluates on these data (arXiv:2505.21317) counts 443,000 bulk samples, 31 cell types
    and 5,157 knocked-out genes. None of it was checked on the file. Size, checksum and licence: see there.

    References
    ----------
    Subramanian et al., Cell 2017, 10.1016/j.cell.2017.10.049. Bendidi et al., 2024, arXiv:2410.13956 (the files).

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.l1000_crispr()  # doctest: +SKIP
    >>> adata.obs["perturbation"].nunique()  # doctest: +SKIP
    """
    alternatives = [["crispr_l1000.h5ad"], ["l1000_crispr.h5ad"]]
    paths = locate(_names(files, alternatives), _RECORDS, progress_bar=progress_bar)
    adata = _read(joined(paths, progress_bar=progress_bar), backed=backed)
    return _harmonised(adata, perturbation_key, batch_key, guide_key, control)


def _names(files: Sequence[str] | None, published: list[list[str]]) -> list[list[str]]:
    if files is None:
        return published
    if isinstance(files, str) or not files:
        msg = f"files={files!r} must be a list of one or more file names"
        raise ValueError(msg)
    return [list(files)]


def _read(path: object, *, backed: bool) -> AnnData:
    import anndata

    with warnings.catch_warnings():
        # both are mended below
        warnings.filterwarnings("ignore", ".*names are not unique", UserWarning)
        adata = anndata.read_h5ad(path, backed="r" if backed else None)
        adata.obs_names_make_unique()
    return adata


def _harmonised(
    adata: AnnData,
    perturbation_key: str,
    batch_key: str,
    guide_key: str | None,
    control: str | Sequence[str] | None,
) -> AnnData:
    """Give obs and var the names of this package; in memory alone, the file is not written to."""
    obs = adata.obs
    genes = _column(obs, perturbation_key, "perturbation_key")
    mask = _controls(obs, genes, perturbation_key, control)
    if (clash := (genes == "control") & ~mask).any():
        msg = (
            f"{clash.sum()} row(s) are labelled 'control' in obs[{perturbation_key!r}] without being controls by "
            f"{'control=' if control is not None else repr(_FLAG)}; pass the label(s) of all controls as control="
        )
        raise ValueError(msg)
    _complete(genes[~mask], "perturbation_key")
    new = {"perturbation": genes.astype(str).where(~mask, "control")}
    for name, key in {"batch": batch_key, "guide": guide_key}.items():
        if key is not None:
            new[name] = _column(obs, key, f"{name}_key")
    _complete(new["batch"], "batch_key")
    kept = obs.rename(columns={name: f"{name}_published" for name in new})
    frame = pd.DataFrame({name: _text(values) for name, values in new.items()}, index=obs.index)
    adata.obs = pd.concat([frame, kept], axis=1)
    _name_genes(adata)
    return adata


def _text(values: pd.Series) -> pd.Categorical:
    """Make categories of text, leaving missing values missing."""
    codes, names = pd.factorize(values, sort=True)
    return pd.Categorical.from_codes(codes, pd.Index([str(name) for name in names], dtype=object))


def _column(obs: pd.DataFrame, key: str, parameter: str) -> pd.Series:
    if key not in obs:
        msg = (
            f"{parameter}={key!r} is not a column of the published obs, which has {some(obs.columns, obs.shape[1])}; "
            f"pass the right one as {parameter}="
        )
        raise KeyError(msg)
    return obs[key]


def _complete(values: pd.Series, parameter: str) -> None:
    if (missing := values.isna()).any():
        msg = (
            f"obs[{values.name!r}] ({parameter}) has no value in {missing.sum()} row(s): "
            f"{some(values.index[missing])}; pass another column as {parameter}="
        )
        raise ValueError(msg)


def _controls(
    obs: pd.DataFrame, genes: pd.Series, perturbation_key: str, control: str | Sequence[str] | None
) -> np.ndarray:
    """Return the mask of control rows: by the labels given, by the published flag, or by the published label."""
    if control is None and _FLAG in obs:
        # a flag that went through text or a category is still a flag
        flag = obs[_FLAG].astype(str).str.lower()
        if odd := set(flag) - {"true", "false"}:
            msg = f"obs[{_FLAG!r}] holds {some(sorted(odd))}, not true and false; pass the control label(s) as control="
            raise ValueError(msg)
        mask = (flag == "true").to_numpy()
        source = f"obs[{_FLAG!r}] is nowhere true"
    else:
        labels = [_LABEL] if control is None else [control] if isinstance(control, str) else list(control)
        mask = genes.isin(labels).to_numpy()
        absent = [label for label in labels if not (genes == label).any()]
        source = f"obs[{perturbation_key!r}] has no row labelled {some(absent)}"
        if absent:
            mask = np.zeros_like(mask)
    if not mask.any():
        msg = (
            f"no controls: {source}. The most frequent labels of obs[{perturbation_key!r}] are "
            f"{some(genes.value_counts().index)}; the columns of obs are {some(obs.columns, obs.shape[1])}. Pass the "
            f"control label(s) as control="
        )
        raise ValueError(msg)
    return mask


def _name_genes(adata: AnnData) -> None:
    from anndata.utils import make_index_unique

    if _SYMBOL not in adata.var:
        if adata.var_names.str.startswith("ENSG").mean() > 0.5:
            logger.warning(
                "var has no column %r, only %s: var_names stay as published",
                _SYMBOL,
                some(adata.var.columns, adata.var.shape[1]) or "none",
            )
        return
    symbols = adata.var[_SYMBOL].astype(object)
    names = symbols.where(symbols.notna() & (symbols != ""), adata.var_names)
    adata.var["published_name"] = adata.var_names.to_numpy(dtype=object)
    adata.var_names = make_index_unique(pd.Index(names.to_numpy(dtype=object)))
