from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from semiclip._arguments import check_number, check_whole
from semiclip._numerics import inverse_root
from semiclip.errors import BadValue, NoVariation, TooFew, WrongShape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

N_ERRORS = 2.0  # standard errors by which held-out correlations must be above 0


class SharedDirections(NamedTuple):
    """Directions of two sides that go together.

    ``n`` is how many correlate in keys that they were not fitted on. ``correlations`` are those of all directions in
    the keys that they were fitted on, from the largest on, shape (m,), and ``held_out`` those in other keys.
    ``student`` (d, m) and ``teacher`` (D, m) are the directions, and ``student_mean`` (d,) and ``teacher_mean`` (D,)
    what is taken off before.
    """

    n: int
    correlations: np.ndarray
    held_out: np.ndarray
    student: np.ndarray
    teacher: np.ndarray
    student_mean: np.ndarray
    teacher_mean: np.ndarray


def shared_directions(
    student: np.ndarray,
    teacher: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    shrinkage: float | None = None,
    n_folds: int = 5,
    rng: int | np.random.Generator | None = None,
) -> SharedDirections:
    """Return the directions that two embeddings of the same keys share, and how many these are.

    They are the canonical directions of both sides, with covariances that are shrunk towards a multiple of the
    identity. Directions that are fitted on a part of the keys are judged on the others: those that are shared correlate
    there, while the others correlate in the keys of the fit alone. The ``n`` leading directions are kept for which the
    sum of the held-out correlations, each less two of its standard errors, is largest. If that sum is below two errors
    of the last of them, the two sides have nothing to tell each other, and ``n`` is 0.

    Parameters
    ----------
    student, teacher
        A row for each key, such as the mean of its samples, shapes (K, d) and (K, D).
    groups
        Which keys belong together, such as the doses of a compound, shape (K,): a group is never split, and the
        standard errors are those of independent groups. By default each key is a group.
    shrinkage
        Share of the identity in both covariances, from 0 to 1; ``None`` estimates it for each side after Ledoit and
        Wolf. With 0 the correlations are those of classical canonical correlation analysis.
    n_folds
        Parts that are held out in turn; 0 leaves chance out, and ``n`` is then the number of all directions.
    rng
        Seed of the parts.

    Returns
    -------
    The directions, those with the largest correlations first. Shrinkage makes most of them smaller, but not all: a
    direction has a variance of 1 in the shrunk covariance and may have more in the keys, and then they exceed 1.

    References
    ----------
    Hotelling, Biometrika 1936, DOI 10.1093/biomet/28.3-4.321; Ledoit and Wolf, Journal of Multivariate Analysis 2004,
    DOI 10.1016/S0047-259X(03)00096-4.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.normal(size=(400, 3))
    >>> student = shared @ rng.normal(size=(3, 8)) + rng.normal(size=(400, 8))
    >>> teacher = shared @ rng.normal(size=(3, 9)) + rng.normal(size=(400, 9))
    >>> shared_directions(student, teacher, rng=0).n
    3
    """
    check_sides(student, teacher, groups, shrinkage)
    check_whole("n_folds", n_folds, 0)
    if n_folds == 1:
        raise BadValue("n_folds", n_folds, "0 or at least 2")
    if not n_folds:
        correlations, *directions = _fit([_Part.of(student, teacher)], shrinkage)
        return SharedDirections(len(correlations), correlations, np.full(len(correlations), np.nan), *directions)
    folds = split_keys(student, teacher, groups, n_folds, np.random.default_rng(rng))
    correlations, *directions = _fit(folds.parts, shrinkage)
    held_out, error = _judge(student, teacher, folds.fit(shrinkage), len(correlations))
    excess = np.cumsum(held_out - N_ERRORS * error)
    n = int(excess.argmax()) + 1 if excess.max() > N_ERRORS * error[excess.argmax()] else 0
    return SharedDirections(n, correlations, held_out, *directions)


