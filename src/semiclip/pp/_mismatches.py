"""The usual mistakes between two modalities that shall be paired, each found by a function of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import some
from semiclip._pairing import _canonical
from semiclip.pp._mistakes import Finding, Keys, Side, control_rows, simple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FEW_KEYS, SMALL_SHARE = 20, 0.1  # fewer shared keys are worth a look
UNIT_TOLERANCE, NEAR = 0.005, 0.02  # in log10: nominal doses in other units agree to 1 %, rounded ones to 5 %


def numeric(side: Side, key: str) -> bool:
    """Tell whether a column holds numbers."""
    return side.adata.obs[key].dtype.kind in "iuf"


def treated_keys(side: Side, keys: Keys) -> pd.DataFrame:
    """Return the distinct keys of the treated rows that have all values, as pairing compares them."""
    from anndata import AnnData

    obs = side.adata.obs[keys.pair_on]
    known = obs.notna().all(axis=1).to_numpy() & ~control_rows(side, keys)
    for key in keys.pair_on:
        if obs[key].dtype.kind == "f":
            known &= np.isfinite(obs[key].to_numpy())
    rows = obs[known].drop_duplicates()
    bare = AnnData(obs=rows.set_axis(rows.index.astype(str)))
    return pd.DataFrame({key: _canonical(bare, key) for key in keys.pair_on}).drop_duplicates()


def kinds(student: Side, teacher: Side, keys: Keys) -> Iterator[Finding]:
    """Find columns that are numbers in one modality and text in the other."""
    for key in keys.pair_on:
        if numeric(student, key) != numeric(teacher, key):
            text = teacher if numeric(student, key) else student
            finding = f"obs[{key!r}] is text, and numeric in the other modality: the keys cannot match"
            mend = f"{text.column(key)} = {text.column(key)}.astype(str).astype(float)"
            yield Finding("error", "kind of column", text.name, finding, mend)


def doses(student: Side, teacher: Side, keys: Keys) -> Iterator[Finding]:
    """Find doses in different units, or rounded differently."""
    for key in keys.pair_on:
        others = [other for other in keys.pair_on if other != key]
        if not others or not (numeric(student, key) and numeric(teacher, key)):
            continue
        # all pairs of doses that the two modalities give with the rest of the key
        both = treated_keys(student, keys).merge(treated_keys(teacher, keys), on=others, suffixes=("_s", "_t"))
        both = both[(both[f"{key}_s"] > 0) & (both[f"{key}_t"] > 0)]
        if len(both):
            yield from _compared(both[f"{key}_s"], both[f"{key}_t"], both[others], student, teacher, key)


def _compared(
    ours: pd.Series, theirs: pd.Series, rest: pd.DataFrame, student: Side, teacher: Side, key: str
) -> Iterator[Finding]:
    pair = f"{student.name}, {teacher.name}"
    n = min(len(pd.concat([rest, dose], axis=1).drop_duplicates()) for dose in (ours, theirs))
    ratio: pd.Series = pd.Series(np.log10(theirs / ours))
    thousands: pd.Series = (ratio / 3).round()
    exact = ours == theirs
    units = thousands[(thousands != 0) & ((ratio - 3 * thousands).abs() < UNIT_TOLERANCE)].value_counts()
    if len(units) and units.iloc[0] >= max(n / 2, 2 * exact.sum()):
        power = int(3 * units.index[0])
        larger = teacher if power > 0 else student
        smaller = student if power > 0 else teacher
        finding = (
            f"obs[{key!r}] of {larger.name} is {10 ** abs(power):,} times that of {smaller.name} in {units.iloc[0]} of "
            f"{n} shared keys, as nM are of µM; the values match as they are in {exact.sum()}"
        )
        yield Finding("error", "units", pair, finding, f"{larger.column(key)} /= {10 ** abs(power)}")
        return
    near = (ratio.abs() < NEAR) & ~exact
    index = pd.MultiIndex.from_frame(pd.concat([rest, ours], axis=1))
    near &= ~index.isin(index[exact])  # a key that has its partner may be close to others
    if near.any():
        examples = dict.fromkeys(f"{a:g} and {b:g}" for a, b in zip(ours[near], theirs[near], strict=True))
        finding = f"obs[{key!r}] differs by less than 5 % in {near.sum()} shared keys, as {some(examples, 3)}"
        mend = (
            f"for name in {[student.name, teacher.name]!r}: mdata[name].obs[{key!r}] = "
            f"mdata[name].obs[{key!r}].map(lambda value: float(f'{{value:.2g}}'))"
        )
        yield Finding("warning", "rounding", pair, finding, mend)
    elif not exact.any():
        finding = (
            f"obs[{key!r}] never matches where the rest of the key does: {student.name} has "
            f"{some(sorted(ours.unique()))}; {teacher.name} has {some(sorted(theirs.unique()))}"
        )
        mend = f"bring the values to one grid, or leave {key!r} out of pair_on="
        yield Finding("error", "no common dose", pair, finding, mend)


def spelling(student: Side, teacher: Side, keys: Keys) -> Iterator[Finding]:
    """Find names that would match if they were spelt alike."""
    for key in keys.pair_on:
        if numeric(student, key) or numeric(teacher, key):
            continue
        ours, theirs = (set(treated_keys(side, keys)[key]) for side in (student, teacher))
        alone = [pd.Series(sorted(mine - other), dtype=object) for mine, other in ((ours, theirs), (theirs, ours))]
        frames = [pd.DataFrame({"name": names, "simple": simple(names)}) for names in alone]
        match = frames[0].drop_duplicates("simple").merge(frames[1], on="simple")
        if len(match):
            spelt = dict(zip(match["name_y"], match["name_x"], strict=True))
            finding = (
                f"{len(spelt)} name(s) in obs[{key!r}] would match but for case, blanks or hyphens: "
                f"{some((f'{a!r} and {b!r}' for b, a in spelt.items()), 3)}"
            )
            mend = f"{teacher.column(key)} = {teacher.column(key)}.astype(str).replace({spelt!r})"
            yield Finding("warning", "spelling", f"{student.name}, {teacher.name}", finding, mend)


def shared_keys(student: Side, teacher: Side, keys: Keys) -> Iterator[Finding]:
    """Find that too little is shared to learn from."""
    if any(numeric(student, key) != numeric(teacher, key) for key in keys.pair_on):
        return  # an error of its own
    ours, theirs = treated_keys(student, keys), treated_keys(teacher, keys)
    n = len(ours.merge(theirs, on=keys.pair_on))
    smaller = min(len(ours), len(theirs))
    if n < max(FEW_KEYS, SMALL_SHARE * smaller):
        shown = [some(frame.astype(str).agg(" | ".join, axis=1), 3) or "none" for frame in (ours, theirs)]
        finding = (
            f"{n} keys are shared, of {len(ours):,} in {student.name} ({shown[0]}) and {len(theirs):,} in "
            f"{teacher.name} ({shown[1]})"
        )
        mend = "mend the other findings first; then look at scl.pp.pair, or pair on fewer columns"
        severity = "warning" if n else "error"
        yield Finding(severity, "few shared keys", f"{student.name}, {teacher.name}", finding, mend)


def shared_names(student: Side, teacher: Side, keys: Keys) -> Iterator[Finding]:
    """Find samples and batches that go by one name in both modalities."""
    pair = f"{student.name}, {teacher.name}"
    if len(names := student.adata.obs_names.intersection(teacher.adata.obs_names).unique()):
        finding = f"{len(names)} obs_names are in both, which MuData takes for the same samples: {some(names)}"
        mend = f"{teacher.code}.obs_names = {teacher.name + ':'!r} + {teacher.code}.obs_names; mdata.update()"
        yield Finding("info", "shared sample names", pair, finding, mend)
    if keys.batch is None:
        return
    ours, theirs = (set(side.adata.obs[keys.batch].dropna().astype(str)) for side in (student, teacher))
    if both := sorted(ours & theirs):
        finding = (
            f"{len(both)} batch(es) go by one name in both, though each modality is corrected by itself: {some(both)}"
        )
        column = teacher.column(keys.batch)
        mend = f"{column} = {teacher.name + ':'!r} + {column}.astype(str)  # unless they are the same plates"
        yield Finding("info", "shared batch names", pair, finding, mend)


BETWEEN: list[Callable[[Side, Side, Keys], Iterator[Finding]]] = [kinds, doses, spelling, shared_keys, shared_names]
