"""Reads what a measure is given, and pairs matrices, dense or sparse, of which only a block is dense at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from semiclip._checks import finite_rows

if TYPE_CHECKING:
    Matrix = Any  # a NumPy array or a sparse matrix


def vectors(x: Any, name: str = "x") -> np.ndarray:
    """Return what came as an array, a DataFrame or lists as an array of real numbers."""
    if sparse.issparse(x):
        msg = f"{name} is sparse, but an embedding is dense; pass {name}.toarray()"
        raise TypeError(msg)
    msg = f"{name} is {type(x).__name__}, not an array of real numbers; pass one with a row for each observation"
    try:
        values = np.asarray(x)
        values = values.astype(np.float64) if values.dtype == object else values
    except (TypeError, ValueError) as error:
        raise TypeError(msg) from error
    if values.dtype.kind not in "biuf":
        raise TypeError(msg)
    return values


def matched(**given: Any) -> list[Matrix]:
    """Return matrices as arrays, or in CSR form where they are sparse; all must be finite and of one shape."""
    matrices = {name: x.tocsr() if sparse.issparse(x) else np.asarray(x) for name, x in given.items()}
    for name, x in matrices.items():
        if x.dtype.kind not in "biuf":
            msg = f"{name} holds {x.dtype} values, not real numbers"
            raise TypeError(msg)
    shapes = [x.shape for x in matrices.values()]
    if len(shapes[0]) != 2 or 0 in shapes[0] or len(set(shapes)) > 1:
        told = " and ".join(f"{name} has shape {x.shape}" for name, x in matrices.items())
        msg = f"{told}; all need the same rows (samples) and columns (genes), at least one of each"
        raise ValueError(msg)
    for name, x in matrices.items():
        # the sum of a row is finite only if the row is
        rows = np.asarray(x.sum(axis=1)).reshape(-1, 1) if sparse.issparse(x) else x
        finite_rows(rows, pd.RangeIndex(x.shape[0]), name)
    return list(matrices.values())


def dense(x: Matrix) -> np.ndarray:
    """Return a block as an array."""
    return x.toarray() if sparse.issparse(x) else x


def mask(control: Any, n: int) -> np.ndarray:
    """Refuse what does not say of each row whether it is a control."""
    is_control = np.asarray(control)
    if is_control.dtype != bool or is_control.shape != (n,):
        msg = (
            f"control holds {is_control.dtype} of shape {is_control.shape}; it is a mask with one boolean per row, of "
            f"shape ({n},), such as labels == 'DMSO'"
        )
        raise TypeError(msg)
    return is_control


def coded(labels: Any, n: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the code of each row's label and the labels in order; every row has one."""
    # a list of strings as an array of strings would turn a missing one into the string "nan"
    values = np.asarray(labels, dtype=None if hasattr(labels, "dtype") else object)
    if values.shape != (n,):
        msg = f"{name} has shape {values.shape} for {n} rows; one label per row is needed"
        raise ValueError(msg)
    codes, names = pd.factorize(values, sort=True)
    if missing := int((codes < 0).sum()):
        msg = f"{name} has no label in {missing} row(s); fill or drop them"
        raise ValueError(msg)
    return codes, np.asarray(names)
