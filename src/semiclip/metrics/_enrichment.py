from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from semiclip._checks import some

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def over_representation(
    n_overlap: ArrayLike, n_region: ArrayLike, n_set: ArrayLike, n_background: ArrayLike
) -> np.ndarray:
    r"""Return how probable an overlap at least this large is if the region is drawn at random (Fisher's exact test).

    With :math:`x` of the :math:`n` drawn items in a set of :math:`K` among :math:`N`,

    .. math:: p = \sum_{i \ge x} \binom{K}{i} \binom{N - K}{n - i} \Big/ \binom{N}{n} .

    Parameters
    ----------
    n_overlap
        Items of the region in the set, :math:`x`. All four broadcast.
    n_region
        Items of the region, :math:`n`.
    n_set
        Items of the background in the set, :math:`K`.
    n_background
        Items of the background, :math:`N`, which holds the region and the set.

    Returns
    -------
    One-sided p-values, not adjusted.

    Raises
    ------
    TypeError
        If a count is not an integer.
    ValueError
        If no region and set of these sizes have this overlap.

    References
    ----------
    Fisher, Journal of the Royal Statistical Society 1922, DOI 10.2307/2340521. It is the test that Table 3 of Bendidi
    et al., ICML 2025, DOI 10.48550/arXiv.2505.21317, agrees with.

    Examples
    --------
    >>> over_representation([2, 1], 3, [3, 4], 12).round(3)
    array([0.127, 0.745])
    """
    counts = np.broadcast_arrays(*(np.asarray(count) for count in (n_overlap, n_region, n_set, n_background)))
    if wrong := [str(count.dtype) for count in counts if count.dtype.kind not in "iu"]:
        msg = f"counts must be integers, not {some(wrong)}"
        raise TypeError(msg)
    x, n, k, total = (count.astype(np.int64) for count in counts)
    impossible = (x < 0) | (x > np.minimum(n, k)) | (np.maximum(n, k) > total) | (x < n + k - total)
    if impossible.any():
        shown = some(zip(*(count[impossible].tolist() for count in (x, n, k, total)), strict=True))
        msg = f"no overlap, region, set and background can have these sizes: {shown}; count each item once"
        raise ValueError(msg)
    from scipy.stats import hypergeom

    # the sum of all probabilities may exceed one by rounding
    return np.clip(hypergeom.sf(x - 1, total, k, n), 0, 1)
