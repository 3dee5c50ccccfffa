"""Reads the tables that the tools return, or says what is wrong and which call makes such a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip import errors

if TYPE_CHECKING:
    from collections.abc import Sequence

THRESHOLDS = ("threshold_low", "threshold_high")


def check_table(
    table: pd.DataFrame, columns: Sequence[str], maker: str, *, numbers: Sequence[str] = (), name: str = "table"
) -> None:
    """Refuse a table without these columns or rows; ``maker`` returns such tables, and ``numbers`` have no gaps."""
    where, way_out = "the table" if name == "table" else name, f"pass what {maker} returns"
    if not isinstance(table, pd.DataFrame):
        raise errors.WrongType(name, type(table), "a DataFrame", way_out)
    if absent := [column for column in (*columns, *numbers) if column not in table]:
        raise errors.MissingColumn(absent, table.columns, where, way_out=way_out)
    if table.empty:
        raise errors.Empty(f"rows in {where}", way_out)
    check_numbers(table, numbers)


def check_numbers(table: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse columns that do not hold a finite number in every row."""
    for name in columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise errors.WrongDtype(f"column {name!r}", table[name].dtype)
        if (gaps := ~np.isfinite(table[name].to_numpy(float, na_value=np.nan))).any():
            raise errors.MissingValues(f"column {name!r}", table.index[gaps].tolist(), "drop them first")


def check_once(table: pd.DataFrame, by: Sequence[str]) -> None:
    """Refuse a table with several rows for one combination of names."""
    if (repeated := table.duplicated(list(by))).any():
        combinations = table.loc[repeated, list(by)].astype(str).agg(" of ".join, axis=1).unique()
        raise errors.Repeated("rows of the table", combinations, "average them first, or give each run its own name")


def select_rows(table: pd.DataFrame, column: str, name: str) -> pd.DataFrame:
    """Return the rows of a name that a user chose by an argument that is called as the column."""
    if name not in (names := list(table[column].unique())):
        raise errors.MissingEntry(name, names, "the table", column)
    return table[table[column] == name]


def read_single(table: pd.DataFrame, column: str) -> str:
    """Return the only name in a column."""
    names = table[column].unique()
    if len(names) > 1:
        way_out = f"draw one of {errors.some(names)} at a time"
        raise errors.TooMany(f"names in column {column!r}", len(names), 1, way_out)
    return str(names[0])


def sort_by_share(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Sort by the ``share`` of all pairs in the tails, which is the recall of chance; a name has each share once."""
    check_numbers(table, THRESHOLDS)
    share = (table["threshold_low"] + 1 - table["threshold_high"]).round(9)
    check_once(table.assign(share=(100 * share).map("{:.6g}%".format)), [name, "share"])
    return table.assign(share=share).sort_values("share", kind="stable")
