import numpy as np
from numpy.typing import ArrayLike

from semiclip._numerics import row_blocks, rows_at_once
from semiclip.metrics._cosine import normalise
from semiclip.metrics._matrices import read_codes, read_embedding, read_labels

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
        Batch of each row; then only rows of other batches are candidates. Without batches the candidates are all rows
        but the row itself.

    Returns
    -------
    The average precision of each row, shape (n,), as :func:`sklearn.metrics.average_precision_score` defines it, also
    for ties; and its expectation for a random ranking. Both are NaN for rows whose group has no candidate.

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
    x = read_embedding(x)
    codes = read_codes(codes, len(x))
    unit = normalise(x.astype(np.float64, copy=False))
    value, chance = np.full(len(x), np.nan), np.full(len(x), np.nan)
    rows = np.arange(len(x))
    if batch is None:
        _rank(unit, codes, rows, rows, value, chance)
    else:
        fold, names = read_labels(batch, len(x), "batch")
        for code in range(len(names)):
            _rank(unit, codes, rows[fold == code], rows[fold != code], value, chance)
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
    column = place[queries]  # of the query itself, or -1
    n_relevant, n_candidates = last - first - (column >= 0), candidates.size - (column >= 0)
    ranked = n_relevant > 0
    queries, first, last, column = queries[ranked], first[ranked], last[ranked], column[ranked]
    if not queries.size:
        return
    chance[queries] = _expected(n_relevant[ranked], int(n_candidates[0]))
    among = unit[candidates].T
    for rows in row_blocks(queries.size, rows_at_once(BLOCK, candidates.size)):
        for i, cosine in enumerate(unit[queries[rows]] @ among, rows.start):
            if column[i] >= 0:
                cosine[column[i]] = -np.inf
            relevant = np.sort(cosine[first[i] : last[i]])[int(column[i] >= 0) :] - TOLERANCE
            # how many of the relevant cosines each candidate reaches, then how many candidates reach each of these
            reached = np.bincount(np.searchsorted(relevant, cosine, side="right"), minlength=relevant.size + 1)
            n_before = reached[::-1].cumsum()[-2::-1]
            n_relevant_before = relevant.size - np.searchsorted(relevant, relevant - TOLERANCE, side="left")
            value[queries[i]] = np.mean(n_relevant_before / n_before)


def _expected(n_relevant: np.ndarray, n_candidates: int) -> np.ndarray:
    harmonic = (1 / np.arange(1, n_candidates + 1)).sum()
    return (harmonic + (n_candidates - harmonic) * (n_relevant - 1) / max(n_candidates - 1, 1)) / n_candidates
