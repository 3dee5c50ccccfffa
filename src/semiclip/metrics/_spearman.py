from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import sparse

from semiclip.metrics._matrices import dense, matched

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from semiclip.metrics._matrices import Matrix

BLOCK = 1 << 20  # values ranked at a time
ROUNDING = 8  # a spread of so many rounding errors of the largest value is none


def spearman(x: ArrayLike | Matrix, y: ArrayLike | Matrix, *, axis: Literal[0, 1] = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlate the ranks of two matrices, column by column or row by row.

    Parameters
    ----------
    x, y
        Values, shape (n, g), dense or sparse.
    axis
        Along which to rank: 0 correlates each column over the rows, 1 each row over the columns.

    Returns
    -------
    correlation
        Spearman's coefficient of each column (shape (g,)) or row (shape (n,)), with average ranks for ties. It is 0
        where it is not defined, since one side is constant.
    constant
        Where that is so, boolean of the same shape.

    Raises
    ------
    TypeError
        If values are no real numbers.
    ValueError
        If shapes differ, values are NaN or infinite, or there are fewer than two values to rank.

    Notes
    -----
    Values that differ by no more than 8 rounding errors of the largest among them count as constant, so that what a
    network computes for equal inputs is not ranked by its rounding. Memory is bounded: columns or rows are taken in
    blocks, and a sparse matrix is dense only within a block.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 5.0, 0.0], [2.0, 4.0, 0.0], [3.0, 4.5, 0.0]])
    >>> correlation, constant = spearman(x, x**2 * [1, -1, 1])
    >>> correlation
    array([ 1., -1.,  0.])
    >>> constant
    array([False, False,  True])
    """
    if axis not in (0, 1):
        msg = f"axis={axis!r} is neither 0 (column by column) nor 1 (row by row)"
        raise ValueError(msg)
    x, y = matched(x=x, y=y)
    length, n = x.shape[axis], x.shape[1 - axis]
    if length < 2:
        msg = f"each series has {length} value; a rank correlation needs at least two"
        raise ValueError(msg)
    if axis == 0:  # sparse columns are quick to take from this form only
        x, y = (values.tocsc() if sparse.issparse(values) else values for values in (x, y))
    correlation, constant = np.zeros(n), np.zeros(n, dtype=bool)
    size = max(1, BLOCK // length)
    for start in range(0, n, size):
        part = slice(start, start + size)
        (a, flat_a), (b, flat_b) = (_ranks(values[part] if axis else values[:, part].T) for values in (x, y))
        constant[part] = flat_a | flat_b
        length_a, length_b = (np.sqrt(np.einsum("ij,ij->i", ranks, ranks)) for ranks in (a, b))
        norm = np.where(constant[part], 1.0, length_a * length_b)
        correlation[part] = np.where(constant[part], 0.0, np.einsum("ij,ij->i", a, b) / norm)
    return np.clip(correlation, -1, 1, out=correlation), constant


def _ranks(block: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Rank each row about its mean rank, and say which rows are constant."""
    from scipy.stats import rankdata

    values = np.ascontiguousarray(dense(block))
    high, low = values.max(axis=1).astype(np.float64), values.min(axis=1).astype(np.float64)
    eps = np.finfo(values.dtype).eps if values.dtype.kind == "f" else 0.0
    flat = high - low <= ROUNDING * eps * np.maximum(np.abs(high), np.abs(low))
    return rankdata(values, axis=1) - (values.shape[1] + 1) / 2, flat
