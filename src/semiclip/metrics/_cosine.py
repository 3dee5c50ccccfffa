"""Cosines, written once for every measure."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace

from semiclip._numerics import row_blocks

Array = Any  # a NumPy array or a torch tensor

BLOCK = 256  # rows of the cosine matrix that exist at a time
DECIMALS = 12  # cosines that differ by less are rounding errors of the same cosine


def normalise(x: Array, eps: float = 1e-12) -> Array:
    """Return the rows of ``x``, shape (n, d), at length one; rows shorter than ``eps`` are divided by ``eps``."""
    xp = array_namespace(x)
    return x / xp.clip(xp.linalg.vector_norm(x, axis=-1, keepdims=True), min=eps)


def pairwise_cosines(x: np.ndarray) -> np.ndarray:
    """Return the cosines of all pairs of rows in the order of :func:`scipy.spatial.distance.pdist`, in float64.

    Cosines are rounded, so that equal rows have equal cosines whatever the order of summation. The square matrix
    never exists: memory holds its upper triangle alone.
    """
    unit = normalise(x.astype(np.float64, copy=False))
    n = len(unit)
    out = np.empty(n * (n - 1) // 2)
    end = 0
    for rows in row_blocks(n, BLOCK):
        for i, row in enumerate(unit[rows] @ unit[rows.start :].T):
            right = row[i + 1 :]
            out[end : end + right.size] = right
            end += right.size
    return np.round(out, DECIMALS, out=out)


def pair_position(i: np.ndarray, j: np.ndarray, n: int) -> np.ndarray:
    """Return where the pairs (i, j) of n rows stand in :func:`pairwise_cosines`; their order does not matter."""
    low, high = np.minimum(i, j), np.maximum(i, j)
    return low * (2 * n - low - 1) // 2 + high - low - 1
