from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import finite_rows
from semiclip.metrics._matrices import vectors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike

BLOCK = 1 << 22  # distances that exist at a time
KEPT = 1 << 27  # distances that are kept between draws, 1 GiB; more of them are computed anew in each


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


def random_energy_distances(
    reference: np.ndarray, sizes: np.ndarray, n_draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the energy distance of random parts of the reference to the rest of it, for ascending sizes.

    Shape (len(sizes), n_draws). The parts of one draw are the beginnings of one random order. The three means follow
    from sums over parts of the matrix of all distances, which is computed once unless it is large.
    """
    from scipy.spatial.distance import cdist

    m, n = len(reference), sizes
    x = reference.astype(np.float64, copy=False)
    kept = cdist(x, x) if m * m <= KEPT else None
    row_sum = _sums(x, x) if kept is None else kept.sum(axis=1)
    total = row_sum.sum()
    size = max(1, BLOCK // sizes[-1])
    null = np.empty((len(sizes), n_draws))
    for draw in range(n_draws):
        rows = rng.choice(m, sizes[-1], replace=False)
        # what each row adds to the sum within the part: its distances to the rows before it, twice
        added = np.empty(len(rows))
        for start in range(0, len(rows), size):
            part, before = rows[start : start + size], rows[: start + size]
            distance = cdist(x[part], x[before]) if kept is None else kept[np.ix_(part, before)]
            added[start : start + size] = 2 * np.tril(distance, start - 1).sum(axis=1)
        within, to_all = added.cumsum()[n - 1], row_sum[rows].cumsum()[n - 1]
        across, rest = to_all - within, total - 2 * to_all + within
        null[:, draw] = 2 * across / (n * (m - n)) - within / n**2 - rest / (m - n) ** 2
    return np.maximum(null, 0)


def _sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sum the distances of each row of ``x`` to all rows of ``y``."""
    from scipy.spatial.distance import cdist

    y, sums = y.astype(np.float64, copy=False), np.empty(len(x))
    size = max(1, BLOCK // len(y))
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        sums[part] = cdist(x[part].astype(np.float64, copy=False), y).sum(axis=1)
    return sums
