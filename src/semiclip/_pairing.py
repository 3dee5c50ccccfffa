"""Weak pairing: which rows of two modalities share a key, such as perturbation and dose."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from semiclip._checks import column, controls, known_labels, modality, nonempty, own_labels, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from semiclip._design import Design

logger = logging.getLogger(__name__)

SIGNIFICANT_DIGITS = 6  # doses that agree to this many digits are one dose
SIDE = "side of the pair"  # a name that no column has
SMALL_SHARE = 0.5  # where less has a partner, of the keys of the smaller side or of the student's rows, look into it


ROLES = {"student": "rna", "teacher": "image"}  # the roles, and the modalities that play them by default


def roles(modalities: Mapping[str, str] | None) -> dict[str, str]:
    """Return the modality of each role."""
    if wrong := set(modalities or {}) - set(ROLES):
        msg = f"modalities names {some(sorted(wrong))}, but the roles are student and teacher"
        raise ValueError(msg)
    return {**ROLES, **(modalities or {})}


def student_of(adata: AnnData | MuData, modalities: Mapping[str, str] | None) -> AnnData:
    """Return the samples of a query: an AnnData, or the student modality of a MuData."""
    if not hasattr(adata, "mod"):
        return nonempty(adata)
    example = next(iter(adata.mod), "rna")
    return modality(adata, roles(modalities)["student"], f"pass the AnnData itself, such as mdata[{example!r}]")


class Pairing(NamedTuple):
    """Key codes of the rows of both modalities, -1 for controls and for rows without a partner."""

    student: np.ndarray
    teacher: np.ndarray
    counts: pd.DataFrame
    """One row per key found in either modality: the key's columns, ``n_student``, ``n_teacher``; shared keys first,
    so that the codes are row numbers."""

    @property
    def n_keys(self) -> int:
        """Number of keys that both modalities have."""
        return int((self.counts[["n_student", "n_teacher"]] > 0).all(axis=1).sum())

    def log(self, student: str, teacher: str) -> None:
        """Say what pairs in modalities of these names, and warn where much is lost."""
        counts = self.counts[["n_student", "n_teacher"]].to_numpy()
        n, keys, rows, paired = (
            self.n_keys,
            (counts > 0).sum(axis=0),
            counts.sum(axis=0),
            counts[: self.n_keys].sum(axis=0),
        )
        logger.info(
            "%d keys are shared, of %d in %s and %d in %s; of the treated rows, %d of %d in %s and %d of %d in %s have "
            "a partner, and the others take no part",
            n, keys[0], student, keys[1], teacher, paired[0], rows[0], student, paired[1], rows[1], teacher,
        )  # fmt: skip
        if n < SMALL_SHARE * keys.min() or paired[0] < SMALL_SHARE * rows[0]:
            logger.warning(
                "%d of %d keys and %d of %d treated rows in %s have a partner in %s: if these should be more, "
                "scl.pp.check(mdata, ...) finds what is spelt or measured otherwise, and scl.pp.pair(mdata, ...) lists "
                "the keys",
                n, keys[0], paired[0], rows[0], student, teacher,
            )  # fmt: skip


def pair_rows(
    student: AnnData,
    teacher: AnnData,
    design: Design | None = None,
    *,
    pair_on: str | Sequence[str] = (),
    perturbation_key: str | None = None,
    control: str | Sequence[str] | None = None,
) -> Pairing:
    """Match the treated rows of two modalities by their keys; controls need none.

    Each modality may have its own control labels, but needs one of them.

    Raises
    ------
    ValueError
        If no key is shared, or a control label is nowhere.
    TypeError
        If a key column is numeric in one modality and text in the other.
    """
    if design is not None:
        pair_on, perturbation_key, control = design.pair_on or (), design.perturbation_key, design.control
    keys = columns_of(pair_on)
    sides = [student, teacher]
    own = [own_labels(adata, perturbation_key, control) for adata in sides]
    known_labels(sides, perturbation_key, control)
    treated = [~controls(adata, perturbation_key, labels) for adata, labels in zip(sides, own, strict=True)]
    rows = [
        pd.DataFrame({key: _canonical(adata, key, mask) for key in keys})
        for adata, mask in zip(sides, treated, strict=True)
    ]
    for key in keys:
        kinds = [frame[key].dtype.kind in "if" for frame in rows]
        if kinds[0] != kinds[1]:
            msg = f"obs[{key!r}] is numeric in one modality and text in the other; convert one so that keys can match"
            raise TypeError(msg)

    table = pd.concat(rows, keys=["n_student", "n_teacher"], names=[SIDE]).groupby([*keys, SIDE]).size()
    counts = table.unstack(SIDE, fill_value=0).reindex(columns=["n_student", "n_teacher"], fill_value=0)
    shared = (counts > 0).all(axis=1)
    if not shared.any():
        student_has, teacher_has = (_examples(frame) for frame in rows)
        msg = f"the modalities share no key on {keys}: the student has {student_has}; the teacher has {teacher_has}"
        raise ValueError(msg)
    with_partner, without = counts[shared.to_numpy()], counts[~shared.to_numpy()]
    index = pd.MultiIndex.from_frame(with_partner.index.to_frame(index=False)[keys])
    codes = [np.full(len(mask), -1) for mask in treated]
    for code, mask, frame in zip(codes, treated, rows, strict=True):
        code[mask] = index.get_indexer(pd.MultiIndex.from_frame(frame))
    return Pairing(codes[0], codes[1], pd.concat([with_partner, without]).reset_index().rename_axis(columns=None))


def columns_of(pair_on: str | Sequence[str]) -> list[str]:
    """Return the columns that make the key."""
    keys = [pair_on] if isinstance(pair_on, str) else list(dict.fromkeys(pair_on))
    if not keys:
        msg = "pair_on names no column; name obs columns that both modalities have, such as ['perturbation', 'dose']"
        raise ValueError(msg)
    return keys


def keys_of(adata: AnnData, pair_on: str | Sequence[str], treated: np.ndarray) -> np.ndarray:
    """Return an integer code of each treated row's key, -1 for controls, which need none."""
    frame = pd.DataFrame({key: _canonical(adata, key, treated) for key in columns_of(pair_on)})
    codes = np.full(len(treated), -1)
    codes[treated] = frame.groupby(list(frame), sort=True).ngroup()
    return codes


