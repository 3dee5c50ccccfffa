from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

BLOCK = 1 << 14  # rows in float64 at a time, so that no such copy of a whole embedding exists


@runtime_checkable
class ClosedForm(Protocol):
    """What takes the place of a distilled embedding: learned from paired rows, applied to any student rows.

    To add one, write it in a file of its own and name it in ``BASELINES``. Options are keyword arguments of
    ``__init__``, which checks them.
    """

    fitted: dict[str, np.ndarray]
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
        ...

    def transform(self, student: np.ndarray) -> np.ndarray:
        """Return the embedding of rows (m, d), float32 of shape (m, p), by the options and ``fitted`` alone.

        Raises
        ------
        RuntimeError
            If nothing was learned.
        ValueError
            If the rows have another width than those it was learned from.
        """
        ...


def check_pairs(student: np.ndarray, teacher: np.ndarray, key: np.ndarray) -> None:
    """Refuse rows that do not fit together, or that have a single key."""
    shapes = np.shape(student), np.shape(teacher), np.shape(key)
    if [len(shape) for shape in shapes] != [2, 2, 1] or len({shape[0] for shape in shapes}) > 1:
        msg = f"student (n, d), teacher (n, D) and key (n,) are needed, not {shapes[0]}, {shapes[1]} and {shapes[2]}"
        raise ValueError(msg)
    if (n_keys := len(np.unique(key))) < 2:
        msg = f"a baseline is learned from rows of at least 2 pairing keys, but the {len(key)} row(s) have {n_keys}"
        raise ValueError(msg)


def learned(baseline: ClosedForm, student: np.ndarray, width: str) -> dict[str, np.ndarray]:
    """Return what was learned; ``width`` names the array of it whose last axis is that of the student's dimensions."""
    fitted = baseline.fitted
    if not fitted:
        msg = "this baseline is not fitted; call .fit(student, teacher, key, rng=rng) on the training rows first"
        raise RuntimeError(msg)
    n_dimensions = fitted[width].shape[-1]
    if student.ndim != 2 or student.shape[1] != n_dimensions:
        msg = f"student has shape {student.shape}, but the baseline was fitted on rows of {n_dimensions} dimensions"
        raise ValueError(msg)
    return fitted


def at_least_one(name: str, number: int) -> None:
    """Refuse an option that is not a number of things."""
    if not isinstance(number, int | np.integer) or number < 1:
        msg = f"{name}={number!r} must be a whole number, at least 1"
        raise ValueError(msg)


def blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """Cut ``range(n)`` into slices."""
    return (slice(start, start + size) for start in range(0, n, size))
