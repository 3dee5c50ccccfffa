from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import finite_rows, some
from semiclip.metrics._matrices import coded, vectors

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def knn_accuracy(
    x: ArrayLike,
    labels: ArrayLike,
    batch: ArrayLike | None = None,
    *,
    n_neighbors: int = 5,
    n_permutations: int = 0,
    rng: int | np.random.Generator | None = None,
) -> dict[str, float]:
    """Measure how often the nearest neighbours of a row, by cosine, vote for its label.

    Parameters
    ----------
    x
        Embedding, shape (n, d).
    labels
        Label of each row, shape (n,).
    batch
        Batch of each row; then only rows of other batches are neighbours (leave one batch out). Without it all other
        rows are (leave one out).
    n_neighbors
        Neighbours that vote, each alike; of labels that tie, the first in their order wins.
    n_permutations
        Number of random exchanges of the labels that measure chance, at least 2; 0 for none.
    rng
        Seed or generator of the exchanges.

    Returns
    -------
    ``value``, the fraction of rows whose neighbours vote for their label; ``n_obs``, the rows that this counts, which
    are those whose label some possible neighbour has; ``chance``, the fraction of them that has the most frequent
    label; and, with permutations, ``chance_mean`` and ``chance_sd``, their mean and standard deviation (ddof 1).

    Raises
    ------
    TypeError
        If ``x`` is sparse or holds no real numbers.
    ValueError
        If lengths differ, values are not finite, labels or batches are missing, there are fewer possible neighbours
        than ``n_neighbors``, no row has a possible neighbour of its label, or there is a single permutation.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [0.0, 1.0], [0.1, 1.0]])
    >>> knn_accuracy(x, np.array(["a", "a", "b", "b", "b"]), n_neighbors=1)
    {'value': 0.8, 'n_obs': 5, 'chance': 0.6}
    """
    x, shape = vectors(x), np.shape(labels)
    if x.ndim != 2 or shape != x.shape[:1] or (batch is not None and np.shape(batch) != shape):
        shapes = f"{x.shape}, labels {shape}" + ("" if batch is None else f" and batch {np.shape(batch)}")
        msg = f"x has shape {shapes}; rows of an embedding and one label and batch per row are needed"
        raise ValueError(msg)
    if n_permutations < 0 or n_permutations == 1:
        msg = f"n_permutations={n_permutations}: a mean and a standard deviation need at least 2, and 0 leaves them out"
        raise ValueError(msg)
    finite_rows(x, pd.RangeIndex(len(x)), "x")
    codes, names = coded(labels, len(x), "labels")
    fold = None if batch is None else coded(batch, len(x), "batch")[0]
    neighbours = _neighbours(x, fold, n_neighbors)
    value, n_obs, chance = _score(codes, fold, neighbours)
    if not n_obs:
        where = "in another batch" if batch is not None else "elsewhere"
        msg = f"no label is found a second time {where}, so no vote can be right; the labels are {some(names)}"
        raise ValueError(msg)
    result = {"value": value, "n_obs": n_obs, "chance": chance}
    if n_permutations:
        rng = np.random.default_rng(rng)
        null = [_score(rng.permutation(codes), fold, neighbours)[0] for _ in range(n_permutations)]
        result |= {"chance_mean": float(np.nanmean(null)), "chance_sd": float(np.nanstd(null, ddof=1))}
    return result


def _neighbours(x: np.ndarray, fold: np.ndarray | None, n_neighbors: int) -> np.ndarray:
    """Return the rows nearest to each row, shape (n, n_neighbors), outside of its fold."""
    from sklearn.neighbors import NearestNeighbors

    fewest = len(x) - 1 if fold is None else len(x) - int(np.bincount(fold).max())
    if not 1 <= n_neighbors <= fewest:
        where = "other rows" if fold is None else "rows in other batches"
        msg = f"n_neighbors={n_neighbors}, but a row has as few as {fewest} {where} to choose from"
        raise ValueError(msg)
    search = NearestNeighbors(n_neighbors=n_neighbors, metric="cosine")
    if fold is None:
        return search.fit(x).kneighbors(return_distance=False)
    nearest = np.empty((len(x), n_neighbors), dtype=np.intp)
    for code in range(int(fold.max()) + 1):
        own = fold == code
        others = np.flatnonzero(~own)
        nearest[own] = others[search.fit(x[others]).kneighbors(x[own], return_distance=False)]
    return nearest


def _score(codes: np.ndarray, fold: np.ndarray | None, neighbours: np.ndarray) -> tuple[float, int, float]:
    """Return the accuracy of the vote, the number of rows that count, and the share of their most frequent label."""
    counts = np.bincount(codes)
    inside: np.ndarray | int = 1  # rows with a row's own label that cannot be its neighbours: itself, or its batch
    if fold is not None:
        _, pair, in_fold = np.unique(fold * counts.size + codes, return_inverse=True, return_counts=True)
        inside = in_fold[pair]
    counted = counts[codes] > inside
    if not counted.any():
        return float("nan"), 0, float("nan")
    right = _vote(codes[neighbours[counted]]) == codes[counted]
    n_obs = int(counted.sum())
    return float(right.mean()), n_obs, float(np.bincount(codes[counted]).max() / n_obs)


def _vote(labels: np.ndarray) -> np.ndarray:
    """Return the most frequent label of each row, of several the smallest."""
    labels = np.sort(labels, axis=1)
    votes = np.stack([(labels == labels[:, [j]]).sum(axis=1) for j in range(labels.shape[1])], axis=1)
    return labels[np.arange(len(labels)), votes.argmax(axis=1)]
