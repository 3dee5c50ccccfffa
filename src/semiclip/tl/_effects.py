"""Measures of single perturbations: how alike their rows are, how far from the controls, and how many stand out."""

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from semiclip import errors, metrics
from semiclip._arguments import check_number, check_whole
from semiclip._checks import check_adata
from semiclip._design import Design
from semiclip._docs import document
from semiclip.correction import CorrectionSpec, Fallback, Method, Profile
from semiclip.metrics import rank_p_value
from semiclip.metrics._groups import energy_distances, permuted_energy_distances, random_consistency
from semiclip.tl._maps import Corrected, read_corrected

logger = logging.getLogger(__name__)

MAX_DRAWN = 1000  # rows of a random set
NEEDED = ["metric", "representation", "p_value"]


@document
def consistency(
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
    null: Sequence[str] | None = None,
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Return how alike the replicates of each perturbation are: the mean cosine of all their pairs.

    Each representation is corrected on the controls, which are then left out. What is measured, and the source, are
    those of :func:`semiclip.metrics.consistency`.

    Parameters
    ----------
    {samples}
    {correction}
    null
        Perturbations known to be inactive, for example genes that are not expressed: their values are the null
        distribution. ``None`` draws it: random sets of as many treated rows.
    n_permutations, rng
        Number of random sets for each number of rows, and their seed or generator. With an integer all representations
        meet the same sets.

    Returns
    -------
    One row per representation and perturbation: ``metric``, ``representation``, ``key`` (the perturbation), ``value``,
    ``n_obs`` (its rows) and ``p_value``. Perturbations of one row have no value (NaN), those in ``null`` no p-value.

    The p-value is (1 + #{random sets at least as consistent}) / (1 + n_permutations), or the share of the inactive
    perturbations that are at least as consistent. Random sets ignore batches: where a correction leaves some of a
    batch, replicates that share it look consistent for that alone. Sets have at most 1000 rows.

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20, rng=0).knockouts["image"]
    >>> table = scl.tl.consistency(adata, use_rep="X_image", perturbation_key="perturbation", control="control", rng=0)
    >>> table[["key", "value", "n_obs", "p_value"]].round(3).head(1).to_numpy().tolist()
    [['gene_00', 0.463, 6, 0.001]]
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    tables = []
    for corrected in read_corrected(adata, use_rep, design, CorrectionSpec(method, profile, ridge, fallback=fallback)):
        inactive, _ = _read_null(corrected, null, n_permutations, 2)
        x = corrected.x[corrected.treated]
        values = metrics.consistency(x, corrected.codes[corrected.treated], len(corrected.labels))
        p = np.full(values.shape, np.nan)
        if inactive is None:
            judged, sizes = np.flatnonzero(~np.isnan(values)), np.minimum(corrected.counts, MAX_DRAWN)
            different, which = np.unique(sizes[judged], return_inverse=True)
            drawn = random_consistency(x, different, n_permutations, np.random.default_rng(rng))
            for i, null_values in enumerate(drawn):
                places = judged[which == i]
                p[places] = rank_p_value(values[places], null_values, drawn=True)
        tables.append(_tabulate("consistency", corrected, values, p, inactive))
    return pd.concat(tables, ignore_index=True)


@document
def magnitude(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str],
    batch_key: str | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    null: Sequence[str] | None = None,
    max_controls: int = 1000,
    min_obs: int = 5,
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Return how far each perturbation is from the controls: the energy distance of their rows.

    Each representation is corrected on the controls, so there must be some. Without inactive perturbations, half of the
    controls of each batch serve for the correction, as long as two are left to fit it on, and the perturbations are
    compared with the others: a correction pulls the controls that it is fitted on together. Source: Celik et al. 2024,
    DOI 10.1371/journal.pcbi.1012463.

    Parameters
    ----------
    {samples}
    {correction}
    null
        Perturbations known to be inactive, as in :func:`consistency`. ``None`` tests each perturbation by itself, by
        exchanges of its rows with those of controls of the same batches.
    max_controls, min_obs
        Largest number of controls to compare with, and of rows of a perturbation to exchange, between which memory
        holds all distances: of more, a random sample serves. And rows that a perturbation must have to be measured.
    n_permutations, rng, progress_bar
        Number of exchanges; seed or generator of halves, samples and exchanges, which with an integer all
        representations share; and whether to show the progress of the tests.

    Returns
    -------
    One row per representation and perturbation, as in :func:`consistency`; ``value`` is in units of the corrected
    representation, see :func:`semiclip.metrics.energy_distance`, and NaN below ``min_obs`` rows.

    The p-value is (1 + #{exchanges at least as far}) / (1 + n_permutations), the permutation test of equal
    distributions within batches, or the share of the inactive perturbations that are at least as far. It errs towards
    1 where few controls of a batch are held out. The distance of a small set is larger by chance: compare values at
    equal ``n_obs``.

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20, rng=0).knockouts["image"]
    >>> table = scl.tl.magnitude(adata, use_rep="X_image", perturbation_key="perturbation", control="control", rng=0)
    >>> table[["key", "value", "n_obs", "p_value"]].round(3).head(1).to_numpy().tolist()
    [['gene_00', 11.638, 6, 0.001]]
    """
    from scipy.spatial.distance import cdist
    from tqdm.auto import tqdm

    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    spec = CorrectionSpec(method, profile, ridge, fallback=fallback)
    if design.control is None:
        raise errors.BadValue("control", None, "the label or labels of the controls")
    check_whole("max_controls", max_controls, 2)
    check_whole("min_obs", min_obs)
    controls, (batch, _) = design.controls(check_adata(adata)), design.batches(adata)
    compared, fit_on = controls, None
    if null is None and spec.method is not None:
        compared = hold_out(batch, controls, np.random.default_rng(rng))
        fit_on = controls & ~compared
    if compared.sum() < 2:
        way_out = "name inactive perturbations as null=, correct beforehand and pass method=None, or use consistency"
        raise errors.TooFew("controls to compare with", int(compared.sum()), 2, way_out)
    tables = []
    for corrected in read_corrected(adata, use_rep, design, spec, fit_on):
        inactive, measured = _read_null(corrected, null, n_permutations, min_obs)
        order = corrected.treated[np.argsort(corrected.codes[corrected.treated], kind="stable")]
        groups, generator = np.split(order, np.cumsum(corrected.counts)[:-1]), np.random.default_rng(rng)
        sample = _sample(np.flatnonzero(compared), max_controls, generator)
        reference = corrected.x[sample]
        values, p = np.full((2, len(groups)), np.nan)
        values[measured] = energy_distances((corrected.x[groups[i]] for i in measured), reference)
        if inactive is None:
            tested = [_sample(groups[i], max_controls, generator) for i in measured]
            within = cdist(reference, reference)
            for i, rows in zip(measured, tqdm(tested, "perturbations", disable=not progress_bar), strict=True):
                value, null_values = permuted_energy_distances(
                    corrected.x[rows], reference, within, (batch[rows], batch[sample]), n_permutations, generator
                )
                # sets that are equal but for rounding are as far
                p[i] = rank_p_value(value - 1e-9 * abs(value), null_values, drawn=True)
        tables.append(_tabulate("magnitude", corrected, values, p, inactive))
    return pd.concat(tables, ignore_index=True)


def hold_out(batch: np.ndarray, control: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mark half of the controls of each batch, at random, but leave two."""
    held = np.zeros(control.shape, dtype=bool)
    for code in np.unique(batch[control]):
        rows = np.flatnonzero(control & (batch == code))
        held[rng.permutation(rows)[: max(0, min(len(rows) // 2, len(rows) - 2))]] = True
    return held


def _sample(rows: np.ndarray, at_most: int, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= at_most else np.sort(rng.choice(rows, at_most, replace=False))


def _read_null(
    corrected: Corrected, null: Sequence[str] | None, n_permutations: int, min_obs: int
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return a mask of the perturbations that make the null, ``None`` where it is drawn, and which are measured."""
    counts, inactive = corrected.counts, None
    if null is None:
        check_whole("n_permutations", n_permutations)
    else:
        if isinstance(null, str):
            raise errors.WrongType("null", str, "a list of labels of inactive perturbations")
        labels = pd.Index(corrected.labels)
        if absent := [label for label in null if label not in labels]:
            raise errors.UnknownChoice("null", absent, labels)
        inactive = np.asarray(labels.isin(list(null)))
    measured = counts >= min_obs
    if not measured.any():
        raise errors.TooFew("rows of the largest perturbation", int(counts.max()), min_obs)
    if inactive is not None and not (measured & inactive).any():
        largest, way_out = int(counts[inactive].max(initial=0)), "name others, or pass null=None"
        raise errors.TooFew("rows of the largest perturbation in null", largest, min_obs, way_out)
    if n_few := int((~measured).sum()):
        logger.info("%d of %d perturbations have fewer than %d rows and no value", n_few, measured.size, min_obs)
    return inactive, np.flatnonzero(measured)


def _tabulate(
    metric: str, corrected: Corrected, values: np.ndarray, p: np.ndarray, inactive: np.ndarray | None
) -> pd.DataFrame:
    """Return the table of one representation; inactive perturbations, if there are any, judge the others."""
    if inactive is not None:
        p = np.where(inactive, np.nan, rank_p_value(values, values[inactive]))
    columns = {"metric": metric, "representation": corrected.name, "key": corrected.labels, "value": values}
    return pd.DataFrame({**columns, "n_obs": corrected.counts, "p_value": p})


def significant(table: pd.DataFrame, *, alpha: float = 0.05) -> pd.DataFrame:
    """Return how many perturbations stand out in each representation.

    Parameters
    ----------
    table
        What :func:`consistency` and :func:`magnitude` return, also concatenated.
    alpha
        Largest p-value that stands out, between 0 and 1. It is also the share that chance alone makes stand out.

    Returns
    -------
    One row per metric and representation, in the order of the table: ``metric``, ``representation``, ``value`` (the
    share with a p-value of at most ``alpha``; NaN if there is none), ``n`` (the p-values) and ``n_significant``.

    Examples
    --------
    >>> import pandas as pd
    >>> p_values = {"metric": "consistency", "representation": ["X_pca"] * 4, "p_value": [0.01, 0.2, 0.05, None]}
    >>> significant(pd.DataFrame(p_values))[["n", "n_significant"]].to_numpy().tolist()
    [[3, 2]]
    """
    if absent := [name for name in NEEDED if name not in table]:
        raise errors.MissingColumn(absent, table.columns, "the table", way_out="pass what scl.tl.consistency returns")
    if table.empty:
        raise errors.Empty("rows in the table")
    check_number("alpha", alpha, above=0, below=1)
    marked = table[NEEDED[:2]].assign(n=table["p_value"].notna(), n_significant=table["p_value"] <= alpha)
    counts = marked.groupby(NEEDED[:2], sort=False, observed=True)[["n", "n_significant"]].sum().reset_index()
    counts.insert(2, "value", counts["n_significant"] / counts["n"])
    return counts
