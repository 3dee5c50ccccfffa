"""Reads what plates hold: profiles of their wells, and the treatments that plate maps name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._arguments import check_number
from semiclip._checks import check_adata, check_writable, read_column
from semiclip._design import Design
from semiclip._messages import warn
from semiclip._provenance import record
from semiclip.errors import BadValue, Empty, MissingColumn, MissingValues, Refused, Repeated, WrongType, some
from semiclip.io._features import COMPARTMENTS, choose_features, read_features, scale_features
from semiclip.io._tables import (
    PREFIX,
    Table,
    check_names,
    format_columns,
    format_labels,
    format_plates,
    format_wells,
    read_table,
    warn_of_split_wells,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

Frames = tuple[pd.DataFrame, pd.DataFrame]  # descriptions and features of the same rows
Choose = Callable[[list[str]], list[str]]  # the features among the names of columns

logger = logging.getLogger(__name__)


def profiles(
    table: Table | Sequence[Table],
    *,
    perturbation_key: str,
    control: str | Sequence[str],
    batch_key: str = "Plate",
    well_key: str | None = "Well",
    plate_map: Table | None = None,
    features: str | Sequence[str] | None = None,
    keep_positions: bool = False,
    max_missing: float = 0.05,
    clip: float | None = 20.0,
    key_added: str = "X_image",
) -> AnnData:
    r"""Return a teacher of CellProfiler features: one row per well, scaled on the controls of its plate.

    The profile of a well is the median over its cells. A feature is dropped if it is not numeric, lacks too many
    values, has a single value, or varies among the controls of some plate by less than a millionth of its largest
    value, which is rounding. Every other feature is scaled by the
    median and MAD of the controls :math:`C_b` of the plate,
    :math:`(x - \mathrm{med}_{C_b}) / (1.4826\,\mathrm{MAD}_{C_b})`, and clipped. The log counts dropped features.
    :doc:`/real_tables` shows what goes wrong with real tables, and what this function says then.

    Parameters
    ----------
    table
        Features of cells or of wells: a CSV, TSV or parquet file, or a DataFrame; or a list of these, such as one per
        plate. Columns that begin with ``Metadata_`` describe the rows, or ``Image_Metadata_``, as CellProfiler names
        them beside objects. Two header rows, the first of objects such as Image and Nuclei, are joined. Features that
        some tables lack are dropped.
        Features of an AnnData that are scaled already need no more than a copy in ``obsm``.
    perturbation_key, control
        Column of the perturbations, and the label or labels of the controls in it. All columns are named without
        ``Metadata_``.
    batch_key, well_key
        Columns of plate and well. The rows of a well are averaged; ``well_key=None`` leaves them as they are.
    plate_map
        A plate map with the perturbation of each well, joined on plate and well as in :func:`semiclip.io.plate_map`.
    features
        Names of the features, or their beginnings; by default ``Cells_``, ``Cytoplasm_`` and ``Nuclei_``.
    keep_positions
        Whether to keep positions and numbers of objects and images (``…Location_…``, ``…AreaShape_Center_X``, corners
        of bounding boxes, ``…Parent_…``, ``…ObjectNumber``, ``…ImageNumber``), which otherwise go unless ``features``
        names them in full.
    max_missing
        Largest share of rows in which a feature may be NaN or infinite; it becomes 0 there, the median of the controls.
    clip
        Largest size of a scaled value; ``None`` does not clip.
    key_added
        Key of ``obsm`` for the profiles.

    Returns
    -------
    One row per well with all features, float32, in ``X`` and in ``obsm[key_added]``. ``obs`` has the ``Metadata_``
    columns that are the same for all cells of a well, with wells spelt like A01; the columns of the plate map; and
    ``n_rows``, the number of rows of each well in the table. In their names ``_`` replaces ``/``, which files cannot
    hold. ``uns["semiclip"][key_added]["params"]`` has the arguments. Wells in which no feature has a value are left
    out, with a warning in the log.

    Raises
    ------
    ValueError
        If no feature is found or left, or a plate has fewer than two controls.

    References
    ----------
    Serrano et al., Nature Methods 2025, DOI 10.1038/s41592-025-02611-8.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> table = pd.DataFrame({"Metadata_Plate": "p1", "Metadata_Well": ["A1", "A2", "A3", "A4"]})
    >>> table = table.assign(Metadata_drug=["DMSO"] * 3 + ["aspirin"], Cells_Area=[100.0, 110.0, 90.0, 120.0])
    >>> images = scl.io.profiles(table, perturbation_key="drug", control="DMSO")
    >>> images.obsm["X_image"].ravel().astype(float).round(2).tolist()
    [0.0, 0.67, -0.67, 1.35]
    """
    from anndata import AnnData

    check_number("max_missing", max_missing, least=0, below=1)
    if clip is not None:
        check_number("clip", clip, above=0)
    check_writable(AnnData(), key_added)
    columns = {
        "perturbation_key": perturbation_key,
        "batch_key": batch_key,
        "well_key": "" if well_key is None else well_key,
    }
    for argument, key in columns.items():
        if not isinstance(key, str):
            raise WrongType(argument, type(key), "the name of one column", "join several columns to one in the table")
    plate, perturbation = batch_key.removeprefix(PREFIX), perturbation_key.removeprefix(PREFIX)
    in_obs: dict[str, Any] = {"perturbation_key": perturbation.replace("/", "_"), "batch_key": plate.replace("/", "_")}
    design = Design.of(**in_obs, control=control)
    well = None if well_key is None else well_key.removeprefix(PREFIX)
    names = (features,) if isinstance(features, str) else None if features is None else tuple(features)
    tables = list(table) if isinstance(table, Iterable) and not isinstance(table, pd.DataFrame | str) else [table]
    if any(isinstance(item, AnnData) for item in tables):
        way_out = f"pass adata.obs.add_prefix({PREFIX!r}).join(adata.to_df()), or copy scaled features to obsm"
        raise WrongType("table", AnnData, "a DataFrame, the path of a file, or a list of these", way_out)

    keys = [plate] if well is None else [plate, well]
    choose = partial(choose_features, names, keep_positions=keep_positions)
    obs, values = _read_all(tables, keys, perturbation, choose)
    if plate_map is not None:
        keys = [plate, well or "Well"]
        _check_columns(obs, keys)
        treatments = match_wells(obs[keys], plate_map, keys)
        obs = pd.concat([obs.drop(columns=treatments.columns, errors="ignore"), treatments], axis=1)
    _check_columns(obs, [plate, perturbation])
    if len(empty := obs.index[values.isna().all(axis=1)]):
        if len(empty) == len(obs):
            raise Empty("rows in which a feature has a value", f"look at {some(values)}, which hold gaps alone")
        warn(f"no feature has a value in {len(empty)} row(s), which are left out: {some(empty)}")
    adata = AnnData(obs=format_columns(obs.drop(index=empty)))
    limit = np.inf if clip is None else clip
    scaled = scale_features(values.drop(index=empty), adata, design, max_missing).clip(-limit, limit)
    array = scaled.to_numpy(dtype=np.float32)
    result = AnnData(array, adata.obs, pd.DataFrame(index=scaled.columns), obsm={key_added: array.copy()})
    params = {"well_key": well, "features": names or COMPARTMENTS, "max_missing": max_missing, "clip": clip}
    params |= {"keep_positions": keep_positions}
    record(result, key_added, {**design.params, **params, "from_plate_map": plate_map is not None})
    return result


def _read_all(tables: list[Table], keys: list[str], perturbation_key: str, choose: Choose) -> Frames:
    """Return the descriptions of all rows, and their features; ``keys`` are plate and well, which are averaged over."""
    if not tables:
        raise Empty("tables")
    parts = [_read_one(table, keys, perturbation_key, choose) for table in tables]
    obs, values = pd.concat([part[0] for part in parts]), pd.concat([part[1] for part in parts], join="inner")
    if n_lost := max(part[1].shape[1] for part in parts) - values.shape[1]:
        logger.info("%d feature(s) are not in all tables, and go", n_lost)
    if len(keys) == 1:
        obs.index = values.index = obs.index + ":" + pd.RangeIndex(len(obs)).astype(str)
    if repeated := obs.index[obs.index.duplicated()].unique().tolist():
        raise Repeated("wells of several tables", repeated, "give plates names of their own, or each table once")
    return obs, values


def _check_columns(obs: pd.DataFrame, keys: Sequence[str]) -> None:
    if absent := [key for key in keys if key not in obs]:
        raise MissingColumn(absent, obs.columns, f"the table, without {PREFIX!r},")


def _read_one(table: Table, keys: list[str], perturbation_key: str, choose: Choose) -> Frames:
    """Return the descriptions and features of one table, averaged over wells if these are among the keys."""
    frame = read_table(table, lambda name: name.removeprefix(PREFIX) in keys, choose)
    is_obs = frame.columns.str.startswith(PREFIX)
    obs = frame.loc[:, is_obs].rename(columns=lambda name: name.removeprefix(PREFIX))
    values = read_features(frame.loc[:, ~is_obs])
    _check_columns(obs, keys)
    for key, format_key in zip(keys, (format_plates, format_wells), strict=False):
        if gaps := obs.index[obs[key].isna()].tolist():
            raise MissingValues(PREFIX + key, gaps)
        obs[key] = format_key(obs[key])
    obs.index = values.index = pd.Index(obs[keys].agg(":".join, axis=1), name=None)
    return (obs, values) if len(keys) == 1 else _average(obs, values, perturbation_key, PREFIX + keys[0])


def _average(obs: pd.DataFrame, values: pd.DataFrame, perturbation_key: str, plate: str) -> Frames:
    """Return one row for each well: descriptions that are the same in all its rows, and the median of each feature."""
    if perturbation_key in obs:
        obs[perturbation_key] = obs[perturbation_key].mask(format_labels(obs[perturbation_key]) == "")
    groups = obs.groupby(level=0, sort=False)
    is_mixed = groups.nunique(dropna=False) > 1
    mixed = is_mixed.columns[is_mixed.any()].tolist()
    if perturbation_key in mixed:
        names = is_mixed.index[is_mixed[perturbation_key]].tolist()
        way_out = "fill or drop rows without a label, and give plates of one name names of their own"
        raise Refused(f"{PREFIX}{perturbation_key} is not the same in all rows of wells", names, way_out)
    if len(is_mixed) < len(obs):
        logger.info("%d rows are averaged to %d wells", len(obs), len(is_mixed))
        values = values.groupby(level=0, sort=False).median()
    warn_of_split_wells(obs[mixed], plate)
    if mixed:
        logger.info("column(s) that differ within wells go: %s", some(mixed))
    wells = groups.first().drop(columns=mixed)
    if "n_rows" in wells:
        logger.info("n_rows counts the rows of a well; the column of the table is now %sn_rows", PREFIX)
    return wells.rename(columns={"n_rows": f"{PREFIX}n_rows"}).assign(n_rows=groups.size()), values


def plate_map(
    adata: AnnData,
    table: Table,
    *,
    on: str | Sequence[str] | Mapping[str, str] = ("Plate", "Well"),
    copy: bool = False,
) -> AnnData | None:
    """Write the treatment of each well, from a plate map, to the samples of that well.

    Parameters
    ----------
    adata
        Samples whose ``obs`` names their plate and well. Several samples may come from one well.
    table
        The plate map, one row per well: a CSV, TSV or parquet file, or a DataFrame. A prefix ``Metadata_`` of its
        columns is dropped. Plates and wells in a file are read as text, so that barcodes keep leading zeros.
    on
        Columns of ``obs`` that name the well, the well itself last. ``"Well"`` alone is for a layout that all plates
        share. If the plate map has other names for them, pass ``{"plate": "Barcode", "well": "well_position"}``. If
        ``obs`` has no ``"Plate"``, ``"Metadata_Plate"`` is used, as :func:`semiclip.io.images` names it. The spelling
        of a well does not matter: ``A1``, ``a01`` and ``A01`` are one well.
    copy
        Return an annotated copy instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. ``obs`` gains the other columns of the plate map, text as categories; in their names ``_``
    replaces ``/``, which files cannot hold. A column of the same name is replaced. The log names replaced columns and
    counts the wells of the plate map without a sample.

    Raises
    ------
    ValueError
        If a sample has no row in the plate map, or the plate map has several rows for a well.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> from anndata import AnnData
    >>> samples = AnnData(obs=pd.DataFrame({"Plate": ["p1", "p1"], "Well": ["a2", "A01"]}, index=["x", "y"]))
    >>> layout = pd.DataFrame({"Plate": "p1", "Well": ["A1", "A2", "A3"], "drug": ["DMSO", "aspirin", "DMSO"]})
    >>> scl.io.plate_map(samples, layout)
    >>> samples.obs["drug"].tolist()
    ['aspirin', 'DMSO']
    """
    check_writable(check_adata(adata), "obs", copy=copy)
    pairs = dict(on) if isinstance(on, Mapping) else {key: key for key in ([on] if isinstance(on, str) else on)}
    names = {key: key if key in adata.obs else PREFIX + key for key in pairs}
    if absent := [key for key, name in names.items() if name not in adata.obs]:
        raise MissingColumn(absent, adata.obs.columns, name="on", way_out="pass on={'<column of obs>': '<of the map>'}")
    keys = pd.DataFrame({key: read_column(adata, name, "on") for key, name in names.items()})
    columns = match_wells(keys, table, list(pairs.values()))
    target = adata.copy() if copy else adata
    if replaced := [name for name in columns if name in target.obs]:
        logger.info("obs had %s already; the plate map replaces them", some(replaced))
    target.obs = pd.concat([target.obs.drop(columns=replaced), columns], axis=1)
    return target if copy else None


def match_wells(keys: pd.DataFrame, plate_map: Table, on: Sequence[str]) -> pd.DataFrame:
    """Return the columns of a plate map for the samples with these keys, which ``on`` names in the plate map."""
    if not on:
        raise BadValue("on", on, "one or more columns, the well last")
    on = [key.removeprefix(PREFIX) for key in on]
    table = read_table(plate_map, lambda name: name.removeprefix(PREFIX) in on)
    table.columns = check_names(table.columns.str.removeprefix(PREFIX), "the plate map")
    if absent := [key for key in on if key not in table]:
        raise MissingColumn(absent, table.columns, "the plate map", way_out="name its plates and wells with on={...}")
    key_table = _format_keys(table[on])
    if (gaps := key_table.index[key_table.isna().any(axis=1)]).size:
        raise MissingValues(f"{' or '.join(on)} of the plate map", gaps.tolist())
    wells, sample_wells = (pd.Index([*map(" ".join, frame.to_numpy())]) for frame in (key_table, _format_keys(keys)))
    if repeated := wells[wells.duplicated()].unique().tolist():
        raise Repeated("wells of the plate map", repeated, "keep one row for each well")
    rows = wells.get_indexer(sample_wells)
    if absent := sample_wells[rows < 0].unique().tolist():
        way_out = f"it has {some(wells, 3)}: add rows, or drop these samples"
        raise Refused("the plate map has no row for wells of samples", absent, way_out)
    logger.info("%d of %d wells of the plate map have no sample", len(table) - len(np.unique(rows)), len(table))
    return format_columns(table.drop(columns=on).iloc[rows].set_axis(keys.index))


def _format_keys(keys: pd.DataFrame) -> pd.DataFrame:
    """Return plates as text and wells, the last column, in one spelling."""
    *plates, well = (keys[name] for name in keys)
    return pd.concat([*map(format_plates, plates), format_wells(well)], axis=1, keys=range(keys.shape[1]))
