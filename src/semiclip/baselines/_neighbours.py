from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np

from semiclip._arguments import check_choice, check_whole
from semiclip._numerics import row_blocks
from semiclip.baselines._protocol import Arrays, ClosedForm
from semiclip.errors import TooMany

BLOCK = 1 << 11  # rows whose neighbours' embeddings are in memory at a time
Weights = Literal["uniform", "distance"]


class Neighbours(ClosedForm):
    """The mean teacher embedding of the training keys nearest to a row, by the cosine to their mean student embedding.

    If it wins, looking up the images of the nearest known perturbations is enough, and nothing general was learned.

    Parameters
    ----------
    n_neighbors
        Keys that are averaged.
    weights
        ``"uniform"``, or ``"distance"``, where each key has the inverse of its cosine distance as weight.

    References
    ----------
    Cover and Hart, IEEE Transactions on Information Theory 1967, DOI 10.1109/TIT.1967.1053964.

    Examples
    --------
    >>> import numpy as np
    >>> student = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> teacher = np.array([[5.0], [5.0], [7.0]])
    >>> nearest = Neighbours(n_neighbors=1)
    >>> nearest = nearest.fit(student, teacher, np.array([0, 0, 1]), rng=np.random.default_rng(0))
    >>> nearest.transform(np.array([[1.0, 3.0], [3.0, 1.0]]))
    array([[7.],
           [5.]], dtype=float32)
    """

    width_of: ClassVar[str] = "student"

    def __init__(self, *, n_neighbors: int = 10, weights: Weights = "uniform") -> None:
        super().__init__()
        check_whole("n_neighbors", n_neighbors)
        check_choice("weights", weights, Weights)
        self.n_neighbors, self.weights = n_neighbors, weights

    def _learn(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, rng: np.random.Generator) -> Arrays:
        from semiclip.metrics import group_mean

        names, codes = np.unique(key, return_inverse=True)
        if self.n_neighbors > len(names):
            raise TooMany("keys to average (n_neighbors)", self.n_neighbors, len(names))
        return {
            "student": group_mean(student, codes, len(names)),
            "teacher": group_mean(teacher, codes, len(names)),
        }

    def _apply(self, student: np.ndarray) -> np.ndarray:
        from sklearn.neighbors import KNeighborsRegressor

        search = KNeighborsRegressor(self.n_neighbors, weights=self.weights, algorithm="brute", metric="cosine")
        search.fit(self.fitted["student"], self.fitted["teacher"])
        out = np.empty((len(student), self.fitted["teacher"].shape[1]), dtype=np.float32)
        for rows in row_blocks(len(student), BLOCK):
            out[rows] = search.predict(student[rows].astype(np.float64))
        return out
