"""Reads the tables that the tools return, or says what is wrong and which call makes such a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Sequence

THRESHOLDS = ("threshold_low", "threshold_high")


def filled(
    table: pd.DataFrame, columns: Sequence[str], maker: str, *, empty: str = "the table has no rows"
) -> pd.DataFrame:
    """Return a table that has these columns and a row; ``maker`` names the function that returns such tables."""
    if not isinstance(table, pd.DataFrame):
        msg = f"table is a {type(table).__name__}, not a DataFrame; draw what {maker} returns"
        raise TypeError(msg)
    if absent := [name for name in columns if name not in table]:
        msg = f"the table has no column {some(absent)}; draw what {maker} returns"
        raise KeyError(msg)
    if table.empty:
        msg = f"{empty}, so there is nothing to draw"
        raise ValueError(msg)
    return table


def finite(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse columns that do not hold a finite number in every row."""
    for name in columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            msg = f"column {name!r} holds {table[name].dtype} values, not numbers"
            raise TypeError(msg)
        if (gaps := ~np.isfinite(table[name].to_numpy(float, na_value=np.nan))).any():
            msg = f"column {name!r} has no value in {gaps.sum()} row(s): {some(table.index[gaps])}; drop them first"
            raise ValueError(msg)


def once(table: pd.DataFrame, by: Sequence[str]) -> None:
    """Refuse a table with several rows for one combination of names."""
    if (repeated := table.duplicated(list(by))).any():
        where = table.loc[repeated, list(by)].astype(str).agg(" of ".join, axis=1).unique()
        msg = f"the table has several values for {some(where)}; average them first, or give each run its own name"
        raise ValueError(msg)


def single(table: pd.DataFrame, column: str) -> str:
    """Return the only name in a column."""
    names = table[column].unique()
    if len(names) > 1:
        msg = f"the table has several names as {column}, {some(names)}; draw one at a time"
        raise ValueError(msg)
    return str(names[0])


def by_share(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Sort by the ``share`` of all pairs that the thresholds leave in the tails, which is the recall of chance.

    There may be one row for each share of a name (such as a representation).
    """
    finite(table, THRESHOLDS)
    share = (table["threshold_low"] + 1 - table["threshold_high"]).round(9)
    once(table.assign(share=(100 * share).map("{:.6g}%".format)), [name, "share"])
    return table.assign(share=share).sort_values("share", kind="stable")
