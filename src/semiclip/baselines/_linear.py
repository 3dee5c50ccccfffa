"""Baselines that are linear maps, learned from sums of products of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from semiclip._arguments import check_number, check_whole
from semiclip._numerics import inverse_root, row_blocks
from semiclip.baselines._closed_form import BLOCK, Arrays, ClosedForm
from semiclip.errors import BadValue, NoVariation, TooMany

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDS = 5
MOST = 30  # canonical variates by default, where there are as many
RELATIVE = 10.0 ** np.arange(-6, 4)  # penalties by default, in units of the mean sum of squares of a dimension


class Linear(ClosedForm):
    """A baseline that learns ``shift`` (d,), ``weight`` (d, p) and ``offset`` (p,) of a linear map."""

    def _apply(self, student: np.ndarray) -> np.ndarray:
        return (student - self.fitted["shift"]) @ self.fitted["weight"] + self.fitted["offset"]


class Ridge(Linear):
    """Linear regression of the teacher on the student, with a penalty that is chosen on held-out keys.

    If it wins, what the teacher can teach is a weighted sum of the student's dimensions, and neither a network nor a
    contrastive loss is needed to find it. Source: Hoerl and Kennard, Technometrics 1970, DOI
    10.1080/00401706.1970.10488634.

    TVN that whitens by the controls of all batches takes out every invertible linear map. The regression is such a map
    unless the teacher, or the number of keys, has fewer dimensions than the student. Recall is then the recall of
    :class:`Unimodal`, whatever the penalty.

    Parameters
    ----------
    alphas
        Penalties to choose from, added to the sums of squares of the student's dimensions as in scikit-learn; by
        default 10^-6 to 10^3 times the mean of these sums. The penalty with the least squared error on held-out keys is
        kept, in five folds, or fewer where there are fewer keys. A single penalty is not compared.

    Examples
    --------
    >>> student = np.random.default_rng(0).normal(size=(50, 3))
    >>> teacher = student @ np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]) + 5
    >>> ridge = Ridge().fit(student, teacher, np.arange(50), rng=np.random.default_rng(0))
    >>> bool(np.allclose(ridge.transform(student), teacher, atol=1e-3))
    True
    """

    def __init__(self, *, alphas: Sequence[float] | None = None) -> None:
        super().__init__()
        values = np.asarray(RELATIVE if alphas is None else alphas, dtype=np.float64)
        if values.ndim != 1 or not values.size or not (np.isfinite(values) & (values > 0)).all():
            raise BadValue("alphas", alphas, "a list of positive numbers, such as (0.1, 1.0, 10.0)")
        self.alphas = None if alphas is None else tuple(values.tolist())

    def _learn(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, rng: np.random.Generator) -> Arrays:
        from sklearn.model_selection import GroupKFold

        shift, width = (mean_row(student), mean_row(teacher)), student.shape[1]
        compare = self.alphas is None or len(self.alphas) > 1
        splits = GroupKFold(min(FOLDS, len(np.unique(key)))).split(key, groups=key)
        held_out = [rows for _, rows in splits] if compare else [None]
        folds = [sum_products(student, teacher, shift, rows) for rows in held_out]
        total = np.sum(folds, axis=0)
        unit = np.diag(centre_products(total))[:width].mean()
        alphas = self.alphas or (RELATIVE * (unit if unit > 0 else 1.0)).tolist()
        errors = np.zeros(len(alphas))
        for fold in folds if compare else []:
            errors += [_error(fold, weight) for weight in _regress(total - fold, width, alphas)]
        alpha = alphas[int(errors.argmin())]
        (weight,) = _regress(total, width, [alpha])
        return {"shift": shift[0], "weight": weight[1:], "offset": shift[1] + weight[0], "alpha": np.array(alpha)}


class Cca(Linear):
    """Canonical correlation analysis: the directions of the student that correlate most with directions of the teacher.

    If it wins, the linear directions that both modalities share are what matters, and the others are in the way.
    Source: Hotelling, Biometrika 1936, DOI 10.1093/biomet/28.3-4.321.

    Each variate has its canonical correlation as standard deviation (a little less with regularization), so that
    cosines count shared directions more. Directions in which a side does not vary are left out. After TVN that whitens
    by the controls of all batches, recall differs from the recall of :class:`Unimodal` only by the directions that are
    dropped, see :class:`Ridge`.

    Parameters
    ----------
    n_components
        Directions to keep, those of the largest correlations; by default 30, or all if there are fewer.
    regularization
        Added to the variance of every direction of either side, in units of the mean variance of its dimensions.
        Without it, and with no more keys than the teacher has dimensions, any teacher would give the same directions,
        those that tell the keys apart.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> student = rng.normal(size=(500, 3))
    >>> teacher = student[:, :2] + rng.normal(size=(500, 2)) * [0.1, 0.75]
    >>> cca = Cca().fit(student, teacher, np.arange(500), rng=rng)
    >>> cca.fitted["correlations"].round(1)
    array([1. , 0.8])
    """

    def __init__(self, *, n_components: int | None = None, regularization: float = 1e-3) -> None:
        super().__init__()
        if n_components is not None:
            check_whole("n_components", n_components)
        check_number("regularization", regularization, least=0)
        self.n_components, self.regularization = n_components, regularization

    def _learn(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, rng: np.random.Generator) -> Arrays:
        shift, products = _centred(student, teacher)
        within, between, target = (part / len(student) for part in products)
        left, right = (inverse_root(covariance, self.regularization) for covariance in (within, target))
        most = min(left.shape[1], right.shape[1])
        kept = min(MOST, most) if self.n_components is None else self.n_components
        if not most:
            raise NoVariation("the rows of the student or of the teacher")
        if kept > most:
            sides = f"the student varies in {left.shape[1]} directions and the teacher in {right.shape[1]}"
            raise TooMany("canonical correlations (n_components)", kept, most, sides)
        vectors, correlations, _ = np.linalg.svd(left.T @ between @ right, full_matrices=False)
        correlations = correlations[:kept].clip(max=1)  # rounding errors may lead above
        weight = left @ vectors[:, :kept] * correlations
        return {"shift": shift[0], "weight": weight, "offset": np.zeros(kept), "correlations": correlations}


class Procrustes(Linear):
    """The student turned into the teacher's space: the best rotation (or reflection), one factor and a shift.

    It turns principal components, as many as the narrower side has dimensions (Schönemann, Psychometrika 1966, DOI
    10.1007/BF02289451). If it wins, both spaces have the same shape, and distillation only had to find how they lie.

    After TVN that whitens by the controls of all batches, recall is the recall of :class:`Unimodal`, see
    :class:`Ridge`, unless the teacher has fewer dimensions and the student's last components are lost.

    Examples
    --------
    >>> student = np.random.default_rng(0).normal(size=(50, 2))
    >>> teacher = 3 * student @ np.array([[0.0, 1.0], [-1.0, 0.0]]) + 5
    >>> out = Procrustes().fit(student, teacher, np.arange(50), rng=np.random.default_rng(0)).transform(student)
    >>> bool(np.allclose(out, teacher, atol=1e-5))
    True
    """

    def _learn(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, rng: np.random.Generator) -> Arrays:
        shift, (within, between, target) = _centred(student, teacher)
        fewer = min(between.shape)
        (squares, left), (_, right) = (np.linalg.eigh(products) for products in (within, target))
        size = float(squares[-fewer:].clip(min=0).sum())
        left, right = left[:, -fewer:], right[:, -fewer:]
        if size == 0:
            raise NoVariation(f"the {len(student)} student rows")
        # what scipy.linalg.orthogonal_procrustes does with the rows, from their products
        u, values, vh = np.linalg.svd(left.T @ between @ right)
        weight = values.sum() / size * left @ u @ vh @ right.T
        return {"shift": shift[0], "weight": weight, "offset": shift[1]}


def mean_row(x: np.ndarray) -> np.ndarray:
    """Return the mean row in float64, shape (d,)."""
    # relative to the first row, so that a constant dimension has exactly its value as mean and nothing is left of it
    first = x[0].astype(np.float64)
    return first + sum((x[rows] - first).sum(axis=0) for rows in row_blocks(len(x), BLOCK)) / len(x)


def sum_products(
    student: np.ndarray, teacher: np.ndarray, shift: tuple[np.ndarray, np.ndarray], numbers: np.ndarray | None = None
) -> np.ndarray:
    """Sum the products of ``z = (1, student - shift, teacher - shift)`` with itself over rows, or some ``numbers``.

    The sums, float64 of shape (1 + d + D, 1 + d + D), are all that a linear baseline needs; those of several sets of
    rows add up.
    """
    total = np.zeros((1 + student.shape[1] + teacher.shape[1],) * 2)
    for block in row_blocks(len(student) if numbers is None else len(numbers), BLOCK):
        rows = block if numbers is None else numbers[block]
        z = np.hstack([np.ones((len(student[rows]), 1)), student[rows] - shift[0], teacher[rows] - shift[1]])
        total += z.T @ z
    return total


def centre_products(total: np.ndarray) -> np.ndarray:
    """Return the sums about the means of the rows, shape (d + D, d + D), from those about any other point."""
    return total[1:, 1:] - np.outer(total[1:, 0], total[0, 1:]) / total[0, 0]


def _centred(student: np.ndarray, teacher: np.ndarray) -> tuple[tuple[np.ndarray, np.ndarray], list[np.ndarray]]:
    """Return both mean rows, and the products about them: within the student, between sides, within the teacher."""
    shift, width = (mean_row(student), mean_row(teacher)), student.shape[1]
    products = centre_products(sum_products(student, teacher, shift))
    return shift, [products[:width, :width], products[:width, width:], products[width:, width:]]


def _regress(total: np.ndarray, width: int, alphas: Sequence[float]) -> list[np.ndarray]:
    """Return intercepts and weights, shape (1 + d, D), for each penalty, from the sums of :func:`sum_products`."""
    products, means = centre_products(total), total[0, 1:] / total[0, 0]
    values, vectors = np.linalg.eigh(products[:width, :width])
    target = vectors.T @ products[:width, width:]
    weights = [vectors @ (target / (values.clip(min=0) + alpha)[:, None]) for alpha in alphas]
    return [np.vstack([means[width:] - means[:width] @ weight, weight]) for weight in weights]


def _error(total: np.ndarray, weight: np.ndarray) -> float:
    """Return the squared error of a prediction, less the error of predicting zeros."""
    side = len(weight)
    return float(np.sum(weight * (total[:side, :side] @ weight - 2 * total[:side, side:])))
