"""Small numerical helpers that several rooms share."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator


def row_blocks(n_rows: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` rows, so that temporaries stay small beside the data."""
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def rows_at_once(values: int, per_row: int) -> int:
    """Return how many rows fit where so many values may exist at a time, at least one."""
    return max(1, values // max(1, per_row))


def inverse_root(covariance: np.ndarray, regularization: float = 0.0) -> np.ndarray:
    """Return the directions that vary, shape (d, k), each divided by its standard deviation.

    ``regularization``, in units of the mean variance, is added to all variances before.
    """
    values, vectors = np.linalg.eigh(covariance)
    varies = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors[:, varies] / np.sqrt(values[varies] + regularization * values.mean())


ROUNDING = 1e-5  # of what a network computes in single precision: sums of a thousand terms are off by 4e-6


def point_apart(rows: np.ndarray) -> bool:
    """Say whether any of the rows (n, d) differ in direction, or in value if d is 1, by more than rounding does."""
    rows = np.asarray(rows, np.float64)
    if rows.shape[1] > 1:
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return bool(np.abs(rows - rows[:1]).max() > ROUNDING * np.abs(rows).max())


@contextmanager
def single_precision() -> Iterator[None]:
    """Let torch make float32 whatever its default type, as all weights and data on a device are, and set it back."""
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
