"""The usual mistakes between two modalities to be paired, one function for each."""

import re
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from semiclip._pairing import SMALL_SHARE, canonical_keys
from semiclip.errors import some
from semiclip.pp._modality import Finding, Modality, fold, is_numeric, parse_numbers, write_floats
from semiclip.pp._spelling import find_spelling

FEW_KEYS = 20  # fewer shared keys are worth a look, as is a small share of those that there could be
UNIT_TOLERANCE, NEAR = 0.005, 0.02  # in log10: nominal doses in other units agree to 1 %, rounded ones to 5 %
CONTROL_NAME = re.compile(  # without case, blanks, hyphens, underscores and dots
    r"(dmso|control|ctrl|neg(ative)?(con|control|ctrl)?|non?targeting.*|safetargeting.*|ntc?|vehicle|empty.*|untreated|"
    r"mock|scrambled?)"
)


def find_control_names(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find controls under another name than ``control=`` says; each modality may have its own name."""
    modalities, labels = (student, teacher), list(student.design.control or ())
    if not labels:
        yield from _find_unnamed_controls(modalities)
        return
    key = str(student.design.perturbation_key)
    counts = [_count_labels(modality, key) for modality in modalities]
    for modality, rows, other in zip(modalities, counts, reversed(counts), strict=True):
        strange = [name for name in _named_like_controls(rows) if name not in labels]
        if any(label in rows for label in labels):
            if strange:
                finding = f"{some(strange)} count as perturbations, but are named like controls"
                mend = f"pass control={[*labels, *strange]!r}, if they are controls"
                yield Finding("warning", "control names", modality.name, finding, mend)
            continue
        finding = f"no row is labelled {some(labels)}; the most frequent labels are {some(rows)}"
        mend = "pass the label of the controls as control="
        if strange:
            finding = f"no row is labelled {some(labels)}, but {_with_rows(strange, rows)}"
            mend = f"name those of {strange!r} that are controls in control="
        if len(strange) == 1:
            # the label that is spelt alike, or else the label of the other modality
            alike = [label for label in labels if fold(str(label)) == fold(str(strange[0]))]
            label = [*alike, *(label for label in labels if label in other), *labels][0]
            column = modality.column(key)
            mend = f"{column} = {column}.astype(object).replace({strange[0]!r}, {label!r})"
        yield Finding("error", "control names", modality.name, finding, mend)
    nowhere = [label for label in labels if not any(label in rows for rows in counts)]
    if nowhere and all(any(label in rows for label in labels) for rows in counts):
        finding = f"no row of either modality is labelled {some(nowhere)}"
        mend = f"pass control={[label for label in labels if label not in nowhere]!r}, or the right label"
        yield Finding("error", "control names", _both(student, teacher), finding, mend)


def _find_unnamed_controls(modalities: Sequence[Modality]) -> Iterator[Finding]:
    """Find controls where the data are said to have none."""
    perturbation_key = modalities[0].design.perturbation_key
    for key in modalities[0].pair_on if perturbation_key is None else [perturbation_key]:
        counts = [_count_labels(modality, key) for modality in modalities]
        controls = [_named_like_controls(rows) for rows in counts]
        labels = list(dict.fromkeys([*controls[0], *controls[1]]))
        for modality, rows, names in zip(modalities, counts, controls, strict=True):
            if names:
                told = f"in obs[{key!r}] are named like controls and would be learnt as perturbations"
                finding = f"control=None, but {_with_rows(names, rows)} {told}"
                label = labels[0] if len(labels) == 1 else labels
                mend = f"pass perturbation_key={key!r}, control={label!r}, if they are controls"
                yield Finding("warning", "control names", modality.name, finding, mend)


def _count_labels(modality: Modality, key: str) -> dict[object, int]:
    return {label: int(n) for label, n in modality.adata.obs[key].value_counts().items() if n > 0}


def _named_like_controls(labels: Iterable[object]) -> list[object]:
    names = pd.Series(list(labels), dtype=object)
    simple = names.astype(str).str.casefold().str.replace(r"[\s_.\-‐–]+", "", regex=True)
    return names[simple.str.fullmatch(CONTROL_NAME)].tolist()


def _with_rows(names: Iterable[object], rows: dict[object, int]) -> str:
    return some(f"{name} ({rows[name]} rows)" for name in names)


def _both(student: Modality, teacher: Modality) -> str:
    return f"{student.name}, {teacher.name}"


def find_mixed_kinds(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find columns that are numbers in one modality and text in the other."""
    for key in student.pair_on:
        is_number = [is_numeric(modality.adata.obs[key]) for modality in (student, teacher)]
        if is_number[0] != is_number[1]:
            text = teacher if is_number[0] else student
            labels = pd.Series(text.adata.obs[key].dropna().astype(str).unique(), dtype=object)
            strange = some(map(repr, labels[parse_numbers(labels).isna()]), 3)
            why = f"{strange} are none" if strange else "pairing would take two of its labels for one"
            by_hand = f"make numbers of {text.column(key)} by hand, since {why}, or text of the other modality"
            finding = f"obs[{key!r}] is text, and numeric in the other modality: the keys cannot match"
            yield Finding("error", "kind of column", text.name, finding, write_floats([text], key) or by_hand)


def find_doses(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find doses, also those written as text, in different units, or rounded differently."""
    for key in student.pair_on:
        others = [other for other in student.pair_on if other != key]
        if not others or key == student.design.perturbation_key:
            continue
        tables = [_with_numbers(modality.treated_keys(), key) for modality in (student, teacher)]
        if tables[0] is None or tables[1] is None:
            continue
        # all pairs of doses that the two modalities give with the rest of the key
        both = tables[0].merge(tables[1], on=others, suffixes=("_s", "_t"))
        both = both[(both[f"{key}_s"] > 0) & (both[f"{key}_t"] > 0)]
        if len(both):
            yield from _compare_doses(both[[f"{key}_s", f"{key}_t"]], both[others], (student, teacher), key)


def _with_numbers(keys: pd.DataFrame, key: str) -> pd.DataFrame | None:
    """Return keys with numbers for one column of text; none if that is not what it holds."""
    if is_numeric(keys[key]):
        return keys
    numbers = parse_numbers(keys[key])
    return None if numbers.isna().any() else keys.assign(**{key: canonical_keys(numbers)}).drop_duplicates()


def _compare_doses(
    doses: pd.DataFrame, rest: pd.DataFrame, modalities: tuple[Modality, Modality], key: str
) -> Iterator[Finding]:
    """Compare doses, two columns, that share the rest of their keys."""
    columns = [doses[column] for column in doses]
    keys = [pd.concat([rest, column], axis=1) for column in columns]
    n, pair = min(len(frame.drop_duplicates()) for frame in keys), _both(*modalities)
    ratio, exact = pd.Series(np.log10(columns[1] / columns[0])), columns[0] == columns[1]
    thousands = (ratio / 3).round()
    units = thousands[(thousands != 0) & ((ratio - 3 * thousands).abs() < UNIT_TOLERANCE)].value_counts()
    if len(units) and units.iloc[0] >= max(n / 2, 2 * exact.sum()):
        power = int(3 * units.index[0])
        larger, smaller = modalities[power > 0], modalities[power < 0]
        finding = (
            f"obs[{key!r}] of {larger.name} is {10 ** abs(power):,} times that of {smaller.name} in {units.iloc[0]} of "
            f"{n} shared keys, as nM and µM do; {exact.sum()} match unchanged"
        )
        code, mend = write_floats(modalities, key), f"{larger.column(key)} /= {10 ** abs(power)}"
        if code is None:
            mend = f"make numbers of obs[{key!r}] in both by hand, then {mend}"
        elif code:
            mend = f"{code}; {mend}"
        yield Finding("error", "units", pair, finding, mend)
        return
    near = (ratio.abs() < NEAR) & ~exact
    for frame in keys:
        index = pd.MultiIndex.from_frame(frame)
        near &= ~index.isin(index[exact])  # a key that has its partner may be close to others
    if near.any():
        examples = dict.fromkeys(f"{a:g} and {b:g}" for a, b in doses[near].itertuples(index=False))
        finding = f"obs[{key!r}] differs by less than 5 % in {near.sum()} shared keys, as {some(examples, 3)}"
        yield Finding("warning", "rounding", pair, finding, _write_rounding(modalities, key, doses[near]))
    elif not exact.any():
        have = [f"{one.name} has {some(sorted(seen.unique()))}" for one, seen in zip(modalities, columns, strict=True)]
        finding = f"obs[{key!r}] never matches where the rest of the key does: {'; '.join(have)}"
        mend = f"bring the values to one grid, or leave {key!r} out of pair_on="
        yield Finding("error", "no common dose", pair, finding, mend)


def _write_rounding(modalities: Sequence[Modality], key: str, doses: pd.DataFrame) -> str:
    """Write code that rounds as little as makes the doses match, unless it makes one dose of two."""

    def rounded(digits: int, values: Iterable[float]) -> list[float]:
        return [float(f"{value:.{digits}g}") for value in values]

    if write_floats(modalities, key) is not None:
        columns = [modality.adata.obs[key].dropna().astype(float) for modality in modalities]
        distinct = [set(canonical_keys(column[np.isfinite(column)])) for column in columns]
        for digits in (5, 4, 3, 2):
            match = rounded(digits, doses.iloc[:, 0]) == rounded(digits, doses.iloc[:, 1])
            if match and all(len(set(rounded(digits, values))) == len(values) for values in distinct):
                rounding = f".astype(float).map(lambda value: float(f'{{value:.{digits}g}}'))"
                codes = [modality.column(key) for modality in modalities]
                return "; ".join(f"{code} = {code}{rounding}" for code in codes)
    return f"bring obs[{key!r}] of both to one grid; rounding does not, or makes one dose of two"


def find_few_shared_keys(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find that too little is shared to learn from."""
    if any(is_numeric(student.adata.obs[key]) != is_numeric(teacher.adata.obs[key]) for key in student.pair_on):
        return  # an error of its own
    tables = [modality.treated_keys() for modality in (student, teacher)]
    n, sizes = len(tables[0].merge(tables[1], on=student.pair_on)), [len(keys) for keys in tables]
    if n < max(FEW_KEYS, SMALL_SHARE * min(sizes)):
        told = " and ".join(
            f"{len(keys):,} in {modality.name} ({some(keys.astype(str).agg(' | '.join, axis=1), 3) or 'none'})"
            for modality, keys in zip((student, teacher), tables, strict=True)
        )
        mend = "mend the other findings first; then look at scl.pp.pair, or pair on fewer columns"
        severity, finding = "warning" if n else "error", f"{n} keys are shared, of {told}"
        yield Finding(severity, "few shared keys", _both(student, teacher), finding, mend)


def find_shared_names(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find samples and batches that go by one name in both modalities."""
    pair, prefix, key = _both(student, teacher), f"{teacher.name + ':'!r} + ", student.design.batch_key
    if len(names := student.adata.obs_names.intersection(teacher.adata.obs_names).unique()):
        finding = f"{len(names)} obs_names are in both, which MuData takes for the same samples: {some(names)}"
        mend = f"{teacher.code}.obs_names = {prefix}{teacher.code}.obs_names; mdata.update()"
        yield Finding("info", "shared sample names", pair, finding, mend)
    if key is None:
        return
    batches = [set(modality.adata.obs[key].dropna().astype(str)) for modality in (student, teacher)]
    if both := sorted(batches[0] & batches[1]):
        told = f"have the same name in both, though each modality is corrected by itself: {some(both)}"
        mend = f"{teacher.column(key)} = {prefix}{teacher.text(key)}  # unless they are the same plates"
        yield Finding("info", "shared batch names", pair, f"{len(both)} batch(es) {told}", mend)


BETWEEN = (find_control_names, find_mixed_kinds, find_doses, find_spelling, find_few_shared_keys, find_shared_names)