def check_sides(student: np.ndarray, teacher: np.ndarray, groups: np.ndarray | None, shrinkage: float | None) -> None:
    """Refuse sides that are not of the same keys."""
    if np.ndim(student) != 2 or np.ndim(teacher) != 2 or len(student) != len(teacher):
        raise WrongShape("the embeddings", (np.shape(student), np.shape(teacher)), "(K, d) and (K, D), a row a key")
    if groups is not None and np.shape(groups) != (len(student),):
        raise WrongShape("groups", np.shape(groups), f"({len(student)},), one of each key")
    if len(student) < 2:
        raise TooFew("keys that both sides have", len(student), 2)
    if shrinkage is not None:
        check_number("shrinkage", shrinkage, least=0, most=1)


class CrossFit(NamedTuple):
    """Directions that were fitted on the keys ``fitted`` and not on those ``held`` out; ``group`` is of these."""

    fitted: np.ndarray
    held: np.ndarray
    group: np.ndarray
    n_groups: int
    correlations: np.ndarray
    student: np.ndarray
    teacher: np.ndarray
    student_mean: np.ndarray
    teacher_mean: np.ndarray


class Folds(NamedTuple):
    """Parts of the keys that are held out in turn: fold and group of each key, (K,), and what is summed over each."""

    fold: np.ndarray
    codes: np.ndarray
    parts: list[_Part]

    def fit(self, shrinkage: float | None) -> Iterator[CrossFit]:
        """Fit the directions on all parts but one, each in turn."""
        n_groups = int(self.codes.max()) + 1
        for left_out in range(len(self.parts)):
            fitted, held = np.flatnonzero(self.fold != left_out), np.flatnonzero(self.fold == left_out)
            others = [part for number, part in enumerate(self.parts) if number != left_out]
            yield CrossFit(fitted, held, self.codes[held], n_groups, *_fit(others, shrinkage))


def split_keys(
    student: np.ndarray, teacher: np.ndarray, groups: np.ndarray | None, n_folds: int, rng: np.random.Generator
) -> Folds:
    """Draw parts of the keys to hold out, never a part of a group."""
    codes = np.unique(np.arange(len(student)) if groups is None else groups, return_inverse=True)[1]
    n_groups = int(codes.max()) + 1
    if n_groups < 3:
        raise TooFew("groups of keys", n_groups, 3, "pair more keys")
    n_folds = min(n_folds, n_groups)
    fold = (rng.permutation(n_groups) % n_folds)[codes]
    return Folds(fold, codes, [_Part.of(student[fold == part], teacher[fold == part]) for part in range(n_folds)])


def cross_fits(
    student: np.ndarray,
    teacher: np.ndarray,
    groups: np.ndarray | None,
    shrinkage: float | None,
    n_folds: int,
    rng: np.random.Generator,
) -> Iterator[CrossFit]:
    """Hold out parts of the keys in turn, never a part of a group, and fit the directions on the others."""
    yield from split_keys(student, teacher, groups, n_folds, rng).fit(shrinkage)


