"""Weak pairing: which rows of two modalities share a key, such as perturbation and dose."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from semiclip._checks import read_column
from semiclip._design import SIDES
from semiclip._labels import list_unlabelled, mark_unlabelled, sort_combination
from semiclip._messages import warn
from semiclip.errors import BadValue, NotFinite, NothingShared, WrongDtype, some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

    from semiclip._design import Design

logger = logging.getLogger(__name__)

SIGNIFICANT_DIGITS = 6  # doses that agree to this many digits are one dose
SIDE = "side of the pair"  # a name that no column has
EXACT = 2**53  # up to which float64 holds every whole number
COUNTS = [f"n_{side}" for side in SIDES]
SMALL_SHARE = 0.5  # where less has a partner, of the keys of the smaller side or of the student's rows, look into it


class Pairing(NamedTuple):
    """Key codes of the rows of both modalities, -1 for controls and for rows without a label or a partner.

    ``counts`` has a row per key of either: its columns, ``n_student``, ``n_teacher``. Codes are numbers of its rows.
    ``unlabelled`` counts the rows of each modality, by label, whose label names nothing.
    """

    student: np.ndarray
    teacher: np.ndarray
    counts: pd.DataFrame
    unlabelled: tuple[dict[str, int], dict[str, int]] = ({}, {})

    @property
    def n_keys(self) -> int:
        """Number of keys that both modalities have."""
        return int((self.counts[COUNTS] > 0).all(axis=1).sum())

    def warn_unlabelled(self, student_name: str, teacher_name: str) -> None:
        """Warn of rows whose label names nothing, which are not paired."""
        for name, rows in zip((student_name, teacher_name), self.unlabelled, strict=True):
            if rows:
                told = some(f"{label!r} ({n} rows)" for label, n in rows.items())
                warn(
                    f"{sum(rows.values())} rows in {name} are not paired, since their label names nothing: {told}; if "
                    "these are names, pass as unlabelled= only labels that are none, or unlabelled=() to pair all"
                )

    def report(self, student_name: str, teacher_name: str) -> None:
        """Log what pairs in modalities of these names, and warn where much is lost."""
        self.warn_unlabelled(student_name, teacher_name)
        counts, n = self.counts[COUNTS].to_numpy(), self.n_keys
        keys, rows, paired = (counts > 0).sum(axis=0), counts.sum(axis=0), counts[:n].sum(axis=0)
        logger.info(
            "%d keys are shared, of %d in %s and %d in %s; of the treated rows, %d of %d in %s and %d of %d in %s have "
            "a partner, and the others take no part",
            *(n, keys[0], student_name, keys[1], teacher_name),
            *(paired[0], rows[0], student_name, paired[1], rows[1], teacher_name),
        )
        if n < SMALL_SHARE * keys.min() or paired[0] < SMALL_SHARE * rows[0]:
            warn(
                f"{n} of {keys[0]} keys and {paired[0]} of {rows[0]} treated rows in {student_name} have a partner in "
                f"{teacher_name}: if these should be more, scl.pp.check(mdata, ...) finds what is spelt or measured "
                "otherwise, and scl.pp.pair(mdata, ...) lists the keys"
            )


def pair_rows(student: AnnData, teacher: AnnData, design: Design) -> Pairing:
    """Match the treated rows of two modalities by their keys; each needs one of the control labels, not all."""
    if design.pair_on is None:
        raise BadValue("pair_on", None, "one or more obs columns that both modalities have")
    columns, modalities = list(design.pair_on), (student, teacher)
    treated = [~design.within(adata).controls(adata) for adata in modalities]
    design.check_controls(modalities)
    nameless = [find_unlabelled(adata.obs, design, mask) for adata, mask in zip(modalities, treated, strict=True)]
    treated = [mask & ~without for mask, (without, _) in zip(treated, nameless, strict=True)]
    keys = [_read_keys(adata, columns, mask) for adata, mask in zip(modalities, treated, strict=True)]
    keys = [sort_keys(table, design) for table in keys]
    for column in columns:
        is_number = [table[column].dtype.kind in "iuf" for table in keys]
        if is_number[0] != is_number[1]:
            text, number = SIDES if is_number[1] else reversed(SIDES)
            needed, way_out = f"numbers, as the {number} has", "convert one so that keys can match"
            raise WrongDtype(f"obs[{column!r}] ({text})", "text", needed, way_out)
        if keys[0][column].dtype != keys[1][column].dtype and all(is_number):  # their common type would merge ids
            for rows in keys:
                rows[column] = [_write_number(number) for number in rows[column].tolist()]

    table = pd.concat(keys, keys=COUNTS, names=[SIDE]).groupby([*columns, SIDE]).size()
    counts = table.unstack(SIDE, fill_value=0).reindex(columns=COUNTS, fill_value=0)
    shared = (counts > 0).all(axis=1).to_numpy()
    if not shared.any():
        distinct = [rows.drop_duplicates().astype(str) for rows in keys]
        one, other = (rows.agg(" | ".join, axis=1).tolist() if len(rows) else [] for rows in distinct)
        raise NothingShared(f"key on {', '.join(columns)}", one, other, ("the student", "the teacher"))
    index = pd.MultiIndex.from_frame(counts[shared].index.to_frame(index=False)[columns])
    codes = [np.full(len(mask), -1) for mask in treated]
    for code, mask, rows in zip(codes, treated, keys, strict=True):
        code[mask] = index.get_indexer(pd.MultiIndex.from_frame(rows))
    in_order = pd.concat([counts[shared], counts[~shared]])
    of_key = in_order.reset_index().rename_axis(columns=None)
    return Pairing(codes[0], codes[1], of_key, (nameless[0][1], nameless[1][1]))


def find_unlabelled(obs: pd.DataFrame, design: Design, treated: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
    """Return a mask of the treated rows whose label in a column that pairs names nothing, and their number by label."""
    mask, counts = np.zeros(len(obs), dtype=bool), dict[str, int]()
    for key in dict.fromkeys([*(design.pair_on or ()), design.perturbation_key]):
        if key is None or key not in obs:
            continue
        rows = mark_unlabelled(obs[key], list_unlabelled(design, key)) & treated & ~mask
        # as objects, since astype(str) of categories fails in pandas 2.2 where copies are made on writing
        for label, n in obs[key][rows].astype(object).map(str).value_counts().items():
            counts[str(label)] = counts.get(str(label), 0) + int(n)
        mask |= rows
    return mask, counts


def sort_keys(keys: pd.DataFrame, design: Design) -> pd.DataFrame:
    """Return key columns with combinations, such as ``B+A``, in the order of their parts, if these are separated."""
    if design.separator is None:
        return keys
    names = [key for key in keys if key == design.perturbation_key or key == (design.pair_on or ("",))[0]]
    texts = {key: keys[key] for key in names if keys[key].dtype.kind not in "iuf"}
    return keys.assign(**{str(k): [sort_combination(label, design.separator) for label in v] for k, v in texts.items()})


def pair_rows_in_place(adata: AnnData, design: Design) -> Pairing:
    """Pair every treated row with itself, for an AnnData that holds both representations."""
    treated = ~design.controls(adata)
    codes = np.where(treated, np.cumsum(treated) - 1, -1)
    return Pairing(codes, codes, pd.DataFrame({"obs_name": adata.obs_names[treated], **dict.fromkeys(COUNTS, 1)}))


def key_codes(adata: AnnData, columns: Sequence[str], treated: np.ndarray) -> np.ndarray:
    """Return an integer code of each treated row's key, -1 for the other rows, which need none."""
    keys = _read_keys(adata, columns, treated)
    codes = np.full(len(treated), -1)
    codes[treated] = keys.groupby(list(keys), sort=True).ngroup()
    return codes


