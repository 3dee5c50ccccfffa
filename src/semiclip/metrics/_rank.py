import numpy as np
from numpy.typing import ArrayLike


def rank_p_value(values: ArrayLike, null: ArrayLike, *, drawn: bool = False) -> np.ndarray:
    """Return the share of a null distribution that is at least as large as each value.

    Parameters
    ----------
    values
        Observed statistics, of any shape.
    null
        The same statistic without an effect; NaN is left out.
    drawn
        Whether the null was drawn at random. The value then counts as one more draw, so that no p-value is 0:
        (1 + #{null ≥ v}) / (1 + n) in place of #{null ≥ v} / n.

    Returns
    -------
    The p-values, of the shape of ``values``: NaN where the value is NaN, and everywhere if the null is empty.

    References
    ----------
    Phipson and Smyth 2010, DOI 10.2202/1544-6115.1585, for drawn nulls.

    Examples
    --------
    >>> rank_p_value([0.5, 2.0, 9.0], [1.0, 2.0, 3.0, 4.0]).tolist()
    [1.0, 0.75, 0.0]
    >>> rank_p_value([0.5, 2.0, 9.0], [1.0, 2.0, 3.0, 4.0], drawn=True).tolist()
    [1.0, 0.8, 0.2]
    """
    values, ranked = np.asarray(values, dtype=np.float64), np.ravel(np.asarray(null, dtype=np.float64))
    ranked = np.sort(ranked[~np.isnan(ranked)])
    if not ranked.size:
        return np.full(values.shape, np.nan)
    at_least = ranked.size - np.searchsorted(ranked, values, side="left")
    return np.where(np.isnan(values), np.nan, (at_least + drawn) / (ranked.size + drawn))
