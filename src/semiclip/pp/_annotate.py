from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import column, nonempty, some, writable
from semiclip.pp._tables import NAMELESS, PREFIX, as_text, read_table, well_names, without_slashes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike

    from anndata import AnnData

logger = logging.getLogger(__name__)


def annotate(
    adata: AnnData,
    plate_map: str | PathLike[str] | pd.DataFrame,
    *,
    on: str | Sequence[str] | Mapping[str, str] = ("Plate", "Well"),
    copy: bool = False,
) -> AnnData | None:
    """Write what a plate map says about each well to the samples of that well.

    Parameters
    ----------
    adata
        Samples whose ``obs`` says from which plate and well they are; several may be from one well.
    plate_map
        One row per well with its treatment: a CSV, TSV or parquet file, or a DataFrame. A prefix ``Metadata_`` of its
        columns is dropped. In a file, plates and wells are read as text, so that barcodes keep leading zeros.
    on
        Columns of ``obs`` that find the row, the well last; ``"Well"`` alone for a layout that all plates share. Where
        the map calls them otherwise, ``{"plate": "Barcode", "well": "well_position"}``. Where ``obs`` has no
        ``"Plate"``, ``"Metadata_Plate"`` is taken, as :func:`semiclip.pp.images` names it. Names of wells match
        however they are written: ``A1``, ``a01`` and ``A01`` are one well.
    copy
        Return an annotated copy instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. ``obs`` has the other columns of the map, text as categories, with ``_`` for a ``/`` in their
    names; columns of the same name are replaced, which the log says, as it does how many wells of the map have no
    sample.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If a sample has no row of the map, the map has a well twice, or the file cannot be read.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> from anndata import AnnData
    >>> samples = AnnData(obs=pd.DataFrame({"Plate": ["p1", "p1"], "Well": ["a2", "A01"]}, index=["x", "y"]))
    >>> layout = pd.DataFrame({"Plate": "p1", "Well": ["A1", "A2", "A3"], "drug": ["DMSO", "aspirin", "DMSO"]})
    >>> scl.pp.annotate(samples, layout)
    >>> samples.obs["drug"].tolist()
    ['aspirin', 'DMSO']
    """
    writable(nonempty(adata), "obs", copy=copy)
    pairs = dict(on) if isinstance(on, Mapping) else {key: key for key in ([on] if isinstance(on, str) else on)}
    rows = pd.DataFrame({key: column(adata, _found(adata, key), "on") for key in pairs})
    columns = without_slashes(from_map(rows, plate_map, list(pairs.values())))
    target = adata.copy() if copy else adata
    if replaced := [name for name in columns if name in target.obs]:
        logger.info("obs had %s already; the plate map replaces them", some(replaced))
    target.obs = pd.concat([target.obs.drop(columns=replaced), columns], axis=1)
    return target if copy else None


def _found(adata: AnnData, key: str) -> str:
    """Return the column of ``obs`` that a key means, which may have the prefix that the key lacks."""
    for name in (key, PREFIX + key):
        if name in adata.obs:
            return name
    msg = (
        f"on={key!r} is not a column of obs, which has {some(adata.obs.columns)}; say which column of obs is which of "
        f"the plate map, as in on={{'<column of obs>': {key!r}}}"
    )
    raise KeyError(msg)


def from_map(rows: pd.DataFrame, plate_map: str | PathLike[str] | pd.DataFrame, on: list[str]) -> pd.DataFrame:
    """Return the columns of a plate map for rows whose columns are the keys, in the order of ``on``."""
    if not on:
        msg = "on names no column; name those that say plate and well, the well last"
        raise ValueError(msg)
    on = [key.removeprefix(PREFIX) for key in on]
    keys = {prefix + key for key in on for prefix in ("", PREFIX)}
    table = read_table(
        plate_map,
        lambda names: ([name for name in names if not name.startswith(NAMELESS)], []),
        text=keys.__contains__,
    )
    table.columns = table.columns.str.removeprefix(PREFIX)
    if absent := [key for key in on if key not in table]:
        msg = f"the plate map has no column {some(absent)}, only {some(table.columns)}; say which with on={{...}}"
        raise KeyError(msg)
    wells = _wells(table[on])
    if gaps := wells.index[wells.isna().any(axis=1)].tolist():
        msg = f"the plate map does not say which well {len(gaps)} row(s) are about: {some(gaps)}; fill or drop them"
        raise ValueError(msg)
    there, wanted = pd.MultiIndex.from_frame(wells), pd.MultiIndex.from_frame(_wells(rows))
    if repeated := _spelt(there[there.duplicated()]):
        msg = f"the plate map has several rows for {some(repeated)}; keep one row for each well"
        raise ValueError(msg)
    found = there.get_indexer(wanted)
    if lost := _spelt(wanted[found < 0]):
        msg = (
            f"the plate map has no row for {some(lost)}; it has {some(_spelt(there), 3)}. Add their rows, or drop "
            "these samples"
        )
        raise ValueError(msg)
    unused = len(table) - len(np.unique(found))
    logger.info("%d of %d wells of the plate map have no sample", unused, len(table))
    return described(table.drop(columns=on).iloc[found].set_axis(rows.index))


def described(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as columns for ``obs`` that files can hold: text as categories, without blanks around it."""
    columns = {name: values if values.dtype.kind in "iufb" else as_text(values) for name, values in table.items()}
    text = [name for name, values in columns.items() if values.dtype.kind not in "iufb"]
    return pd.DataFrame(columns, index=table.index).astype(dict.fromkeys(text, "category"))


def _wells(keys: pd.DataFrame) -> pd.DataFrame:
    """Return plates as text and wells, the last column, by their usual names."""
    texts = [as_text(keys[key]) for key in keys.columns[:-1]]
    return pd.concat([*texts, well_names(keys[keys.columns[-1]])], axis=1, keys=range(keys.shape[1]))


def _spelt(wells: pd.MultiIndex) -> list[str]:
    return [" ".join(well) for well in wells.unique()]
