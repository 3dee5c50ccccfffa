from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from semiclip._arguments import check_choice, check_whole
from semiclip._numerics import row_blocks
from semiclip.baselines._protocol import Fitted, check_pairs
from semiclip.errors import TooMany

if TYPE_CHECKING:
    from typing import Self

BLOCK = 1 << 11  # rows whose neighbours' embeddings are in memory at a time
Weights = Literal["uniform", "distance"]


class Neighbours(Fitted):
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

    def fit(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, *, rng: np.random.Generator) -> Self:
        """Average the rows of each key; returns the baseline itself."""
        from semiclip.metrics import group_mean

        check_pairs(student, teacher, key)
        names, codes = np.unique(key, return_inverse=True)
        if self.n_neighbors > len(names):
            raise TooMany("keys to average (n_neighbors)", self.n_neighbors, len(names))
        self.fitted = {
            "student": group_mean(student, codes, len(names)),
            "teacher": group_mean(teacher, codes, len(names)),
        }
        return self

    def transform(self, student: np.ndarray) -> np.ndarray:
        """Average the teacher over the keys nearest to each row, float32 of shape (m, D)."""
        from sklearn.neighbors import KNeighborsRegressor

        fitted = self.read_fitted(student)
        search = KNeighborsRegressor(self.n_neighbors, weights=self.weights, algorithm="brute", metric="cosine")
        search.fit(fitted["student"], fitted["teacher"])
        out = np.empty((len(student), fitted["teacher"].shape[1]), dtype=np.float32)
        for rows in row_blocks(len(student), BLOCK):
            out[rows] = search.predict(student[rows].astype(np.float64))
        return out
