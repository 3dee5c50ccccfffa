from __future__ import annotations

import numpy as np

from semiclip._arguments import check_number, check_whole
from semiclip.baselines._protocol import Arrays, Linear, centre_products, mean_row, sum_products
from semiclip.errors import NoVariation, TooMany

MOST = 30  # components by default, where there are as many


class Cca(Linear):
    """Canonical correlation analysis: the directions of the student that correlate most with directions of the teacher.

    If it wins, the linear directions that both modalities share are what matters, and the others are in the way.

    Parameters
    ----------
    n_components
        Directions to keep, those of the largest correlations; by default 30, or all if there are fewer.
    regularization
        Added to the variance of every direction of either side, in units of the mean variance of its dimensions.
        Without it, and with no more keys than the teacher has dimensions, any teacher would give the same directions,
        those that tell the keys apart.

    Notes
    -----
    Each variate has its canonical correlation as standard deviation (a little less with regularization), so that
    cosines count shared directions more. Directions in which a side does not vary are left out. TVN that whitens by the
    controls of all batches takes out every invertible linear map. Recall after it therefore differs from the recall of
    :class:`Unimodal` only by the directions that are dropped.

    References
    ----------
    Hotelling, Biometrika 1936, DOI 10.1093/biomet/28.3-4.321.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> student, key = rng.normal(size=(500, 3)), np.arange(500)
    >>> teacher = student[:, :2] + rng.normal(size=(500, 2)) * [0.1, 0.75]
    >>> cca = Cca().fit(student, teacher, key, rng=rng)
    >>> cca.fitted["correlations"].round(1)
    array([1. , 0.8])
    >>> cca.transform(student).std(axis=0).round(1)
    array([1. , 0.8], dtype=float32)
    """

    def __init__(self, *, n_components: int | None = None, regularization: float = 1e-3) -> None:
        super().__init__()
        if n_components is not None:
            check_whole("n_components", n_components)
        check_number("regularization", regularization, least=0)
        self.n_components, self.regularization = n_components, regularization

    def _learn(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, rng: np.random.Generator) -> Arrays:
        shift, width = (mean_row(student), mean_row(teacher)), student.shape[1]
        covariance = centre_products(sum_products(student, teacher, shift)) / len(student)
        left = _inverse_root(covariance[:width, :width], self.regularization)
        right = _inverse_root(covariance[width:, width:], self.regularization)
        most = min(left.shape[1], right.shape[1])
        kept = min(MOST, most) if self.n_components is None else self.n_components
        if not most:
            raise NoVariation("the rows of the student or of the teacher")
        if kept > most:
            sides = f"the student varies in {left.shape[1]} directions and the teacher in {right.shape[1]}"
            raise TooMany("canonical correlations (n_components)", kept, most, sides)
        vectors, correlations, _ = np.linalg.svd(left.T @ covariance[:width, width:] @ right, full_matrices=False)
        correlations = correlations[:kept].clip(max=1)  # rounding errors may lead above
        weight = left @ vectors[:, :kept] * correlations
        return {"shift": shift[0], "weight": weight, "offset": np.zeros(kept), "correlations": correlations}


def _inverse_root(covariance: np.ndarray, regularization: float) -> np.ndarray:
    """Return the directions that vary, shape (d, k), each divided by its standard deviation."""
    values, vectors = np.linalg.eigh(covariance)
    varies = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return vectors[:, varies] / np.sqrt(values[varies] + regularization * values.mean())
