"""Reads tables of image features: what describes each row, and the features, averaged over the cells of a well."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip.errors import Empty, MissingColumn, MissingValues, Refused, Repeated, some
from semiclip.io._tables import PREFIX, format_labels, format_wells, read_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from semiclip.io._tables import Table

COMPARTMENTS = ("Cells_", "Cytoplasm_", "Nuclei_")

logger = logging.getLogger(__name__)


def read_features(
    tables: Sequence[Table], keys: list[str], perturbation_key: str, features: tuple[str, ...] | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the descriptions of the rows of all tables, and their features with NaN for infinity.

    ``keys`` are the columns of plate and well, or of the plate alone, where rows are not averaged.
    """
    if not tables:
        raise Empty("tables")
    parts = [_read_one(table, keys, perturbation_key, features) for table in tables]
    obs, values = pd.concat([part[0] for part in parts]), pd.concat([part[1] for part in parts], join="inner")
    if n_lost := max(part[1].shape[1] for part in parts) - values.shape[1]:
        logger.info("%d feature(s) are not in all tables, and go", n_lost)
    if len(keys) == 1:
        obs.index = values.index = obs.index + ":" + pd.RangeIndex(len(obs)).astype(str)
    if repeated := obs.index[obs.index.duplicated()].unique().tolist():
        raise Repeated("wells of several tables", repeated, "give plates names of their own, or each table once")
    return obs, values


def check_columns(obs: pd.DataFrame, keys: Sequence[str]) -> None:
    """Refuse a table without some of the columns."""
    if absent := [key for key in keys if key not in obs]:
        raise MissingColumn(absent, obs.columns, f"the table, without {PREFIX!r},")


def _read_one(
    table: Table, keys: list[str], perturbation_key: str, features: tuple[str, ...] | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the descriptions and features of one table, by well, or by plate for rows that are not averaged."""
    frame = read_table(
        table, lambda names: _choose_columns(names, features), is_text=lambda name: name.removeprefix(PREFIX) in keys
    )
    is_obs = frame.columns.str.startswith(PREFIX)
    obs = frame.loc[:, is_obs].rename(columns=lambda name: name.removeprefix(PREFIX))
    values = frame.loc[:, ~is_obs].select_dtypes("number").astype(np.float64).replace([np.inf, -np.inf], np.nan)
    if text := frame.columns[~is_obs].difference(values.columns).tolist():
        logger.info("%d feature(s) hold text, and go: %s", len(text), some(text))
    check_columns(obs, keys)
    for key, format_key in zip(keys, (format_labels, format_wells), strict=False):
        if gaps := obs.index[obs[key].isna()].tolist():
            raise MissingValues(PREFIX + key, gaps)
        obs[key] = format_key(obs[key])
    obs.index = values.index = pd.Index(obs[keys].agg(":".join, axis=1), name=None)
    return (obs, values) if len(keys) == 1 else _average(obs, values, keys, perturbation_key)


def _average(
    obs: pd.DataFrame, values: pd.DataFrame, keys: list[str], perturbation_key: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
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
    if mixed:
        logger.info("column(s) that differ within wells go: %s", some(mixed))
    if "n_rows" in obs:
        logger.warning("n_rows counts the rows of a well; the column of the table is now %sn_rows", PREFIX)
    wells = groups.first().drop(columns=mixed).rename(columns={"n_rows": f"{PREFIX}n_rows"})
    order = [*keys, *wells.columns.difference(keys, sort=False)]
    return wells[order].assign(n_rows=groups.size()), values


def _choose_columns(names: Sequence[str], features: tuple[str, ...] | None) -> tuple[list[str], list[str]]:
    """Return the descriptions and the features of a table."""
    descriptions = [name for name in names if name.startswith(PREFIX)]
    if not descriptions:
        raise Empty(f"columns {PREFIX}…, which name plate, well and perturbation", f"the table has {some(names)}")
    others = [name for name in names if not name.startswith(PREFIX)]
    requested = COMPARTMENTS if features is None else features
    starts = tuple(name for name in requested if name not in others)
    chosen = [name for name in others if name in requested or name.startswith(starts)]
    unmet = [start for start in starts if not any(name.startswith(start) for name in chosen)]
    if not chosen or (features is not None and unmet):
        way_out = f"the table has {some(others) or 'no others'}: name its features with features=[...]"
        raise Empty(f"features that begin with {some(unmet)}", way_out)
    return descriptions, chosen
