from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from semiclip.baselines._protocol import Arrays, Linear, centre_products, mean_row, sum_products
from semiclip.errors import BadValue

if TYPE_CHECKING:
    from collections.abc import Sequence

FOLDS = 5
RELATIVE = 10.0 ** np.arange(-6, 4)  # penalties by default, in units of the mean sum of squares of a dimension


class Ridge(Linear):
    """Linear regression of the teacher on the student, with a penalty that is chosen on held-out keys.

    If it wins, what the teacher can teach is a weighted sum of the student's dimensions, and neither a network nor a
    contrastive loss is needed to find it.

    Parameters
    ----------
    alphas
        Penalties to choose from, added to the sums of squares of the student's dimensions as in scikit-learn; by
        default 10^-6 to 10^3 times the mean of these sums. The penalty with the least squared error on held-out keys is
        kept, in five folds, or fewer where there are fewer keys. A single penalty is not compared.

    Notes
    -----
    TVN that whitens by the controls of all batches takes out every invertible linear map. The regression is such a map
    unless the teacher, or the number of keys, has fewer dimensions than the student. Recall is then the recall of
    :class:`Unimodal`, whatever the penalty.

    References
    ----------
    Hoerl and Kennard, Technometrics 1970, DOI 10.1080/00401706.1970.10488634.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> student, key = rng.normal(size=(50, 3)), np.arange(50)
    >>> teacher = student @ np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]) + 5
    >>> ridge = Ridge().fit(student, teacher, key, rng=rng)
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
        shift = mean_row(student), mean_row(teacher)
        width = student.shape[1]
        compare = self.alphas is None or len(self.alphas) > 1
        folds = [sum_products(student, teacher, shift, rows) for rows in (_folds(key) if compare else [None])]
        total = np.sum(folds, axis=0)
        alphas = _relative(total, width) if self.alphas is None else self.alphas
        errors = np.zeros(len(alphas))
        for fold in folds if compare else []:
            errors += [_error(fold, weight) for weight in _regress(total - fold, width, alphas)]
        alpha = alphas[int(errors.argmin())]
        (weight,) = _regress(total, width, [alpha])
        return {
            "shift": shift[0],
            "weight": weight[1:],
            "offset": shift[1] + weight[0],
            "alpha": np.array(alpha),
        }


def _folds(key: np.ndarray) -> list[np.ndarray]:
    """Return the rows of each fold; a key is in one alone."""
    from sklearn.model_selection import GroupKFold

    n_folds = min(FOLDS, len(np.unique(key)))
    return [held_out for _, held_out in GroupKFold(n_folds).split(key, groups=key)]


def _relative(total: np.ndarray, width: int) -> Sequence[float]:
    """Return the penalties that are tried by default."""
    unit = np.diag(centre_products(total))[:width].mean()
    return (RELATIVE * (unit if unit > 0 else 1.0)).tolist()


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
