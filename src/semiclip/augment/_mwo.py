from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from semiclip.augment._protocol import check_fitted

if TYPE_CHECKING:
    from semiclip.augment._protocol import Expression

logger = logging.getLogger(__name__)


class MWO:
    """Mix each sample with others of its perturbation: an interpretation, since what "MWO" means could not be verified.

    Of the article that the name is from only the abstract could be read, and no public code was found. It says that
    three ways to make artificial samples for a classifier are compared, not how. Here a drawn sample is a convex
    combination, in log space, of ``k`` samples of one perturbation. The sample itself is always one of them; the others
    are drawn uniformly, without replacement, from its own batch if that has another sample of the perturbation, else
    from any batch. Weights are Dirichlet(1), uniform over all convex combinations. Where fewer than ``k`` samples are
    there, all of them are mixed, so that the sample of a perturbation with no other stays as it is, with a warning.

    Parameters
    ----------
    k
        Samples that are mixed, the sample itself among them, at least 2.

    References
    ----------
    Kircher et al. 2022, DOI 10.3390/ijms23052481; named as a rival of PEA by Bendidi et al., ICML 2025, Figure 2b, DOI
    10.48550/arXiv.2505.21317.

    Examples
    --------
    Two of the three samples are of one perturbation; the third has nothing to be mixed with:

    >>> import numpy as np
    >>> import pandas as pd
    >>> from semiclip.augment import MWO, Expression
    >>> expression = Expression(
    ...     np.array([[0.0, 1.0], [2.0, 1.0], [5.0, 5.0]]),
    ...     group=np.array([0, 0, 1]),
    ...     batch=np.zeros(3, dtype=int),
    ...     genes=pd.Index(["ABCB1", "ACTB"]),
    ...     normalize=False,
    ... )
    >>> mwo = MWO().fit(expression, np.random.default_rng(0))
    >>> drawn = mwo.draw(np.arange(3), np.random.default_rng(0))
    >>> bool((0 < drawn[0, 0] < 2) and (0 < drawn[1, 0] < 2))
    True
    >>> drawn[2].tolist()
    [5.0, 5.0]
    """

    def __init__(self, *, k: int = 2) -> None:
        if k < 2:
            msg = f"k={k}, but a sample is mixed with at least one other; pass k=2 or more"
            raise ValueError(msg)
        self.k = k

    def fit(self, expression: Expression, rng: np.random.Generator) -> MWO:
        """Find the samples that each one can be mixed with; returns the augmentation itself.

        Raises
        ------
        ValueError
            If no sample has another of its perturbation; this augmentation is then as it was.
        """
        group, batch = expression.group, expression.batch
        order = np.lexsort((batch, group))
        first, size = _runs(group[order], batch[order])
        whole_first, whole_size = _runs(group[order])
        alone = size == 1
        first[alone], size[alone] = whole_first[alone], whole_size[alone]
        treated = group[order] >= 0
        size[~treated] = 1
        _check_partners(size[treated])
        self.order_ = order
        # where a sample is in this order, and where those begin that it can be mixed with, itself among them
        self.place_, self.first_, self.size_ = (np.empty_like(order) for _ in range(3))
        self.place_[order], self.first_[order], self.size_[order] = np.arange(len(order)), first, size
        self._expression = expression
        return self

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw a mixture for each of these rows, float32 of shape (len(rows), n_genes).

        Raises
        ------
        RuntimeError
            If this augmentation is not fitted.
        """
        check_fitted(self, "order_")
        rows = np.asarray(rows)
        others = self.size_[rows] - 1
        taken = _distinct(others, self.k - 1, rng)
        weights = rng.exponential(size=(len(rows), 1 + taken.shape[1]))
        weights[:, 1:][taken < 0] = 0
        weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        drawn = self._expression.read(rows) * weights[:, :1]
        own = self.place_[rows] - self.first_[rows]
        for i, other in enumerate(taken.T):
            there = np.flatnonzero(other >= 0)
            at = self.first_[rows[there]] + other[there] + (other[there] >= own[there])  # which steps over itself
            drawn[there] += self._expression.read(self.order_[at]) * weights[there, i + 1, None]
        return drawn


def _check_partners(size: np.ndarray) -> None:
    """Say how many samples have no other to be mixed with, and refuse it if all have none."""
    n, alone = len(size), np.count_nonzero(size == 1)
    if not alone:
        return
    if alone == n:
        msg = (
            f"none of the {n} sample(s) with a perturbation has another of the same to be mixed with; pair on fewer "
            "columns (pair_on=), so that more samples share a key, or choose another augmentation"
        )
        raise ValueError(msg)
    logger.warning(
        "%d of the %d samples with a perturbation have no other of the same to be mixed with, so they stay as they are",
        alone,
        n,
    )


def _runs(*sorted_codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the run of equal codes begins that each entry is in, and how long it is."""
    new = np.ones(len(sorted_codes[0]), dtype=bool)
    new[1:] = np.any([code[1:] != code[:-1] for code in sorted_codes], axis=0)
    starts, run = np.flatnonzero(new), np.cumsum(new) - 1
    sizes = np.diff(starts, append=len(new))
    return starts[run], sizes[run]


def _distinct(n: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Draw up to ``k`` distinct numbers below each entry of ``n``, shape (len(n), at most k); -1 where ``n`` is fewer.

    This is Floyd's algorithm (Bentley and Floyd 1987, DOI 10.1145/30401.315746), of which each step serves all entries.
    """
    k = min(k, int(n.max(initial=0)))
    taken = np.full((len(n), k), -1)
    steps = np.minimum(n, k)
    for i in range(k):
        going = np.flatnonzero(steps > i)
        last = n[going] - steps[going] + i
        drawn = rng.integers(last + 1)
        known = (taken[going, :i] == drawn[:, None]).any(axis=1)
        taken[going, i] = np.where(known, last, drawn)
    return taken
