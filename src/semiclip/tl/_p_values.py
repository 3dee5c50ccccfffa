"""What measures of single perturbations share: which of them have a value, and how chance judges it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip.errors import BadValue, TooFew, UnknownChoice, WrongType
from semiclip.metrics import rank_p_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from semiclip.tl._maps import Corrected

logger = logging.getLogger(__name__)


def find_inactive(corrected: Corrected, null: Sequence[str] | None, n_permutations: int) -> np.ndarray | None:
    """Return a mask of the perturbations that make the null distribution, or ``None`` where it is drawn."""
    if null is None:
        if n_permutations < 1:
            raise BadValue("n_permutations", n_permutations, "at least 1, unless null= names inactive perturbations")
        return None
    if isinstance(null, str):
        raise WrongType("null", str, "a list of labels of inactive perturbations")
    labels = pd.Index(corrected.labels)
    if absent := [label for label in null if label not in labels]:
        raise UnknownChoice("null", absent, labels)
    return np.asarray(labels.isin(list(null)))


def find_measured(corrected: Corrected, min_obs: int, inactive: np.ndarray | None) -> np.ndarray:
    """Return a mask of the perturbations with enough rows to be measured; a null that is not drawn needs some."""
    counts = corrected.counts
    measured = counts >= min_obs
    if not measured.any():
        raise TooFew("rows of the largest perturbation", int(counts.max()), min_obs)
    if inactive is not None and not (measured & inactive).any():
        largest = int(counts[inactive].max(initial=0))
        raise TooFew("rows of the largest perturbation in null", largest, min_obs, "name others, or pass null=None")
    if n_few := int((~measured).sum()):
        logger.info("%d of %d perturbations have fewer than %d rows and no value", n_few, measured.size, min_obs)
    return measured


def rank_among_inactive(values: np.ndarray, inactive: np.ndarray) -> np.ndarray:
    """Return the p-value of each value among those of inactive perturbations, which have none themselves."""
    p = np.full(values.shape, np.nan)
    judged = ~np.isnan(values) & ~inactive
    p[judged] = rank_p_value(values[judged], values[inactive])
    return p


def rank_among_sets(values: np.ndarray, sizes: np.ndarray, draw: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the p-value of each value among random sets of its size.

    ``draw`` takes ascending sizes and returns a row of values for each.
    """
    p = np.full(values.shape, np.nan)
    judged = np.flatnonzero(~np.isnan(values))
    different, which = np.unique(sizes[judged], return_inverse=True)
    for i, null in enumerate(draw(different)):
        places = judged[which == i]
        p[places] = rank_p_value(values[places], null, drawn=True)
    return p


def tabulate(metric: str, corrected: Corrected, values: np.ndarray, p: np.ndarray) -> pd.DataFrame:
    """Return one row per perturbation."""
    columns = {"metric": metric, "representation": corrected.name, "key": corrected.labels, "value": values}
    return pd.DataFrame({**columns, "n_obs": corrected.counts, "p_value": p})
