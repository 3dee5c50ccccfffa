"""Samples averaged with their nearest neighbours, as one step of a linear graph convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from semiclip._arguments import check_choice
from semiclip.errors import BadValue

if TYPE_CHECKING:
    from scipy import sparse

Metric = Literal["correlation", "euclidean"]


def smooth(x: np.ndarray, *, n_neighbors: int = 10, metric: Metric = "euclidean") -> np.ndarray:
    r"""Return samples smoothed over the graph of their nearest neighbours, shape (n, d), of the type of ``x``.

    The result is :math:`D^{-1/2} (A + I) D^{-1/2} X`, where :math:`A_{ij}` is 1 if sample *i* is among the nearest
    neighbours of *j* or the reverse, else 0, and the diagonal :math:`D` holds the row sums of :math:`A + I` (Li et al.
    2023, DOI 10.1186/s12859-023-05558-9).

    Each sample chooses ``n_neighbors``, not counting itself. The ``correlation`` distance is one minus Pearson's
    correlation. A sample with the same value in all columns correlates with nothing, so it has no neighbours and stays
    as it is.

    Examples
    --------
    >>> import numpy as np
    >>> smooth(np.array([[0.0], [1.0], [9.0], [11.0]]), n_neighbors=1).ravel()
    array([ 0.5,  0.5, 10. , 10. ])
    """
    from scipy import sparse

    graph = neighbors(x, n_neighbors=n_neighbors, metric=metric) + sparse.eye_array(len(x), dtype=x.dtype)
    scale = (1 / np.sqrt(graph.sum(axis=1))).astype(x.dtype)[:, None]
    return scale * (graph @ (scale * x))


def neighbors(x: np.ndarray, *, n_neighbors: int, metric: Metric) -> sparse.csr_array:
    """Return the symmetric graph of nearest neighbours that :func:`smooth` uses, zeros and ones of shape (n, n)."""
    from scipy import sparse
    from sklearn.neighbors import kneighbors_graph

    check_choice("metric", metric, Metric)
    n, rows, which = len(x), np.arange(len(x)), "samples"
    if metric == "correlation":
        rows, which = np.flatnonzero(np.ptp(x, axis=1) > 0), "samples whose values differ"
        # for centred rows of length one, Euclidean distance has the order of the correlation distance, and is faster
        x = x[rows] - x[rows].mean(axis=1, keepdims=True)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    if not 1 <= n_neighbors < len(rows):
        raise BadValue("n_neighbors", n_neighbors, f"at least 1 and fewer than the {len(rows)} {which}")
    chosen = kneighbors_graph(x, n_neighbors).tocoo()
    graph = sparse.csr_array((chosen.data.astype(x.dtype), (rows[chosen.row], rows[chosen.col])), shape=(n, n))
    return graph.maximum(graph.T)
