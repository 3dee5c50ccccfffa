from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip import metrics
from semiclip._checks import batches, modality, own_labels, representation
from semiclip._pairing import pair_rows, roles
from semiclip.metrics._cosine import normalise
from semiclip.tl._maps import corrected
from semiclip.tl._treated import Treated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from semiclip.correction import Fallback, Method, Profile


def replicate_retrieval(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    across_batches: bool = True,
) -> pd.DataFrame:
    """Measure how well a treated row finds the replicates of its perturbation among all treated rows, by cosine.

    Each representation is corrected on the controls, which are then left out. Each row ranks all others or, where
    batches are known, all rows of other batches; :func:`semiclip.metrics.average_precision` judges the ranking.

    Parameters
    ----------
    adata, use_rep, perturbation_key, control, batch_key
        As in :func:`recall`; the perturbations need not be genetic.
    method, profile, ridge, fallback
        Correction, see :func:`semiclip.correction.correct`; ``method=None`` takes the representation as it is.
    across_batches
        Whether replicates are looked for in other batches alone, so that what a batch has in common neither helps nor
        harms. Without ``batch_key`` this does nothing.

    Returns
    -------
    One row per representation: ``metric``, ``representation``, ``key`` (``"mean_average_precision"``), ``value`` (the
    mean over rows), ``n_obs`` (the rows that have a replicate to find) and ``chance`` (the value expected of random
    rankings).

    Raises
    ------
    KeyError
        If a column or representation does not exist.
    TypeError, ValueError
        If no row has a replicate to find, or as in :func:`recall`.

    References
    ----------
    Kalinin et al. 2025, DOI 10.1038/s41467-025-60306-2.

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20).knockouts["image"]
    >>> table = scl.tl.replicate_retrieval(
    ...     adata,
    ...     use_rep="X_image",
    ...     perturbation_key="perturbation",
    ...     control="control",
    ...     batch_key="batch",
    ...     method="center",
    ... )
    >>> table.drop(columns="metric").round(2)
      representation                     key  value  n_obs  chance
    0        X_image  mean_average_precision   0.84     72    0.13
    """
    rows = []
    for found in corrected(
        adata, use_rep, perturbation_key=perturbation_key, control=control, batch_key=batch_key,
        method=method, profile=profile, ridge=ridge, fallback=fallback,
    ):  # fmt: skip
        treated = Treated.of(found)
        apart = batch_key is not None and across_batches
        batch = batches(adata, batch_key)[0][treated.rows] if apart else None
        value, chance = metrics.average_precision(found.x[treated.rows], treated.codes, batch)
        asked = ~np.isnan(value)
        if not asked.any():
            where = " in another batch; across_batches=False looks in its own too" if apart else ""
            msg = f"no perturbation has a second row{where}"
            raise ValueError(msg)
        rows.append(
            {
                "metric": "replicate_retrieval",
                "representation": found.name,
                "key": "mean_average_precision",
                "value": value[asked].mean(),
                "n_obs": int(asked.sum()),
                "chance": chance[asked].mean(),
            }
        )
    return pd.DataFrame(rows)


