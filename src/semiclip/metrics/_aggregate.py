from __future__ import annotations

import numpy as np
from scipy import sparse

from semiclip._checks import some

BLOCK = 1 << 16  # rows read at a time, so that no copy of x in float64 exists


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

    Raises
    ------
    ValueError
        If ``codes`` does not hold one group per row, a code is out of range, or a group has no row.

    Examples
    --------
    >>> import numpy as np
    >>> group_mean(np.array([[0.0, 2.0], [4.0, 4.0], [2.0, 4.0]]), np.array([0, 1, 0]), 2)
    array([[1., 3.],
           [4., 4.]])
    """
    codes = np.asarray(codes)
    if codes.shape != x.shape[:1]:
        msg = f"codes has shape {codes.shape} for {len(x)} rows; one group per row is needed"
        raise ValueError(msg)
    if codes.size and not (codes.min() >= 0 and codes.max() < n_groups):
        msg = f"codes run from {codes.min()} to {codes.max()}; they must lie in 0 … {n_groups - 1}"
        raise ValueError(msg)
    counts = np.bincount(codes, minlength=n_groups)
    if empty := np.flatnonzero(counts == 0).tolist():
        msg = f"{len(empty)} of {n_groups} groups have no row: {some(empty)}; number the groups without gaps"
        raise ValueError(msg)
    sums = np.zeros((n_groups, x.shape[1]))
    for start in range(0, len(x), BLOCK):
        rows = codes[start : start + BLOCK]
        # one column per row of x, with a single 1 in the row of its group
        member = sparse.csc_array((np.ones(rows.size), rows, np.arange(rows.size + 1)), shape=(n_groups, rows.size))
        sums += member @ x[start : start + BLOCK].astype(np.float64, copy=False)
    return sums / counts[:, None]
