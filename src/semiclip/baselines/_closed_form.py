"""What every baseline is, and those that are no linear map: the student as it is, chance, and the nearest keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np

from semiclip._arguments import check_choice, check_whole
from semiclip._numerics import row_blocks
from semiclip.errors import Mismatch, NotFitted, TooFew, TooMany, WrongShape

if TYPE_CHECKING:
    from torch import Tensor

Weights = Literal["uniform", "distance"]
Arrays = dict[str, np.ndarray]
BLOCK = 1 << 14  # rows in float64 at a time, so that no such copy of a whole embedding exists


class ClosedForm:
    """What takes the place of a distilled embedding: learned from paired rows, applied to any student rows.

    To add one, name it in ``BASELINES``. Options are keyword arguments of ``__init__``, which checks them; ``_learn``
    returns what is learned, and ``_apply`` embeds a block of rows by it.
    """

    width_of: ClassVar[str] = "shift"
    """The array of ``fitted`` whose last axis is the student's dimensions."""
    result_of: ClassVar[str] = "offset"
    """The array of ``fitted`` whose last axis is the dimensions of the embedding."""
    block: ClassVar[int] = BLOCK
    """Rows that are embedded at a time."""

    def __init__(self) -> None:
        self.fitted: Arrays = {}
        """All that was learned, empty before; assigning what another learned is as good as fitting."""

    def fit(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, *, rng: np.random.Generator) -> Self:
        """Learn from finite rows of at least two keys and return the baseline itself.

        Parameters
        ----------
        student
            Embedding to be transformed, corrected for batch effects, shape (n, d).
        teacher
            Target of each row, the mean teacher embedding of its key, shape (n, D).
        key
            Code of the pairing key of each row, shape (n,); rows of one key have the same target.
        rng
            What random choices are drawn from.
        """
        shapes = np.shape(student), np.shape(teacher), np.shape(key)
        if [len(shape) for shape in shapes] != [2, 2, 1] or len({shape[0] for shape in shapes}) > 1:
            raise WrongShape("the training data", shapes, "student (n, d), teacher (n, D) and key (n,)")
        if (n_keys := len(np.unique(key))) < 2:
            raise TooFew("pairing keys of training rows", n_keys, 2)
        self.fitted = self._learn(student, teacher, key, rng)
        return self

    def transform(self, student: np.ndarray) -> np.ndarray:
        """Return the embedding of rows (m, d), float32 of shape (m, p), by the options and ``fitted`` alone."""
        if not self.fitted:
            raise NotFitted(type(self).__name__, "call .fit(student, teacher, key, rng=rng) on the training rows first")
        width = self.fitted[self.width_of].shape[-1]
        if student.ndim != 2 or student.shape[1] != width:
            raise Mismatch("the shape of the student rows", student.shape, ("n", width))
        out = np.empty((len(student), self.fitted[self.result_of].shape[-1]), dtype=np.float32)
        for rows in row_blocks(len(student), self.block):
            out[rows] = self._apply(student[rows])
        return out

    def _learn(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, rng: np.random.Generator) -> Arrays:
        raise NotImplementedError

    def _apply(self, student: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class Unimodal(ClosedForm):
    """The student as it is, which learns nothing from the teacher.

    If it wins, distillation has taken away more than it gave. Source: Bendidi et al., ICML 2025, DOI
    10.48550/arXiv.2505.21317.

    Examples
    --------
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
    vector, whatever is embedded with them; rows that differ in one bit do not. Source: Bendidi et al., ICML 2025,
    section B.1, DOI 10.48550/arXiv.2505.21317; the generator: Steele, Lea and Flood, OOPSLA 2014, DOI
    10.1145/2660193.2660195.

    Examples
    --------
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
