from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._arguments import check_whole
from semiclip._checks import check_adata
from semiclip._design import Design
from semiclip._docs import document
from semiclip.correction import CorrectionSpec
from semiclip.errors import BadValue, TooFew
from semiclip.metrics import rank_p_value
from semiclip.metrics._energy import energy_distances, permuted_energy_distances
from semiclip.tl._maps import read_corrected
from semiclip.tl._p_values import find_inactive, find_measured, rank_among_inactive, tabulate

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile


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

    Each representation is corrected on the controls first. Without inactive perturbations, it is corrected on half of
    the controls, and the perturbations are compared with the other half.

    Parameters
    ----------
    adata
        Observations of perturbations, which need not be genetic, and of controls, which must exist here.
    {representations}
    {columns}
    {correction}
    null
        Perturbations known to be inactive, for example genes that are not expressed: their values are the null
        distribution, and all controls serve for the correction and for the comparison. ``None`` tests each perturbation
        by itself: its rows are exchanged with rows of the controls of the same batches.
    max_controls
        Largest number of controls to compare with, and of rows of a perturbation to exchange. Where there are more, a
        random sample serves. Memory holds all distances between them.
    min_obs
        Rows that a perturbation must have to be measured.
    n_permutations
        Number of exchanges.
    rng
        Seed or generator of the halves, the sample of controls and the exchanges. With an integer all representations
        meet the same.
    progress_bar
        Whether to show the progress of the tests.

    Returns
    -------
    One row per representation and perturbation: ``metric``, ``representation``, ``key`` (the perturbation), ``value``
    (in units of the corrected representation, see :func:`semiclip.metrics.energy_distance`), ``n_obs`` (its rows) and
    ``p_value``. A perturbation of fewer than ``min_obs`` rows has neither value nor p-value (NaN). Perturbations in
    ``null`` have no p-value, since the others are compared with them.

    Raises
    ------
    KeyError, TypeError, ValueError
        As in :func:`recall`, or if there are fewer than two controls, or too few to hold two out, a label in ``null``
        does not exist, or no perturbation, or none in ``null``, has ``min_obs`` rows.

    Notes
    -----
    A correction pulls the controls that it is fitted on close together, the more so the fewer they are beside the
    dimensions, and every other row then seems far from them. So a perturbation is tested against controls that the
    correction has not seen: in each batch half of them, as long as two are left to be fitted on.

    The p-value is (1 + #{exchanges at least as far}) / (1 + n_permutations), the permutation test of equal
    distributions within batches, or the share of the inactive perturbations that are at least as far. Where few
    controls of a batch are held out there are few different exchanges, and p-values err towards 1: without any, the
    p-value is 1. The distance of a small set is larger by chance: compare values at equal ``n_obs``.

    References
    ----------
    Celik et al. 2024, DOI 10.1371/journal.pcbi.1012463; Székely and Rizzo 2013, DOI 10.1016/j.jspi.2013.03.018.

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20).knockouts["image"]
    >>> columns = {"perturbation_key": "perturbation", "control": "control"}
    >>> table = scl.tl.magnitude(adata, use_rep="X_image", **columns, method="center", rng=0)
    >>> table.round(3).head(2)
          metric representation      key  value  n_obs  p_value
    0  magnitude        X_image  gene_00  31.89      6    0.001
    1  magnitude        X_image  gene_01  25.49      6    0.001
    """
    from tqdm.auto import tqdm

    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    spec = CorrectionSpec(method, profile, ridge, fallback=fallback)
    if design.control is None:
        raise BadValue("control", None, "the label or labels of the controls")
    check_whole("max_controls", max_controls, 2)
    check_whole("min_obs", min_obs)
    compared = design.controls(check_adata(adata))
    batch, _ = design.batches(adata)
    fit_on = None
    if null is None and spec.method is not None:
        compared, controls = _hold_out(batch, compared, np.random.default_rng(rng)), compared
        fit_on = controls & ~compared
    tables = []
    for corrected in read_corrected(adata, use_rep, design, spec, fit_on):
        inactive = find_inactive(corrected, null, n_permutations)
        measured = find_measured(corrected, min_obs, inactive)
        generator = np.random.default_rng(rng)
        sample = _sample(np.flatnonzero(compared), max_controls, generator)
        groups = [rows for rows, keep in zip(corrected.group_rows(), measured, strict=True) if keep]
        values, p = np.full((2, len(measured)), np.nan)
        values[measured] = energy_distances((corrected.x[rows] for rows in groups), corrected.x[sample])
        if inactive is None:
            chosen = [rows if len(rows) <= max_controls else _sample(rows, max_controls, generator) for rows in groups]
            bar = tqdm(chosen, "perturbations", disable=not progress_bar)
            p[measured] = _test(corrected.x, batch, bar, sample, n_permutations, generator)
        else:
            p = rank_among_inactive(values, inactive)
        tables.append(tabulate("magnitude", corrected, values, p))
    return pd.concat(tables, ignore_index=True)


def _test(
    x: np.ndarray,
    batch: np.ndarray,
    groups: Iterable[np.ndarray],
    reference: np.ndarray,
    n_permutations: int,
    rng: np.random.Generator,
) -> list[float]:
    """Return the p-value of a permutation test for each group of rows against the rows of the reference."""
    from scipy.spatial.distance import cdist

    within, p = cdist(x[reference], x[reference]), []
    for rows in groups:
        batches = batch[rows], batch[reference]
        value, null = permuted_energy_distances(x[rows], x[reference], within, batches, n_permutations, rng)
        # sets that are equal but for rounding are as far
        p.append(float(rank_p_value(value - 1e-9 * abs(value), null, drawn=True)))
    return p


def _hold_out(batch: np.ndarray, control: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mark half of the controls of each batch, at random, but leave two."""
    held = np.zeros(control.shape, dtype=bool)
    for code in np.unique(batch[control]):
        rows = np.flatnonzero(control & (batch == code))
        held[rng.permutation(rows)[: max(0, min(len(rows) // 2, len(rows) - 2))]] = True
    if held.sum() < 2:
        way_out = "name inactive perturbations as null=, correct beforehand and pass method=None, or use consistency"
        raise TooFew("controls that a correction can do without", int(held.sum()), 2, way_out)
    return held


def _sample(rows: np.ndarray, at_most: int, rng: np.random.Generator) -> np.ndarray:
    if len(rows) < 2:
        raise TooFew("controls", len(rows), 2)
    return rows if len(rows) <= at_most else np.sort(rng.choice(rows, at_most, replace=False))
