"""What to look at before two modalities are paired and anything is trained."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from mudata import MuData

from semiclip._checks import get_modality
from semiclip._design import SIDES, Design
from semiclip._docs import document
from semiclip._pairing import pair_rows
from semiclip.errors import BadValue
from semiclip.pp._checks_between import BETWEEN
from semiclip.pp._checks_within import ALWAYS, COLUMNS, STUDENT, TEACHER, WITH_COLUMNS
from semiclip.pp._modality import Finding, Joint, Modality

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
    unlabelled: str | Sequence[str] | None = None,
    separator: str | None = None,
    modalities: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Report the usual mistakes in two modalities before they are paired, and how to mend each.

    The mistakes are labels with blanks or without a meaning, doses in different units or in text, controls or
    perturbations that are named differently, plates with too few controls or with the name of another plate,
    perturbations that are in one well on all plates, missing values, names that repeat, genes by identifier, and the
    like. Nothing is changed, and all mistakes are reported at once; where there are none, a line of the log says so.

    Text that is a number is compared as one: ``"1.0"`` is ``"1"`` and not ``"10"``. Two names count as one if only
    case, blanks, or a hyphen for a blank or underscore tell them apart, and if neither modality has two that differ by
    more than case and blanks. Other names that look alike (``"A1"`` and ``"A-1"``) are reported and left to you.

    To run the code that is given, look again after it, since one mistake may hide another::

        done = None
        while (codes := scl.pp.check(mdata, **columns)["code"].tolist()) != done:
            for code in codes:
                exec(code, {"mdata": mdata})
            done = codes

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
        ``obs`` column of the wells, to find plates that share a name, by ``batch_key``, and perturbations that are in
        one well on all plates; for data with a row per well.
    {labels}
    {modalities}

    Returns
    -------
    A table with one row per finding, errors first; it is empty if nothing is wrong. ``severity`` is ``"error"`` for
    what training refuses or what would make it meaningless, ``"warning"`` for what is probably a mistake, ``"info"``
    for what is good to know. ``check`` names the kind of mistake, ``modality`` where it is, ``finding`` says what is
    wrong and in which rows. ``mend`` tells you how to mend it, in words. ``code`` does so in Python, on ``mdata``, or
    is empty where you have to decide. No code drops a row, and a plate without controls may have them under another
    name, so mend labels first. Code does nothing where its mistake is mended: run it in any order, and again.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=40, rng=0).mdata
    >>> mdata["image"].obs["dose"] *= 1000
    >>> keys = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "batch_key": "batch"}
    >>> table = scl.pp.check(mdata, control="control", **keys)
    >>> table["mend"][0]
    "divide mdata['image'].obs['dose'] by 1,000"
    >>> exec(table["code"][0])  # mdata['image'].obs['dose'] /= 1000
    >>> len(scl.pp.check(mdata, control="control", **keys))
    0
    """
    if not pair_on:
        raise BadValue("pair_on", pair_on, "one or more obs columns that both modalities have")
    design = Design.of(
        perturbation_key=perturbation_key,
        control=control,
        batch_key=batch_key,
        pair_on=pair_on,
        unlabelled=unlabelled,
        separator=separator,
        modalities=modalities,
    )
    both, joint = [], Joint.of(mdata) if hasattr(mdata, "mod") else Joint()
    for name in (design.student, design.teacher):
        there = name in getattr(mdata, "mod", {}) and mdata.mod[name].n_obs  # names that repeat are a finding here
        rows = mdata.mod[name] if there else get_modality(mdata, name)
        both.append(Modality(name, rows, design, well_key, joint))
    student, teacher = both
    findings = [finding for modality in both for look in ALWAYS for finding in look(modality)]
    findings += [finding for look in STUDENT for finding in look(student)]
    findings += [finding for look in TEACHER for finding in look(teacher)]
    findings += (unread := [finding for modality in both for look in COLUMNS for finding in look(modality)])
    if not unread:  # without its columns a modality cannot be looked at any further
        # labels first, since batches without controls and keys without a partner may follow from them
        labels = [finding for modality in both for look in WITH_COLUMNS for finding in look(modality)]
        findings = labels + findings + [finding for look in BETWEEN for finding in look(student, teacher)]
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    table = pd.DataFrame(findings, columns=list(Finding._fields))
    counts = [f"{(table['severity'] == severity).sum()} {severity}" for severity in SEVERITIES]
    if findings:
        logger.info("findings: %s", ", ".join(counts))
    else:
        numbers = [f"{modality.adata.n_obs:,} samples of {modality.name}" for modality in both]
        logger.info("nothing found in %s: they can be paired", " and ".join(numbers))
    return table


@document
def pair(
    mdata: MuData,
    *,
    pair_on: str | Sequence[str],
    perturbation_key: str | None = None,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    unlabelled: str | Sequence[str] | None = None,
    separator: str | None = None,
    modalities: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Report how two modalities pair, before anything is trained.

    Parameters
    ----------
    mdata
        Two modalities, which need not share observations.
    pair_on
        ``obs`` column or columns of both modalities that make the pairing key, such as perturbation and dose. Numbers
        match when they agree to six significant digits.
    perturbation_key
        ``obs`` column of the perturbations.
    control
        Label or labels of the controls in that column, which are never paired; ``None`` says that there are none.
    batch_key
        ``obs`` column of the batches. They do not matter for pairing, but the totals then also count them.
    {labels}
    {modalities}

    Returns
    -------
    A table with one row per key of either modality: the key, ``n_student`` and ``n_teacher`` rows, and ``shared``. Its
    ``attrs["summary"]`` and the log hold the totals: ``shared_keys``, and ``student_kept``, ``student_dropped``,
    ``teacher_kept``, ``teacher_dropped`` rows, where controls count as neither. With ``batch_key``, ``student_batches``
    and ``teacher_batches`` are the numbers of batches that hold rows that are kept. ``student_unlabelled`` and
    ``teacher_unlabelled`` count rows whose label names nothing, where there are any.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40, rng=0).mdata
    >>> keys = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "control"}
    >>> scl.pp.pair(mdata, **keys).attrs["summary"]["shared_keys"]
    15
    """
    design = Design.of(
        perturbation_key=perturbation_key,
        control=control,
        batch_key=batch_key,
        pair_on=pair_on,
        unlabelled=unlabelled,
        separator=separator,
        modalities=modalities,
    )
    sides = get_modality(mdata, design.student), get_modality(mdata, design.teacher)
    pairing = pair_rows(*sides, design)
    pairing.warn_unlabelled(design.student, design.teacher)
    report = pairing.counts.assign(shared=pairing.counts.index < pairing.n_keys)
    summary = {"shared_keys": pairing.n_keys}
    for side, adata, codes in zip(SIDES, sides, (pairing.student, pairing.teacher), strict=True):
        rows = report.groupby("shared")[f"n_{side}"].sum()
        summary |= {f"{side}_kept": int(rows.get(True, 0)), f"{side}_dropped": int(rows.get(False, 0))}
        if batch_key is not None:
            summary[f"{side}_batches"] = len(np.unique(design.batches(adata)[0][codes >= 0]))
    for side, rows_of in zip(SIDES, pairing.unlabelled, strict=True):
        if rows_of:
            summary[f"{side}_unlabelled"] = sum(rows_of.values())
    report.attrs["summary"] = summary
    logger.info("pairing on %s: %s", pair_on, ", ".join(f"{name} {value:,}" for name, value in summary.items()))
    return report
