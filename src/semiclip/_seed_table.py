"""Reads a tidy table of repeated runs, one row per setting and seed, and pairs the seeds."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from semiclip.errors import Empty, MissingColumn, MissingValues, Repeated, WrongDtype, WrongType


def read_runs(table: pd.DataFrame, *, values: Mapping[str, str], keys: Mapping[str, str]) -> pd.DataFrame:
    """Return the columns that arguments (keys of the mappings) name: finite numbers, and anything but a gap."""
    if not isinstance(table, pd.DataFrame):
        raise WrongType("table", type(table), "a DataFrame with a row per run")
    columns = {**values, **keys}
    for argument, column in columns.items():
        if column not in table:
            raise MissingColumn(column, table.columns, "the table", name=argument)
    if table.empty:
        raise Empty("rows in the table")
    for column in values.values():
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise WrongDtype(f"column {column!r}", table[column].dtype, "numbers")
    for column in columns.values():
        gaps, way_out = table[column].isna().to_numpy(), "fill them, or drop their seeds"
        if column in values.values():
            gaps = ~np.isfinite(table[column].to_numpy(float, na_value=np.nan))
            way_out = f"fill them, or drop these rows, such as by table.dropna(subset={column!r})"
        if gaps.any():
            raise MissingValues(f"column {column!r}", table.index[gaps].tolist(), way_out)
    return table[list(dict.fromkeys(columns.values()))]


def read_grid(table: pd.DataFrame, value: str, keys: Sequence[str], *, part: str = "") -> tuple[np.ndarray, list[list]]:
    """Return values of shape (names of the first key, …, of the last key), and the names of each key.

    Every combination of keys must have exactly one value; ``part`` says which part of a larger table this is.
    """
    names = [list(table[key].unique()) for key in keys]
    series = table.set_index(list(keys))[value]
    place = f" ({part})" if part else ""
    if (repeated := series.index.duplicated()).any():
        runs = [name_run(keys, run) for run in series.index[repeated].unique()]
        raise Repeated(f"runs in the table{place}", runs, "average them first")
    series = series.reindex(pd.MultiIndex.from_product(names, names=list(keys)))
    if (absent := series.isna()).any():
        runs = [name_run(keys, run) for run in series.index[absent]]
        raise MissingValues(f"column {value!r}{place}", runs, "runs are paired by seed: add these, or drop their seeds")
    return series.to_numpy(float).reshape([len(level) for level in names]), names


def name_run(keys: Iterable[str], run: Iterable[object]) -> str:
    """Write a combination of keys for an error."""
    return " ".join(f"{key}={name}" for key, name in zip(keys, run, strict=True))
