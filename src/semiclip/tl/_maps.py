"""Reads representations of genetic perturbations, corrected on the controls, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd

from semiclip._checks import batches, column, controls, nonempty, representation
from semiclip.correction import fit_correction
from semiclip.metrics import group_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData

    from semiclip.correction import Method, Profile


class Corrected(NamedTuple):
    """A representation after correction, with the perturbation of each row."""

    name: str
    x: np.ndarray
    """All rows, those of the controls too; shape (n_obs, d)."""
    codes: np.ndarray
    """Perturbation of each row, an index of ``labels``; shape (n_obs,)."""
    labels: np.ndarray
    treated: np.ndarray
    """Mask of ``labels``: those that are no controls."""
    rank: int
    """Directions that the correction kept."""

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of each treated perturbation, shape (n_treated, d), and the perturbations."""
        return group_mean(self.x, self.codes, len(self.labels))[self.treated], self.labels[self.treated]


def named(use_rep: str | Sequence[str]) -> list[str]:
    """Return the names of representations, each once."""
    keys = [use_rep] if isinstance(use_rep, str) else list(dict.fromkeys(use_rep))
    if not keys:
        msg = "use_rep names no representation; pass a key of obsm or a list of them"
        raise ValueError(msg)
    return keys


def corrected(
    adata: AnnData,
    use_rep: str | Sequence[str],
    *,
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None,
    method: Method | None,
    profile: Profile,
    ridge: float | None,
    fallback: Literal["raise", "pooled"],
    fit_on: np.ndarray | None = None,
) -> Iterator[Corrected]:
    """Check everything, then give out one representation at a time, so that one corrected copy exists at a time.

    The correction is fitted on the controls, or on the rows of the mask ``fit_on`` alone.
    """
    keys = named(use_rep)
    nonempty(adata)
    batch, batch_names = batches(adata, batch_key)
    is_control = controls(adata, perturbation_key, control)
    if is_control.all():
        msg = f"all {adata.n_obs} rows are controls, so there is no perturbation to look at"
        raise ValueError(msg)
    reference = is_control if control is not None else np.ones(adata.n_obs, dtype=bool)
    reference = reference if fit_on is None else fit_on
    codes, labels = pd.factorize(column(adata, perturbation_key, "perturbation_key").to_numpy(), sort=True)
    treated = np.ones(len(labels), dtype=bool)
    treated[codes[is_control]] = False
    arrays = {key: representation(adata, key) for key in keys}

    def each() -> Iterator[Corrected]:
        for key, x in arrays.items():
            rank = None
            if method is not None:
                how = {"method": method, "profile": profile, "ridge": ridge, "fallback": fallback}
                fitted = fit_correction(x, batch, reference, **how, batch_names=list(batch_names))  # type: ignore[arg-type]
                x, rank = fitted(x, batch), fitted.rank
            yield Corrected(key, x, codes, labels, treated, x.shape[1] if rank is None else rank)

    return each()
