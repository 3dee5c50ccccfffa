import numpy as np
from numpy.typing import ArrayLike

from semiclip._numerics import row_blocks
from semiclip.errors import Empty, some
from semiclip.metrics._matrices import DECIMALS, membership, normalise, read_codes, read_embedding

MEAN_BLOCK = 1 << 16  # rows read at a time, so that no copy of x in float64 exists
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
    sums = np.zeros((n_groups, x.shape[1]))
    for rows in row_blocks(len(x), MEAN_BLOCK):
        sums += membership(codes[rows], n_groups) @ x[rows].astype(np.float64, copy=False)
    return sums / counts[:, None]


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
