"""The rows nearest to some rows by cosine, or the most opposite ones, without the matrix of all pairs."""

from collections.abc import Iterator

import numpy as np

from semiclip._numerics import row_blocks, rows_at_once
from semiclip.metrics._matrices import DECIMALS

VALUES = 1 << 22  # cosines that exist at a time


def read_closeness(unit: np.ndarray, rows: np.ndarray, *, opposite: bool = False) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield how close all rows of length one (n, d) are to some of them, in blocks of shape (m, n).

    That is their cosine, or minus their cosine where opposite ones are close, and of a row with itself −∞. The slice
    says which of ``rows`` a block is about.
    """
    for part in row_blocks(len(rows), rows_at_once(VALUES, len(unit))):
        block = unit[rows[part]] @ unit.T
        # as in Cosines, equal rows are equally close whatever the order of summation
        np.round(-block if opposite else block, DECIMALS, out=block)
        block[np.arange(len(block)), rows[part]] = -np.inf
        yield part, block


def order_by_closeness(block: np.ndarray) -> np.ndarray:
    """Return the columns of each row from the closest to the least close; of equal ones the first comes first."""
    return np.argsort(-block, axis=1, kind="stable")


def rank_by_closeness(block: np.ndarray) -> np.ndarray:
    """Return the place of each column in :func:`order_by_closeness`, from 1; a row itself is the last."""
    ranks = np.empty(block.shape, dtype=np.intp)
    np.put_along_axis(ranks, order_by_closeness(block), np.arange(1, block.shape[1] + 1)[None], axis=1)
    return ranks