def canonical_keys(values: pd.Series) -> np.ndarray:
    """Return key values without holes as pairing compares them: text, or floats of six significant digits.

    Whole numbers stay integers where floats would merge some of them.
    """
    numbers = values.to_numpy()
    if numbers.dtype.kind not in "iuf":
        return numbers.astype(str).astype(object)
    if numbers.dtype.kind in "iu" and ((numbers > EXACT) | (numbers < -EXACT)).any():
        return numbers
    numbers = numbers.astype(np.float64)
    if np.isinf(numbers).any():
        raise NotFinite(f"obs[{values.name!r}] (pair_on)", values.index[np.isinf(numbers)].tolist())
    size = np.where(numbers == 0, 1.0, np.abs(numbers))
    factor = 10.0 ** (SIGNIFICANT_DIGITS - 1 - np.floor(np.log10(size)))
    rounded = np.round(numbers * factor) / factor
    # whole numbers may be names, such as PubChem's; + 0.0 makes -0.0 the same key as 0.0
    return np.where(numbers == np.round(numbers), numbers, rounded) + 0.0


def _read_keys(adata: AnnData, columns: Sequence[str], rows: np.ndarray) -> pd.DataFrame:
    """Return the key columns of the rows of a mask."""
    table = pd.DataFrame({key: canonical_keys(read_column(adata, key, "pair_on", rows)) for key in columns})
    for key in columns:
        if table[key].dtype.kind == "f" and (table[key].abs() > EXACT).any():
            warn(
                f"obs[{key!r}] holds floats above {EXACT:,}, of which neighbouring whole numbers are the same float: "
                "if they are ids, read them as text or as integers, nullable ones where some are missing"
            )
    return table


def _write_number(number: float) -> str:
    return str(int(number)) if number == int(number) else repr(number)