def cross_modal_retrieval(
    mdata: MuData,
    *,
    student_rep: str | Sequence[str],
    teacher_rep: str,
    pair_on: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    modalities: Mapping[str, str] | None = None,
    student_correction: Method | None = None,
    teacher_correction: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    ks: Sequence[int] = (1, 5, 10),
) -> pd.DataFrame:
    """Measure how well the student's mean of a perturbation finds the teacher's mean of the same, by cosine.

    The treated rows of each key are scaled to length one and averaged in each modality, as in the validation of a
    model, and the student's mean of each key ranks the teacher's means of all keys; see
    :func:`semiclip.metrics.retrieval`. This needs both in one space, as what :func:`embed` writes and the teacher
    that the model was trained on.

    Parameters
    ----------
    mdata
        Both modalities, which need not share observations.
    student_rep, teacher_rep
        Key or keys of the student's ``obsm``, such as ``"X_semiclip"``, and key of the teacher's.
    pair_on, modalities
        ``obs`` columns that make the key, and the modalities in the two roles; see :func:`semiclip.pp.pair`.
    perturbation_key, control, batch_key
        Columns of both modalities' ``obs`` and the control label(s), as in :func:`recall`.
    student_correction, teacher_correction
        Correction of each side, see :func:`semiclip.correction.correct`, or ``None``. The defaults are those that a
        model learns with: the teacher is corrected, and the student's embedding needs to be like it as it is.
    profile, ridge, fallback
        How both are corrected; the profile ``"public"`` turns the space, and each side its own way, so it is refused.
    ks
        The k of recall at k.

    Returns
    -------
    One row per student representation and measure: ``metric``, ``representation``, ``key``
    (``"mean_rank_percentile"``, 0 at best, and ``"recall_at_k"``), ``value``, ``n_obs`` (the shared keys) and
    ``chance``.

    Raises
    ------
    KeyError
        If a modality, column or representation does not exist.
    TypeError, ValueError
        If the two representations differ in width, the profile is ``"public"``, fewer than two keys are shared, or as
        in :func:`recall` and :func:`semiclip.pp.pair`.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20).knockouts
    >>> table = scl.tl.cross_modal_retrieval(
    ...     mdata,
    ...     student_rep="X_image",
    ...     teacher_rep="X_image",
    ...     pair_on="perturbation",
    ...     perturbation_key="perturbation",
    ...     control="control",
    ...     modalities={"student": "image"},
    ...     teacher_correction=None,
    ... )
    >>> table.drop(columns="metric").round(2)
      representation                   key  value  n_obs  chance
    0        X_image  mean_rank_percentile    0.0     12    0.50
    1        X_image           recall_at_1    1.0     12    0.08
    2        X_image           recall_at_5    1.0     12    0.42
    3        X_image          recall_at_10    1.0     12    0.83
    """
    if profile == "public":
        msg = "profile='public' turns each side into components of its own, not one space; pass profile='clean'"
        raise ValueError(msg)
    names = roles(modalities)
    student, teacher = modality(mdata, names["student"]), modality(mdata, names["teacher"])
    _same_width(student, [student_rep] if isinstance(student_rep, str) else student_rep, teacher, teacher_rep)
    pairing = pair_rows(student, teacher, pair_on=pair_on, perturbation_key=perturbation_key, control=control)
    if pairing.n_keys < 2:
        msg = f"the modalities share {pairing.n_keys} key on {pair_on}, but a ranking needs at least 2"
        raise ValueError(msg)
    how: dict[str, Any] = {"perturbation_key": perturbation_key, "batch_key": batch_key}
    how |= {"profile": profile, "ridge": ridge, "fallback": fallback}
    own, theirs = (own_labels(side, perturbation_key, control) for side in (student, teacher))
    (target,) = corrected(teacher, teacher_rep, method=teacher_correction, control=theirs, **how)
    candidates = _means(target.x, pairing.teacher, pairing.n_keys)
    tables = []
    for found in corrected(student, student_rep, method=student_correction, control=own, **how):
        query = _means(found.x, pairing.student, pairing.n_keys)
        scores = metrics.retrieval(query, candidates, np.arange(pairing.n_keys), ks=ks)
        chance = {"mean_rank_percentile": 0.5, **{f"recall_at_{k}": min(1.0, k / pairing.n_keys) for k in ks}}
        tables.append(
            pd.DataFrame(
                {
                    "metric": "cross_modal_retrieval",
                    "representation": found.name,
                    "key": list(scores),
                    "value": list(scores.values()),
                    "n_obs": pairing.n_keys,
                    "chance": [chance[key] for key in scores],
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _same_width(student: AnnData, student_reps: Sequence[str], teacher: AnnData, teacher_rep: str) -> None:
    if not student_reps:
        msg = "student_rep names no representation; pass a key of the student's obsm or a list of them"
        raise ValueError(msg)
    wanted = representation(teacher, teacher_rep, "teacher_rep").shape[1]
    for key in student_reps:
        if (width := representation(student, key, "student_rep").shape[1]) != wanted:
            msg = (
                f"student_rep={key!r} has {width} dimensions and teacher_rep={teacher_rep!r} has {wanted}; retrieval "
                "needs both in one space, such as what a model with the objective 'semiclip' learns from this teacher "
                "(that of 'dcca' is another space)"
            )
            raise ValueError(msg)


def _means(x: np.ndarray, codes: np.ndarray, n_keys: int) -> np.ndarray:
    paired = codes >= 0
    return metrics.group_mean(normalise(x[paired]), codes[paired], n_keys)
