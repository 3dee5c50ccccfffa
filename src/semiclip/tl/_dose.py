"""How far and where a perturbation moves cells at each of its doses."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from anndata import AnnData

from semiclip._checks import check_adata, read_column
from semiclip._design import Design
from semiclip._docs import document
from semiclip._pairing import canonical_keys
from semiclip.correction import CorrectionSpec, Fallback, Method, Profile
from semiclip.errors import TooFew, WrongDtype
from semiclip.metrics import group_mean
from semiclip.metrics._matrices import normalise
from semiclip.tl._effects import hold_out
from semiclip.tl._maps import read_corrected


@document
def dose(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str] | None,
    dose_key: str,
    batch_key: str | None = None,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    fallback: Fallback = "raise",
    rng: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Return how far each dose of a perturbation is from the controls, and whether all doses go the same way.

    Each representation is corrected on the controls, half of those of each batch, as long as two are left to fit it on:
    a correction pulls the controls that it is fitted on together, so the others are what doses are compared with. A
    dose is the mean of its rows less the mean of these controls.

    Parameters
    ----------
    {samples}
    dose_key
        ``obs`` column of the doses, numbers, of which six digits count. Controls need none.
    {correction}
    rng
        Seed or generator of the halves of the controls, which with an integer all representations share.

    Returns
    -------
    One row per representation, perturbation and dose, in this order: ``representation``, ``perturbation``, ``dose``,
    ``n_obs`` (its rows), and

    - ``size``: the length of the mean, in units of the corrected representation.
    - ``chance``: the root of the mean squared size of as many other controls, √(trace of the covariance ·
      (1 / ``n_obs`` + 1 / n_controls)). NaN with fewer than two controls.
    - ``direction``: the cosine with the sum of the means of the other doses of the perturbation, 1 if all go the same
      way, near 0 for noise: the two are compared with different halves of the controls, whose error they would
      share. NaN for a single dose.

    Without controls, the corrected representation is compared with 0.

    Examples
    --------
    >>> import semiclip as scl
    >>> images = scl.datasets.simulate(n_compounds=5, n_knockouts=12, n_pathways=3, n_genes=20, rng=0).mdata["image"]
    >>> columns = {"perturbation_key": "perturbation", "control": "control", "dose_key": "dose"}
    >>> options = {"method": "center", "rng": 0}
    >>> scl.tl.dose(images, use_rep="X_image", **columns, **options).round(2).head(2).drop(columns="representation")
      perturbation  dose  n_obs   size  chance  direction
    0   compound_0   0.1      3  23.11   24.35      -0.02
    1   compound_0   1.0      3  33.12   24.35       0.39
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    spec = CorrectionSpec(method, profile, ridge, fallback=fallback)
    controls = design.controls(check_adata(adata))
    treated = ~controls
    doses = read_column(adata, dose_key, "dose_key", treated)
    values = doses.astype(doses.cat.categories.dtype) if isinstance(doses.dtype, pd.CategoricalDtype) else doses
    if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        way_out = (
            f"adata.obs[{dose_key!r}] = pd.to_numeric(adata.obs[{dose_key!r}]), with units in a column of their own"
        )
        raise WrongDtype(f"obs[{dose_key!r}] (dose_key)", values.dtype, "numbers", way_out)
    steps, step_of_row = np.unique(canonical_keys(values).astype(float), return_inverse=True)
    generator, batch = np.random.default_rng(rng), design.batches(adata)[0]
    compared, fit_on = controls, None
    if spec.method is not None and design.control is not None:
        compared = hold_out(batch, controls, generator)
        fit_on = controls & ~compared
    if design.control is not None and compared.sum() < 2:
        way_out = "correct beforehand and pass method=None, or compare with all rows by control=None"
        raise TooFew("controls that a correction leaves to compare with", int(compared.sum()), 2, way_out)
    halves = np.array_split(generator.permutation(np.flatnonzero(compared)), 2)
    tables = []
    for corrected in read_corrected(adata, use_rep, design, spec, fit_on):
        # perturbation and dose, in this order, as one number
        pairs, groups = np.unique(corrected.codes[treated] * len(steps) + step_of_row, return_inverse=True)
        perturbation, step = np.divmod(pairs, len(steps))
        means, n_obs = group_mean(corrected.x[treated], groups, len(pairs)), np.bincount(groups)
        others = corrected.x[compared].astype(np.float64)
        origins, noise, chance = [0.0, 0.0, 0.0], np.nan, np.full(len(pairs), np.nan)
        if len(others):
            origins = [corrected.x[rows].mean(axis=0, dtype=np.float64) for rows in (np.flatnonzero(compared), *halves)]
            noise = others.var(axis=0, ddof=1).sum()
            chance = np.sqrt(noise * (1 / n_obs + 1 / len(others)))
        rest = _sum_others(means - origins[2], perturbation)
        direction = (normalise(means - origins[1]) * normalise(rest)).sum(axis=1)
        several = np.bincount(perturbation)[perturbation] > 1
        columns = {
            "representation": corrected.name,
            "perturbation": corrected.labels[perturbation],
            "dose": steps[step],
            "n_obs": n_obs,
            "size": np.linalg.norm(means - origins[0], axis=1),
            "chance": chance,
            "direction": np.where(several, direction, np.nan),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _sum_others(x: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return the sum of the other rows of each row's group, shape (n, d)."""
    counts = np.bincount(codes)
    return (group_mean(x, codes, len(counts)) * counts[:, None])[codes] - x
