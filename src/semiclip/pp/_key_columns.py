"""Key columns as pairing sees them."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._pairing import _canonical
from semiclip.pp._mistakes import Keys, Side, control_rows, numeric

if TYPE_CHECKING:
    from collections.abc import Iterable


def rounded(values: pd.Series) -> np.ndarray:
    """Return finite numbers, or text, as pairing compares them."""
    from anndata import AnnData

    index = pd.RangeIndex(len(values)).astype(str)
    return _canonical(AnnData(obs=pd.DataFrame({"key": values.array}, index=index)), "key")


def parsed(values: pd.Series) -> pd.Series:
    """Return text as numbers, NaN where it is none."""
    numbers = pd.to_numeric(values.astype(str), errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))


def treated_keys(side: Side, keys: Keys) -> pd.DataFrame:
    """Return the distinct keys of the treated rows that have all values, as pairing compares them."""
    obs = side.adata.obs[keys.pair_on]
    known = obs.notna().all(axis=1).to_numpy() & ~control_rows(side, keys)
    for key in keys.pair_on:
        if numeric(obs[key]):
            known &= np.isfinite(obs[key].astype(float).to_numpy())
    rows = obs[known].drop_duplicates()
    return pd.DataFrame({key: rounded(rows[key]) for key in keys.pair_on}).drop_duplicates()


def floats(sides: Iterable[Side], key: str) -> str | None:
    """Write code that makes columns numbers; none if it would fail, or make one value of two."""
    code = []
    for side in sides:
        column = side.adata.obs[key]
        if column.dtype.kind in "iuf":
            continue
        if not numeric(column):
            numbers = parsed(pd.Series(column.dropna().astype(str).unique(), dtype=object))
            if numbers.isna().any():
                return None
            if len(set(rounded(numbers))) < len(numbers):
                return None
        code.append(f"{side.column(key)} = {side.column(key)}.astype(float)")
    return "; ".join(code)


def folded(label: str) -> str:
    """Return a label without case and superfluous blanks."""
    return " ".join(unicodedata.normalize("NFC", label.casefold()).split())
