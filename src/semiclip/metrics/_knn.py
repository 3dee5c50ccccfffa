import numpy as np
from numpy.typing import ArrayLike

from semiclip.errors import BadValue, Empty
from semiclip.metrics._matrices import check_permutations, read_embedding, read_labels


def knn_accuracy(
    x: ArrayLike,
    labels: ArrayLike,
    batch: ArrayLike | None = None,
    *,
    n_neighbors: int = 5,
    n_permutations: int = 1000,
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
        Batch of each row; then only rows of other batches are neighbours (leave one batch out). Without batches all
        other rows are (leave one out).
    n_neighbors
        Neighbours that vote, each alike; of labels that tie, the first in their order wins.
    n_permutations
        Number of random exchanges of the labels that measure chance, at least 2; 0 leaves chance out.
    rng
        Seed or generator of the exchanges.

    Returns
    -------
    ``n_obs``, the number of rows with a possible neighbour of their label; ``value``, the fraction of these rows whose
    neighbours vote for their label; ``chance``, the fraction that has the most frequent label; and, with permutations,
    ``chance_mean`` and ``chance_sd``, mean and standard deviation (ddof 1) of the value over them.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [0.0, 1.0], [0.1, 1.0]])
    >>> knn_accuracy(x, np.array(["a", "a", "b", "b", "b"]), n_neighbors=1, n_permutations=0)
    {'value': 0.8, 'n_obs': 5, 'chance': 0.6}
    """
    check_permutations(n_permutations)
    x = read_embedding(x)
    codes, _ = read_labels(labels, len(x), "labels")
    fold = None if batch is None else read_labels(batch, len(x), "batch")[0]
    neighbours = _find_neighbours(x, fold, n_neighbors)
    value, n_obs, chance = _score(codes, fold, neighbours)
    if not n_obs:
        raise Empty(f"labels that {'two rows' if fold is None else 'rows of two batches'} share")
    result = {"value": value, "n_obs": n_obs, "chance": chance}
    if n_permutations:
        rng = np.random.default_rng(rng)
        null = [_score(rng.permutation(codes), fold, neighbours)[0] for _ in range(n_permutations)]
        result |= {"chance_mean": float(np.nanmean(null)), "chance_sd": float(np.nanstd(null, ddof=1))}
    return result


def _find_neighbours(x: np.ndarray, fold: np.ndarray | None, n_neighbors: int) -> np.ndarray:
    """Return the rows nearest to each row, shape (n, n_neighbors), outside of its fold."""
    from sklearn.neighbors import NearestNeighbors

    fewest = len(x) - 1 if fold is None else len(x) - int(np.bincount(fold).max())
    if not 1 <= n_neighbors <= fewest:
        others = "other rows" if fold is None else "rows of other batches"
        raise BadValue("n_neighbors", n_neighbors, f"from 1 to {fewest}, the number of {others}")
    search = NearestNeighbors(n_neighbors=n_neighbors, metric="cosine")
    if fold is None:
        return search.fit(x).kneighbors(return_distance=False)
    nearest = np.empty((len(x), n_neighbors), dtype=np.intp)
    for code in range(int(fold.max()) + 1):
        members = fold == code
        outside = np.flatnonzero(~members)
        nearest[members] = outside[search.fit(x[outside]).kneighbors(x[members], return_distance=False)]
    return nearest


def _score(codes: np.ndarray, fold: np.ndarray | None, neighbours: np.ndarray) -> tuple[float, int, float]:
    """Return the accuracy of the vote, the number of rows that count, and the share of their most frequent label."""
    counts = np.bincount(codes)
    inside: np.ndarray | int = 1  # rows of a row's label that cannot be its neighbours: itself, or its batch
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
