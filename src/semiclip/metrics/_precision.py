from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._checks import finite_rows
from semiclip.metrics._cosine import normalise
from semiclip.metrics._matrices import coded, vectors

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

BLOCK = 1 << 22  # cosines that exist at a time
TOLERANCE = 1e-12  # cosines that differ by less tie


def average_precision(x: ArrayLike, codes: ArrayLike, batch: ArrayLike | None = None) -> tuple[np.ndarray, np.ndarray]:
    r"""Measure for each row how well its cosines rank the other rows of its group before all others.

    Parameters
    ----------
    x
        Embedding, shape (n, d).
    codes
        Group of each row, such as its perturbation: integers from 0, shape (n,).
    batch
        Batch of each row; then the candidates of a row are the rows of other batches alone. Without it they are all
        rows but itself.

    Returns
    -------
    The average precision of each row, shape (n,), as :func:`sklearn.metrics.average_precision_score` defines it, also
    for ties; and its expectation for a random ranking. Both are NaN for rows whose group has no candidate.

    Raises
    ------
    TypeError
        If ``x`` is sparse or holds no real numbers.
    ValueError
        If lengths differ, values are not finite, or a row has no batch.

    Notes
    -----
    With :math:`P` relevant rows among :math:`M` candidates and :math:`H_M = \sum_{k=1}^M 1/k`, a random ranking has
    the expectation :math:`(H_M + (M - H_M)(P - 1)/(M - 1)) / M`. Memory is bounded: rows are taken in blocks.

    References
    ----------
    Kalinin et al. 2025, DOI 10.1038/s41467-025-60306-2, on average precision as a measure of replicates.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0]])
    >>> value, chance = average_precision(x, np.array([0, 0, 1, 1]))
    >>> value.round(3).tolist(), chance.round(3).tolist()
    ([1.0, 0.5, 0.333, 1.0], [0.611, 0.611, 0.611, 0.611])
    """
    x, codes = vectors(x), np.asarray(codes)
    if x.ndim != 2 or codes.shape != x.shape[:1] or (batch is not None and np.shape(batch) != codes.shape):
        shapes = f"{x.shape}, codes {codes.shape}" + ("" if batch is None else f" and batch {np.shape(batch)}")
        msg = f"x has shape {shapes}; rows of an embedding and one group and batch per row are needed"
        raise ValueError(msg)
    finite_rows(x, pd.RangeIndex(len(x)), "x")
    unit = normalise(x.astype(np.float64, copy=False))
    value, chance = np.full(len(x), np.nan), np.full(len(x), np.nan)
    everything = np.arange(len(x))
    if batch is None:
        _rank(unit, codes, everything, everything, value, chance)
    else:
        of_batch, names = coded(batch, len(x), "batch")
        for code in range(len(names)):
            own = of_batch == code
            _rank(unit, codes, everything[own], everything[~own], value, chance)
    return value, chance


def _rank(
    unit: np.ndarray,
    codes: np.ndarray,
    queries: np.ndarray,
    candidates: np.ndarray,
    value: np.ndarray,
    chance: np.ndarray,
) -> None:
    """Fill in the average precision of the queries, and its expectation; no query is its own candidate."""
    candidates = candidates[np.argsort(codes[candidates], kind="stable")]  # a group is a stretch of columns
    first, last = (np.searchsorted(codes[candidates], codes[queries], side=side) for side in ("left", "right"))
    place = np.full(len(unit), -1)
    place[candidates] = np.arange(candidates.size)
    own = place[queries]  # the column of the query itself, or -1
    n_relevant, n_candidates = last - first - (own >= 0), candidates.size - (own >= 0)
    asked = n_relevant > 0
    queries, first, last, own = queries[asked], first[asked], last[asked], own[asked]
    if not queries.size:
        return
    chance[queries] = _expected(n_relevant[asked], int(n_candidates[0]))
    among = unit[candidates].T
    size = max(1, BLOCK // candidates.size)
    for start in range(0, queries.size, size):
        cosines = unit[queries[start : start + size]] @ among
        for i, cosine in enumerate(cosines, start):
            if own[i] >= 0:
                cosine[own[i]] = -np.inf
            relevant = np.sort(cosine[first[i] : last[i]])[int(own[i] >= 0) :] - TOLERANCE
            # how many of the relevant cosines each candidate reaches, then how many candidates reach each of these
            reached = np.bincount(np.searchsorted(relevant, cosine, side="right"), minlength=relevant.size + 1)
            n_before = reached[::-1].cumsum()[-2::-1]
            n_found = relevant.size - np.searchsorted(relevant, relevant - TOLERANCE, side="left")
            value[queries[i]] = np.mean(n_found / n_before)


def _expected(n_relevant: np.ndarray, n_candidates: int) -> np.ndarray:
    harmonic = (1 / np.arange(1, n_candidates + 1)).sum()
    return (harmonic + (n_candidates - harmonic) * (n_relevant - 1) / max(n_candidates - 1, 1)) / n_candidates
