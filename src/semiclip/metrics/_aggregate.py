import numpy as np

from semiclip._numerics import row_blocks
from semiclip.errors import Empty, some
from semiclip.metrics._matrices import membership, read_codes

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

    Examples
    --------
    >>> import numpy as np
    >>> group_mean(np.array([[0.0, 2.0], [4.0, 4.0], [2.0, 4.0]]), np.array([0, 1, 0]), 2)
    array([[1., 3.],
           [4., 4.]])
    """
    codes = read_codes(codes, len(x), n_groups)
    counts = np.bincount(codes, minlength=n_groups)
    if empty := np.flatnonzero(counts == 0).tolist():
        raise Empty(f"rows in {len(empty)} of {n_groups} groups ({some(empty)})", "number the groups without gaps")
    sums = np.zeros((n_groups, x.shape[1]))
    for rows in row_blocks(len(x), BLOCK):
        sums += membership(codes[rows], n_groups) @ x[rows].astype(np.float64, copy=False)
    return sums / counts[:, None]
