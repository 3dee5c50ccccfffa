"""The usual mistakes between two modalities to be paired, one function for each."""

from collections.abc import Iterator

import pandas as pd

from semiclip._pairing import SMALL_SHARE
from semiclip.errors import some
from semiclip.pp._checks_controls import find_control_names
from semiclip.pp._checks_doses import find_doses, find_units_in_text
from semiclip.pp._checks_labels import find_combinations, find_longer_names
from semiclip.pp._checks_position import find_fixed_wells
from semiclip.pp._dose_text import has_units
from semiclip.pp._modality import Finding, Modality, is_numeric, parse_numbers, write_floats
from semiclip.pp._spelling import find_spelling

FEW_KEYS = 20  # fewer shared keys are worth a look, as is a small share of those that there could be


def _both(student: Modality, teacher: Modality) -> str:
    return f"{student.name}, {teacher.name}"


def find_mixed_kinds(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find columns that are numbers in one modality and text in the other."""
    for key in student.pair_on:
        is_number = [is_numeric(modality.adata.obs[key]) for modality in (student, teacher)]
        if is_number[0] != is_number[1]:
            text = teacher if is_number[0] else student
            if has_units(text.adata.obs[key]):
                continue  # a finding of its own
            labels = pd.Series(text.adata.obs[key].dropna().astype(str).unique(), dtype=object)
            strange = some(map(repr, labels[parse_numbers(labels).isna()]), 3)
            why = f"{strange} are none" if strange else "pairing would take two of its labels for one"
            mend, code = f"make numbers of {text.column(key)}", write_floats([text], key) or ""
            if not code:
                mend += f" by hand, since {why}, or text of the other modality"
            finding = f"obs[{key!r}] is text, and numeric in the other modality: the keys cannot match"
            yield Finding("error", "kind of column", text.name, finding, mend, code)


def find_few_shared_keys(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find that too little is shared to learn from."""
    if any(is_numeric(student.adata.obs[key]) != is_numeric(teacher.adata.obs[key]) for key in student.pair_on):
        return  # an error of its own
    if student.is_control.all() or teacher.is_control.all():
        return  # so is this
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
    pair, prefix, key = _both(student, teacher), repr(f"{teacher.name}:"), student.design.batch_key
    if len(names := student.adata.obs_names.intersection(teacher.adata.obs_names).unique()):
        finding = f"{len(names)} obs_names are in both, which MuData takes for the same samples: {some(names)}"
        mend, code = f"write {prefix} before these obs_names of {teacher.name}", _write_prefix(student, teacher)
        if student.joint.arrays:
            mend += f"; {some(student.joint.arrays)} will lose these rows, so copy them to the modality before"
        elif not code:
            mend += f", and copy {some(student.joint.columns)} of mdata.obs to the modality before"
        yield Finding("info", "shared sample names", pair, finding, mend, code)
    if key is None:
        return
    batches = [set(modality.adata.obs[key].dropna().astype(str)) for modality in (student, teacher)]
    if both := sorted(batches[0] & batches[1]):
        told = f"have the same name in both, though each modality is corrected by itself: {some(both)}"
        own, others = (f"{modality.column(key)}.astype(str)" for modality in (teacher, student))
        mend = f"leave them if they are the same plates, or write {prefix} before the batches of {teacher.name}"
        is_one = f"{own}[{teacher.column(key)}.notna()].isin({others}).any()"
        code = f"{teacher.column(key)} = {prefix} + {teacher.text(key)} if {is_one} else {teacher.column(key)}"
        yield Finding("info", "shared batch names", pair, f"{len(both)} batch(es) {told}", mend, code)


def _write_prefix(student: Modality, teacher: Modality) -> str:
    """Write code that renames the shared samples of the teacher alone, since mudata 0.4 updates no others.

    Columns of ``mdata.obs`` keep their rows, which ``obsm`` and ``obsp`` cannot.
    """
    own, others, joint = f"{teacher.code}.obs_names", f"{student.code}.obs_names", student.joint
    renamed = f"{own}.where(~{own}.isin({others}), {f'{teacher.name}:'!r} + {own})"
    if joint.arrays or (joint.columns and not joint.is_named):
        return ""
    if not joint.columns:
        return f"{own} = {renamed}; mdata.update()"
    former = f"lambda name, old=dict(zip({own}, old)): old.get(name, name)"
    return (
        f"if {own}.isin({others}).any(): kept, old = mdata.obs[{joint.columns!r}], {own}; {own} = {renamed}; "
        f"mdata.update(); mdata.obs[{joint.columns!r}] = "
        f"kept.reindex(mdata.obs_names.map({former})).set_axis(mdata.obs_names)"
    )


BETWEEN = (
    find_control_names,
    find_combinations,
    find_longer_names,
    find_mixed_kinds,
    find_units_in_text,
    find_doses,
    find_spelling,
    find_few_shared_keys,
    find_shared_names,
    find_fixed_wells,
)
