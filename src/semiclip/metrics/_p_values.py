from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from semiclip._arguments import check_choice, check_whole
from semiclip.errors import Mismatch, NotFinite, Refused, WrongDtype, WrongShape

Alternative = Literal["two-sided", "greater", "less"]

DIGITS = 12  # differences of figures that agree to so many digits are rounding errors of the same difference
EXACT = 50  # pairs up to which the signed-rank test is exact


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
        (1 + #{null ≥ v}) / (1 + n) in place of #{null ≥ v} / n (Phipson and Smyth 2010, DOI 10.2202/1544-6115.1585).

    Returns
    -------
    The p-values, of the shape of ``values``: NaN where the value is NaN, and everywhere if the null is empty.

    Examples
    --------
    >>> rank_p_value([0.5, 2.0, 9.0], [1.0, 2.0, 3.0, 4.0], drawn=True).tolist()
    [1.0, 0.8, 0.2]
    """
    values, ranked = np.asarray(values, dtype=np.float64), np.ravel(np.asarray(null, dtype=np.float64))
    ranked = np.sort(ranked[~np.isnan(ranked)])
    if not ranked.size:
        return np.full(values.shape, np.nan)
    at_least = ranked.size - np.searchsorted(ranked, values, side="left")
    return np.where(np.isnan(values), np.nan, (at_least + drawn) / (ranked.size + drawn))


def over_representation(
    n_overlap: ArrayLike, n_region: ArrayLike, n_set: ArrayLike, n_background: ArrayLike
) -> np.ndarray:
    r"""Return how probable an overlap at least this large is if the region is drawn at random (Fisher's exact test).

    .. math:: p = \sum_{i \ge x} \frac{\binom{K}{i} \binom{N - K}{n - i}}{\binom{N}{n}} .

    Source: Fisher, Journal of the Royal Statistical Society 1922, DOI 10.2307/2340521. Table 3 of Bendidi et al., ICML
    2025, DOI 10.48550/arXiv.2505.21317, agrees with this test.

    Parameters
    ----------
    n_overlap, n_region, n_set, n_background
        Items of the region in the set, :math:`x`, of the region, :math:`n`, of the set, :math:`K`, and of the
        background, :math:`N`, which holds the region and the set. All four numbers broadcast.

    Returns
    -------
    One-sided p-values, not adjusted.

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


def paired_wilcoxon(a: ArrayLike, b: ArrayLike | None = None, *, alternative: Alternative = "two-sided") -> float:
    """Return the p-value of a Wilcoxon signed-rank test of paired figures, such as two methods under the same seeds.

    Pairs without a difference are left out (``zero_method="wilcox"`` of :func:`scipy.stats.wilcoxon`), and differences
    that are equal but for rounding share their ranks. Up to 50 pairs the p-value is exact, also for shared ranks, some
    cases of which scipy approximates. Beyond 50 pairs it is scipy's normal approximation. Source: Wilcoxon, Biometrics
    Bulletin 1945, DOI 10.2307/3001968; used in Table 1 of Bendidi et al., ICML 2025, DOI 10.48550/arXiv.2505.21317.

    Parameters
    ----------
    a, b
        Figures to compare, pair by pair, shape (n,). Without ``b``, ``a`` holds the differences themselves.
    alternative
        ``"two-sided"``: the differences a − b lie off zero; ``"greater"``: above; ``"less"``: below.

    Returns
    -------
    The p-value; 1 if no pair differs.

    Examples
    --------
    >>> paired_wilcoxon([0.52, 0.55, 0.51, 0.58, 0.54, 0.57], [0.50, 0.52, 0.50, 0.53, 0.53, 0.51])
    0.03125
    """
    check_choice("alternative", alternative, Alternative)
    a = np.asarray(a, dtype=float)
    b = np.zeros(a.shape) if b is None else np.asarray(b, dtype=float)
    if b.shape != a.shape:
        raise Mismatch("the shape of b", b.shape, a.shape)
    if a.ndim != 1 or not a.size:
        raise WrongShape("a", a.shape, "(n,), one figure per pair")
    if (bad := np.flatnonzero(~np.isfinite(a) | ~np.isfinite(b))).size:
        raise NotFinite("pairs of figures", bad.tolist(), "drop these pairs")
    size = max(np.abs(a).max(), np.abs(b).max()) or 1
    differences = (a - b).round(min(DIGITS - int(np.ceil(np.log10(size))), 300))
    differences = differences[differences != 0]
    if not differences.size:
        return 1.0
    if differences.size > EXACT:
        from scipy.stats import wilcoxon

        return float(wilcoxon(differences, alternative=alternative).pvalue)
    return _exact(differences, alternative)


def _exact(differences: np.ndarray, alternative: Alternative) -> float:
    """Count the choices of signs whose positive ranks sum to as much; ranks are doubled, so that halves are whole."""
    _, inverse, counts = np.unique(np.abs(differences), return_inverse=True, return_counts=True)
    ranks = (2 * counts.cumsum() - counts + 1)[inverse]
    ways = np.zeros(ranks.sum() + 1)
    ways[0] = 1
    for rank in ranks:
        ways[rank:] = ways[rank:] + ways[:-rank]
    total = ranks[differences > 0].sum()
    less, greater = ways[: total + 1].sum(), ways[total:].sum()
    count = {"less": less, "greater": greater, "two-sided": 2 * min(less, greater)}[alternative]
    return float(min(1.0, count / 2.0 ** len(ranks)))


def smallest_p(n: int, alternative: Alternative = "two-sided") -> float:
    """Return the smallest p-value that a signed-rank test of ``n`` pairs can reach, when all differ in one direction.

    Parameters
    ----------
    n, alternative
        Number of pairs, and the alternative as in :func:`paired_wilcoxon`.

    Returns
    -------
    2 / 2ⁿ for two sides, 1 / 2ⁿ for one, and 1 without a pair.

    Examples
    --------
    >>> smallest_p(5), smallest_p(6)  # five seeds cannot reach 0.05, six can
    (0.0625, 0.03125)
    """
    check_choice("alternative", alternative, Alternative)
    check_whole("n", n, 0)
    return min(1.0, (1 + (alternative == "two-sided")) * 0.5**n)
