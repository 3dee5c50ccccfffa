"""The usual mistakes between two modalities that shall be paired, each found by a function of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import some
from semiclip._pairing import SMALL_SHARE
from semiclip.pp._key_columns import floats, folded, parsed, rounded, treated_keys
from semiclip.pp._mistakes import CONTROL_NAME, Finding, Keys, Side, numeric, simple
from semiclip.pp._spelling import spelling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

FEW_KEYS = 20  # fewer shared keys are worth a look, as is a small share of those that there could be
UNIT_TOLERANCE, NEAR = 0.005, 0.02  # in log10: nominal doses in other units agree to 1 %, rounded ones to 5 %


def control_names(student: Side, teacher: Side, keys: Keys) -> Iterator[Finding]:
    """Find controls under another name than the given ones, of which each modality may have its own."""
    sides = (student, teacher)
    if not keys.control:
        yield from _unnamed_controls(sides, keys)
        return
    key = str(keys.perturbation)
    counts = [_counts(side, key) for side in sides]
    absent = [[label for label in keys.control if label not in here] for here in counts]
    for i, (side, here) in enumerate(zip(sides, counts, strict=True)):
        strange = [name for name in _named_like_controls(here) if name not in keys.control]
        column = side.column(key)
        if len(absent[i]) < len(keys.control):
            if strange:
                finding = f"{some(strange)} count as perturbations, but are named like controls"
                mend = f"pass control={[*keys.control, *strange]!r}, if they are controls"
                yield Finding("warning", "control names", side.name, finding, mend)
            continue
        finding = f"no row is labelled {some(keys.control)}; the most frequent labels are {some(here)}"
        mend = "pass the label of the controls as control="
        if strange:
            there = some(f"{name} ({here[name]} rows)" for name in strange)
            finding = f"no row is labelled {some(keys.control)}, but {there}"
            mend = f"name those of {strange!r} that are controls in control="
        if len(strange) == 1:
            # the label that is spelt alike, or else that of the other modality
            alike = [label for label in keys.control if folded(str(label)) == folded(str(strange[0]))]
            label = [*alike, *(label for label in keys.control if label in counts[1 - i]), *keys.control][0]
            mend = f"{column} = {column}.astype(object).replace({strange[0]!r}, {label!r})"
        yield Finding("error", "control names", side.name, finding, mend)
    if all(len(labels) < len(keys.control) for labels in absent):
        if nowhere := [label for label in absent[0] if label in absent[1]]:
            finding = f"no row of either modality is labelled {some(nowhere)}"
            mend = f"pass control={[label for label in keys.control if label not in nowhere]!r}, or the right label"
            yield Finding("error", "control names", f"{student.name}, {teacher.name}", finding, mend)


def _unnamed_controls(sides: Sequence[Side], keys: Keys) -> Iterator[Finding]:
    """Find controls where the data are said to have none."""
    for key in keys.pair_on if keys.perturbation is None else [keys.perturbation]:
        counts = [_counts(side, key) for side in sides]
        found = [_named_like_controls(here) for here in counts]
        labels = list(dict.fromkeys([*found[0], *found[1]]))
        for side, here, names in zip(sides, counts, found, strict=True):
            if names:
                finding = (
                    f"control=None, but {some(f'{name} ({here[name]} rows)' for name in names)} in obs[{key!r}] are "
                    "named like controls and would be learnt as perturbations"
                )
                label = labels[0] if len(labels) == 1 else labels
                mend = f"pass perturbation_key={key!r}, control={label!r}, if they are controls"
                yield Finding("warning", "control names", side.name, finding, mend)


def _counts(side: Side, key: str) -> dict[object, int]:
    counts = side.adata.obs[key].value_counts()
    return {label: int(n) for label, n in counts.items() if n > 0}


def _named_like_controls(counts: dict[object, int]) -> list[object]:
    names = pd.Series(list(counts), dtype=object)
    return names[simple(names).str.fullmatch(CONTROL_NAME)].tolist()


def kinds(student: Side, teacher: Side, keys: Keys) -> Iterator[Finding]:
    """Find columns that are numbers in one modality and text in the other."""
    for key in keys.pair_on:
        is_number = [numeric(side.adata.obs[key]) for side in (student, teacher)]
        if is_number[0] != is_number[1]:
            text = teacher if is_number[0] else student
            finding = f"obs[{key!r}] is text, and numeric in the other modality: the keys cannot match"
            mend = floats([text], key) or f"{_by_hand(text, key)}, or text of the other modality"
            yield Finding("error", "kind of column", text.name, finding, mend)


def _by_hand(side: Side, key: str) -> str:
    labels = pd.Series(side.adata.obs[key].dropna().astype(str).unique(), dtype=object)
    strange = labels[parsed(labels).isna()]
    why = f"{some(map(repr, strange), 3)} are none" if len(strange) else "pairing would take two of its labels for one"
    return f"make numbers of {side.column(key)} by hand, since {why}"


def doses(student: Side, teacher: Side, keys: Keys) -> Iterator[Finding]:
    """Find doses, also those written as text, in different units, or rounded differently."""
    for key in keys.pair_on:
        others = [other for other in keys.pair_on if other != key]
        if not others or key == keys.perturbation:
            continue
        ours, theirs = (_with_numbers(treated_keys(side, keys), key) for side in (student, teacher))
        if ours is None or theirs is None:
            continue
        # all pairs of doses that the two modalities give with the rest of the key
        both = ours.merge(theirs, on=others, suffixes=("_s", "_t"))
        both = both[(both[f"{key}_s"] > 0) & (both[f"{key}_t"] > 0)]
        if len(both):
            yield from _compared(both[f"{key}_s"], both[f"{key}_t"], both[others], student, teacher, key)


def _with_numbers(frame: pd.DataFrame, key: str) -> pd.DataFrame | None:
    """Return keys with numbers for one column of text; none if that is not what it holds."""
    if numeric(frame[key]):
        return frame
    numbers = parsed(frame[key])
    if numbers.isna().any():
        return None
    return frame.assign(**{key: rounded(numbers)}).drop_duplicates()


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
        mend = f"{larger.column(key)} /= {10 ** abs(power)}"
        code = floats((student, teacher), key)
        if code is None:
            mend = f"make numbers of obs[{key!r}] in both by hand, then {mend}"
        elif code:
            mend = f"{code}; {mend}"
        yield Finding("error", "units", pair, finding, mend)
        return
    near = (ratio.abs() < NEAR) & ~exact
    for dose in (ours, theirs):
        index = pd.MultiIndex.from_frame(pd.concat([rest, dose], axis=1))
        near &= ~index.isin(index[exact])  # a key that has its partner may be close to others
    if near.any():
        examples = dict.fromkeys(f"{a:g} and {b:g}" for a, b in zip(ours[near], theirs[near], strict=True))
        finding = f"obs[{key!r}] differs by less than 5 % in {near.sum()} shared keys, as {some(examples, 3)}"
        mend = _rounding((student, teacher), key, ours[near], theirs[near])
        yield Finding("warning", "rounding", pair, finding, mend)
    elif not exact.any():
        finding = (
            f"obs[{key!r}] never matches where the rest of the key does: {student.name} has "
            f"{some(sorted(ours.unique()))}; {teacher.name} has {some(sorted(theirs.unique()))}"
        )
        mend = f"bring the values to one grid, or leave {key!r} out of pair_on="
        yield Finding("error", "no common dose", pair, finding, mend)


def _rounding(sides: Sequence[Side], key: str, ours: pd.Series, theirs: pd.Series) -> str:
    """Write code that rounds as little as makes the doses match, unless it makes one dose of two."""

    def to(digits: int, values: Iterable[float]) -> list[float]:
        return [float(f"{value:.{digits}g}") for value in values]

    columns = [] if floats(sides, key) is None else [side.adata.obs[key].dropna().astype(float) for side in sides]
    held = [set(rounded(column[np.isfinite(column)])) for column in columns]
    for digits in (5, 4, 3, 2) if held else ():
        if to(digits, ours) == to(digits, theirs) and all(len(set(to(digits, each))) == len(each) for each in held):
            how = f".astype(float).map(lambda value: float(f'{{value:.{digits}g}}'))"
            return "; ".join(f"{side.column(key)} = {side.column(key)}{how}" for side in sides)
    return f"bring obs[{key!r}] of both to one grid; rounding does not, or makes one dose of two"


def shared_keys(student: Side, teacher: Side, keys: Keys) -> Iterator[Finding]:
    """Find that too little is shared to learn from."""
    if any(numeric(student.adata.obs[key]) != numeric(teacher.adata.obs[key]) for key in keys.pair_on):
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
        mend = f"{column} = {teacher.name + ':'!r} + {teacher.text(keys.batch)}  # unless they are the same plates"
        yield Finding("info", "shared batch names", pair, finding, mend)


BETWEEN: list[Callable[[Side, Side, Keys], Iterator[Finding]]] = [
    control_names,
    kinds,
    doses,
    spelling,
    shared_keys,
    shared_names,
]
