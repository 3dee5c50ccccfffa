from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING

import pandas as pd

from semiclip._checks import modality
from semiclip._pairing import roles
from semiclip.pp._mismatches import BETWEEN
from semiclip.pp._mistakes import ALWAYS, STUDENT, WITH_COLUMNS, Finding, Keys, Side, missing_columns

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

logger = logging.getLogger(__name__)

SEVERITIES = ("error", "warning", "info")


def check(
    mdata: MuData,
    *,
    pair_on: str | Sequence[str],
    control: str | Sequence[str] | None,
    perturbation_key: str | None = None,
    batch_key: str | None = None,
    well_key: str | None = None,
    modalities: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Look for the usual mistakes in two modalities before they are paired, and say how to mend each.

    Doses in different units, controls or perturbations that are named differently, plates with too few controls or
    with the name of another, missing values, names that repeat, genes by identifier instead of symbol, and the like.
    Nothing is changed, and a mistake is no exception: everything that is found is reported at once.

    Text that is a number is compared as one: ``"1.0"`` is ``"1"`` and not ``"10"``. Names are taken for one if only
    case, blanks, or a hyphen for a blank or underscore tell them apart, and if neither modality has two that differ by
    more than case and blanks; others that look alike, such as ``"A1"`` and ``"A-1"``, are reported and left to you.

    Parameters
    ----------
    mdata
        Two modalities, which need not share observations.
    pair_on, control, perturbation_key, batch_key
        What the columns of ``obs`` mean, see :meth:`semiclip.model.SemiClip.setup_mudata`. Each label of ``control``
        must occur in one modality at least, and each modality must have controls; ``None`` says that there are none.
        Without ``batch_key`` all rows of a modality are one batch.
    well_key
        Column of the wells, in order to find plates that share a name, which needs ``batch_key``; for data with one
        row per well, not for single cells.
    modalities
        Names of the ``student`` and ``teacher`` modality, ``{"student": "rna", "teacher": "image"}`` by default.

    Returns
    -------
    One row per finding, none if nothing is wrong; errors first. ``severity`` is ``"error"`` for what training refuses
    or what would make it meaningless, ``"warning"`` for what is probably a mistake, ``"info"`` for what is good to
    know; ``check`` names the kind of mistake, ``modality`` where it is, ``finding`` says what is wrong and in which
    rows, and ``mend`` how to mend it: mostly as Python to paste, in words where you have to decide.

    Raises
    ------
    KeyError, ValueError, TypeError
        If there is no MuData, it lacks a modality or its observations, or ``pair_on``, the column of the controls or
        their label is not named.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=40).mdata
    >>> keys = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "batch_key": "batch"}
    >>> len(scl.pp.check(mdata, control="control", **keys))
    0
    >>> mdata["image"].obs["dose"] *= 1000
    >>> table = scl.pp.check(mdata, control="control", **keys)
    >>> table["mend"][0]
    "mdata['image'].obs['dose'] /= 1000"
    """
    names = roles(modalities)
    labels = control if isinstance(control, Iterable) and not isinstance(control, str) else [control]
    keys = Keys(
        pair_on=[pair_on] if isinstance(pair_on, str) else list(dict.fromkeys(pair_on)),
        perturbation=perturbation_key,
        control=[label for label in labels if label is not None],
        batch=batch_key,
        well=well_key,
    )
    if not keys.pair_on:
        msg = "pair_on names no column; name obs columns that both modalities have, such as ['perturbation', 'dose']"
        raise ValueError(msg)
    if control is not None and perturbation_key is None:
        msg = f"control={control!r} needs perturbation_key=, the obs column that holds this label"
        raise ValueError(msg)
    if control is not None and not keys.control:
        msg = "control names no label; pass the label(s), or control=None for data without controls"
        raise ValueError(msg)
    student, teacher = sides = [_side(mdata, names[role]) for role in ("student", "teacher")]
    found = [finding for side in sides for look in ALWAYS for finding in look(side)]
    found += chain.from_iterable(look(student) for look in STUDENT)
    if absent := [finding for side in sides for finding in missing_columns(side, keys)]:
        found += absent  # without these the rest cannot be looked at
    else:
        found += [finding for side in sides for look in WITH_COLUMNS for finding in look(side, keys)]
        found += chain.from_iterable(look(student, teacher, keys) for look in BETWEEN)
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    table = pd.DataFrame(found, columns=list(Finding._fields))
    counts = [f"{(table['severity'] == severity).sum()} {severity}" for severity in SEVERITIES]
    logger.info("findings: %s", ", ".join(counts))
    return table


def _side(mdata: MuData, name: str) -> Side:
    """Return one modality, also with observation names that repeat, which are a finding here."""
    there = name in getattr(mdata, "mod", {}) and mdata.mod[name].n_obs
    return Side(name, mdata.mod[name] if there else modality(mdata, name))
