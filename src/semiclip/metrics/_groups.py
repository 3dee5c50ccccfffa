from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse

from semiclip._numerics import row_blocks, rows_at_once
from semiclip.errors import Empty, Mismatch, some
from semiclip.metrics._matrices import DECIMALS, membership, normalise, read_codes, read_embedding

MEAN_BLOCK = 1 << 16  # rows read at a time, so that no copy of x in float64 exists
DISTANCES = 1 << 22  # that exist at a time
COSINE_BLOCK = 1 << 12  # rows summed at a time; sums of sums round less than one long sum


def group_mean(x: np.ndarray, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the mean row of each group.

    Parameters
    ----------
    x
        Values, shape (n, d).
    codes
        Group of each row, integers of 0 … ``n_groups`` − 1, shape (n,).
    n_groups
        Number of groups; each must have a row.

    Returns
    -------
    Means, shape (n_groups, d), in float64 whatever the precision of ``x``.

    Examples
    --------
    >>> import numpy as np
    >>> group_mean(np.array([[0.0, 2.0], [4.0, 4.0], [2.0, 4.0]]), np.array([0, 1, 0]), 2).tolist()
    [[1.0, 3.0], [4.0, 4.0]]
    """
    codes = read_codes(codes, len(x), n_groups)
    counts = np.bincount(codes, minlength=n_groups)
    if empty := np.flatnonzero(counts == 0).tolist():
        raise Empty(f"rows in {len(empty)} of {n_groups} groups ({some(empty)})", "number the groups without gaps")
    return _group_sum(x, codes, n_groups) / counts[:, None]


def _group_sum(x: np.ndarray, codes: np.ndarray, n_groups: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Return the sum of the rows of each group, each times its weight, in float64."""
    sums = np.zeros((n_groups, x.shape[1]))
    for rows in row_blocks(len(x), MEAN_BLOCK):
        member = membership(codes[rows], n_groups, None if weights is None else weights[rows])
        sums += member @ x[rows].astype(np.float64, copy=False)
    return sums


def group_median(x: np.ndarray, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the median of each group in each dimension, in float64; every group has a row."""
    values = pd.DataFrame(x.astype(np.float64, copy=False))
    return values.groupby(codes).median().reindex(range(n_groups)).to_numpy()


def agreement_mean(x: np.ndarray, codes: np.ndarray, n_groups: int) -> np.ndarray:
    """Return the mean row of each group, where rows weigh by their mean cosine with the others; every group has a row.

    A row that disagrees with the others weighs nothing. Groups of one row, or of none that agree, have their mean.
    """
    counts = np.bincount(codes, minlength=n_groups)
    sums, weights = np.zeros((n_groups, x.shape[1])), np.ones(len(x))
    for rows in row_blocks(len(x), COSINE_BLOCK):
        sums += membership(codes[rows], n_groups) @ normalise(x[rows].astype(np.float64, copy=False))
    for rows in row_blocks(len(x), COSINE_BLOCK):
        unit, code = normalise(x[rows].astype(np.float64, copy=False)), codes[rows]
        to_others = np.einsum("ij,ij->i", unit, sums[code] - unit) / np.maximum(counts[code] - 1, 1)
        # rounded as cosines are, so that what rounding leaves of 0 is no agreement
        weights[rows] = np.where(counts[code] > 1, np.maximum(np.round(to_others, DECIMALS), 0), 1)
    total = np.bincount(codes, weights, minlength=n_groups)
    weights[total[codes] == 0] = 1
    total = np.where(total == 0, counts, total)
    return _group_sum(x, codes, n_groups, weights) / total[:, None]


def consistency(x: ArrayLike, codes: ArrayLike, n_groups: int) -> np.ndarray:
    """Return the mean cosine of all pairs of rows of each group, such as the replicates of a perturbation.

    Source: Celik et al. 2024, DOI 10.1371/journal.pcbi.1012463.

    Parameters
    ----------
    x
        Embedding, shape (n, d). A row of zeros has cosine 0 with every other row.
    codes, n_groups
        Group of each row, integers of 0 … ``n_groups`` − 1, shape (n,), and the number of groups.

    Returns
    -------
    Means of shape (n_groups,): NaN for groups of fewer than two rows, exactly 1 where all rows are the same.

    Examples
    --------
    >>> import numpy as np
    >>> consistency([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [3.0, 3.0]], np.array([0, 0, 0, 1]), 2).round(3)
    array([0.333,   nan])
    """
    x = read_embedding(x)
    codes = read_codes(codes, len(x), n_groups)
    sums, squares = np.zeros((n_groups, x.shape[1])), np.zeros(n_groups)
    for rows in row_blocks(len(x), COSINE_BLOCK):
        unit = normalise(x[rows].astype(np.float64, copy=False))
        member = membership(codes[rows], n_groups)
        sums += member @ unit
        squares += member @ np.einsum("ij,ij->i", unit, unit)
    return _mean_cosine(sums, squares, np.bincount(codes, minlength=n_groups))


def random_consistency(x: np.ndarray, sizes: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Return the consistency of random sets of rows, shape (len(sizes), n_draws), for ascending sizes.

    The sets of one draw are the beginnings of one random order of the rows.
    """
    null = np.empty((len(sizes), n_draws))
    starts = np.append(0, sizes[:-1])
    for draw in range(n_draws):
        unit = normalise(x[rng.choice(len(x), sizes[-1], replace=False)].astype(np.float64, copy=False))
        sums = np.add.reduceat(unit, starts).cumsum(axis=0)
        squares = np.add.reduceat(np.einsum("ij,ij->i", unit, unit), starts).cumsum()
        null[:, draw] = _mean_cosine(sums, squares, sizes)
    return null


def _mean_cosine(sums: np.ndarray, squares: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return (‖Σ u‖² − Σ ‖u‖²) / (n (n − 1)) for the unit rows u of each group."""
    pairs = np.where(n < 2, np.nan, n * (n - 1.0))
    # rounded as cosines are, so that equal rows give 1 whatever the order of summation
    return np.round((np.einsum("ij,ij->i", sums, sums) - squares) / pairs, DECIMALS)


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
    for rows in row_blocks(len(x), rows_at_once(DISTANCES, len(y))):
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
    for draws in row_blocks(n_draws + 1, rows_at_once(DISTANCES, n + m)):
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