def pair_rows_in_place(adata: AnnData, perturbation_key: str | None, control: str | Sequence[str] | None) -> Pairing:
    """Pair every treated row with itself, for an AnnData that holds both representations."""
    treated = ~controls(adata, perturbation_key, control)
    codes = np.where(treated, np.cumsum(treated) - 1, -1)
    counts = pd.DataFrame({"obs_name": adata.obs_names[treated], "n_student": 1, "n_teacher": 1})
    return Pairing(codes, codes, counts)


def _examples(keys: pd.DataFrame) -> str:
    if keys.empty:
        return "controls alone"
    return some(keys.drop_duplicates().astype(str).agg(" | ".join, axis=1), 3)


def _canonical(adata: AnnData, key: str, rows: np.ndarray | None = None) -> np.ndarray:
    """Return a key column, or the rows of a mask of it, as text or as floats rounded to their significant digits."""
    held = column(adata, key, "pair_on", rows)
    values = held.to_numpy()
    if values.dtype.kind not in "iuf":
        return values.astype(str).astype(object)
    values = values.astype(np.float64)
    if np.isinf(values).any():
        infinite = held.index[np.isinf(values)]
        msg = f"obs[{key!r}] (pair_on) is infinite in {len(infinite)} row(s): {some(infinite)}; mend or drop them"
        raise ValueError(msg)
    size = np.where(values == 0, 1.0, np.abs(values))
    factor = 10.0 ** (SIGNIFICANT_DIGITS - 1 - np.floor(np.log10(size)))
    rounded = np.round(values * factor) / factor
    # whole numbers may be names, such as PubChem's; + 0.0 makes -0.0 the same key as 0.0
    return np.where(values == np.round(values), values, rounded) + 0.0
