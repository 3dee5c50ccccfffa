"""Labels that two modalities spell differently, and which of them are safe to make one."""

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

from semiclip._labels import fold
from semiclip.errors import some
from semiclip.pp._dose_text import has_units
from semiclip.pp._modality import Finding, Modality, is_numeric, write_floats

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)  # a larger one is a name
PLAIN = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?", re.ASCII)  # no clone 1E5, no compound 007
# what stands between two letters or digits for a blank, other than the minus of an exponent
JOINER = re.compile(r"(?<=[^\W_])(?<!\de)[-_‐‑–](?=[^\W_])")
LOOSE = re.compile(r"(?<=[^\W\d_])[ .](?=[^\W_])|(?<=\d)[ .](?=[^\W\d_])")  # never between two digits


def find_spelling(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find names, and numbers that are text, that would match if they were spelt alike."""
    modalities, pair = (student, teacher), f"{student.name}, {teacher.name}"
    tables = [modality.treated_keys() for modality in modalities]
    for key in student.pair_on:
        if any(is_numeric(modality.adata.obs[key]) for modality in modalities):
            continue
        is_perturbation = key == student.design.perturbation_key
        if not is_perturbation and len(student.pair_on) > 1 and any(has_units(m.adata.obs[key]) for m in modalities):
            continue  # a finding of its own
        treated = [_by_form(set(table[key])) for table in tables]
        labels = [_by_form(modality.adata.obs[key].dropna().astype(str).unique()) for modality in modalities]
        names: list[list[list[str]]] = []
        numbers: list[list[list[str]]] = []
        unsure = _pair_loosely(treated)
        for form in [form for form, spelt in treated[0].items() if treated[1].get(form, spelt) != spelt]:
            groups, alike = [forms.get(form, []) for forms in labels], numbers if isinstance(form, Decimal) else names
            if not all(groups):
                continue  # a combination whose parts pairing puts in order
            is_one = _is_one_name(groups, (student.design.control or ()) if is_perturbation else None)
            (alike if is_one else unsure).append(groups)
        if names:
            told = f"would match but for case, blanks or hyphens: {_shown(names)}"
            mend, code = _write_replacement(modalities, key, names)
            yield Finding("warning", "spelling", pair, f"{len(names)} name(s) in obs[{key!r}] {told}", mend, code)
        if numbers:
            finding = f"{len(numbers)} number(s) in obs[{key!r}] are text and written differently: {_shown(numbers)}"
            mend, code = f"make numbers of obs[{key!r}] in both", write_floats(modalities, key) or ""
            if not code and is_perturbation:
                mend, code = _write_replacement(modalities, key, numbers)
            elif not code:
                mend += " by hand, since not every label is one, or two are the same"
            yield Finding("warning", "numbers as text", pair, finding, mend, code)
        if unsure:
            finding = f"{len(unsure)} label(s) in obs[{key!r}] are alike, but need not be the same: {_shown(unsure)}"
            mend = f"rename in obs[{key!r}] those that are the same, one by one"
            yield Finding("warning", "similar labels", pair, finding, mend)


def _by_form(labels: Iterable[str]) -> dict[Decimal | str, list[str]]:
    """Group labels by what they are however they are spelt: an exact number, or a name."""
    forms: dict[Decimal | str, list[str]] = {}
    for label in sorted(map(str, labels)):  # not a string of NumPy, which would be shown as one
        plain = fold(label)
        form = Decimal(plain) if NUMBER.fullmatch(plain) else JOINER.sub(" ", plain)
        forms.setdefault(form, []).append(label)
    return forms


def _is_one_name(groups: Sequence[Sequence[str]], controls: Sequence[object] | None) -> bool:
    """Tell whether labels alike in form may become one; ``controls`` are those of a column of perturbations."""
    if any(len({fold(label) for label in group}) > 1 for group in groups):
        return False
    if controls is None:
        return True
    labels = {label for group in groups for label in group}
    numbers = [label for label in map(fold, labels) if NUMBER.fullmatch(label)]
    return labels.isdisjoint(map(str, controls)) and all(map(PLAIN.fullmatch, numbers))


def _pair_loosely(treated: Sequence[dict[Decimal | str, list[str]]]) -> list[list[list[str]]]:
    """Return names without a partner that are one without what stands between letters, or letters and digits."""
    loose: list[dict[str, list[str]]] = [{}, {}]
    for forms, others, groups in zip(treated, reversed(treated), loose, strict=True):
        for form, labels in forms.items():
            if form not in others and isinstance(form, str):
                groups.setdefault(LOOSE.sub("", form), []).extend(labels)
    return [[labels, loose[1][form]] for form, labels in loose[0].items() if form in loose[1]]


def _shown(pairs: Iterable[Sequence[Sequence[str]]]) -> str:
    examples = ((one[0], next(label for label in [*other, *one] if label != one[0])) for one, other in pairs)
    return some((f"{a!r} and {b!r}" for a, b in examples), 3)


def _write_replacement(
    modalities: Sequence[Modality], key: str, pairs: Iterable[Sequence[Sequence[str]]]
) -> tuple[str, str]:
    """Say how, and write code that gives each group of labels the name that both have, or else the student's."""
    spelt: list[dict[str, str]] = [{}, {}]
    for groups in pairs:
        name = next((label for label in groups[0] if label in groups[1]), groups[0][0])
        for names, group in zip(spelt, groups, strict=True):
            names |= {label: name for label in group if label != name}
    code = [modality.rename(key, names) for modality, names in zip(modalities, spelt, strict=True) if names]
    changes = some((f"{label!r} becomes {name!r}" for names in spelt for label, name in names.items()), 3)
    return f"spell them alike in both: {changes}", "; ".join(code)
