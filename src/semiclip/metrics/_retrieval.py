from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from array_api_compat import array_namespace, device

from semiclip.metrics._cosine import normalise

if TYPE_CHECKING:
    Array = Any  # a NumPy array or a torch tensor

BLOCK = 1 << 22  # cosines that exist at a time


def retrieval(query: Array, candidates: Array, target: Array, *, ks: Collection[int] = (1, 5, 10)) -> dict[str, float]:
    """Measure how high the right candidate ranks by cosine for each query, such as the image of a perturbation.

    The rank of the right candidate is the number of better candidates plus half the number of those that tie with
    it. NumPy arrays and torch tensors both work; tensors stay on their device.

    Parameters
    ----------
    query
        Embeddings that ask, shape (n, d).
    candidates
        Embeddings among which the answer is, shape (K, d), K at least 2.
    target
        Index of the right candidate of each query, integers, shape (n,).
    ks
        The k of recall at k.

    Returns
    -------
    ``mean_rank_percentile``, the mean of rank / (K − 1): 0 at best, 0.5 by chance, 1 at worst; and ``recall_at_k``
    for each k, the fraction of queries whose right candidate is among the first k (with ties: the share of their
    orders that puts it there, so that k / K is chance).

    Raises
    ------
    TypeError
        If ``target`` does not hold integers, or ``ks`` is no sequence.
    ValueError
        If there is no query, fewer than two candidates, a target that is no candidate, widths or lengths that
        differ, NaN or infinity, or a k below 1.

    Notes
    -----
    Cosines within a few rounding errors of each other tie (1e-6 in float32, 1e-12 in float64). Half precision is
    computed in float32. Memory is bounded: queries are taken in blocks.

    Examples
    --------
    >>> import numpy as np
    >>> candidates = np.eye(4)
    >>> retrieval(candidates[:2], candidates, np.array([0, 2]), ks=(1,))
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
    size = max(1, BLOCK // n_candidates)
    for start in range(0, n, size):
        cosine = normalise(xp.astype(query[start : start + size], dtype, copy=False)) @ unit.T
        rows = xp.arange(cosine.shape[0], device=device(query))
        right = cosine[rows, target[start : start + size]][:, None]
        better = xp.sum(cosine > right + tolerance, axis=1, dtype=xp.int64)
        tied = xp.sum(cosine >= right - tolerance, axis=1, dtype=xp.int64) - better  # the right one among them
        twice_ranks += int(xp.sum(2 * better + tied - 1))
        for k in hits:
            share = xp.astype(k - better, dtype) / xp.astype(tied, dtype)
            hits[k] += float(xp.sum(xp.clip(share, 0.0, 1.0)))
    percentile = twice_ranks / (2 * n * (n_candidates - 1))
    return {"mean_rank_percentile": percentile, **{f"recall_at_{k}": hit / n for k, hit in hits.items()}}


def _check(xp: Any, query: Array, candidates: Array, target: Array, ks: Collection[int], dtype: Any) -> None:
    if query.ndim != 2 or candidates.ndim != 2 or query.shape[1] != candidates.shape[1]:
        msg = (
            f"query has shape {tuple(query.shape)} and candidates {tuple(candidates.shape)}; "
            "both need rows of the same width, in one space"
        )
        raise ValueError(msg)
    if query.shape[0] == 0 or candidates.shape[0] < 2:
        msg = f"{query.shape[0]} queries and {candidates.shape[0]} candidates; ranking needs at least 1 and 2"
        raise ValueError(msg)
    if not xp.isdtype(target.dtype, "integral"):
        msg = f"target holds {target.dtype}, not integers; it is the row of the right candidate in candidates"
        raise TypeError(msg)
    if tuple(target.shape) != (query.shape[0],):
        msg = f"target has shape {tuple(target.shape)} for {query.shape[0]} queries; one candidate per query is needed"
        raise ValueError(msg)
    if int(xp.min(target)) < 0 or int(xp.max(target)) >= candidates.shape[0]:
        bounds = f"{int(xp.min(target))} to {int(xp.max(target))}"
        msg = f"target runs from {bounds}, but candidates has rows 0 to {candidates.shape[0] - 1}"
        raise ValueError(msg)
    if not isinstance(ks, Collection) or isinstance(ks, str):
        msg = f"ks={ks!r} is not a list of numbers; pass a list or a tuple, such as (1, 5, 10)"
        raise TypeError(msg)
    if bad := [k for k in ks if k < 1]:
        msg = f"ks={tuple(ks)} has {bad[0]}; the first k candidates are at least one"
        raise ValueError(msg)
    for name, x in (("query", query), ("candidates", candidates)):
        # one number that is finite only if all are: no temporary of the array's size
        if not bool(xp.isfinite(xp.sum(x, dtype=dtype))):
            msg = f"{name} holds NaN or infinite values; drop or mend these rows first"
            raise ValueError(msg)
