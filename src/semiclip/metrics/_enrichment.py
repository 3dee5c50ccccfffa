import numpy as np
from numpy.typing import ArrayLike

from semiclip.errors import Refused, WrongDtype


def over_representation(
    n_overlap: ArrayLike, n_region: ArrayLike, n_set: ArrayLike, n_background: ArrayLike
) -> np.ndarray:
    r"""Return how probable an overlap at least this large is if the region is drawn at random (Fisher's exact test).

    With :math:`x` of the :math:`n` drawn items in a set of :math:`K` among :math:`N`,

    .. math:: p = \sum_{i \ge x} \binom{K}{i} \binom{N - K}{n - i} \Big/ \binom{N}{n} .

    Parameters
    ----------
    n_overlap, n_region
        Items of the region in the set, :math:`x`, and of the region, :math:`n`. All four numbers broadcast.
    n_set, n_background
        Items of the set, :math:`K`, and of the background, :math:`N`, which holds the region and the set.

    Returns
    -------
    One-sided p-values, not adjusted.

    References
    ----------
    Fisher, Journal of the Royal Statistical Society 1922, DOI 10.2307/2340521. Table 3 of Bendidi et al., ICML 2025,
    DOI 10.48550/arXiv.2505.21317, agrees with this test.

    Examples
    --------
    >>> over_representation([2, 1], 3, [3, 4], 12).round(3)
    array([0.127, 0.745])
    """
    counts = np.broadcast_arrays(*(np.asarray(count) for count in (n_overlap, n_region, n_set, n_background)))
    for count in counts:
        if count.dtype.kind not in "iu":
            raise WrongDtype("counts", count.dtype, "integers")
    x, n, k, total = (count.astype(np.int64) for count in counts)
    impossible = (x < 0) | (x > np.minimum(n, k)) | (np.maximum(n, k) > total) | (x < n + k - total)
    if impossible.any():
        rows = list(zip(*(count[impossible].tolist() for count in (x, n, k, total)), strict=True))
        raise Refused("no overlap, region, set and background have these sizes", rows, "count each item once")
    from scipy.stats import hypergeom

    # the sum of all probabilities may exceed one by rounding
    return np.clip(hypergeom.sf(x - 1, total, k, n), 0, 1)
