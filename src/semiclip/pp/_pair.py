import logging
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from mudata import MuData

from semiclip._checks import get_modality
from semiclip._design import SIDES, Design
from semiclip._docs import document
from semiclip._pairing import pair_rows

logger = logging.getLogger(__name__)


@document
def pair(
    mdata: MuData,
    *,
    pair_on: str | Sequence[str],
    perturbation_key: str | None = None,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
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
        ``obs`` column of the batches. Batches do not matter for pairing; with them, the totals also say how many there
        are to learn from.
    {modalities}

    Returns
    -------
    A table with one row per key of either modality: the key, ``n_student`` and ``n_teacher`` rows, and ``shared``. Its
    ``attrs["summary"]`` and the log hold the totals: ``shared_keys``, and ``student_kept``, ``student_dropped``,
    ``teacher_kept``, ``teacher_dropped`` rows, where controls count as neither. With ``batch_key``, ``student_batches``
    and ``teacher_batches`` are the numbers of batches that hold rows that are kept.

    Raises
    ------
    NothingShared, UnknownControl
        If no key is shared, or a control label matches nothing.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40, rng=0).mdata
    >>> keys = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "control"}
    >>> scl.pp.pair(mdata, **keys).attrs["summary"]["shared_keys"]
    15
    """
    design = Design.of(
        perturbation_key=perturbation_key, control=control, batch_key=batch_key, pair_on=pair_on, modalities=modalities
    )
    student, teacher = sides = [get_modality(mdata, getattr(design, side)) for side in SIDES]
    pairing = pair_rows(student, teacher, design)
    report = pairing.counts.assign(shared=pairing.counts.index < pairing.n_keys)
    summary = {"shared_keys": pairing.n_keys}
    for side, adata, codes in zip(SIDES, sides, (pairing.student, pairing.teacher), strict=True):
        rows = report.groupby("shared")[f"n_{side}"].sum()
        summary |= {f"{side}_kept": int(rows.get(True, 0)), f"{side}_dropped": int(rows.get(False, 0))}
        if batch_key is not None:
            summary[f"{side}_batches"] = len(np.unique(design.batches(adata)[0][codes >= 0]))
    report.attrs["summary"] = summary
    logger.info("pairing on %s: %s", pair_on, ", ".join(f"{name} {value:,}" for name, value in summary.items()))
    return report
