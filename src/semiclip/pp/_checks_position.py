"""Mistakes in positions on plates: wells that occur twice, and perturbations that never move."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from semiclip._pairing import key_codes
from semiclip._well_parts import tells_parts_apart
from semiclip.errors import some
from semiclip.pp._modality import Finding, Modality, find_gaps

FEW_REPLICATED = 5  # keys on several plates; of fewer nothing can be said
ALMOST_ALL = 0.9  # of these keys in one well each: some compounds, such as positive controls, are in several


def find_repeated_wells(modality: Modality) -> Iterator[Finding]:
    """Find plates that have a well several times: two experiments that name their plates alike."""
    batch, well, obs = modality.design.batch_key, modality.well_key, modality.adata.obs
    if batch is None or well is None or not (repeated := obs.duplicated([batch, well]).to_numpy()).any():
        return
    plates = obs.loc[repeated, batch].astype(str).unique().tolist()
    apart = _list_apart(modality, batch, well)
    finding = f"{repeated.sum()} well(s) occur twice on plate(s) {some(plates)}: do several plates share a name?"
    column = modality.column(batch)
    mend, code = f"add what tells the plates apart, such as the experiment, to {column}", ""
    if apart:
        mend = f"write obs[{apart[0]!r}], which tells them apart, before the names in {column}"
        is_repeated = f"{modality.code}.obs.duplicated([{batch!r}, {well!r}]).any()"
        code = f"{column} = {modality.text(apart[0])} + ':' + {modality.text(batch)} if {is_repeated} else {column}"
    yield Finding("error", "repeated wells", modality.name, finding, mend, code)


def _list_apart(modality: Modality, batch: str, well: str) -> list[str]:
    """Return columns that may tell plates of one name apart: as many values on each as its wells repeat, and all used.

    Numbers with fractions are measured, and what names a perturbation or a part of a well tells no plates apart.
    """
    obs = modality.adata.obs
    n_repeats = obs.groupby([batch, well], observed=True).size().groupby(level=0, observed=True).max()
    found = []
    for key in map(str, obs.columns.difference([*modality.columns])):
        column = obs[key]
        if tells_parts_apart(key) or column.isna().any() or column.to_numpy().dtype.kind == "f":
            continue
        n_values = column.groupby(obs[batch], observed=True).nunique()
        if (n_values == n_repeats).all() and not obs.duplicated([batch, well, key]).any():
            found.append((column.nunique(), key))
    return [key for _, key in sorted(found)]


class _Wells(NamedTuple):
    """The well of each key that has replicates on several plates, and how many such keys there are in all."""

    of_key: pd.Series
    n_replicated: int


def find_fixed_wells(student: Modality, teacher: Modality) -> Iterator[Finding]:
    """Find perturbations whose replicates are all in one well: what is found may be the effect of this well."""
    both = (student, teacher)
    wells = [_read_wells(modality) for modality in both]
    fixed = [
        (modality, found)
        for modality, found in zip(both, wells, strict=True)
        if found is not None and len(found.of_key) >= ALMOST_ALL * found.n_replicated
    ]
    if not fixed:
        return
    told = " and ".join(f"{len(found.of_key)} of {found.n_replicated} keys in {one.name}" for one, found in fixed)
    finding = f"all replicates are in one well, on whatever plate, for {told}"
    mend = "scl.tl.position_baseline tells what the position of a well alone recalls; replicates in other wells tell "
    mend += "position from perturbation, and no correction by plates does"
    severity = "info"
    if len(fixed) == len(both):
        severity = "warning"
        shared = pd.concat([found.of_key for _, found in fixed], axis=1, join="inner")
        n_same = int((shared.iloc[:, 0] == shared.iloc[:, 1]).sum())
        finding += f"; {n_same} of {len(shared)} shared keys are in one well in both: retrieval can be position alone"
    yield Finding(severity, "fixed wells", ", ".join(one.name for one, _ in fixed), finding, mend)


def _read_wells(modality: Modality) -> _Wells | None:
    """Return the wells of keys that never move; ``None`` without wells and plates, or with few replicates."""
    obs, batch, well = modality.adata.obs, modality.design.batch_key, modality.well_key
    if batch is None or well is None:
        return None
    gaps = [find_gaps(obs[key]) for key in (*modality.pair_on, batch, well)]
    rows = ~np.any([modality.is_control, modality.unlabelled, *gaps], axis=0)
    if not rows.any():
        return None
    keys = obs.loc[rows, modality.pair_on].astype(str).agg(" | ".join, axis=1)
    codes = key_codes(modality.adata, modality.pair_on, rows)[rows]
    position = obs[well][rows].astype(str).str.strip().str.upper().str.replace(r"(?<=[A-Z])0+(?=\d)", "", regex=True)
    table = pd.DataFrame({"code": codes, "key": keys.to_numpy(), "well": position.to_numpy()})
    table["plate"] = obs[batch][rows].astype(str).to_numpy()
    counts = table.groupby("code").agg(key=("key", "first"), well=("well", "first"), wells=("well", "nunique"))
    counts["plates"] = table.groupby("code")["plate"].nunique()
    replicated = counts[counts["plates"] > 1]
    # one well for all of them is no layout, and with a well for each anything is fixed
    if len(replicated) < FEW_REPLICATED or replicated["well"].nunique() < FEW_REPLICATED:
        return None
    return _Wells(replicated[replicated["wells"] == 1].set_index("key")["well"], len(replicated))
