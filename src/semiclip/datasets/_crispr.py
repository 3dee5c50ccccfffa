"""Two large sets of genetic perturbations, expression alone: single RPE1 cells, and L1000 in many cell lines."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pandas as pd

from semiclip._checks import read_column
from semiclip._damage import say_reason
from semiclip._design import Design
from semiclip._docs import document
from semiclip._messages import warn
from semiclip.datasets._files import check_h5ad, join_parts, locate_files
from semiclip.errors import BadValue, DamagedFile, Empty, MissingColumn, NameTaken, some

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData


_RECORDS = ("10.5281/zenodo.14037432", "10.5281/zenodo.14037465", "10.5281/zenodo.14039051")
_RPE1_CELLS = 247_914
_FLAG, _LABEL, _SYMBOL = "is_control", "non-targeting", "gene_name"


@document
def replogle_rpe1(
    *,
    perturbation_key: str = "gene_name",
    control: str | Sequence[str] | None = None,
    batch_key: str = "dataset_batch_num",
    guide_key: str | None = None,
    files: Sequence[str] | None = None,
    backed: bool = True,
    progress_bar: bool = True,
) -> AnnData:
    """Single RPE1 cells under CRISPR interference of essential genes (Replogle et al. 2022): the large test of shift.

    On first use three parts are downloaded from Zenodo and joined into one file in the cache, so that the disk needs
    twice their size. An interrupted download starts again. To free the disk, move the joined file to
    ``SEMICLIP_DATA_DIR`` under the name ``replogle_2022.h5ad`` and remove the parts.

    Parameters
    ----------
    perturbation_key, batch_key, guide_key
        Columns of the published ``obs`` with the symbol of the perturbed gene, the batch and the guide, by default
        ``sgID_AB`` where the file has it.
    {zenodo}

    Returns
    -------
    An AnnData of cells × genes. ``obs`` has, before the published columns, ``perturbation`` (gene symbol;
    ``"control"`` for controls), ``batch`` and, where the file has one, ``guide``, all categories of text; a published
    column of one of these names is kept as ``<name>_published``. ``var_names`` are the symbols of ``var["gene_name"]``
    where the file has this column: a gene without a symbol keeps its published name, a second gene of the same symbol
    gets ``-1``, and ``var["published_name"]`` has the names of the file. ``X`` is as published.

    Raises
    ------
    KeyError, ValueError
        If a column, the file in the records or the controls are not found.
    OSError
        If a file is neither in ``SEMICLIP_DATA_DIR`` nor can be downloaded or stored.

    Notes
    -----
    The README of ``valence-labs/Tx-Evaluation`` names the files and three records (10.5281/zenodo.14037432, .14037465,
    .14039051), which are asked in turn; its code reads the columns and labels that are the defaults here. The paper on
    distillation (arXiv:2505.21317) reports 247,914 cells of RPE1 and 2,393 perturbed genes; another number of cells is
    logged as a warning. None of this was checked on the files. For the licence see the pages of the records.

    The MD5 is checked after the download alone, since reading the file takes minutes. Files in ``SEMICLIP_DATA_DIR``
    are taken as they are: ``replogle_2022.h5ad`` or the parts ``replogle_2022_part1.h5ad`` to ``…_part3.h5ad``.

    References
    ----------
    Replogle et al., Cell 2022, 10.1016/j.cell.2022.05.013. Bendidi et al., 2024, arXiv:2410.13956 (the files).

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.replogle_rpe1()  # doctest: +SKIP
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    published = [["replogle_2022.h5ad"], [f"replogle_2022_part{part}.h5ad" for part in (1, 2, 3)]]
    adata = _read(files, published, backed=backed, progress_bar=progress_bar)
    if adata.n_obs != _RPE1_CELLS:
        expected = f"not the {_RPE1_CELLS} of RPE1: look at obs for another cell line or selection"
        warn(f"replogle_2022 holds {adata.n_obs} cells, {expected}")
    return _harmonise(adata, design, "sgID_AB" if guide_key is None and "sgID_AB" in adata.obs else guide_key)


