from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from semiclip._arguments import check_choice
from semiclip._numerics import row_blocks, rows_at_once
from semiclip.errors import TooFew
from semiclip.metrics._matrices import Matrix, dense, read_matched

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
    Spearman's coefficient of each column (shape (g,)) or row (shape (n,)), with average ranks for ties; and a mask of
    the same shape where one side is constant: the coefficient is not defined there, and 0.

    Notes
    -----
    Values that differ by no more than 8 rounding errors of the largest among them count as constant, so that a
    network's outputs for equal inputs are not ranked by their rounding. A sparse matrix is dense only block by block.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 5.0, 0.0], [2.0, 4.0, 0.0], [3.0, 4.5, 0.0]])
    >>> correlation, constant = spearman(x, x**2 * [1, -1, 1])
    >>> correlation.round(3).tolist(), constant.tolist()
    ([1.0, -1.0, 0.0], [False, False, True])
    """
    check_choice("axis", axis, (0, 1))
    x, y = read_matched(x=x, y=y)
    length, n = x.shape[axis], x.shape[1 - axis]
    if length < 2:
        raise TooFew("values to rank", length, 2)
    if axis == 0:  # sparse columns are quick to take from this form only
        x, y = (values.tocsc() if sparse.issparse(values) else values for values in (x, y))
    correlation, constant = np.zeros(n), np.zeros(n, dtype=bool)
    for part in row_blocks(n, rows_at_once(BLOCK, length)):
        (a, flat_a), (b, flat_b) = (_ranks(values[part] if axis else values[:, part].T) for values in (x, y))
        constant[part] = flat_a | flat_b
        length_a, length_b = (np.sqrt(np.einsum("ij,ij->i", ranks, ranks)) for ranks in (a, b))
        norm = np.where(constant[part], 1.0, length_a * length_b)
        correlation[part] = np.where(constant[part], 0.0, np.einsum("ij,ij->i", a, b) / norm)
    return np.clip(correlation, -1, 1, out=correlation), constant


def _ranks(block: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranks of each row about its mean rank, and which rows are constant."""
    from scipy.stats import rankdata

    values = np.ascontiguousarray(dense(block))
    high, low = values.max(axis=1).astype(np.float64), values.min(axis=1).astype(np.float64)
    eps = np.finfo(values.dtype).eps if values.dtype.kind == "f" else 0.0
    flat = high - low <= ROUNDING * eps * np.maximum(np.abs(high), np.abs(low))
    return rankdata(values, axis=1) - (values.shape[1] + 1) / 2, flat
