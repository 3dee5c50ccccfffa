from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from semiclip._numerics import row_blocks, rows_at_once
from semiclip.errors import Empty, Mismatch
from semiclip.metrics._matrices import read_embedding

BLOCK = 1 << 22  # distances that exist at a time


def energy_distance(x: ArrayLike, y: ArrayLike) -> float:
    """Return the energy distance of two sets of rows, 2 E‖X − Y‖ − E‖X − X′‖ − E‖Y − Y′‖.

    The expectations are means over all pairs of rows, a row with itself included (the V-statistic). The distance is
    therefore never negative, and 0 for equal sets. Source: Székely and Rizzo 2013, DOI 10.1016/j.jspi.2013.03.018.

    Parameters
    ----------
    x, y
        Samples in one space, shapes (n, d) and (m, d).

    Returns
    -------
    The distance, in the unit of the coordinates.

    Examples
    --------
    >>> energy_distance([[0.0], [2.0]], [[1.0]])
    1.0
    """
    x, y = read_embedding(x), read_embedding(y, "y")
    if x.shape[1] != y.shape[1]:
        raise Mismatch("the width of y", y.shape[1], x.shape[1])
    for name, sample in (("x", x), ("y", y)):
        if not len(sample):
            raise Empty(f"rows in {name}")
    return float(energy_distances([x], y)[0])


def energy_distances(samples: Iterable[np.ndarray], reference: np.ndarray) -> np.ndarray:
    """Return the energy distance of each sample to the reference, whose own term is computed once."""
    within_reference = _mean_distance(reference, reference)
    distances = [2 * _mean_distance(x, reference) - _mean_distance(x, x) - within_reference for x in samples]
    return np.maximum(np.array(distances), 0)  # less than 0 is a rounding error


def _mean_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Return the mean distance of the rows of ``x`` to those of ``y``."""
    from scipy.spatial.distance import cdist

    y, sums = y.astype(np.float64, copy=False), np.empty(len(x))
    for rows in row_blocks(len(x), rows_at_once(BLOCK, len(y))):
        sums[rows] = cdist(x[rows].astype(np.float64, copy=False), y).sum(axis=1)
    return sums.sum() / (len(x) * len(y))


def permuted_energy_distances(
    x: np.ndarray,
    reference: np.ndarray,
    within_reference: np.ndarray,
    batch: tuple[np.ndarray, np.ndarray],
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[float, np.ndarray]:
    """Return the energy distance of ``x`` to the reference, and the distances after exchanges of rows within batches.

    ``within_reference`` holds the distances within the reference, (m, m), and ``batch`` the batches of both.
    """
    from scipy.spatial.distance import cdist

    x, reference = x.astype(np.float64, copy=False), reference.astype(np.float64, copy=False)
    n, m = len(x), len(reference)
    across = cdist(x, reference)
    distances = np.block([[cdist(x, x), across], [across.T, within_reference]])
    row_sum = distances.sum(axis=1)
    energy = np.empty(n_draws + 1)
    for draws in row_blocks(n_draws + 1, rows_at_once(BLOCK, n + m)):
        rows = _draw_exchanges(*batch, draws.stop - draws.start, rng)
        if draws.start == 0:
            rows[0] = np.arange(n)  # as it is
        # every distance follows from sums over parts of the matrix of all distances
        ends = np.arange(0, rows.size + 1, n)
        chosen = sparse.csr_array((np.ones(rows.size), rows.ravel(), ends), shape=(len(rows), n + m))
        within = chosen.multiply(chosen @ distances).sum(axis=1)
        to_all = row_sum[rows].sum(axis=1)
        between, rest = to_all - within, row_sum.sum() - 2 * to_all + within
        energy[draws] = 2 * between / (n * m) - within / n**2 - rest / m**2
    return energy[0], energy[1:]


def _draw_exchanges(batch: np.ndarray, others: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows in place of those with these batches, of the same batches, from them and from others counted on."""
    rows = np.empty((n_draws, len(batch)), dtype=np.intp)
    for code in np.unique(batch):
        members = np.flatnonzero(batch == code)
        pool = np.append(members, len(batch) + np.flatnonzero(others == code))
        ranks = rng.random((n_draws, len(pool)))
        rows[:, members] = pool[np.argpartition(ranks, len(members) - 1, axis=1)[:, : len(members)]]
    return rows
