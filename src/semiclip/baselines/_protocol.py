from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from semiclip._numerics import row_blocks
from semiclip.errors import Mismatch, NotFitted, TooFew, WrongShape

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
