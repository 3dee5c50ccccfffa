from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from semiclip import metrics
from semiclip._checks import check_adata, read_column, read_representation
from semiclip._design import Design
from semiclip._docs import document
from semiclip._pairing import pair_rows
from semiclip.correction import CorrectionSpec, Fallback, Method, Profile
from semiclip.errors import BadValue, Empty, Mismatch, TooFew
from semiclip.metrics._matrices import normalise
from semiclip.tl._columns import order_columns
from semiclip.tl._maps import list_names, read_corrected


@document
def knn_accuracy(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    label_key: str,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    across_batches: bool = True,
    n_neighbors: int = 5,
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Return how often the nearest neighbours of a row, by cosine, vote for its label.

    Each representation is corrected on the controls, which are then left out. All other treated rows can be neighbours.

    Parameters
    ----------
    {samples}
    label_key
        ``obs`` column of the labels, for example mechanisms of action or the perturbations themselves. Controls need
        no label.
    {correction}
    across_batches
        Whether neighbours come from other batches alone, where ``batch_key`` tells them apart, so that what a batch has
        in common does not help.
    n_neighbors, n_permutations, rng
        As in :func:`semiclip.metrics.knn_accuracy`.

    Returns
    -------
    One row per representation: ``metric``, ``representation``, ``key`` (``label_key``), and ``value``, ``n_obs``,
    ``chance`` and, with permutations, ``chance_mean`` and ``chance_sd`` of :func:`semiclip.metrics.knn_accuracy`.

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20, rng=0).knockouts["image"]
    >>> columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    >>> table = scl.tl.knn_accuracy(adata, use_rep="X_image", **columns, label_key="pathway", n_permutations=0)
    >>> table[["key", "value", "n_obs", "chance"]].round(2).to_numpy().tolist()
    [['pathway', 0.99, 72, 0.33]]
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    treated = ~design.controls(check_adata(adata))
    labels = read_column(adata, label_key, "label_key", treated).to_numpy()
    batch = design.batches(adata)[0][treated] if batch_key is not None and across_batches else None
    representations = read_corrected(adata, use_rep, design, CorrectionSpec(method, profile, ridge, fallback=fallback))
    if batch is not None and (batch == batch[0]).all():
        raise TooFew("batches of treated rows", 1, 2, "pass across_batches=False to take neighbours of the same batch")
    rows = []
    for corrected in representations:
        scores = metrics.knn_accuracy(
            corrected.x[treated], labels, batch, n_neighbors=n_neighbors, n_permutations=n_permutations, rng=rng
        )
        rows.append({"metric": "knn_accuracy", "representation": corrected.name, "key": label_key, **scores})
    return order_columns(pd.DataFrame(rows), ["representation", "key"], ["chance", "value"])


