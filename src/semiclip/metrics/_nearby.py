"""How well positions rank the rows of a group, where many of them are equally far."""

import numpy as np
from numpy.typing import ArrayLike

from semiclip.metrics._matrices import read_codes
from semiclip.metrics._neighbours import chance_precision, split_candidates


def nearby_precision(
    position: np.ndarray, codes: ArrayLike, batch: ArrayLike | None = None, *, apart: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Measure the average precision of rankings by distance between positions (n, 2), whole numbers.

    It means what that of :func:`semiclip.metrics.average_precision` does, but for ties: on a grid most candidates tie,
    so that the value is the mean over all orders of those that do, and is ``chance`` where positions mean nothing. With
    ``apart``, rows at the same position are no candidates.

    >>> value, chance = nearby_precision(np.array([[0, 0], [0, 1], [0, 4], [3, 0]]), np.array([0, 0, 1, 1]))
    >>> value.round(3).tolist()
    [1.0, 1.0, 0.333, 0.333]
    """
    codes, n = read_codes(codes, len(position)), len(position)
    places, place = np.unique(position, axis=0, return_inverse=True)
    place = place.ravel()  # a column in NumPy 2.0
    squares = ((places[:, None] - places) ** 2).sum(axis=2)  # squared distances of all places
    value, n_relevant, n_candidates = np.full(n, np.nan), np.zeros(n, dtype=np.intp), np.zeros(n, dtype=np.intp)
    harmonic = np.append(0, np.cumsum(1 / np.arange(1, n + 1)))
    for queries, candidates in split_candidates(batch, n):
        candidates = candidates[np.argsort(codes[candidates], kind="stable")]  # a group is a stretch
        first, last = (np.searchsorted(codes[candidates], codes[queries], side=side) for side in ("left", "right"))
        held, at = np.bincount(place[candidates], minlength=len(places)), place[candidates]
        for i, start, stop in zip(queries.tolist(), first.tolist(), last.tolist(), strict=True):
            distances = squares[place[i]]
            n_tied = np.bincount(distances, weights=held).astype(np.intp)
            relevant = np.bincount(distances[at[start:stop]], minlength=len(n_tied))
            if batch is None:  # the query itself
                n_tied[0], relevant[0] = n_tied[0] - 1, relevant[0] - 1
            if apart:
                n_tied[0] = relevant[0] = 0
            n_candidates[i], n_relevant[i] = n_tied.sum(), relevant.sum()
            if n_relevant[i]:
                value[i] = _average_ties(n_tied, relevant, harmonic)
    chance = chance_precision(n_relevant, n_candidates)
    return value, np.where(n_relevant > 0, chance, np.nan)


def _average_ties(n_tied: np.ndarray, n_relevant: np.ndarray, harmonic: np.ndarray) -> float:
    """Return the average precision, the mean over the orders of those that tie, of counts at each distance."""
    held = np.flatnonzero(n_relevant)
    before = np.cumsum(n_tied)[held] - n_tied[held]
    relevant_before = np.cumsum(n_relevant)[held] - n_relevant[held]
    n, r = n_tied[held], n_relevant[held]
    # at place j of n that tie, a relevant one stands with probability r / n, and then on average
    # (r - 1) (j - 1) / (n - 1) others before it: sums over j of 1 / (before + j) and (j - 1) / (before + j)
    inverse = harmonic[before + n] - harmonic[before]
    climbing = n - (before + 1) * inverse
    precision = (relevant_before + 1) * inverse + (r - 1) / np.maximum(n - 1, 1) * climbing
    return float((r / n * precision).sum() / r.sum())
