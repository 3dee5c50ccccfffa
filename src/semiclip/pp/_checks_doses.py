"""Mistakes in doses: units, text, rounding, and ladders that are shifted."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from semiclip._labels import INVISIBLE, MISSING_AS_TEXT, fold
from semiclip._pairing import canonical_keys
from semiclip.errors import some
from semiclip.pp._dose_text import BASES, Dose, has_units, read_dose
from semiclip.pp._modality import Finding, Modality, is_numeric, parse_numbers, write_floats

UNIT_TOLERANCE, NEAR = 0.005, 0.02  # in log10: nominal doses in other units agree to 1 %, rounded ones to 5 %
MOST_PAIRS = 10**6  # of doses that are compared


def find_units_in_text(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find numbers that are text with a unit."""
    modalities = (student, teacher)
    for key in student.pair_on:
        with_units = [modality for modality in modalities if has_units(modality.adata.obs[key])]
        if key == student.design.perturbation_key or len(student.pair_on) == 1 or not with_units:
            continue
        doses = [_read_doses(modality, key) for modality in with_units]
        every = [dose for read, _ in doses for dose in read.values() if dose is not None]
        kinds, units = {dose.kind for dose in every if dose.unit}, Counter(dose.unit for dose in every if dose.unit)
        unit = units.most_common(1)[0][0]
        told = some((f"{label!r}" for read, _ in doses for label in read), 4)
        finding = f"obs[{key!r}] is text with units, {some(units)}: {told}"
        if len(with_units) == 2 and _are_alike(doses):
            continue
        # what is no dose may stand for none, where controls alone have it; a number without unit may be in any
        strange = [label for read, treated in doses for label in treated if read[label] is None and not _is_gap(label)]
        bare = [(label, dose) for read, _ in doses for label, dose in read.items() if dose and not dose.unit]
        strange += [label for label, dose in bare if dose.number]
        code = ""
        if len(kinds) > 1 or strange:
            why = f"{some(map(repr, strange), 3)} tell no unit" if strange else f"they measure {some(sorted(kinds))}"
            mend = f"make numbers of one unit of obs[{key!r}] by hand, since {why}"
        else:
            mend = f"make numbers in {unit} of {some(modality.column(key) for modality in with_units)}"
            parts = []
            for modality, (read, _) in zip(with_units, doses, strict=True):
                numbers = {label: _convert(label, dose, unit) for label, dose in read.items()}
                numbers |= {label.strip(INVISIBLE): number for label, number in numbers.items()}
                parts.append(_write_numbers(modality, key, numbers))
            code = "; ".join(parts)
        is_error = len(with_units) == 1 and any(is_numeric(modality.adata.obs[key]) for modality in modalities)
        name = ", ".join(modality.name for modality in with_units)
        yield Finding("error" if is_error else "warning", "units in text", name, finding, mend, code)


def _read_doses(modality: Modality, key: str) -> tuple[dict[str, Any], list[str]]:
    """Return what each label of a column says, and the labels of the rows that are no controls."""
    column = modality.adata.obs[key]
    labels = [str(label) for label in column.dropna().unique()]
    treated = column[~modality.is_control].dropna().unique()
    return {label: read_dose(label) for label in labels}, [str(label) for label in treated]


def _are_alike(doses: Sequence[tuple[dict[str, Any], list[str]]]) -> bool:
    """Tell whether two modalities spell the doses of treated rows alike, each in one way, as 24h and 48h."""
    (read, one), (_, other) = doses
    known = [dose for label in one if (dose := read[label]) is not None]
    sizes = {(dose.kind, dose.convert(BASES[dose.kind]) if dose.unit else float(dose.number)) for dose in known}
    return set(one) == set(other) and len(sizes) == len(known) == len(one)


def _is_gap(label: str) -> bool:
    return fold(label) in MISSING_AS_TEXT


def _convert(label: str, dose: Dose | None, unit: str) -> float:
    """Return a dose in a unit: unknown where the label is written for a gap, and none for another word of controls."""
    if dose is None:
        return float("nan") if _is_gap(label) else 0.0
    return dose.convert(unit)


def _write_numbers(modality: Modality, key: str, numbers: dict[str, float]) -> str:
    """Write code that replaces text by numbers and leaves numbers as they are."""
    column = modality.column(key)
    text = f"{column}.astype(object)"
    if modality.adata.obs[key].isna().any():
        text += f".where({column}.notna(), float('nan'))"
    written = {label: "float('nan')" if np.isnan(number) else repr(number) for label, number in numbers.items()}
    table = f"{{{', '.join(f'{label!r}: {number}' for label, number in written.items())}}}"
    return f"{column} = {text}.map(lambda value, doses={table}: doses.get(value, value)).astype(float)"


