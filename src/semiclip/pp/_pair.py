from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from semiclip._checks import batches, modality
from semiclip._pairing import pair_rows, roles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from mudata import MuData

logger = logging.getLogger(__name__)


def pair(
    mdata: MuData,
    *,
    pair_on: str | Sequence[str],
    modalities: Mapping[str, str] | None = None,
    control: str | Sequence[str] | None,
    perturbation_key: str | None = None,
    batch_key: str | None = None,
) -> pd.DataFrame:
    """Report how two modalities pair, before anything is trained.

    Parameters
    ----------
    mdata
        Two modalities, which need not share observations.
    pair_on
        ``obs`` columns that make the key, present in both modalities. Numbers match when they agree to six
        significant digits.
    modalities
        Names of the ``student`` and ``teacher`` modality, ``{"student": "rna", "teacher": "image"}`` by default.
    control, perturbation_key
        Label(s) of the controls, which are never paired, and their column; ``None`` says that there are none.
    batch_key
        Column of the batches, which do not matter for pairing: the totals then also say how many there are to learn
        from.

    Returns
    -------
    One row per key of either modality: the key, ``n_student`` and ``n_teacher`` rows, and ``shared``. The totals are
    in its ``attrs["summary"]`` and in the log: ``shared_keys``, and ``student_kept``, ``student_dropped``,
    ``teacher_kept``, ``teacher_dropped`` rows, where controls count as neither. With ``batch_key``, ``student_batches``
    and ``teacher_batches`` are the numbers of batches that hold rows that are kept.

    Raises
    ------
    KeyError
        If a modality or column is missing.
    ValueError
        If no key is shared, a key or batch has missing values or a control label matches nothing.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40)
    >>> report = scl.pp.pair(
    ...     study.mdata, pair_on=["perturbation", "dose"], perturbation_key="perturbation", control="control"
    ... )
    >>> int(report["shared"].sum()), report.attrs["summary"]["student_kept"]
    (15, 60)
    """
    names = roles(modalities)
    student, teacher = (modality(mdata, names[role]) for role in ("student", "teacher"))
    pairing = pair_rows(student, teacher, pair_on=pair_on, perturbation_key=perturbation_key, control=control)
    report = pairing.counts.assign(shared=pairing.counts.index < pairing.n_keys)
    summary = {"shared_keys": pairing.n_keys}
    for side, adata, codes in (("student", student, pairing.student), ("teacher", teacher, pairing.teacher)):
        rows = report.groupby("shared")[f"n_{side}"].sum()
        summary |= {f"{side}_kept": int(rows.get(True, 0)), f"{side}_dropped": int(rows.get(False, 0))}
        if batch_key is not None:
            summary[f"{side}_batches"] = len(np.unique(batches(adata, batch_key)[0][codes >= 0]))
    report.attrs["summary"] = summary
    logger.info("pairing on %s: %s", pair_on, ", ".join(f"{name} {value:,}" for name, value in summary.items()))
    return report
