"""Weak pairing: which rows of two modalities share a key, such as perturbation and dose."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from semiclip._checks import column, controls, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

SIGNIFICANT_DIGITS = 6  # doses that agree to this many digits are one dose
SIDE = "side of the pair"  # a name that no column has


ROLES = {"student": "rna", "teacher": "image"}  # the roles, and the modalities that play them by default


def roles(modalities: Mapping[str, str] | None) -> dict[str, str]:
    """Return the modality of each role."""
    if wrong := set(modalities or {}) - set(ROLES):
        msg = f"modalities names {some(sorted(wrong))}, but the roles are student and teacher"
        raise ValueError(msg)
    return {**ROLES, **(modalities or {})}


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


def pair_rows(
    student: AnnData,
    teacher: AnnData,
    *,
    pair_on: str | Sequence[str],
    perturbation_key: str | None,
    control: str | Sequence[str] | None,
) -> Pairing:
    """Match the treated rows of two modalities by their keys.

    Raises
    ------
    ValueError
        If no key is shared.
    TypeError
        If a key column is numeric in one modality and text in the other.
    """
    keys = columns_of(pair_on)
    frames = [pd.DataFrame({key: _canonical(adata, key) for key in keys}) for adata in (student, teacher)]
    for key in keys:
        kinds = [frame[key].dtype.kind in "if" for frame in frames]
        if kinds[0] != kinds[1]:
            msg = f"obs[{key!r}] is numeric in one modality and text in the other; convert one so that keys can match"
            raise TypeError(msg)
    treated = [~controls(adata, perturbation_key, control) for adata in (student, teacher)]
    rows = [frame[mask] for frame, mask in zip(frames, treated, strict=True)]

    table = pd.concat(rows, keys=["n_student", "n_teacher"], names=[SIDE]).groupby([*keys, SIDE]).size()
    counts = table.unstack(SIDE, fill_value=0).reindex(columns=["n_student", "n_teacher"], fill_value=0)
    shared = (counts > 0).all(axis=1)
    if not shared.any():
        student_has, teacher_has = (_examples(frame) for frame in rows)
        msg = f"the modalities share no key on {keys}: the student has {student_has}; the teacher has {teacher_has}"
        raise ValueError(msg)
    with_partner, without = counts[shared.to_numpy()], counts[~shared.to_numpy()]
    index = pd.MultiIndex.from_frame(with_partner.index.to_frame(index=False)[keys])
    codes = [
        np.where(mask, index.get_indexer(pd.MultiIndex.from_frame(frame)), -1)
        for frame, mask in zip(frames, treated, strict=True)
    ]
    return Pairing(codes[0], codes[1], pd.concat([with_partner, without]).reset_index().rename_axis(columns=None))


def columns_of(pair_on: str | Sequence[str]) -> list[str]:
    """Return the columns that make the key."""
    keys = [pair_on] if isinstance(pair_on, str) else list(dict.fromkeys(pair_on))
    if not keys:
        msg = "pair_on names no column; name obs columns that both modalities have, such as ['perturbation', 'dose']"
        raise ValueError(msg)
    return keys


def keys_of(adata: AnnData, pair_on: str | Sequence[str]) -> np.ndarray:
    """Return an integer code of each row's key."""
    frame = pd.DataFrame({key: _canonical(adata, key) for key in columns_of(pair_on)})
    return frame.groupby(list(frame), sort=True).ngroup().to_numpy()


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


def _canonical(adata: AnnData, key: str) -> np.ndarray:
    """Return a key column as text or as floats rounded to their significant digits."""
    values = column(adata, key, "pair_on").to_numpy()
    if values.dtype.kind not in "iuf":
        return values.astype(str).astype(object)
    values = values.astype(np.float64)
    if np.isinf(values).any():
        infinite = adata.obs_names[np.isinf(values)]
        msg = f"obs[{key!r}] (pair_on) is infinite in {len(infinite)} row(s): {some(infinite)}; mend or drop them"
        raise ValueError(msg)
    size = np.where(values == 0, 1.0, np.abs(values))
    factor = 10.0 ** (SIGNIFICANT_DIGITS - 1 - np.floor(np.log10(size)))
    return np.round(values * factor) / factor + 0.0  # + 0.0 makes -0.0 the same key as 0.0
