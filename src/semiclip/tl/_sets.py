"""Reads the table that :func:`semiclip.tl.relationship_sets` returns, or says what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Sequence

GENES = ["gene_a", "gene_b"]
NOT_SETS = [*GENES, "databases"]
SOURCE = "pass what scl.tl.relationship_sets returns"


class Sets(NamedTuple):
    """Which representations (columns of ``recalled``) recall which pairs (rows) of genes (``first``, ``second``)."""

    names: list[str]
    recalled: np.ndarray
    genes: pd.Index
    first: np.ndarray
    second: np.ndarray

    def region(self, inside: str | Sequence[str], outside: str | Sequence[str]) -> np.ndarray:
        """Mark the pairs that all of ``inside`` and none of ``outside`` recall."""
        within, without = listed(inside), listed(outside)
        if not within:
            msg = f"inside names no representation; choose at least one of {some(self.names)}"
            raise ValueError(msg)
        if both := [name for name in within if name in without]:
            msg = f"{some(both)} is in both inside and outside, where no pair can be; leave it out of one"
            raise ValueError(msg)
        return np.asarray(self._columns(within).all(axis=1) & ~self._columns(without).any(axis=1))

    def _columns(self, names: list[str]) -> np.ndarray:
        return self.recalled[:, [self.names.index(name) for name in known(names, self.names)]]


def listed(names: str | Sequence[str]) -> list[str]:
    """Return one name or several as a list without repeats."""
    return [names] if isinstance(names, str) else list(dict.fromkeys(names))


def known(names: list[str], there: list[str]) -> list[str]:
    """Refuse names of representations that are not there."""
    if unknown := [name for name in names if name not in there]:
        msg = f"sets has no representation {some(unknown)}, only {some(there) or 'none'}"
        raise KeyError(msg)
    return names


def read_sets(sets: pd.DataFrame, representations: str | Sequence[str] | None = None) -> Sets:
    """Check the table and return the chosen representations, by default all, in the order given."""
    if absent := [name for name in GENES if name not in sets]:
        msg = f"sets has no column {some(absent)}, only {some(sets.columns)}; {SOURCE}"
        raise KeyError(msg)
    there = [name for name in sets.columns if name not in NOT_SETS]
    names = there if representations is None else known(listed(representations), there)
    if not names:
        msg = f"there is no representation among the columns {some(sets.columns)}; {SOURCE}"
        raise ValueError(msg)
    # a column without rows has no values that could be of the wrong kind
    wrong = [name for name in names if len(sets) and not pd.api.types.is_bool_dtype(sets[name].convert_dtypes())]
    if wrong:
        msg = f"column(s) {some(wrong)} are not true or false; choose other columns, or {SOURCE}"
        raise ValueError(msg)
    missing = sets[[*GENES, *names]].isna().any(axis=1)
    if missing.any():
        rows = sets.index[missing]
        msg = f"sets has missing values in {len(rows)} row(s): {some(rows)}; keep the pairs that all tables share"
        raise ValueError(msg)
    a, b = (sets[name].to_numpy(dtype=object) for name in GENES)
    codes, genes = pd.factorize(np.concatenate([a, b]), sort=True)
    first, second = np.sort(codes.reshape(2, -1), axis=0)
    pairs = pd.Series(first * max(len(genes), 1) + second)
    if (repeated := pairs.duplicated().to_numpy()).any():
        shown = some(f"{one}–{other}" for one, other in zip(a[repeated], b[repeated], strict=True))
        msg = f"sets repeats pairs: {shown}; each pair must have one row, or it would count more than once"
        raise ValueError(msg)
    recalled = np.column_stack([sets[name].to_numpy(dtype=bool) for name in names])
    return Sets(names, recalled, pd.Index(genes), first, second)
