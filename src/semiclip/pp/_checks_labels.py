"""Mistakes in labels, which come first: what looks like a mistake of another kind may follow from them."""

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd

from semiclip._labels import INVISIBLE, list_unlabelled, mark_unlabelled, sort_combination, split_combination
from semiclip.errors import some
from semiclip.pp._dose_text import read_dose
from semiclip.pp._modality import Finding, Modality, is_numeric, to_plain

SEPARATORS = ("+", "|", ";", "&")  # parts in another order are one combination; "_" also stands within a name
BROAD = re.compile(r"(BRD-[A-Z]\d{8})-\d{3}-\d{2}-\d")  # compound, then salt form and batch
ENSEMBL = re.compile(r"(ENS[A-Z]*[GTP]\d{6,})\.\d+")  # gene, then version
SUFFIX = re.compile(r"[-_.:/|# ][^\s]+")


def find_blanks(modality: Modality) -> Iterator[Finding]:
    """Find labels with blanks before or after, which make two labels of one."""
    controls = {str(label) for label in modality.design.control or ()}
    for key in modality.columns:
        column = modality.adata.obs[key]
        if is_numeric(column):
            continue
        rows = {str(label): n for label, n in column.value_counts().items() if isinstance(label, str) and n > 0}
        bare = {label: label.strip(INVISIBLE) for label in rows}
        names = {label: name for label, name in bare.items() if name not in ("", label)}
        if not names:
            continue
        told = some(f"{label!r} ({rows[label]} rows)" for label in names)
        finding = f"{len(names)} label(s) in obs[{key!r}] begin or end with blanks: {told}"
        lost = [label for label, name in names.items() if name in controls and label not in controls]
        is_error = key == modality.design.perturbation_key and bool(lost)
        if is_error:
            finding += f"; {sum(rows[label] for label in lost)} controls count as treated"
        mend = f"take the blanks off {len(names)} label(s) in {modality.column(key)}; no row is dropped"
        severity = "error" if is_error else "warning"
        yield Finding(severity, "blanks", modality.name, finding, mend, modality.rename(key, names))


def find_nameless(modality: Modality) -> Iterator[Finding]:
    """Find treated rows whose label names nothing, such as "nan" or "unassigned"; pairing leaves them out."""
    obs, design, treated = modality.adata.obs, modality.design, ~modality.is_control
    for key in modality.columns:
        rows = mark_unlabelled(obs[key], list_unlabelled(design, key)) & treated
        if not rows.any():
            continue
        counts = obs[key][rows].astype(str).value_counts()
        told = some(f"{label!r} ({n} rows)" for label, n in counts.items() if n > 0)
        if key in (*modality.pair_on, design.perturbation_key):
            finding = f"{rows.sum()} rows have a label in obs[{key!r}] that names nothing: {told}; they are not paired"
            mend = "find out what these rows are and label them, or leave them; where such a label is a real name, "
            mend += "pass as unlabelled= only those that are none, or unlabelled=()"
        else:
            finding = f"{rows.sum()} rows share a label in obs[{key!r}] that names nothing: {told}"
            mend = f"find out what these rows are and write it to {modality.column(key)}"
        yield Finding("warning", "labels without a name", modality.name, finding, mend)