def find_doses(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find doses, also those written as text, in different units, or rounded differently."""
    keys = [modality.treated_keys() for modality in (student, teacher)]
    perturbation = student.design.perturbation_key
    if perturbation not in student.pair_on:  # what names it then is the column with the most values
        perturbation = max(student.pair_on, key=lambda key: sum(table[key].nunique() for table in keys))
    for key in student.pair_on:
        others = [other for other in student.pair_on if other != key]
        if not others or key == perturbation:
            continue
        tables = [numbers for table in keys if (numbers := _with_numbers(table, key)) is not None]
        if len(tables) < 2:
            continue
        if any(is_numeric(keys[0][other]) != is_numeric(keys[1][other]) for other in others):
            continue  # an error of its own
        sizes = [table.groupby(others).size() for table in tables]
        if sizes[0].mul(sizes[1], fill_value=0).sum() > MOST_PAIRS:
            continue  # no doses, of which there are few for the rest of a key
        # all pairs of doses that the two modalities give with the rest of the key
        both = tables[0].merge(tables[1], on=others, suffixes=("_s", "_t"))
        both = both[(both[f"{key}_s"] > 0) & (both[f"{key}_t"] > 0)]
        if not len(both):
            continue
        findings = list(_compare_doses(both[[f"{key}_s", f"{key}_t"]], both[others], (student, teacher), key))
        if not findings or findings[0].check == "no common dose":
            exact = bool((both[f"{key}_s"] == both[f"{key}_t"]).any())
            ladder = _find_ladder(tables[0], tables[1], others, key, is_error=not exact)
            findings = [found._replace(modality=f"{student.name}, {teacher.name}") for found in ladder] or findings
        yield from findings


def _find_ladder(
    student: pd.DataFrame, teacher: pd.DataFrame, others: list[str], key: str, *, is_error: bool
) -> Iterator[Finding]:
    """Find that the doses of one modality are those of the other times a number, so that some pair by accident."""
    ladders = [table[table[key] > 0].sort_values(key).groupby(others)[key].agg(list) for table in (student, teacher)]
    both = pd.concat(ladders, axis=1, join="inner", keys=["student", "teacher"])
    both = both[(both["student"].map(len) > 1) & (both["student"].map(len) == both["teacher"].map(len))]
    steps = []
    for one, other in both.itertuples(index=False):
        ratio = np.log10(np.divide(other, one))
        if np.ptp(ratio) < UNIT_TOLERANCE and abs(ratio.mean()) > NEAR:
            steps.append(round(float(ratio.mean()), 2))
    if not steps or len(steps) < len(both) / 2:
        return
    step, n = Counter(steps).most_common(1)[0]
    if n < len(both) / 2:
        return
    shown = next(
        (one, other)
        for one, other in both.itertuples(index=False)
        if round(float(np.log10(np.divide(other, one)).mean()), 2) == step
    )
    ladder = [", ".join(f"{dose:g}" for dose in doses) for doses in shown]
    shared = len(student.merge(teacher, on=[*others, key]))
    finding = (
        f"obs[{key!r}] is shifted by a factor of {10**step:.3g} in {n} of {len(both)} ladders: {ladder[0]} against "
        f"{ladder[1]}; {shared} keys pair nonetheless"
    )
    mend = "see whether these are the same doses, such as before and after a dilution, and then multiply those of one "
    mend += "modality; if they are what was given, leave them"
    yield Finding("error" if is_error else "warning", "shifted doses", "", finding, mend)


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
    n, pair = min(len(frame.drop_duplicates()) for frame in keys), f"{modalities[0].name}, {modalities[1].name}"
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
        code, factor, at = write_floats(modalities, key), 10 ** abs(power), larger.column(key)
        mend = f"divide {at} by {factor:,}"
        numbers = parse_numbers(larger.adata.obs[key].dropna())
        if code is None or numbers.isna().any():
            mend, code = f"make numbers of obs[{key!r}] in both by hand, then {mend}", ""
        else:  # where it has been divided already, no dose is as large
            change = f"{at} /= {factor} if {at}.max() > {numbers.max() / 10:.6g} else 1"
            code = f"{code}; {change}" if code else change
        yield Finding("error", "units", pair, finding, mend, code)
        return
    near = (ratio.abs() < NEAR) & ~exact
    for frame in keys:
        index = pd.MultiIndex.from_frame(frame)
        near &= ~index.isin(index[exact])  # a key that has its partner may be close to others
    if near.any():
        examples = dict.fromkeys(f"{a:g} and {b:g}" for a, b in doses[near].itertuples(index=False))
        finding = f"obs[{key!r}] differs by less than 5 % in {near.sum()} shared keys, as {some(examples, 3)}"
        yield Finding("warning", "rounding", pair, finding, *_write_rounding(modalities, key, doses[near]))
    elif not exact.any():
        have = [f"{one.name} has {some(sorted(seen.unique()))}" for one, seen in zip(modalities, columns, strict=True)]
        finding = f"obs[{key!r}] never matches where the rest of the key does: {'; '.join(have)}"
        mend = f"bring the values to one grid, or leave {key!r} out of pair_on="
        yield Finding("error", "no common dose", pair, finding, mend)


def _write_rounding(modalities: Sequence[Modality], key: str, doses: pd.DataFrame) -> tuple[str, str]:
    """Say how, and write code that rounds as little as makes the doses match, unless it makes one dose of two."""

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
                code = "; ".join(f"{code} = {code}{rounding}" for code in codes)
                return f"round obs[{key!r}] of both to {digits} digits, which keeps all doses of each apart", code
    return f"bring obs[{key!r}] of both to one grid; rounding does not, or makes one dose of two", ""
