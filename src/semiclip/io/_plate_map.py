from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import check_adata, check_writable, read_column
from semiclip.errors import BadValue, MissingColumn, MissingValues, Refused, Repeated, some
from semiclip.io._tables import PREFIX, Table, check_names, format_columns, format_labels, format_wells, read_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

logger = logging.getLogger(__name__)


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
    FileNotFoundError, ImportError, KeyError
        If the file, pyarrow for a parquet file or a column is missing.
    ValueError
        If a sample has no row in the plate map, the plate map has several rows for a well, or the file cannot be read.

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
    return pd.concat([*map(format_labels, plates), format_wells(well)], axis=1, keys=range(keys.shape[1]))