def find_combinations(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find combinations whose parts stand in another order in other rows."""
    modalities, key = (student, teacher), student.design.perturbation_key or student.pair_on[0]
    columns = [modality.adata.obs[key] for modality in modalities]
    if any(is_numeric(column) for column in columns):
        return
    labels = [{str(label) for label in column.dropna().unique()} for column in columns]
    controls, names_there = set(map(str, student.design.control or ())), labels[0] | labels[1]
    every = sorted(names_there)
    for separator in (*SEPARATORS, "_"):
        if separator == student.design.separator:
            continue  # pairing takes them as one
        groups: dict[str, list[str]] = {}
        for label in every:
            parts = split_combination(label, separator)
            # of CPD_1_11 and CPD_11_1 the parts are no labels
            if parts and label not in controls and (separator != "_" or names_there.issuperset(parts)):
                groups.setdefault(sort_combination(label, separator), []).append(label)
        groups = {name: alike for name, alike in groups.items() if len(alike) > 1}
        if not groups:
            continue
        names = [_choose_names(groups, *sides) for sides in (labels, labels[::-1])]
        told = some((" and ".join(map(repr, alike)) for alike in groups.values()), 3)
        finding = f"{len(groups)} combination(s) in obs[{key!r}] are written in more than one order: {told}"
        code = "; ".join(m.rename(key, name) for m, name in zip(modalities, names, strict=True) if name)
        mend = f"write each in one order, or pass separator={separator!r} to pairing and training"
        if beside := _find_lists(modalities, key, separator):
            mend += f"; do so by hand, since obs[{beside!r}] lists a value for each part"
            code = ""
        yield Finding("warning", "combinations", f"{student.name}, {teacher.name}", finding, mend, code)


def _choose_names(groups: dict[str, list[str]], own: set[str], other: set[str]) -> dict[str, str]:
    """Return the name of each label of one modality: one that both have, or else the first of all."""
    names: dict[str, str] = {}
    for alike in groups.values():
        name = next((label for label in alike if label in own and label in other), alike[0])
        names |= {label: name for label in alike if label in own and label != name}
    return names


def _find_lists(modalities: tuple[Modality, Modality], key: str, separator: str) -> str | None:
    """Return another column of the pairing key that has a value for each part, whose order means something."""
    for modality in modalities:
        for other in modality.pair_on:
            column = modality.adata.obs[other]
            if other == key or is_numeric(column):
                continue
            if column.astype(str).str.contains(separator, regex=False).any():
                return other
    return None


def find_longer_names(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find names without a partner that go on where one of the other modality ends, or has another batch or version."""
    key = student.design.perturbation_key or student.pair_on[0]
    both = (student, teacher)
    if key not in student.pair_on or any(is_numeric(modality.adata.obs[key]) for modality in both):
        return
    labels = [set(modality.treated_keys()[key]) for modality in both]
    for modality, own, others in zip(both, labels, labels[::-1], strict=True):
        free, starts = sorted(label for label in own - others if read_dose(label) is None), others - own
        longer = {label: start for label in free if (start := _find_start(label, starts)) is not None}
        # where both have batches or versions, both are cut
        whole = {_cut(label): label for label in sorted(starts)} | {label: label for label in others}
        longer |= {label: whole[cut] for label in free if (cut := _cut(label)) != label and cut in whole}
        if not longer:
            continue
        told = some((f"{label!r} and {start!r}" for label, start in longer.items()), 3)
        alike = "begin with a name of the other modality and go on"
        if not all(label.startswith(start) for label, start in longer.items()):
            alike = "are names of the other modality with another end"
        finding = f"{len(longer)} name(s) in obs[{key!r}] {alike}: {told}"
        mend = f"cut these names in {modality.column(key)}, if what follows is a batch, a salt form or a replicate"
        known = {label: cut for label in longer if (cut := _cut(label)) in whole and cut != label}
        code = ""
        if known:  # of these the rest is known to be no part of the name
            mend = f"cut {len(known)} names in {modality.column(key)}, which end with a batch or a version"
            mend += "" if len(known) == len(longer) else "; look at the others by hand"
            code = modality.rename(key, known)
        yield Finding("warning", "longer names", modality.name, finding, mend, code)


def _cut(label: str) -> str:
    """Return an identifier of the Broad Institute or of Ensembl without batch or version; another label as it is."""
    match = BROAD.fullmatch(label) or ENSEMBL.fullmatch(label)
    return match.group(1) if match else label


def _find_start(label: str, starts: set[str]) -> str | None:
    """Return the longest of some names that a label begins with, followed by a separator and something more."""
    ends = range(len(label) - 2, 0, -1)
    return next((label[:n] for n in ends if label[:n] in starts and SUFFIX.fullmatch(label[n:])), None)


def count_labels(modality: Modality, key: str) -> dict[object, int]:
    """Return the number of rows of each label, the most frequent first."""
    return {to_plain(label): int(n) for label, n in modality.adata.obs[key].value_counts().items() if n > 0}


def list_alone(column: pd.Series, rows: np.ndarray) -> list[object]:
    """Return the labels that stand in some of the rows of a mask and nowhere else."""
    elsewhere = set(column[~rows].dropna())
    return [label for label in column[rows].dropna().unique() if label not in elsewhere]
