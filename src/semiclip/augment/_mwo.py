from __future__ import annotations

import numpy as np

from semiclip._arguments import check_whole
from semiclip._messages import warn
from semiclip.augment._protocol import Expression, FittedDraws
from semiclip.errors import Refused


class MWO(FittedDraws):
    """Mix each sample with others of its perturbation: an interpretation, since what "MWO" means could not be verified.

    Bendidi et al. (ICML 2025, Figure 2b) name it as a rival of PEA. Only the abstract of the article that uses the name
    could be read (Kircher et al. 2022, DOI 10.3390/ijms23052481), which does not say how, and no public code was found.
    Here a drawn sample is a convex combination, in log space, of ``k`` samples of one perturbation, or of all if there
    are fewer. The sample itself is always one of them. The others are drawn uniformly, without replacement, from its
    own batch if that has another sample of the perturbation, else from any batch. Weights are Dirichlet(1), uniform
    over all convex combinations. A sample without another of its perturbation stays as it is, with a warning; data in
    which no sample has another are refused.

    Parameters
    ----------
    k
        Samples that are mixed, the sample itself among them, at least 2.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from semiclip.augment import Expression
    >>> rng, group, batch = np.random.default_rng(0), np.array([0, 0, -1]), np.zeros(3, int)
    >>> expression = Expression(np.diag([2.0, 4.0, 5.0]), group, batch, pd.Index(list("abc")), normalize=False)
    >>> (MWO().fit(expression, rng).draw(np.arange(3), rng) > 0).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    """

    def __init__(self, *, k: int = 2) -> None:
        check_whole("k", k, 2)
        self.k = k

    def _learn(self, expression: Expression, rng: np.random.Generator) -> None:
        group, batch = expression.group, expression.batch
        order = np.lexsort((batch, group))
        first, size = _runs(group[order], batch[order])
        whole_first, whole_size = _runs(group[order])
        single = size == 1
        first[single], size[single] = whole_first[single], whole_size[single]
        treated = group[order] >= 0
        size[~treated] = 1
        n, alone = np.count_nonzero(treated), np.count_nonzero(size[treated] == 1)
        if alone and alone == n:
            problem = f"none of the {n} sample(s) with a perturbation has another of the same to be mixed with"
            way_out = "pair on fewer columns (pair_on=), so that samples share a key, or choose another augmentation"
            raise Refused(problem, way_out=way_out)
        if alone:
            warn(f"{alone} of {n} samples with a perturbation have no other to be mixed with; they stay")
        self.order_ = order
        # the place of each sample in this order, and where those it can be mixed with begin, itself among them
        self.place_, self.first_, self.size_ = (np.empty_like(order) for _ in range(3))
        self.place_[order], self.first_[order], self.size_[order] = np.arange(len(order)), first, size

    def _change(self, drawn: np.ndarray, rows: np.ndarray, treated: np.ndarray, rng: np.random.Generator) -> None:
        partners = _distinct(self.size_[rows] - 1, self.k - 1, rng)
        weights = rng.exponential(size=(len(rows), 1 + partners.shape[1]))
        weights[:, 1:][partners < 0] = 0
        weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        drawn *= weights[:, :1]
        own_place = self.place_[rows] - self.first_[rows]
        for i, partner in enumerate(partners.T):
            mixed = np.flatnonzero(partner >= 0)
            # numbers from its own place on stand for the sample after, so that no sample is its own partner
            place = self.first_[rows[mixed]] + partner[mixed] + (partner[mixed] >= own_place[mixed])
            drawn[mixed] += self._expression.read(self.order_[place]) * weights[mixed, i + 1, None]


def _runs(*sorted_codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each entry, where its run of equal codes begins and how long the run is."""
    new = np.ones(len(sorted_codes[0]), dtype=bool)
    new[1:] = np.any([code[1:] != code[:-1] for code in sorted_codes], axis=0)
    starts, run = np.flatnonzero(new), np.cumsum(new) - 1
    return starts[run], np.diff(starts, append=len(new))[run]


def _distinct(n: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Draw up to ``k`` distinct numbers below each entry of ``n``, (len(n), ≤ k); -1 where ``n`` is fewer."""
    # each step of Floyd's algorithm (Bentley and Floyd 1987, DOI 10.1145/30401.315746) serves all entries
    k = min(k, int(n.max(initial=0)))
    taken = np.full((len(n), k), -1)
    steps = np.minimum(n, k)
    for i in range(k):
        going = np.flatnonzero(steps > i)
        last = n[going] - steps[going] + i
        drawn = rng.integers(last + 1)
        repeats = (taken[going, :i] == drawn[:, None]).any(axis=1)
        taken[going, i] = np.where(repeats, last, drawn)
    return taken
