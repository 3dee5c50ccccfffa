from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device
from numpy.typing import ArrayLike

from semiclip._numerics import row_blocks, rows_at_once
from semiclip.errors import BadValue, Empty, Mismatch, NotFinite, TooFew, WrongDtype, WrongShape, WrongType
from semiclip.metrics._matrices import Array, check_permutations, normalise, read_codes, read_embedding, read_labels

BLOCK = 1 << 22  # cosines that exist at a time
TOLERANCE = 1e-12  # cosines that differ by less tie
COMPARED = 8  # relevant rows up to which all candidates are compared with each of them, and not sorted


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
    x, labels
        Embedding, shape (n, d), and the label of each row, shape (n,).
    batch
        Batch of each row; then only rows of other batches are neighbours (leave one batch out). Without batches all
        other rows are (leave one out).
    n_neighbors
        Neighbours that vote, each alike; of labels that tie, the first in their order wins.
    n_permutations, rng
        Number of random exchanges of the labels that measure chance, at least 2 or 0, and their seed or generator.

    Returns
    -------
    ``n_obs``, the number of rows with a possible neighbour of their label; ``value``, the fraction of these rows whose
    neighbours vote for their label; ``chance``, the fraction that has the most frequent label; and, with permutations,
    ``chance_mean`` and ``chance_sd``, mean and standard deviation (ddof 1) of the value over them.

    Examples
    --------
    >>> x = [[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [0.0, 1.0], [0.1, 1.0]]
    >>> knn_accuracy(x, ["a", "a", "b", "b", "b"], n_neighbors=1, n_permutations=0)
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
    if not (n_obs := int(counted.sum())):
        return float("nan"), 0, float("nan")
    labels = np.sort(codes[neighbours[counted]], axis=1)  # of several most frequent labels the smallest is taken
    votes = np.stack([(labels == labels[:, [j]]).sum(axis=1) for j in range(labels.shape[1])], axis=1)
    right = labels[np.arange(n_obs), votes.argmax(axis=1)] == codes[counted]
    return float(right.mean()), n_obs, float(np.bincount(codes[counted]).max() / n_obs)


def average_precision(
    x: ArrayLike, codes: ArrayLike, batch: ArrayLike | None = None, site: ArrayLike | None = None
) -> tuple[np.ndarray, np.ndarray]:
    r"""Measure for each row how well its cosines rank the other rows of its group before all others.

    Source, as a measure of replicates: Kalinin et al. 2025, DOI 10.1038/s41467-025-60306-2.

    Parameters
    ----------
    x
        Embedding, shape (n, d).
    codes
        Group of each row, such as its perturbation: integers from 0, shape (n,).
    batch
        Batch of each row; then only rows of other batches are candidates. Without batches the candidates are all rows
        but the row itself.
    site
        Site of each row, such as its well position; then rows of its own site are no candidates either.

    Returns
    -------
    The average precision of each row, shape (n,), as :func:`sklearn.metrics.average_precision_score` defines it, also
    for ties; and its expectation for a random ranking. With :math:`P` relevant rows among :math:`M` candidates and
    :math:`H_M = \sum_{k=1}^M 1/k`, this is :math:`(H_M + (M - H_M)(P - 1)/(M - 1)) / M`. Both are NaN for rows whose
    group has no candidate.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0]])
    >>> value, chance = average_precision(x, np.array([0, 0, 1, 1]))
    >>> value.round(3).tolist(), chance.round(3).tolist()
    ([1.0, 0.5, 0.333, 1.0], [0.611, 0.611, 0.611, 0.611])
    """
    unit = normalise(read_embedding(x).astype(np.float64, copy=False))
    codes, rows = read_codes(codes, len(unit)), np.arange(len(unit))
    sites = rows if site is None else read_labels(site, len(unit), "site")[0]  # each row is a site of its own
    value, chance = np.full((2, len(unit)), np.nan)
    for inside, candidates in split_candidates(batch, len(unit)):
        value[inside], chance[inside] = _rank(unit, codes, sites, inside, candidates)
    return value, chance


def split_candidates(batch: ArrayLike | None, n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the rows of each batch and those of all others; without batches all rows, twice."""
    rows = np.arange(n)
    if batch is None:
        yield rows, rows
        return
    fold, names = read_labels(batch, n, "batch")
    for code in range(len(names)):
        yield rows[fold == code], rows[fold != code]


def chance_precision(n_relevant: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return the expected average precision of a random ranking of ``n`` candidates, some of them relevant."""
    harmonic = np.append(0, np.cumsum(1 / np.arange(1, n.max(initial=0) + 1)))[n]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (harmonic + (n - harmonic) * (n_relevant - 1) / np.maximum(n - 1, 1)) / n


def _rank(
    unit: np.ndarray, codes: np.ndarray, sites: np.ndarray, queries: np.ndarray, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the average precision of the queries, and its expectation; a row of its own site is no candidate."""
    candidates = candidates[np.argsort(codes[candidates], kind="stable")]  # a group is a stretch of columns
    first, last = _find_stretch(codes[candidates], codes[queries])
    by_site = np.argsort(sites[candidates], kind="stable")
    start, stop = _find_stretch(sites[candidates][by_site], sites[queries])
    both = np.unique(np.column_stack([sites, codes]), axis=0, return_inverse=True)[1].ravel()
    here = np.subtract(*_find_stretch(np.sort(both[candidates]), both[queries])[::-1])  # of the site and the group
    in_group, n_relevant = last - first, last - first - here
    value, among = np.full(queries.size, np.nan), unit[candidates].T
    order = np.lexsort([in_group, n_relevant])
    order = order[n_relevant[order] > 0]
    # queries with as many relevant rows are ranked together
    ends = np.flatnonzero(np.diff(in_group[order]) | np.diff(n_relevant[order])) + 1
    for alike in np.split(order, ends) if order.size else []:
        for block in row_blocks(alike.size, rows_at_once(BLOCK, candidates.size)):
            rows = alike[block]
            cosine = unit[queries[rows]] @ among
            n_own = stop[rows] - start[rows]
            place = np.arange(n_own.sum()) + np.repeat(start[rows] - n_own.cumsum() + n_own, n_own)
            cosine[np.repeat(np.arange(rows.size), n_own), by_site[place]] = -np.inf
            group = np.take_along_axis(cosine, first[rows, None] + np.arange(in_group[rows[0]]), axis=1)
            relevant = np.sort(group, axis=1)[:, here[rows[0]] :] - TOLERANCE
            value[rows] = _average_precision(cosine, relevant)
    chance = chance_precision(n_relevant, candidates.size - (stop - start))
    return value, np.where(n_relevant > 0, chance, np.nan)


def _find_stretch(ascending: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the stretch of each value begins and ends."""
    return np.searchsorted(ascending, values, side="left"), np.searchsorted(ascending, values, side="right")


def _average_precision(cosine: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Return the average precision of rankings (n, m), where ``relevant`` cosines (n, p) are given in ascending order.

    They are less by the tolerance, so that what ties with one of them reaches it.
    """
    ranked = cosine if relevant.shape[1] <= COMPARED else np.sort(cosine, axis=1)
    n_before = cosine.shape[1] - _count_smaller(ranked, relevant)
    n_relevant_before = relevant.shape[1] - _count_smaller(relevant, relevant - TOLERANCE)
    return (n_relevant_before / n_before).mean(axis=1)


def _count_smaller(ranked: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return how many of a row (n, m), in ascending order, are smaller than each value of the same row (n, p).

    Of few values the order does not matter.
    """
    if values.shape[1] <= COMPARED:
        return np.stack([np.count_nonzero(ranked < one[:, None], axis=1) for one in values.T], axis=1)
    return np.stack([np.searchsorted(row, sought) for row, sought in zip(ranked, values, strict=True)])


def retrieval(query: Array, candidates: Array, target: Array, *, ks: Collection[int] = (1, 5, 10)) -> dict[str, float]:
    """Measure how high the right candidate ranks by cosine for each query, such as the image of a perturbation.

    The rank of the right candidate is the number of better candidates plus half the number of those that tie with
    it; cosines within a few rounding errors of each other tie (1e-6 in float32, 1e-12 in float64). NumPy arrays and
    torch tensors both work; tensors stay on their device. Half precision is computed in float32.

    Parameters
    ----------
    query, candidates
        Embeddings that ask, shape (n, d), and those among which the answer is, shape (K, d), K at least 2.
    target
        Index of the right candidate of each query, integers, shape (n,).
    ks
        The k of recall at k, each at least 1.

    Returns
    -------
    ``mean_rank_percentile``, the mean of rank / (K − 1): 0 at best, 0.5 by chance, 1 at worst; and ``recall_at_k`` for
    each k, the fraction of queries whose right candidate is among the first k, or the share of the orders of tied
    candidates that puts it there; k / K is chance.

    Examples
    --------
    >>> retrieval(np.eye(4)[:2], np.eye(4), np.array([0, 2]), ks=(1,))
    {'mean_rank_percentile': 0.3333333333333333, 'recall_at_1': 0.5}
    """
    xp = array_namespace(query, candidates)
    target = xp.asarray(target, device=device(query))
    dtype = xp.float64 if xp.result_type(query, candidates) == xp.float64 else xp.float32
    _check(xp, query, candidates, target, ks, dtype)
    n, n_candidates = query.shape[0], candidates.shape[0]
    tolerance = 1e-12 if dtype == xp.float64 else 1e-6

    unit = normalise(xp.astype(candidates, dtype, copy=False))
    twice_ranks, hits = 0, dict.fromkeys(ks, 0.0)
    for rows in row_blocks(n, rows_at_once(BLOCK, n_candidates)):
        cosine = normalise(xp.astype(query[rows], dtype, copy=False)) @ unit.T
        right = cosine[xp.arange(cosine.shape[0], device=device(query)), target[rows]][:, None]
        better = xp.sum(cosine > right + tolerance, axis=1, dtype=xp.int64)
        tied = xp.sum(cosine >= right - tolerance, axis=1, dtype=xp.int64) - better  # the right one among them
        twice_ranks += int(xp.sum(2 * better + tied - 1))
        for k in hits:
            share = xp.astype(k - better, dtype) / xp.astype(tied, dtype)
            hits[k] += float(xp.sum(xp.clip(share, 0.0, 1.0)))
    percentile = twice_ranks / (2 * n * (n_candidates - 1))
    return {"mean_rank_percentile": percentile, **{f"recall_at_{k}": hit / n for k, hit in hits.items()}}


def _check(xp: Any, query: Array, candidates: Array, target: Array, ks: Collection[int], dtype: Any) -> None:
    for name, x, least in (("query", query, 1), ("candidates", candidates, 2)):
        if x.ndim != 2:
            raise WrongShape(name, tuple(x.shape), "(n, d), rows of an embedding")
        if x.shape[0] < least:
            raise TooFew(f"rows in {name}", x.shape[0], least)
    if query.shape[1] != candidates.shape[1]:
        raise Mismatch("the width of candidates", candidates.shape[1], query.shape[1])
    if not xp.isdtype(target.dtype, "integral"):
        raise WrongDtype("target", target.dtype, "integers, rows of candidates")
    if tuple(target.shape) != (query.shape[0],):
        raise WrongShape("target", tuple(target.shape), f"({query.shape[0]},), one candidate per query")
    ends = int(xp.min(target)), int(xp.max(target))
    if ends[0] < 0 or ends[1] >= candidates.shape[0]:
        raise BadValue("target", ends, f"from 0 to {candidates.shape[0] - 1}, rows of candidates")
    if not isinstance(ks, Collection) or isinstance(ks, str):
        raise WrongType("ks", type(ks), "a list of numbers, such as (1, 5, 10)")
    if any(k < 1 for k in ks):
        raise BadValue("ks", tuple(ks), "at least 1 each")
    for name, x in (("query", query), ("candidates", candidates)):
        # one number that is finite only if all are: no temporary of the array's size
        if not bool(xp.isfinite(xp.sum(x, dtype=dtype))):
            raise NotFinite(name, xp.nonzero(~xp.all(xp.isfinite(x), axis=1))[0].tolist())
