"""Baselines that are no linear map: the student as it is, chance, and the nearest keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from semiclip._arguments import check_choice, check_whole
from semiclip.baselines._protocol import Arrays, ClosedForm
from semiclip.errors import TooMany

if TYPE_CHECKING:
    from torch import Tensor

Weights = Literal["uniform", "distance"]


class Unimodal(ClosedForm):
    """The student as it is, which learns nothing from the teacher.

    If it wins, distillation has taken away more than it gave. Source: Bendidi et al., ICML 2025, DOI
    10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import numpy as np
    >>> student, teacher = np.eye(3), np.ones((3, 2))
    >>> unimodal = Unimodal().fit(student, teacher, np.arange(3), rng=np.random.default_rng(0))
    >>> bool((unimodal.transform(student) == student).all())
    True
    """

    result_of = "shift"

    def _learn(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, rng: np.random.Generator) -> Arrays:
        return {"shift": np.zeros(student.shape[1])}

    def _apply(self, student: np.ndarray) -> np.ndarray:
        return student


class Random(ClosedForm):
    """Independent standard normal values, as many as the teacher has dimensions, that know nothing of the row.

    It shows what a measure gives to chance. If it wins, either the measure or its data are at fault.

    The values come from a seed and a hash of the row in float32. Rows that are equal to the last bit therefore share a
    vector, whatever is embedded with them; rows that differ in one bit do not.

    References
    ----------
    Bendidi et al., ICML 2025, section B.1, DOI 10.48550/arXiv.2505.21317; the generator: Steele, Lea and Flood, OOPSLA
    2014, DOI 10.1145/2660193.2660195.

    Examples
    --------
    >>> import numpy as np
    >>> student, teacher = np.eye(3), np.ones((3, 2))
    >>> random = Random().fit(student, teacher, np.arange(3), rng=np.random.default_rng(0))
    >>> bool((random.transform(student)[1:] == random.transform(student[1:])).all())
    True
    """

    width_of, result_of = "student_seeds", "teacher_seeds"

    def _learn(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, rng: np.random.Generator) -> Arrays:
        widths = {"student_seeds": student.shape[1], "teacher_seeds": teacher.shape[1]}
        return {name: rng.integers(2**63, size=(width,), dtype=np.int64) for name, width in widths.items()}

    def _apply(self, student: np.ndarray) -> np.ndarray:
        import torch
        from scipy.special import ndtri

        from semiclip._counter_rng import state

        seeds, hash_seeds = (torch.from_numpy(self.fitted[name]) for name in ("teacher_seeds", "student_seeds"))
        bits = state(_hash(student, hash_seeds)[:, None] ^ seeds).numpy().view(np.uint64)
        # the middles of 2^53 equal parts of (0, 1), so that neither end is ever drawn
        return ndtri(((bits >> 11) + 0.5) * 2.0**-53)


def _hash(x: np.ndarray, seeds: Tensor) -> Tensor:
    """Return 64 bits for each row; seeds of the dimensions (d,) make their order matter."""
    import torch

    from semiclip._counter_rng import state

    values = np.ascontiguousarray(x, dtype=np.float32) + np.float32(0)  # which makes -0.0 the same as 0.0
    bits = torch.from_numpy(values.view(np.uint32).astype(np.int64))
    return state(state(bits ^ seeds).sum(dim=1))


class Neighbours(ClosedForm):
    """The mean teacher embedding of the training keys nearest to a row, by the cosine to their mean student embedding.

    If it wins, looking up the images of the nearest known perturbations is enough, and nothing general was learned.
    Source: Cover and Hart, IEEE Transactions on Information Theory 1967, DOI 10.1109/TIT.1967.1053964.

    Parameters
    ----------
    n_neighbors
        Keys that are averaged.
    weights
        ``"uniform"``, or ``"distance"``, where each key has the inverse of its cosine distance as weight.

    Examples
    --------
    >>> import numpy as np
    >>> student, teacher = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), np.array([[5.0], [5.0], [7.0]])
    >>> nearest = Neighbours(n_neighbors=1).fit(student, teacher, np.array([0, 0, 1]), rng=np.random.default_rng(0))
    >>> nearest.transform(np.array([[1.0, 3.0], [3.0, 1.0]])).ravel()
    array([7., 5.], dtype=float32)
    """

    width_of, result_of = "student", "teacher"
    block = 1 << 11  # the embeddings of all neighbours are in memory

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
        sides = {"student": student, "teacher": teacher}
        return {name: group_mean(side, codes, len(names)) for name, side in sides.items()}

    def _apply(self, student: np.ndarray) -> np.ndarray:
        from sklearn.neighbors import KNeighborsRegressor

        search = KNeighborsRegressor(self.n_neighbors, weights=self.weights, algorithm="brute", metric="cosine")
        return search.fit(self.fitted["student"], self.fitted["teacher"]).predict(student.astype(np.float64))
