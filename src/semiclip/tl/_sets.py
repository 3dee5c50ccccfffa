"""Reads the table that :func:`semiclip.tl.relationship_sets` returns, or says what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip.errors import BadValue, Empty, MissingColumn, MissingEntry, MissingValues, Refused, Repeated

if TYPE_CHECKING:
    from collections.abc import Sequence

GENES = ["gene_a", "gene_b"]
NOT_SETS = [*GENES, "databases"]
SOURCE = "pass what scl.tl.relationship_sets returns"


@dataclass(frozen=True)
class Sets:
    """Which representations recall which pairs of genes."""

    names: list[str]
    recalled: np.ndarray
    """Whether a representation (column) recalls a pair (row); shape (n_pairs, n_names)."""
    genes: pd.Index
    first: np.ndarray
    """One gene of each pair, a position in ``genes``; shape (n_pairs,)."""
    second: np.ndarray

    def mark_region(self, inside: str | Sequence[str], outside: str | Sequence[str]) -> np.ndarray:
        """Mark the pairs that all of ``inside`` and none of ``outside`` recall."""
        within, without = list_once(inside), list_once(outside)
        if not within:
            raise BadValue("inside", inside, "one or more of the representations")
        if both := [name for name in within if name in without]:
            raise Repeated("representations in inside and outside", both, "leave each out of one")
        return np.asarray(self.columns(within).all(axis=1) & ~self.columns(without).any(axis=1))

    def columns(self, names: list[str]) -> np.ndarray:
        """Return which pairs these representations recall, shape (n_pairs, len(names))."""
        return self.recalled[:, [self.names.index(name) for name in check_names(names, self.names)]]


def list_once(names: str | Sequence[str]) -> list[str]:
    """Return one name or several as a list without repeats."""
    return [names] if isinstance(names, str) else list(dict.fromkeys(names))


def check_names(names: list[str], representations: list[str]) -> list[str]:
    """Refuse names of representations that do not exist."""
    if unknown := [name for name in names if name not in representations]:
        raise MissingEntry(unknown, representations, "sets")
    return names


def read_sets(sets: pd.DataFrame, representations: str | Sequence[str] | None = None) -> Sets:
    """Check the table and return the chosen representations, by default all, in the order of the argument."""
    if absent := [name for name in GENES if name not in sets]:
        raise MissingColumn(absent, sets.columns, "sets", way_out=SOURCE)
    all_names = [name for name in sets.columns if name not in NOT_SETS]
    names = all_names if representations is None else check_names(list_once(representations), all_names)
    if not names:
        raise Empty("representations in sets", SOURCE)
    # a column without rows has no values that could be of the wrong kind
    wrong = [name for name in names if len(sets) and not pd.api.types.is_bool_dtype(sets[name].convert_dtypes())]
    if wrong:
        raise Refused("columns of sets are not true or false", wrong, f"choose other columns, or {SOURCE}")
    missing = sets[[*GENES, *names]].isna().any(axis=1)
    if missing.any():
        raise MissingValues("sets", sets.index[missing].tolist(), "keep the pairs that all tables share")
    one, other = (sets[name].to_numpy(dtype=object) for name in GENES)
    codes, genes = pd.factorize(np.concatenate([one, other]), sort=True)
    first, second = np.sort(codes.reshape(2, -1), axis=0)
    pairs = pd.Series(first * max(len(genes), 1) + second)
    if (repeated := pairs.duplicated().to_numpy()).any():
        named = [f"{a}–{b}" for a, b in zip(one[repeated], other[repeated], strict=True)]
        raise Repeated("pairs in sets", named, "keep one row for each pair, or it would count more than once")
    recalled = np.column_stack([sets[name].to_numpy(dtype=bool) for name in names])
    return Sets(names, recalled, pd.Index(genes), first, second)
