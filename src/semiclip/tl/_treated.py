"""The rows that are no controls, and what is to be said of each perturbation among them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from semiclip._checks import some
from semiclip.metrics import rank_p_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from semiclip.tl._maps import Corrected

logger = logging.getLogger(__name__)


class Treated(NamedTuple):
    """The treated rows of a corrected representation."""

    rows: np.ndarray
    """Their numbers among all rows, shape (n,)."""
    codes: np.ndarray
    """Perturbation of each, an index of ``labels``, shape (n,)."""
    labels: np.ndarray
    counts: np.ndarray
    """Rows of each perturbation, shape (len(labels),)."""

    @classmethod
    def of(cls, found: Corrected) -> Treated:
        """Leave the controls out and number the perturbations without gaps."""
        rows = np.flatnonzero(found.treated[found.codes])
        codes = (np.cumsum(found.treated) - 1)[found.codes[rows]]
        return cls(rows, codes, found.labels[found.treated], np.bincount(codes))

    def groups(self) -> list[np.ndarray]:
        """Return the numbers of the rows of each perturbation."""
        return np.split(self.rows[np.argsort(self.codes, kind="stable")], np.cumsum(self.counts)[:-1])


def inactive(treated: Treated, null: Sequence[str] | None, n_permutations: int) -> np.ndarray | None:
    """Return a mask of the perturbations that make the null distribution, or ``None`` where it is drawn."""
    if null is None:
        if n_permutations < 1:
            msg = f"n_permutations={n_permutations}, but null=None draws the null distribution: at least 1 is needed"
            raise ValueError(msg)
        return None
    if isinstance(null, str):
        msg = f"null={null!r} is one label; pass a list of labels of inactive perturbations"
        raise TypeError(msg)
    there = pd.Index(treated.labels)
    if absent := [label for label in null if label not in there]:
        msg = f"null names {some(absent)}, which no treated row has; name inactive perturbations, or pass null=None"
        raise ValueError(msg)
    return np.asarray(there.isin(list(null)))


def measured(treated: Treated, at_least: int, known: np.ndarray | None) -> np.ndarray:
    """Return a mask of the perturbations with enough rows to be measured, of which the null needs some."""
    enough = treated.counts >= at_least
    if not enough.any():
        msg = f"no perturbation has {at_least} rows or more; the largest has {treated.counts.max()}"
        raise ValueError(msg)
    if known is not None and not (enough & known).any():
        msg = f"none of the {known.sum()} perturbation(s) in null has {at_least} rows; name others or null=None"
        raise ValueError(msg)
    if n_few := int((~enough).sum()):
        logger.info("%d of %d perturbations have fewer than %d rows and no value", n_few, enough.size, at_least)
    return enough


def p_values(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Rank each value among those of known inactive perturbations, which have no p-value themselves."""
    p = np.full(values.shape, np.nan)
    asked = ~np.isnan(values) & ~known
    p[asked] = rank_p_value(values[asked], values[known])
    return p


def drawn_p_values(values: np.ndarray, sizes: np.ndarray, draw: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Rank each value among random sets of its own size; ``draw`` takes ascending sizes and returns a row for each."""
    p = np.full(values.shape, np.nan)
    asked = np.flatnonzero(~np.isnan(values))
    different, which = np.unique(sizes[asked], return_inverse=True)
    for i, null in enumerate(draw(different)):
        at = asked[which == i]
        p[at] = rank_p_value(values[at], null, drawn=True)
    return p


def table(metric: str, name: str, treated: Treated, values: np.ndarray, p: np.ndarray) -> pd.DataFrame:
    """Return one row per perturbation."""
    return pd.DataFrame(
        {
            "metric": metric,
            "representation": name,
            "key": treated.labels,
            "value": values,
            "n_obs": treated.counts,
            "p_value": p,
        }
    )
