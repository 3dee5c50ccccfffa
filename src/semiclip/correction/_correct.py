"""A fitted correction, and the control samples that it is fitted on."""

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from semiclip._numerics import row_blocks
from semiclip.correction._steps import Affine, Array
from semiclip.errors import TooFewControls, WrongDtype, WrongShape, some

logger = logging.getLogger(__name__)

BLOCK = 1 << 16  # rows transformed at a time, so that temporaries stay small beside the embedding


class Correction(NamedTuple):
    """A fitted correction: one map for each batch code, as :func:`fit_correction` returns them.

    Examples
    --------
    >>> import numpy as np
    >>> offsets = Correction([Affine(shift=np.array([1.0])), Affine(shift=np.array([2.0]))])
    >>> offsets(np.array([[5.0], [5.0]]), np.array([0, 1])).tolist()
    [[4.0], [3.0]]
    """

    chains: list[Affine]
    """The map of each batch, by its code."""
    rank: int | None = None
    """Directions that are left where whitening dropped those in which the controls do not vary; else ``None``."""

    def __call__(self, x: Array, batch: np.ndarray, rows: np.ndarray | None = None) -> Array:
        """Correct the rows of ``x``, or those of the given numbers, by their batch codes; shape (n, k)."""
        if all(part is None for chain in self.chains for part in chain):
            return x if rows is None else x[rows]
        xp, weight = array_namespace(x), self.chains[0].weight
        numbers = np.arange(len(batch)) if rows is None else rows
        width = x.shape[1] if weight is None else weight.shape[-1]
        out = xp.empty((len(numbers), width), dtype=x.dtype, device=device(x))
        for chain, places in zip(self.chains, _rows_by_batch(batch[numbers], len(self.chains)), strict=True):
            for block in row_blocks(places.size, BLOCK):
                out[xp.asarray(places[block], device=device(x))] = chain(take_rows(x, numbers[places[block]]))
        return out


def split_controls(
    batch: np.ndarray, control: np.ndarray, fallback: str, names: Sequence[object] | None, *, at_least: int = 2
) -> tuple[list[np.ndarray], set[int]]:
    """Return the reference rows of each batch, and the batches that borrow all controls because they have too few."""
    short = find_short_batches(batch, control, fallback, names, at_least=at_least)
    all_rows = np.flatnonzero(control)
    pools = [all_rows[rows] for rows in _rows_by_batch(batch[all_rows], int(batch.max()) + 1)]
    if short:
        named = some(short.values())
        logger.warning("the pooled controls of all batches serve for %d batch(es): %s", len(short), named)
        pools = [all_rows if code in short else rows for code, rows in enumerate(pools)]
    return pools, set(short)


def find_short_batches(
    batch: np.ndarray, control: np.ndarray, fallback: str, names: Sequence[object] | None, *, at_least: int = 2
) -> dict[int, str]:
    """Name the batches with too few controls, by code, and refuse them unless all controls can stand in."""
    counts = np.bincount(batch[control], minlength=int(batch.max()) + 1)
    short = {code: code if names is None else names[code] for code in np.flatnonzero(counts < at_least).tolist()}
    if short and not (fallback == "pooled" and counts.sum() >= at_least):
        few = {name: int(counts[code]) for code, name in short.items()}
        raise TooFewControls(few, at_least, int(counts.sum()))
    return {code: f"{name} ({counts[code]})" for code, name in short.items()}


def check_rows(x: Array, batch: np.ndarray, control: np.ndarray) -> None:
    """Refuse arrays that do not fit together."""
    if x.ndim != 2 or not x.shape[:1] == batch.shape == control.shape:
        shapes = (tuple(x.shape), batch.shape, control.shape)
        raise WrongShape("x, batch and control", shapes, "(n, d), (n,) and (n,)")
    if not array_namespace(x).isdtype(x.dtype, "real floating"):
        raise WrongDtype("x", x.dtype, "floating-point numbers", way_out="convert it with astype")


def take_rows(x: Array, rows: np.ndarray) -> Array:
    """Return a copy of some rows of an array or tensor."""
    return x[array_namespace(x).asarray(rows, device=device(x))]


def _rows_by_batch(batch: np.ndarray, n_batches: int) -> list[np.ndarray]:
    """Return the row numbers of each batch code."""
    ends = np.cumsum(np.bincount(batch, minlength=n_batches))
    return np.split(np.argsort(batch, kind="stable"), ends[:-1])
