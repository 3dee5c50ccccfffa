from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from semiclip.baselines._protocol import at_least_one, blocks, check_pairs, learned

if TYPE_CHECKING:
    from typing import Self

BLOCK = 1 << 11  # rows whose neighbours' embeddings are in memory at a time
WEIGHTS = ("uniform", "distance")


class Neighbours:
    """The mean teacher embedding of the training keys nearest to a row, by the cosine to their mean student embedding.

    If it wins, looking up what the nearest known perturbations look like is enough, and nothing general was learned.

    Parameters
    ----------
    n_neighbors
        Keys that are averaged.
    weights
        ``"uniform"``, or ``"distance"`` for keys that weigh the inverse of their cosine distance.

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

    def __init__(self, *, n_neighbors: int = 10, weights: Literal["uniform", "distance"] = "uniform") -> None:
        at_least_one("n_neighbors", n_neighbors)
        if weights not in WEIGHTS:
            msg = f"weights={weights!r} is not one of {', '.join(WEIGHTS)}"
            raise ValueError(msg)
        self.n_neighbors, self.weights = n_neighbors, weights
        self.fitted: dict[str, np.ndarray] = {}

    def fit(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, *, rng: np.random.Generator) -> Self:
        """Average the rows of each key; returns the baseline itself."""
        from semiclip.metrics import group_mean

        check_pairs(student, teacher, key)
        names, codes = np.unique(key, return_inverse=True)
        if self.n_neighbors > len(names):
            msg = f"n_neighbors={self.n_neighbors}, but the training rows have {len(names)} keys to choose from"
            raise ValueError(msg)
        self.fitted = {
            "student": group_mean(student, codes, len(names)),
            "teacher": group_mean(teacher, codes, len(names)),
        }
        return self

    def transform(self, student: np.ndarray) -> np.ndarray:
        """Average the teacher over the keys nearest to each row, float32 of shape (m, D)."""
        from sklearn.neighbors import KNeighborsRegressor

        fitted = learned(self, student, "student")
        search = KNeighborsRegressor(self.n_neighbors, weights=self.weights, algorithm="brute", metric="cosine")
        search.fit(fitted["student"], fitted["teacher"])
        out = np.empty((len(student), fitted["teacher"].shape[1]), dtype=np.float32)
        for rows in blocks(len(student), BLOCK):
            out[rows] = search.predict(student[rows].astype(np.float64))
        return out
