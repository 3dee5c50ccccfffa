from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from semiclip._numerics import row_blocks
from semiclip.errors import Mismatch, NotFitted, TooFew, WrongShape

if TYPE_CHECKING:
    from typing import Self

Arrays = dict[str, np.ndarray]
BLOCK = 1 << 14  # rows in float64 at a time, so that no such copy of a whole embedding exists


class ClosedForm:
    """What takes the place of a distilled embedding: learned from paired rows, applied to any student rows.

    To add one, write it in a file of its own and name it in ``BASELINES``. Options are keyword arguments of
    ``__init__``, which checks them; ``_learn`` returns what is learned.
    """

    width_of: ClassVar[str] = "shift"
    """The array of ``fitted`` whose last axis is that of the student's dimensions."""

    def __init__(self) -> None:
        self.fitted: Arrays = {}
        """All that was learned, empty before; assigning that of another is as good as fitting."""

    def fit(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, *, rng: np.random.Generator) -> Self:
        """Learn from finite rows and return the baseline itself.

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

        Raises
        ------
        ValueError
            If shapes do not fit together, or there are too few keys or dimensions.
        """
        shapes = np.shape(student), np.shape(teacher), np.shape(key)
        if [len(shape) for shape in shapes] != [2, 2, 1] or len({shape[0] for shape in shapes}) > 1:
            raise WrongShape("the training data", shapes, "student (n, d), teacher (n, D) and key (n,)")
        if (n_keys := len(np.unique(key))) < 2:
            raise TooFew("pairing keys of training rows", n_keys, 2)
        self.fitted = self._learn(student, teacher, key, rng)
        return self

    def transform(self, student: np.ndarray) -> np.ndarray:
        """Return the embedding of rows (m, d), float32 of shape (m, p), by the options and ``fitted`` alone.

        Raises
        ------
        NotFitted
            If nothing was learned.
        Mismatch
            If the rows have another width than those it was learned from.
        """
        if not self.fitted:
            raise NotFitted(type(self).__name__, "call .fit(student, teacher, key, rng=rng) on the training rows first")
        width = self.fitted[self.width_of].shape[-1]
        if student.ndim != 2 or student.shape[1] != width:
            raise Mismatch("the shape of the student rows", student.shape, ("n", width))
        return self._apply(student)

    def _learn(self, student: np.ndarray, teacher: np.ndarray, key: np.ndarray, rng: np.random.Generator) -> Arrays:
        raise NotImplementedError

    def _apply(self, student: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class Linear(ClosedForm):
    """A baseline that learns ``shift`` (d,), ``weight`` (d, p) and ``offset`` (p,) of a linear map."""

    def _apply(self, student: np.ndarray) -> np.ndarray:
        shift, weight, offset = (self.fitted[name] for name in ("shift", "weight", "offset"))
        out = np.empty((len(student), weight.shape[1]), dtype=np.float32)
        for rows in row_blocks(len(student), BLOCK):
            out[rows] = (student[rows] - shift) @ weight + offset
        return out


def mean_row(x: np.ndarray) -> np.ndarray:
    """Return the mean row in float64, shape (d,)."""
    # relative to the first row, so that a constant dimension has exactly its value as mean and nothing is left of it
    first = x[0].astype(np.float64)
    return first + sum((x[rows] - first).sum(axis=0) for rows in row_blocks(len(x), BLOCK)) / len(x)


def sum_products(
    student: np.ndarray,
    teacher: np.ndarray,
    shift: tuple[np.ndarray, np.ndarray],
    numbers: np.ndarray | None = None,
) -> np.ndarray:
    """Sum the products of ``z = (1, student - shift, teacher - shift)`` with itself over rows, or some ``numbers``.

    The sums, float64 of shape (1 + d + D, 1 + d + D), are all that a linear baseline needs, and small whatever the
    number of rows; those of several sets of rows add up. The shifts (d,) and (D,) are near the means.
    """
    width = student.shape[1]
    total = np.zeros((1 + width + teacher.shape[1],) * 2)
    for block in row_blocks(len(student) if numbers is None else len(numbers), BLOCK):
        rows = block if numbers is None else numbers[block]
        z = np.hstack([np.ones((len(student[rows]), 1)), student[rows] - shift[0], teacher[rows] - shift[1]])
        total += z.T @ z
    return total


def centre_products(total: np.ndarray) -> np.ndarray:
    """Return the sums about the means of the rows, shape (d + D, d + D), from those about any other point."""
    return total[1:, 1:] - np.outer(total[1:, 0], total[0, 1:]) / total[0, 0]
