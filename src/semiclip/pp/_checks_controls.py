"""Mistakes in controls: other names, too few of them, or nothing else."""

import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

import numpy as np
import pandas as pd

from semiclip._labels import INVISIBLE, fold
from semiclip.errors import some
from semiclip.pp._checks_labels import count_labels, list_alone
from semiclip.pp._modality import Finding, Modality, to_plain

CONTROL_NAME = re.compile(  # without case, blanks, hyphens, underscores and dots
    r"(dmso|control|ctrl|neg(ative)?(con|control|ctrl)?|non?targeting.*|safetargeting.*|ntc?|vehicle|empty.*|untreated|"
    r"mock|scrambled?)"
)
ALIKE = 0.74  # of difflib's ratio: DSMO and DMSO have 0.75


def find_control_names(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find controls under another name than ``control=`` says; each modality may have its own name."""
    modalities, labels = (student, teacher), _list_controls(student)
    if not labels:
        yield from _find_unnamed_controls(modalities)
        return
    key = str(student.design.perturbation_key)
    counts = [count_labels(modality, key) for modality in modalities]
    for modality, rows, other in zip(modalities, counts, reversed(counts), strict=True):
        strange = [name for name in _named_like_controls(rows) if name not in labels]
        if any(label in rows for label in labels):
            yield from _find_spelt_otherwise(modality, key, rows, strange)
            continue
        finding = f"no row is labelled {some(labels)}; the most frequent labels are {some(rows)}"
        mend, code = "pass the label of the controls as control=", ""
        if strange:
            finding += f"; named like controls are {_with_rows(strange, rows)}"
            mend = f"name those of {strange!r} that are controls in control="
        if names := _match_case(rows, labels):
            finding = f"no row is labelled {some(labels)}, but {_with_rows(names, rows)}"
            mend, code = f"name them as control= does: {_shown(names)}", modality.rename(key, names)
        elif len(strange) == 1:  # no code, since an "empty" well, say, need not be the control of this modality
            name = next((label for label in labels if label in other), labels[0])
            mend += f", or rename them, if they are the controls: {modality.rename(key, {str(strange[0]): name})}"
        yield Finding("error", "control names", modality.name, finding, mend, code)
    nowhere = [label for label in labels if not any(label in rows for rows in counts)]
    if nowhere and all(any(label in rows for label in labels) for rows in counts):
        finding = f"no row of either modality is labelled {some(nowhere)}"
        mend = f"pass control={[label for label in labels if label not in nowhere]!r}, or the right label"
        yield Finding("error", "control names", f"{student.name}, {teacher.name}", finding, mend)


def _find_spelt_otherwise(
    modality: Modality, key: str, rows: dict[object, int], strange: list[object]
) -> Iterator[Finding]:
    """Find labels beside those of the controls that are named like controls."""
    labels = _list_controls(modality)
    there = set(map(str, labels))
    seen = {name: n for name, n in rows.items() if str(name).strip(INVISIBLE) not in there}  # blanks are told elsewhere
    strange = [name for name in strange if name in seen]
    if case := _match_case(seen, labels):
        finding = f"{_with_rows(case, rows)} count as perturbations, but are controls in another case"
        mend = f"name them as control= does: {_shown(case)}"
        yield Finding("error", "control names", modality.name, finding, mend, modality.rename(key, case))
    if others := [name for name in strange if name not in case]:
        finding = f"{some(others)} count as perturbations, but are named like controls"
        mend = f"pass control={[*labels, *others]!r}, if they are controls"
        yield Finding("warning", "control names", modality.name, finding, mend)


def _list_controls(modality: Modality) -> list[object]:
    return [to_plain(label) for label in modality.design.control or ()]


def _match_case(rows: Iterable[object], labels: Sequence[object]) -> dict[str, object]:
    """Return labels that are those of ``control=`` but for case and blanks, and which of these each is."""
    texts = [label for label in labels if isinstance(label, str)]
    if any(label != label.strip(INVISIBLE) for label in texts):
        return {}  # control= itself has blanks
    named = {fold(label): label for label in reversed(texts)}
    others = [name for name in rows if isinstance(name, str) and name not in texts]
    return {name: named[form] for name in others if (form := fold(name)) in named}


def _find_unnamed_controls(modalities: Sequence[Modality]) -> Iterator[Finding]:
    """Find controls where the data are said to have none."""
    perturbation_key = modalities[0].design.perturbation_key
    for key in modalities[0].pair_on if perturbation_key is None else [perturbation_key]:
        counts = [count_labels(modality, key) for modality in modalities]
        controls = [_named_like_controls(rows) for rows in counts]
        labels = list(dict.fromkeys([*controls[0], *controls[1]]))
        for modality, rows, names in zip(modalities, counts, controls, strict=True):
            if names:
                told = f"in obs[{key!r}] are named like controls and would be learnt as perturbations"
                finding = f"control=None, but {_with_rows(names, rows)} {told}"
                label = labels[0] if len(labels) == 1 else labels
                mend = f"pass perturbation_key={key!r}, control={label!r}, if they are controls"
                yield Finding("warning", "control names", modality.name, finding, mend)


def _named_like_controls(labels: Iterable[object]) -> list[object]:
    names = pd.Series(list(labels), dtype=object)
    simple = names.astype(str).str.casefold().str.replace(rf"[{INVISIBLE}\s_.\-‐–]+", "", regex=True)
    return names[simple.str.fullmatch(CONTROL_NAME)].tolist()


def _with_rows(names: Iterable[object], rows: dict[object, int]) -> str:
    return some(f"{name} ({rows[name]} rows)" for name in names)


def _shown(names: dict[str, object]) -> str:
    return some(f"{name!r} becomes {label!r}" for name, label in names.items())


def find_few_controls(modality: Modality) -> Iterator[Finding]:
    """Find batches that have no two controls to be corrected on; without batches all rows are one.

    A label that looks like theirs explains that better than a batch without controls, and is told first.
    """
    is_control, key = modality.is_control, modality.design.batch_key
    names = np.repeat("all rows", len(is_control)) if key is None else np.asarray(modality.adata.obs[key])
    counts = pd.Series(is_control).groupby(names).sum()
    few = counts[counts < 2]
    if not is_control.any() or not len(few):
        return
    finding = f"{len(few)} batch(es) have fewer than 2 controls: {some(f'{name} ({n})' for name, n in few.items())}"
    rows = pd.Series(names).isin(few.index).to_numpy()
    labels = modality.adata.obs[modality.design.perturbation_key]
    if likely := _list_likely(labels, rows, [str(label) for label in modality.design.control or ()]):
        there = labels[rows].value_counts()
        finding += f"; there are rows labelled {some(f'{name!r} ({there[name]})' for name in likely)}"
        mend = "see whether these are the controls, and rename them or name them in control=; drop no batch before"
    elif key is None or len(few) == len(counts):
        mend = "2 are needed in each; name all controls in control=, or larger batches as batch_key="
    else:
        drop = modality.subset(f"~{modality.column(key)}.isin({list(map(to_plain, few.index))!r})")
        mend = "2 are needed in each; name all controls in control=, correct with fallback='pooled', or, if there are "
        mend += f"none, drop {rows.sum()} rows, of which {(rows & ~is_control).sum()} are treated: {drop}"
    yield Finding("error", "few controls", modality.name, finding, mend)


def _list_likely(labels: pd.Series, rows: np.ndarray, controls: list[str]) -> list[object]:
    """Return labels within the rows of a mask that may be those of controls: alike, usual, or in no other row."""
    there = [to_plain(label) for label in labels[rows].dropna().unique() if str(label) not in controls]
    folded = {label: fold(str(label)) for label in there}
    usual = _named_like_controls(there)
    close = [label for label in there if get_close_matches(folded[label], map(fold, controls), 1, ALIKE)]
    alone = list_alone(labels, rows)
    return list(dict.fromkeys([*usual, *close, *([alone[0]] if len(alone) == 1 and alone[0] in there else [])]))


def find_no_treated(modality: Modality) -> Iterator[Finding]:
    """Find a modality with controls alone, from which nothing can be learnt."""
    if modality.is_control.all():
        finding = f"all {modality.adata.n_obs} rows are controls"
        mend = "pass as control= the labels of controls alone, or add the treated samples"
        yield Finding("error", "controls only", modality.name, finding, mend)
