"""Which perturbations have replicates that agree more than chance."""

from __future__ import annotations

import numpy as np

_DRAWS = 100_000


def mark_reproducible(
    values: np.ndarray,
    constructs: np.ndarray,
    plates: np.ndarray,
    *,
    rng: int | np.random.Generator | None = None,
    level: float = 0.95,
) -> np.ndarray:
    """Mask of the wells of constructs whose replicates correlate above the ``level`` quantile of a null.

    The statistic of a set of n wells on n different plates is the mean of their n(n-1)/2 Pearson correlations across
    genes. The null holds the statistic of random sets: for each n, 100,000 draws of n plates and of one well on each,
    without the draws in which two wells have the same construct. A construct is judged by the null of its own n.

    ``values`` has one row per well and one column per gene. A construct has at most one well per plate; without
    replicates it is not marked.
    """
    generator = np.random.default_rng(rng)
    correlation = np.corrcoef(values)
    construct = np.unique(constructs, return_inverse=True)[1]
    plate = np.unique(plates, return_inverse=True)[1]
    n_plates = plate.max() + 1
    first, second = np.triu_indices(n_plates, k=1)

    def statistic(sets: np.ndarray) -> np.ndarray:
        """Mean correlation of the wells in each row (one column per plate, -1 where the set has no well)."""
        pairs = (sets[:, first] >= 0) & (sets[:, second] >= 0)
        total = np.where(pairs, correlation[sets[:, first], sets[:, second]], 0).sum(axis=1)
        return total / np.maximum(pairs.sum(axis=1), 1)

    replicates = np.full((construct.max() + 1, n_plates), -1)
    replicates[construct, plate] = np.arange(len(construct))
    n_replicates = (replicates >= 0).sum(axis=1)
    agreement = statistic(replicates)

    passed = np.zeros(len(replicates), dtype=bool)
    for n in range(2, n_plates + 1):
        draws = np.stack([generator.choice(np.flatnonzero(plate == p), _DRAWS) for p in range(n_plates)], axis=1)
        # a random n plates; an absent well gets a construct of its own, so that it equals no other
        absent = generator.random(draws.shape).argsort(axis=1) >= n
        drawn = np.where(absent, -1 - np.arange(n_plates), construct[draws])
        mixed = (drawn[:, first] != drawn[:, second]).all(axis=1)
        null = statistic(np.where(absent, -1, draws)[mixed])
        passed |= (n_replicates == n) & (agreement > np.quantile(null, level))
    return passed[construct]
