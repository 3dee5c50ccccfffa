from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from semiclip._arguments import check_choice, check_whole
from semiclip.errors import Mismatch, NotFinite, WrongShape

Alternative = Literal["two-sided", "greater", "less"]

DIGITS = 12  # differences of figures that agree to so many digits are rounding errors of the same difference
EXACT = 50  # pairs up to which the test is exact


def paired_wilcoxon(a: ArrayLike, b: ArrayLike | None = None, *, alternative: Alternative = "two-sided") -> float:
    """Return the p-value of a Wilcoxon signed-rank test of paired figures, such as two methods under the same seeds.

    Parameters
    ----------
    a, b
        Figures to compare, pair by pair, shape (n,). Without ``b``, ``a`` holds the differences themselves.
    alternative
        ``"two-sided"``: the differences a − b lie off zero; ``"greater"``: above; ``"less"``: below.

    Returns
    -------
    The p-value; 1 if no pair differs.

    Notes
    -----
    Pairs without a difference are left out (``zero_method="wilcox"`` of :func:`scipy.stats.wilcoxon`), and differences
    that are equal but for rounding share their ranks. Up to 50 pairs the p-value is exact. That holds for shared ranks
    too, which are frequent where scores are shares of counts; scipy approximates some of these cases. Beyond 50 pairs
    the p-value is scipy's normal approximation.

    References
    ----------
    Wilcoxon, Biometrics Bulletin 1945, DOI 10.2307/3001968; used in Table 1 of Bendidi et al., ICML 2025,
    DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> paired_wilcoxon([0.52, 0.55, 0.51, 0.58, 0.54, 0.57], [0.50, 0.52, 0.50, 0.53, 0.53, 0.51])
    0.03125
    """
    check_choice("alternative", alternative, Alternative)
    figures = np.asarray(a, dtype=float)[None]
    if b is not None:
        others = np.asarray(b, dtype=float)[None]
        if others.shape != figures.shape:
            raise Mismatch("the shape of b", others.shape[1:], figures.shape[1:])
        figures = np.concatenate([figures, others])
    if figures.ndim != 2 or figures.shape[1] == 0:
        raise WrongShape("a", figures.shape[1:], "(n,), one figure per pair")
    if (bad := np.flatnonzero(~np.isfinite(figures).all(axis=0))).size:
        raise NotFinite("pairs of figures", bad.tolist(), "drop these pairs")
    size = np.abs(figures).max()
    if size == 0:
        return 1.0
    differences = figures[0] if b is None else figures[0] - figures[1]
    differences = differences.round(min(DIGITS - int(np.ceil(np.log10(size))), 300))
    differences = differences[differences != 0]
    if not differences.size:
        return 1.0
    if differences.size > EXACT:
        from scipy.stats import wilcoxon

        return float(wilcoxon(differences, alternative=alternative).pvalue)
    return _exact(differences, alternative)


def smallest_p(n: int, alternative: Alternative = "two-sided") -> float:
    """Return the smallest p-value that a signed-rank test of ``n`` pairs can reach, when all differ in one direction.

    Parameters
    ----------
    n
        Number of pairs.
    alternative
        ``"two-sided"``, ``"greater"`` or ``"less"``.

    Returns
    -------
    2 / 2ⁿ for two sides, 1 / 2ⁿ for one, and 1 without a pair.

    Examples
    --------
    Five seeds cannot reach 0.05, six can:

    >>> smallest_p(5), smallest_p(6)
    (0.0625, 0.03125)
    """
    check_choice("alternative", alternative, Alternative)
    check_whole("n", n, 0)
    return min(1.0, (1 + (alternative == "two-sided")) * 0.5**n)


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