@document
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
    """Return how well a treated row finds the replicates of its perturbation among all treated rows, by cosine.

    Each representation is corrected on the controls, which are then left out. Each row ranks all others;
    :func:`semiclip.metrics.average_precision`, which names the source, judges the ranking.

    Parameters
    ----------
    {samples}
    {correction}
    across_batches
        Whether a row ranks the rows of other batches alone, as in :func:`knn_accuracy`.

    Returns
    -------
    One row per representation: ``metric``, ``representation``, ``key`` (``"mean_average_precision"``), ``value`` (the
    mean over rows), ``n_obs`` (the rows that have a replicate to find) and ``chance`` (the value expected of random
    rankings).

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20, rng=0).knockouts["image"]
    >>> columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    >>> table = scl.tl.replicate_retrieval(adata, use_rep="X_image", **columns)
    >>> table[["key", "value", "n_obs", "chance"]].round(2).to_numpy().tolist()
    [['mean_average_precision', 0.67, 72, 0.13]]
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    across = batch_key is not None and across_batches
    rows = []
    for corrected in read_corrected(adata, use_rep, design, CorrectionSpec(method, profile, ridge, fallback=fallback)):
        treated = corrected.treated
        batch = design.batches(adata)[0][treated] if across else None
        value, chance = metrics.average_precision(corrected.x[treated], corrected.codes[treated], batch)
        judged = ~np.isnan(value)
        if not judged.any():
            way_out = "pass across_batches=False to look in the same batch too" if across else ""
            raise Empty(f"perturbations with a second row{' in another batch' if across else ''}", way_out)
        scores = {"value": value[judged].mean(), "n_obs": int(judged.sum()), "chance": chance[judged].mean()}
        names = {"metric": "replicate_retrieval", "representation": corrected.name, "key": "mean_average_precision"}
        rows.append(names | scores)
    return order_columns(pd.DataFrame(rows), ["representation", "key"], ["chance", "value"])


@document
def cross_modal_retrieval(
    mdata: MuData,
    *,
    student_rep: str | Sequence[str],
    teacher_rep: str,
    pair_on: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    unlabelled: str | Sequence[str] | None = None,
    separator: str | None = None,
    modalities: Mapping[str, str] | None = None,
    student_correction: Method | None = None,
    teacher_correction: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    ks: Sequence[int] = (1, 5, 10),
) -> pd.DataFrame:
    """Return how well the student's mean of a perturbation finds the teacher's mean of the same, by cosine.

    The treated rows of each key are scaled to length one and averaged in each modality, as in the validation of a
    model; see :func:`semiclip.metrics.retrieval`. This needs both in one space: what :func:`embed` writes, and the
    teacher that the model was trained on, as :func:`embed_teacher` writes it (with ``teacher_correction=None``).

    Parameters
    ----------
    mdata
        Both modalities, which need not share observations.
    student_rep, teacher_rep
        Key or keys of the student's ``obsm``, for example ``"X_semiclip"``, and key of the teacher's.
    pair_on
        ``obs`` column or columns of both modalities that make the pairing key, see :func:`semiclip.pp.pair`.
    {columns}
    {labels}
    {modalities}
    student_correction, teacher_correction
        Method of correction of each side, or ``None``. The defaults are what a model learns with: the teacher is
        corrected, and the student's embedding is to match it as it is.
    profile, ridge, fallback
        Correction of both sides, see :func:`semiclip.correction.correct`. The profile ``"public"`` is refused, since it
        turns each side in its own way.
    ks
        The k of recall at k.

    Returns
    -------
    One row per student representation and measure: ``metric``, ``representation``, ``key``
    (``"mean_rank_percentile"``, 0 at best, and ``"recall_at_k"``), ``value``, ``n_obs`` (the shared keys) and
    ``chance``.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20, rng=0).knockouts
    >>> columns = {"pair_on": "perturbation", "perturbation_key": "perturbation", "control": "control"}
    >>> options = {"modalities": {"student": "image"}, "teacher_correction": None, "ks": (1,)}
    >>> table = scl.tl.cross_modal_retrieval(mdata, student_rep="X_image", teacher_rep="X_image", **columns, **options)
    >>> table[["key", "value", "n_obs"]].to_numpy().tolist()
    [['mean_rank_percentile', 0.0, 12], ['recall_at_1', 1.0, 12]]
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
    if profile == "public":
        raise BadValue("profile", profile, "one that keeps both sides in one space", "pass profile='clean'")
    student_spec, teacher_spec = (
        CorrectionSpec(method, profile, ridge, fallback=fallback) for method in (student_correction, teacher_correction)
    )
    student, teacher = design.sides(mdata)
    names = list_names(student_rep, "student_rep")
    expected = read_representation(teacher, teacher_rep, "teacher_rep").shape[1]
    for name in names:
        if (width := read_representation(student, name, "student_rep").shape[1]) != expected:
            way_out = "write what the model compares by scl.tl.embed_teacher(mdata, model, key_added='X_taught')"
            way_out += " and pass teacher_rep='X_taught', teacher_correction=None"
            raise Mismatch(f"the width of student_rep={name!r}", width, expected, way_out)
    pairing = pair_rows(student, teacher, design)
    pairing.warn_unlabelled(design.student, design.teacher)
    n_keys = pairing.n_keys
    if n_keys < 2:
        raise TooFew("shared keys", n_keys, 2)
    design = design.changed(unlabelled=())  # pairing has left their rows out, and said so
    (target,) = read_corrected(teacher, teacher_rep, design.within(teacher), teacher_spec)
    candidates = _average_directions(target.x, pairing.teacher, n_keys)
    tables = []
    for corrected in read_corrected(student, names, design.within(student), student_spec):
        query = _average_directions(corrected.x, pairing.student, n_keys)
        scores = metrics.retrieval(query, candidates, np.arange(n_keys), ks=ks)
        columns = {"metric": "cross_modal_retrieval", "representation": corrected.name, "key": list(scores)}
        chance = [0.5, *(min(1.0, k / n_keys) for k in dict.fromkeys(ks))]
        tables.append(pd.DataFrame({**columns, "value": list(scores.values()), "n_obs": n_keys, "chance": chance}))
    return order_columns(pd.concat(tables, ignore_index=True), ["representation", "key"], ["chance", "value"])


def _average_directions(x: np.ndarray, codes: np.ndarray, n_keys: int) -> np.ndarray:
    paired = codes >= 0
    return metrics.group_mean(normalise(x[paired]), codes[paired], n_keys)
