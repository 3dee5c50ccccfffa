import logging
from collections.abc import Mapping, Sequence

import pandas as pd
from anndata import AnnData
from mudata import MuData

from semiclip._checks import get_modality
from semiclip._design import SIDES, Design
from semiclip._docs import document
from semiclip.errors import BadValue
from semiclip.pp._checks_between import BETWEEN
from semiclip.pp._checks_within import ALWAYS, STUDENT, WITH_COLUMNS, find_missing_columns
from semiclip.pp._modality import Finding, Modality

logger = logging.getLogger(__name__)

SEVERITIES = ("error", "warning", "info")


@document
def check(
    mdata: MuData,
    *,
    pair_on: str | Sequence[str],
    perturbation_key: str | None = None,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    well_key: str | None = None,
    modalities: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Report the usual mistakes in two modalities before they are paired, and how to mend each.

    The mistakes are doses in different units, controls or perturbations that are named differently, plates with too few
    controls or with the name of another plate, missing values, names that repeat, genes by identifier instead of
    symbol, and the like. Nothing is changed. A mistake is no exception: all of them are reported at once.

    Text that is a number is compared as one: ``"1.0"`` is ``"1"`` and not ``"10"``. Two names count as one if only
    case, blanks, or a hyphen for a blank or underscore tell them apart, and if neither modality has two that differ by
    more than case and blanks. Other names that look alike (``"A1"`` and ``"A-1"``) are reported and left to you.

    Parameters
    ----------
    mdata
        Two modalities, which need not share observations.
    pair_on
        ``obs`` column or columns that make the pairing key, such as perturbation and dose.
    perturbation_key
        ``obs`` column of the perturbations.
    control
        Label or labels of the controls in that column. Each label must occur in one modality at least, and each
        modality must have controls; ``None`` says that there are none.
    batch_key
        ``obs`` column of the batches; ``None`` makes each modality one batch.
    well_key
        ``obs`` column of the wells, in order to find plates that share a name, which needs ``batch_key``; for data with
        one row per well, not for single cells.
    {modalities}

    Returns
    -------
    A table with one row per finding, errors first; it is empty if nothing is wrong. ``severity`` is ``"error"`` for
    what training refuses or what would make it meaningless, ``"warning"`` for what is probably a mistake, ``"info"``
    for what is good to know. ``check`` names the kind of mistake, ``modality`` where it is, ``finding`` says what is
    wrong and in which rows. ``mend`` says how to mend it: mostly as Python to paste, in words where you have to decide.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=40, rng=0).mdata
    >>> mdata["image"].obs["dose"] *= 1000
    >>> keys = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "batch_key": "batch"}
    >>> table = scl.pp.check(mdata, control="control", **keys)
    >>> table["mend"][0]
    "mdata['image'].obs['dose'] /= 1000"
    """
    if not pair_on:
        raise BadValue("pair_on", pair_on, "one or more obs columns that both modalities have")
    design = Design.of(
        perturbation_key=perturbation_key, control=control, batch_key=batch_key, pair_on=pair_on, modalities=modalities
    )
    names = [getattr(design, side) for side in SIDES]
    student, teacher = both = [Modality(name, _get_rows(mdata, name), design, well_key) for name in names]
    findings = [finding for modality in both for look in ALWAYS for finding in look(modality)]
    findings += [finding for look in STUDENT for finding in look(student)]
    absent = [finding for modality in both for finding in find_missing_columns(modality)]
    findings += absent
    if not absent:  # without its columns a modality cannot be looked at any further
        findings += [finding for modality in both for look in WITH_COLUMNS for finding in look(modality)]
        findings += [finding for look in BETWEEN for finding in look(student, teacher)]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    table = pd.DataFrame(findings, columns=list(Finding._fields))
    counts = [f"{(table['severity'] == severity).sum()} {severity}" for severity in SEVERITIES]
    logger.info("findings: %s", ", ".join(counts))
    return table


def _get_rows(mdata: MuData, name: str) -> AnnData:
    """Return one modality, also with observation names that repeat, which are a finding here."""
    exists = name in getattr(mdata, "mod", {}) and mdata.mod[name].n_obs
    return mdata.mod[name] if exists else get_modality(mdata, name)