def _judge(
    student: np.ndarray, teacher: np.ndarray, folds: Iterable[CrossFit], n: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the held-out correlations of the ``n`` leading directions and their standard errors.

    Groups, not keys, are independent, and some have larger effects than others on both sides: errors are those of the
    sums of groups, and at least those of so many groups of equal effects.
    """
    squares, sums = np.zeros((2, n)), []
    for fold in folds:
        one = (student[fold.held] - fold.student_mean) @ fold.student[:, :n]
        other = (teacher[fold.held] - fold.teacher_mean) @ fold.teacher[:, :n]
        of_group = np.unique(fold.group, return_inverse=True)[1]
        totals = np.zeros((of_group.max() + 1, n))
        np.add.at(totals[:, : one.shape[1]], of_group, one * other)
        sums.append(totals)
        for square, scores in zip(squares, (one, other), strict=True):
            square[: one.shape[1]] += (scores**2).sum(axis=0)
    by_group = np.concatenate(sums)
    size = np.sqrt(np.maximum(squares.prod(axis=0), np.finfo(np.float64).tiny))
    error = by_group.std(axis=0) * np.sqrt(len(by_group)) / size
    return by_group.sum(axis=0) / size, np.maximum(error, 1 / np.sqrt(len(by_group)))


class _Side(NamedTuple):
    """Rows of one side less their mean, (n, d), their squared lengths, the mean, and sums of products, (d, d)."""

    rows: np.ndarray
    squared: np.ndarray
    mean: np.ndarray
    products: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> _Side:
        mean = np.asarray(np.mean(values, axis=0, dtype=np.float64))
        rows = values - mean
        return cls(rows, np.einsum("ij,ij->i", rows, rows), mean, rows.T @ rows)


class _Part(NamedTuple):
    """What is summed once over a part of the keys, and then for each fit over the parts that it sees."""

    student: _Side
    teacher: _Side
    products: np.ndarray  # of student rows and teacher rows, (d, D)

    @classmethod
    def of(cls, student: np.ndarray, teacher: np.ndarray) -> _Part:
        one, other = _Side.of(student), _Side.of(teacher)
        return cls(one, other, one.rows.T @ other.rows)


def _fit(parts: Sequence[_Part], shrinkage: float | None) -> tuple[np.ndarray, ...]:
    """Return correlations, directions of both sides and their means, over the keys of all parts."""
    one, other = ([getattr(part, side) for part in parts] for side in ("student", "teacher"))
    (left, mean, apart), (right, other_mean, other_apart) = (_whiten(sides, shrinkage) for sides in (one, other))
    counts = np.array([len(side.rows) for side in one])
    products = sum(part.products for part in parts) + (apart.T * counts) @ other_apart
    vectors, correlations, others = np.linalg.svd(left.T @ products @ right / counts.sum(), full_matrices=False)
    return correlations, left @ vectors, right @ others.T, mean, other_mean


def whiten(values: np.ndarray, shrinkage: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Return what makes rows with the identity as covariance of centred rows, and the mean."""
    return _whiten([_Side.of(values)], shrinkage)[:2]


def _whiten(parts: Sequence[_Side], shrinkage: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Do the same over the rows of all parts, and return how far the mean of each part is from that of all."""
    counts = np.array([len(part.rows) for part in parts])
    means = np.array([part.mean for part in parts])
    mean = means[0] + counts @ (means - means[0]) / counts.sum()  # exactly that of parts that are all alike
    apart = means - mean
    covariance = (sum(part.products for part in parts) + (apart.T * counts) @ apart) / counts.sum()
    if not covariance.any():
        raise NoVariation("the rows of an embedding")
    share = _shrink(covariance, parts, apart) if shrinkage is None else shrinkage
    rest = max(1 - share, 1e-9)
    # a covariance with a share of the identity is, but for its scale, one with so much added
    return inverse_root(covariance, share / rest) / np.sqrt(rest), mean, apart


def _shrink(covariance: np.ndarray, parts: Sequence[_Side], apart: np.ndarray) -> float:
    """Return the share of the identity after Ledoit and Wolf, as scikit-learn does.

    Of the rows it needs their lengths alone: the squared products of features, summed over all of them, are the squared
    length of a row, squared.
    """
    d = len(covariance)
    if d == 1:
        return 0.0
    pairs = zip(parts, apart, strict=True)
    squared = np.concatenate([part.squared + part.rows @ (2 * offset) + offset @ offset for part, offset in pairs])
    distance = (covariance**2).sum() - np.trace(covariance) ** 2 / d
    error = ((squared @ squared) / len(squared) - (covariance**2).sum()) / len(squared)
    return 0.0 if min(error, distance) == 0 else float(min(error, distance) / distance)
