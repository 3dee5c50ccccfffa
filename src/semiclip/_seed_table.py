"""Reads a tidy table of repeated runs, one row per setting and seed, and pairs the seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def checked(
    table: pd.DataFrame, *, values: Mapping[str, str], keys: Mapping[str, str], aim: str = "draw"
) -> pd.DataFrame:
    """Return the columns that the parameters name: ``values`` hold finite numbers, ``keys`` anything but a gap.

    Raises
    ------
    TypeError
        If ``table`` is not a DataFrame, or a column of values does not hold numbers.
    KeyError
        If a column is missing.
    ValueError
        If the table is empty, so that there is nothing to ``aim`` at, or has gaps.
    """
    if not isinstance(table, pd.DataFrame):
        msg = f"table is a {type(table).__name__}, not a DataFrame; pass one with a row per run"
        raise TypeError(msg)
    columns = {**values, **keys}
    for parameter, name in columns.items():
        if name not in table:
            msg = f"{parameter}={name!r} is not a column of the table, which has {some(table.columns) or 'none'}"
            raise KeyError(msg)
    if table.empty:
        msg = f"the table has no rows, so there is nothing to {aim}"
        raise ValueError(msg)
    for name in values.values():
        if not pd.api.types.is_numeric_dtype(table[name]):
            msg = f"column {name!r} holds {table[name].dtype} values, not numbers"
            raise TypeError(msg)
    for name in columns.values():
        if name in values.values():
            gaps = ~np.isfinite(table[name].to_numpy(float, na_value=np.nan))
            way_out = f"drop these rows, such as by table.dropna(subset={name!r})"
        else:
            gaps, way_out = table[name].isna().to_numpy(), "drop their seeds"
        if gaps.any():
            rows = table.index[gaps]
            msg = f"column {name!r} has no value in {len(rows)} row(s): {some(rows)}; fill them, or {way_out}"
            raise ValueError(msg)
    return table[list(dict.fromkeys(columns.values()))]


def grid(table: pd.DataFrame, value: str, by: Sequence[str], *, within: str = "") -> tuple[np.ndarray, list[list]]:
    """Lay a value out by its keys, each in the order of the table, where every combination has exactly one.

    ``within`` says in a message of which part of a larger table this is.

    Returns
    -------
    The values, of shape (number of names of the first key, …, of the last key), and the names of each key.

    Raises
    ------
    ValueError
        If a combination is missing or repeated.
    """
    names = [list(table[key].unique()) for key in by]
    series = table.set_index(list(by))[value]
    within = within and f" ({within})"
    if (repeated := series.index.duplicated()).any():
        where = _where(series.index[repeated].unique(), by)
        msg = f"the table has several values for {where}{within}; average them first"
        raise ValueError(msg)
    series = series.reindex(pd.MultiIndex.from_product(names, names=list(by)))
    if (absent := series.isna()).any():
        where = _where(series.index[absent], by)
        msg = f"runs are paired by seed, but there is none for {where}{within}; add it, or drop its seed"
        raise ValueError(msg)
    return series.to_numpy(float).reshape([len(level) for level in names]), names


def named(keys: Iterable[str], row: Iterable[object]) -> str:
    """Write a combination of keys for a message."""
    return " ".join(f"{key}={name}" for key, name in zip(keys, row, strict=True))


def _where(rows: Iterable[tuple], by: Sequence[str]) -> str:
    return some(named(by, row) for row in rows)
