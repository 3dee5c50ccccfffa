"""Labels that two modalities spell differently, and which of them are safe to make one."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

from semiclip._checks import some
from semiclip.pp._key_columns import floats, folded, treated_keys
from semiclip.pp._mistakes import Finding, Keys, Side, numeric

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)  # a larger one is a name
PLAIN = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?", re.ASCII)  # no clone 1E5, no compound 007
# what stands between two letters or digits for a blank, other than the minus of an exponent
JOINER = re.compile(r"(?<=[^\W_])(?<!\de)[-_‐‑–](?=[^\W_])")
LOOSE = re.compile(r"(?<=[^\W\d_])[ .](?=[^\W_])|(?<=\d)[ .](?=[^\W\d_])")  # never between two digits


def _by_form(labels: Iterable[str]) -> dict[Decimal | str, list[str]]:
    """Group labels by what they are however they are spelt: an exact number, or a name."""
    forms: dict[Decimal | str, list[str]] = {}
    for label in sorted(labels):
        plain = folded(label)
        form = Decimal(plain) if NUMBER.fullmatch(plain) else JOINER.sub(" ", plain)
        forms.setdefault(form, []).append(label)
    return forms


def spelling(student: Side, teacher: Side, keys: Keys) -> Iterator[Finding]:
    """Find names, and numbers that are text, that would match if they were spelt alike."""
    sides = (student, teacher)
    tables = [treated_keys(side, keys) for side in sides]
    for key in keys.pair_on:
        if any(numeric(side.adata.obs[key]) for side in sides):
            continue
        treated = [_by_form(set(table[key])) for table in tables]
        labels = [_by_form(side.adata.obs[key].dropna().astype(str).unique()) for side in sides]
        sure: dict[bool, list[list[list[str]]]] = {True: [], False: []}  # numbers, names
        unsure = _similar(treated)
        for form in [form for form, ours in treated[0].items() if treated[1].get(form, ours) != ours]:
            groups = [each[form] for each in labels]
            if _one_name(groups, keys, key):
                sure[isinstance(form, Decimal)].append(groups)
            else:
                unsure.append(groups)
        pair = f"{student.name}, {teacher.name}"
        if found := sure[False]:
            finding = (
                f"{len(found)} name(s) in obs[{key!r}] would match but for case, blanks or hyphens: {_shown(found)}"
            )
            yield Finding("warning", "spelling", pair, finding, _replaced(sides, key, found))
        if found := sure[True]:
            finding = f"{len(found)} number(s) in obs[{key!r}] are text and written differently: {_shown(found)}"
            mend = f"make numbers of obs[{key!r}] in both by hand, since not every label is one, or two are the same"
            if key == keys.perturbation:
                mend = _replaced(sides, key, found)
            yield Finding("warning", "numbers as text", pair, finding, floats(sides, key) or mend)
        if unsure:
            finding = f"{len(unsure)} label(s) in obs[{key!r}] are alike, but need not be the same: {_shown(unsure)}"
            mend = f"rename in obs[{key!r}] those that are the same, one by one"
            yield Finding("warning", "similar labels", pair, finding, mend)


def _one_name(groups: Sequence[Sequence[str]], keys: Keys, key: str) -> bool:
    """Tell whether labels of two modalities, alike in form, may become one: no modality tells them apart."""
    if any(len({folded(label) for label in group}) > 1 for group in groups):
        return False
    if key != keys.perturbation:
        return True
    labels = {label for group in groups for label in group}
    numbers = [each for each in map(folded, labels) if NUMBER.fullmatch(each)]
    return labels.isdisjoint(map(str, keys.control)) and all(map(PLAIN.fullmatch, numbers))


def _similar(treated: Sequence[dict[Decimal | str, list[str]]]) -> list[list[list[str]]]:
    """Return names without a partner that are one without what stands between letters, or letters and digits."""
    loose: list[dict[str, list[str]]] = [{}, {}]
    for mine, others, found in zip(treated, reversed(treated), loose, strict=True):
        for form, labels in mine.items():
            if form not in others and isinstance(form, str):
                found.setdefault(LOOSE.sub("", form), []).extend(labels)
    return [[labels, loose[1][form]] for form, labels in loose[0].items() if form in loose[1]]


def _shown(found: Iterable[Sequence[Sequence[str]]]) -> str:
    pairs = ((ours[0], next(label for label in [*theirs, *ours] if label != ours[0])) for ours, theirs in found)
    return some((f"{a!r} and {b!r}" for a, b in pairs), 3)


def _replaced(sides: Sequence[Side], key: str, found: Iterable[Sequence[Sequence[str]]]) -> str:
    """Write code that gives each group of labels the name that both modalities have, or else the student's."""
    spelt: list[dict[str, str]] = [{}, {}]
    for groups in found:
        name = next((label for label in groups[0] if label in groups[1]), groups[0][0])
        for names, group in zip(spelt, groups, strict=True):
            names |= {label: name for label in group if label != name}
    columns = [side.column(key) for side in sides]
    code = [f"{at} = {at}.astype(object).replace({names!r})" for at, names in zip(columns, spelt, strict=True) if names]
    return "; ".join(code)
