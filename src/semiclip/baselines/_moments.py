"""Sums of products of paired rows: all that the linear baselines need, and small whatever the number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from semiclip.baselines._protocol import blocks, learned

if TYPE_CHECKING:
    from semiclip.baselines._protocol import ClosedForm


def mean(x: np.ndarray) -> np.ndarray:
    """Return the mean row in float64, shape (d,)."""
    # relative to the first row, so that a constant dimension has exactly its value as mean and nothing is left of it
    first = x[0].astype(np.float64)
    return first + sum((x[rows] - first).sum(axis=0) for rows in blocks(len(x))) / len(x)


def gram(
    student: np.ndarray,
    teacher: np.ndarray,
    shift: tuple[np.ndarray, np.ndarray],
    numbers: np.ndarray | None = None,
) -> np.ndarray:
    """Sum the products of ``z = (1, student − shift, teacher − shift)`` with itself over rows.

    Parameters
    ----------
    student, teacher
        Paired rows, shapes (n, d) and (n, D).
    shift
        What is subtracted from either, near their means, shapes (d,) and (D,).
    numbers
        Which rows; all by default.

    Returns
    -------
    Sums in float64, shape (1 + d + D, 1 + d + D); those of several sets of rows add up.
    """
    width = student.shape[1]
    total = np.zeros((1 + width + teacher.shape[1],) * 2)
    for block in blocks(len(student) if numbers is None else len(numbers)):
        rows = block if numbers is None else numbers[block]
        z = np.hstack([np.ones((len(student[rows]), 1)), student[rows] - shift[0], teacher[rows] - shift[1]])
        total += z.T @ z
    return total


def centred(total: np.ndarray) -> np.ndarray:
    """Return the sums about the means of the rows, shape (d + D, d + D), from those about any other point."""
    return total[1:, 1:] - np.outer(total[1:, 0], total[0, 1:]) / total[0, 0]


def linear(baseline: ClosedForm, student: np.ndarray) -> np.ndarray:
    """Apply ``x ↦ (x − shift) · weight + offset``, of shapes (d,), (d, p) and (p,), in float64; float32 comes out."""
    shift, weight, offset = (learned(baseline, student, "shift")[name] for name in ("shift", "weight", "offset"))
    out = np.empty((len(student), weight.shape[1]), dtype=np.float32)
    for rows in blocks(len(student)):
        out[rows] = (student[rows] - shift) @ weight + offset
    return out
