from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import batches, controls, nonempty
from semiclip.metrics import rank_p_value
from semiclip.metrics._energy import energy_distances, permuted_energy_distances
from semiclip.tl._maps import corrected
from semiclip.tl._treated import Treated, inactive, measured, p_values, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anndata import AnnData

    from semiclip.correction import Fallback, Method, Profile


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
    n_permutations: int = 1000,
    max_controls: int = 1000,
    min_obs: int = 5,
    rng: int | np.random.Generator | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Measure how far each perturbation is from the controls: the energy distance of their rows.

    Each representation is corrected on the controls first: without inactive perturbations, on half of them, and the
    other half is what perturbations are compared with.

    Parameters
    ----------
    adata, use_rep, perturbation_key, control, batch_key
        As in :func:`recall`, but there must be controls.
    method, profile, ridge, fallback
        Correction, see :func:`semiclip.correction.correct`; ``method=None`` takes the representation as it is.
    null
        Perturbations known to be inactive, such as genes that are not expressed: their values are the null
        distribution, and all controls are corrected on and compared with. ``None`` tests each perturbation by itself
        instead: its rows are exchanged with those of the controls of the same batches.
    n_permutations
        Number of exchanges.
    max_controls
        Controls to compare with, at most, and rows of a perturbation that are exchanged; a random sample where there
        are more. Memory holds all distances between them.
    min_obs
        Rows that a perturbation must have to be measured.
    rng
        Seed or generator of the halves, of the sample of controls and of the exchanges. With an integer all
        representations meet the same.
    progress_bar
        Whether to show the progress of the tests.

    Returns
    -------
    One row per representation and perturbation: ``metric``, ``representation``, ``key`` (the perturbation), ``value``
    (in units of the corrected representation, see :func:`semiclip.metrics.energy_distance`), ``n_obs`` (its rows) and
    ``p_value``. A perturbation of fewer than ``min_obs`` rows has neither value nor p-value (NaN), and those of
    ``null`` have no p-value, since they are what the others are compared with.

    Raises
    ------
    KeyError
        If a column or representation does not exist.
    TypeError, ValueError
        If there are fewer than two controls, or too few to hold two out, no perturbation has ``min_obs`` rows, a label
        of ``null`` is not there, none of them has ``min_obs`` rows, or as in :func:`recall`.

    Notes
    -----
    A correction puts the very controls that it is fitted on close together, the more so the fewer they are beside the
    dimensions, and every other row seems far from them. So a perturbation is tested against controls that the
    correction has not seen either: in each batch half of them, as long as two are left to be fitted on.

    The p-value is (1 + #{exchanges at least as far}) / (1 + n_permutations), the permutation test of equal
    distributions within batches, or the share of the inactive perturbations that are at least as far. Where few of a
    batch's controls are held out there are few exchanges, and p-values err towards 1: a perturbation whose batches hold
    none has 1. The distance of a small set is larger by chance: compare values at equal ``n_obs``.

    References
    ----------
    Celik et al. 2024, DOI 10.1371/journal.pcbi.1012463; Székely and Rizzo 2013, DOI 10.1016/j.jspi.2013.03.018.

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20).knockouts["image"]
    >>> table = scl.tl.magnitude(
    ...     adata, use_rep="X_image", perturbation_key="perturbation", control="control", method="center", rng=0
    ... )
    >>> table.round(3).head(2)
          metric representation      key  value  n_obs  p_value
    0  magnitude        X_image  gene_00  31.89      6    0.001
    1  magnitude        X_image  gene_01  25.49      6    0.001
    """
    if control is None:
        msg = "control=None, but magnitude is a distance to the controls; name their label(s)"
        raise ValueError(msg)
    if max_controls < 2 or min_obs < 1:
        msg = f"max_controls={max_controls} must be at least 2, and min_obs={min_obs} at least 1"
        raise ValueError(msg)
    is_control = controls(nonempty(adata), perturbation_key, control)
    from tqdm.auto import tqdm

    batch, _ = batches(adata, batch_key)
    compared = is_control
    if null is None and method is not None:
        compared = _held_out(batch, is_control, np.random.default_rng(rng))
    tables = []
    for found in corrected(
        adata, use_rep, perturbation_key=perturbation_key, control=control, batch_key=batch_key,
        method=method, profile=profile, ridge=ridge, fallback=fallback,
        fit_on=None if compared is is_control else is_control & ~compared,
    ):  # fmt: skip
        treated = Treated.of(found)
        known = inactive(treated, null, n_permutations)
        enough = measured(treated, min_obs, known)
        generator = np.random.default_rng(rng)
        sample = _sample(np.flatnonzero(compared), max_controls, generator)
        reference = found.x[sample]
        groups = [rows for rows, keep in zip(treated.groups(), enough, strict=True) if keep]
        values, p = np.full((2, len(enough)), np.nan)
        values[enough] = energy_distances((found.x[rows] for rows in groups), reference)
        if known is None:
            chosen = [rows if len(rows) <= max_controls else _sample(rows, max_controls, generator) for rows in groups]
            shown = tqdm(chosen, "perturbations", disable=not progress_bar)
            p[enough] = _tested(found.x, batch, shown, sample, n_permutations, generator)
        else:
            p = p_values(values, known)
        tables.append(table("magnitude", found.name, treated, values, p))
    return pd.concat(tables, ignore_index=True)


def _tested(
    x: np.ndarray,
    batch: np.ndarray,
    groups: Iterable[np.ndarray],
    reference: np.ndarray,
    n_permutations: int,
    rng: np.random.Generator,
) -> list[float]:
    """Return the p-value of a permutation test for each group of rows against the rows of the reference."""
    from scipy.spatial.distance import cdist

    own, found = cdist(x[reference], x[reference]), []
    for rows in groups:
        where = batch[rows], batch[reference]
        value, null = permuted_energy_distances(x[rows], x[reference], own, where, n_permutations, rng)
        # sets that are equal but for rounding are as far
        found.append(float(rank_p_value(value - 1e-9 * abs(value), null, drawn=True)))
    return found


def _held_out(batch: np.ndarray, control: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mark half of the controls of each batch, at random, but leave two."""
    held = np.zeros(control.shape, dtype=bool)
    for code in np.unique(batch[control]):
        rows = np.flatnonzero(control & (batch == code))
        held[rng.permutation(rows)[: max(0, min(len(rows) // 2, len(rows) - 2))]] = True
    if held.sum() < 2:
        msg = (
            f"{control.sum()} control(s) are too few to fit a correction on some and compare with others; name "
            "inactive perturbations as null=, correct beforehand and pass method=None, or use consistency"
        )
        raise ValueError(msg)
    return held


def _sample(rows: np.ndarray, at_most: int, rng: np.random.Generator) -> np.ndarray:
    if len(rows) < 2:
        msg = f"there is {len(rows)} control row, but a distance to the controls needs at least 2"
        raise ValueError(msg)
    return rows if len(rows) <= at_most else np.sort(rng.choice(rows, at_most, replace=False))
