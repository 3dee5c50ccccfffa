from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from semiclip._arguments import check_number, check_whole
from semiclip.errors import Empty, TooFew
from semiclip.metrics._shared import check_sides, cross_fits, whiten

if TYPE_CHECKING:
    from collections.abc import Sequence

WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
SAME = 1e-9  # by how much cosines differ that are the same but for rounding
MOST_KEYS = 2000  # of each fold whose pairs are compared, two million


class BlendWeight(NamedTuple):
    """The share of the distilled part that was chosen, and the agreement of all shares by fold, (n_folds, n)."""

    weight: float
    weights: np.ndarray
    agreement: np.ndarray


def choose_weight(
    student: np.ndarray,
    teacher: np.ndarray,
    n_shared: int,
    *,
    weights: Sequence[float] = WEIGHTS,
    groups: np.ndarray | None = None,
    shrinkage: float | None = None,
    n_folds: int = 5,
    rng: int | np.random.Generator | None = None,
) -> BlendWeight:
    """Choose how much of what a student shares with its teacher to put beside the student itself, without labels.

    What is shared is fitted on a part of the keys, as by :func:`shared_directions`, each direction weighted by its
    squared correlation. In the other keys, the cosines of all pairs of keys in the blend are compared with those of
    their teacher rows, whose directions count alike. Pairs of one group are left out. The agreement is the correlation
    of both. The smallest share is chosen that does not agree worse than the best one by more than one standard error of
    their difference between folds: what the student knows by itself is kept as far as the teacher allows.

    Parameters
    ----------
    student, teacher
        A row for each key, such as the mean of its samples, shapes (K, d) and (K, D).
    n_shared
        Number of directions.
    weights
        Shares to choose from, between 0 and 1: those of the mean squared norm.
    groups, shrinkage, n_folds, rng
        As for :func:`shared_directions`; at least two folds.

    Returns
    -------
    The share, and the agreement of all.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.normal(size=(300, 3))
    >>> student = np.hstack([shared, 2 * rng.normal(size=(300, 9))])  # mostly its own
    >>> teacher = shared @ rng.normal(size=(3, 4))
    >>> float(choose_weight(student, teacher, 3, rng=0).weight)
    1.0
    """
    check_sides(student, teacher, groups, shrinkage)
    check_whole("n_folds", n_folds, 2)
    check_whole("n_shared", n_shared)
    if not len(weights):
        raise Empty("weights", "name one share or more")
    for weight in weights:
        check_number("weights", weight, least=0, most=1)
    n_groups = len(np.unique(np.arange(len(student)) if groups is None else groups))
    n_folds = max(2, min(n_folds, n_groups // 2))  # a fold of one group has no pairs
    shares, agreement, generator = np.asarray(weights, dtype=np.float64), [], np.random.default_rng(rng)
    for fold in cross_fits(student, teacher, groups, shrinkage, n_folds, generator):
        some = generator.permutation(len(fold.held))[:MOST_KEYS] if len(fold.held) > MOST_KEYS else slice(None)
        held, group = fold.held[some], fold.group[some]
        rows = np.triu_indices(len(held), 1)
        apart = group[rows[0]] != group[rows[1]]
        pairs = rows[0][apart], rows[1][apart]
        if len(pairs[0]) < 2:
            raise TooFew("pairs of held-out keys", len(pairs[0]), 2, "pair more keys, or give the weight")
        own = student - fold.student_mean
        distilled = own @ (fold.student[:, :n_shared] * fold.correlations[:n_shared] ** 2)
        blocks = [part / np.sqrt((part[fold.fitted] ** 2).sum(axis=1).mean()) for part in (distilled, own)]
        products = np.array([(part := block[held]) @ part.T for block in blocks])
        root, mean = whiten(teacher[fold.fitted], shrinkage)
        target = _cosines((taught := (teacher[held] - mean) @ root) @ taught.T)[pairs]
        blends = (_cosines(share * products[0] + (1 - share) * products[1])[pairs] for share in shares)
        agreement.append([_correlate(blend, target) for blend in blends])
    table = np.array(agreement)
    behind = table[:, [table.mean(axis=0).argmax()]] - table
    error = behind.std(axis=0, ddof=1) / np.sqrt(len(table))
    return BlendWeight(float(shares[behind.mean(axis=0) <= error].min()), shares, table)


def _cosines(products: np.ndarray) -> np.ndarray:
    """Return the cosines of rows from their products with each other, (n, n)."""
    lengths = np.sqrt(np.diagonal(products))
    return products / np.maximum(np.outer(lengths, lengths), np.finfo(np.float64).tiny)


def _correlate(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of cosines; 0 where those of a side are all the same, as in one dimension they may be."""
    if min(np.ptp(one), np.ptp(other)) < SAME:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
