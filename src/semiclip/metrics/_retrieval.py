from collections.abc import Collection
from typing import Any

from array_api_compat import array_namespace, device

from semiclip._numerics import row_blocks, rows_at_once
from semiclip.errors import BadValue, Mismatch, NotFinite, TooFew, WrongDtype, WrongShape, WrongType
from semiclip.metrics._matrices import Array, normalise

BLOCK = 1 << 22  # cosines that exist at a time


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
    >>> import numpy as np
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