@document
def l1000_crispr(
    *,
    perturbation_key: str = "gene_name",
    control: str | Sequence[str] | None = None,
    batch_key: str = "dataset_batch_num",
    guide_key: str | None = None,
    files: Sequence[str] | None = None,
    backed: bool = True,
    progress_bar: bool = True,
) -> AnnData:
    """L1000 expression under CRISPR knock-out in many cell lines (LINCS, Subramanian et al. 2017).

    On first use the file is downloaded from Zenodo; an interrupted download starts again.

    Parameters
    ----------
    perturbation_key, batch_key, guide_key
        Columns of the published ``obs`` with the symbol of the knocked-out gene, the batch and the guide, by default
        none.
    {zenodo}

    Returns
    -------
    An AnnData of profiles × genes with ``obs["perturbation"]`` and ``obs["batch"]``, named like the result of
    :func:`replogle_rpe1`. The cell line differs between rows; see the column of the file that names it.

    Notes
    -----
    The file is called ``crispr_l1000.h5ad`` in the code of ``valence-labs/Tx-Evaluation`` and ``l1000_crispr`` in its
    README: either is taken. The paper on distillation (arXiv:2505.21317) counts 443,000 bulk samples, 31 cell types and
    5,157 knocked-out genes, which was not checked on the file. For the licence see the pages of the records.

    References
    ----------
    Subramanian et al., Cell 2017, 10.1016/j.cell.2017.10.049. Bendidi et al., 2024, arXiv:2410.13956 (the files).

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.l1000_crispr()  # doctest: +SKIP
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    published = [["crispr_l1000.h5ad"], ["l1000_crispr.h5ad"]]
    return _harmonise(_read(files, published, backed=backed, progress_bar=progress_bar), design, guide_key)


def _read(files: Sequence[str] | None, published: list[list[str]], *, backed: bool, progress_bar: bool) -> AnnData:
    import anndata

    if files is not None and (isinstance(files, str) or not files):
        raise BadValue("files", files, "a list of one or more file names")
    paths = locate_files(published if files is None else [list(files)], _RECORDS, progress_bar=progress_bar)
    for part in paths:
        check_h5ad(part)
    path = join_parts(paths)
    with warnings.catch_warnings():
        # observation names are mended here, and gene names below
        warnings.filterwarnings("ignore", ".*names are not unique", UserWarning)
        try:
            adata = anndata.read_h5ad(path, backed="r" if backed else None)
        except MemoryError:
            raise
        except Exception as error:  # anndata raises anything about a damaged file
            raise DamagedFile(path, say_reason(error), "remove it, so that it is made or downloaded again") from error
        adata.obs_names_make_unique()
    return adata


def _harmonise(adata: AnnData, design: Design, guide_key: str | None) -> AnnData:
    """Give obs and var the names of this package; in memory alone, the file is not written to."""
    from anndata.utils import make_index_unique

    mask = _find_controls(adata, design)
    treated = read_column(adata, str(design.perturbation_key), "perturbation_key", ~mask)
    if (treated == "control").any():
        way_out = "pass the label(s) of all controls as control="
        raise NameTaken("control", f"a perturbation in obs[{design.perturbation_key!r}] that is no control", way_out)
    new = {"perturbation": adata.obs[design.perturbation_key].astype(str).where(~mask, "control")}
    new["batch"] = read_column(adata, str(design.batch_key), "batch_key")
    if guide_key is not None:
        if guide_key not in adata.obs:  # where there are guides, controls may have none
            raise MissingColumn(guide_key, adata.obs.columns, name="guide_key")
        new["guide"] = adata.obs[guide_key]
    published = adata.obs.rename(columns={name: f"{name}_published" for name in new})
    frame = pd.DataFrame({name: _as_text(values) for name, values in new.items()}, index=adata.obs.index)
    adata.obs = pd.concat([frame, published], axis=1)
    if _SYMBOL in adata.var:
        symbols = adata.var[_SYMBOL].astype(object)
        names = symbols.where(symbols.notna() & (symbols != ""), adata.var_names)
        adata.var["published_name"] = adata.var_names.to_numpy(dtype=object)
        adata.var_names = make_index_unique(pd.Index(names.to_numpy(dtype=object)))
    elif adata.var_names.str.startswith("ENSG").mean() > 0.5:
        columns = some(adata.var.columns, 10) or "none"
        warn(f"var has no column {_SYMBOL!r}, only {columns}: var_names stay as published")
    return adata


def _find_controls(adata: AnnData, design: Design) -> np.ndarray:
    """Return the mask of control rows: by the labels that a user named, the published flag or the published label."""
    if design.control is not None or _FLAG not in adata.obs:
        return Design.of(perturbation_key=design.perturbation_key, control=design.control or _LABEL).controls(adata)
    flag = adata.obs[_FLAG].astype(str).str.lower()  # a flag that went through text or a category is still a flag
    if unreadable := sorted(set(flag) - {"true", "false"}):
        needed, way_out = "true or false in every row", "pass the control label(s) as control="
        raise BadValue(f"obs[{_FLAG!r}]", unreadable, needed, way_out)
    if not (mask := (flag == "true").to_numpy()).any():
        frequent = design.perturbations(adata).value_counts().index
        way_out = f"pass the control label(s) as control=; the most frequent labels are {some(frequent)}"
        raise Empty(f"rows whose obs[{_FLAG!r}] is true", way_out)
    return mask


def _as_text(values: pd.Series) -> pd.Categorical:
    """Make categories of text, leaving missing values missing."""
    codes, names = pd.factorize(values, sort=True)
    return pd.Categorical.from_codes(codes, pd.Index([str(name) for name in names], dtype=object))
