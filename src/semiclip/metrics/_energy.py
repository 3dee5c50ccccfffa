from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse

from semiclip._checks import finite_rows
from semiclip.metrics._matrices import vectors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

BLOCK = 1 << 22  # distances that exist at a time


def energy_distance(x: ArrayLike, y: ArrayLike) -> float:
    """Return the energy distance of two sets of rows, 2 E‖X − Y‖ − E‖X − X′‖ − E‖Y − Y′‖.

    The expectations are means over all pairs of rows, a row with itself included (the V-statistic), so that the
    distance is never negative, and 0 for equal sets.

    Parameters
    ----------
    x, y
        Samples in one space, shapes (n, d) and (m, d).

    Returns
    -------
    The distance, in the unit of the coordinates.

    Raises
    ------
    TypeError
        If a set is sparse or holds no real numbers.
    ValueError
        If the widths differ, a set is empty, or values are not finite.

    References
    ----------
    Székely and Rizzo 2013, DOI 10.1016/j.jspi.2013.03.018.

    Examples
    --------
    >>> import numpy as np
    >>> energy_distance(np.array([[0.0], [2.0]]), np.array([[1.0]]))
    1.0
    """
    x, y = vectors(x), vectors(y, "y")
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        msg = f"x has shape {x.shape} and y {y.shape}; both need rows of the same width, in one space"
        raise ValueError(msg)
    if not len(x) or not len(y):
        msg = f"{len(x)} and {len(y)} rows; each of the two sets needs at least one"
        raise ValueError(msg)
    for name, values in (("x", x), ("y", y)):
        finite_rows(values, pd.RangeIndex(len(values)), name)
    return float(energy_distances([x], y)[0])


def energy_distances(samples: Iterable[np.ndarray], reference: np.ndarray) -> np.ndarray:
    """Return the energy distance of each sample to the reference, whose own term is computed once."""
    m = len(reference)
    own = _sums(reference, reference).sum() / m**2
    distances = []
    for x in samples:
        across, within = _sums(x, reference).sum() / (len(x) * m), _sums(x, x).sum() / len(x) ** 2
        distances.append(2 * across - within - own)
    return np.maximum(np.array(distances), 0)  # less than 0 is a rounding error


def permuted_energy_distances(
    x: np.ndarray,
    reference: np.ndarray,
    own: np.ndarray,
    batch: tuple[np.ndarray, np.ndarray],
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[float, np.ndarray]:
    """Return the energy distance of ``x``, shape (n, d), to the reference, and those after exchanges of their rows.

    An exchange draws for ``x`` as many rows of each batch as it has, and leaves the others to the reference: the null
    distribution of the energy test. ``own`` holds the distances within the reference, (m, m), and ``batch`` the batches
    of both; everything follows from sums over parts of the matrix of all distances.
    """
    from scipy.spatial.distance import cdist

    x, reference = x.astype(np.float64, copy=False), reference.astype(np.float64, copy=False)
    n, m = len(x), len(reference)
    across = cdist(x, reference)
    distances = np.block([[cdist(x, x), across], [across.T, own]])
    row_sum = distances.sum(axis=1)
    found = np.empty(n_draws + 1)
    size = max(1, BLOCK // (n + m))
    for start in range(0, n_draws + 1, size):
        rows = _exchanged(*batch, min(size, n_draws + 1 - start), rng)
        if start == 0:
            rows[0] = np.arange(n)  # as it is
        ends = np.arange(0, rows.size + 1, n)
        chosen = sparse.csr_array((np.ones(rows.size), rows.ravel(), ends), shape=(len(rows), n + m))
        within = chosen.multiply(chosen @ distances).sum(axis=1)
        to_all = row_sum[rows].sum(axis=1)
        between, rest = to_all - within, row_sum.sum() - 2 * to_all + within
        found[start : start + size] = 2 * between / (n * m) - within / n**2 - rest / m**2
    return found[0], found[1:]


def _exchanged(batch: np.ndarray, others: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows in place of those with these batches, of the same batches, from them and from others counted on."""
    rows = np.empty((n_draws, len(batch)), dtype=np.intp)
    for code in np.unique(batch):
        mine = np.flatnonzero(batch == code)
        pool = np.append(mine, len(batch) + np.flatnonzero(others == code))
        ranks = rng.random((n_draws, len(pool)))
        rows[:, mine] = pool[np.argpartition(ranks, len(mine) - 1, axis=1)[:, : len(mine)]]
    return rows


def _sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum the distances of each row of ``x`` to all rows of ``y``."""
    from scipy.spatial.distance import cdist

    y, sums = y.astype(np.float64, copy=False), np.empty(len(x))
    size = max(1, BLOCK // len(y))
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        sums[part] = cdist(x[part].astype(np.float64, copy=False), y).sum(axis=1)
    return sums
