"""Reads and checks what the measures are given, so that each refusal is written once."""

from typing import Any

import numpy as np
import pandas as pd
from array_api_compat import array_namespace
from scipy import sparse

from semiclip._arguments import check_whole
from semiclip._checks import check_finite
from semiclip.errors import BadValue, Mismatch, MissingValues, WrongDtype, WrongShape, WrongType

Matrix = Any  # a NumPy array or a sparse matrix
Array = Any  # a NumPy array or a torch tensor

DECIMALS = 12  # cosines that differ by less are rounding errors of the same cosine


def read_vectors(x: Any, name: str = "x") -> np.ndarray:
    """Return an array, a DataFrame or lists as rows of real numbers, shape (n, d)."""
    if sparse.issparse(x):
        raise WrongType(name, type(x), "a dense embedding", f"pass {name}.toarray()")
    try:
        values = np.asarray(x)
        values = values.astype(np.float64) if values.dtype == object else values
    except (TypeError, ValueError) as error:
        raise WrongType(name, type(x), "an array of real numbers with a row per observation") from error
    if values.dtype.kind not in "biuf":
        raise WrongDtype(name, values.dtype)
    if values.ndim != 2:
        raise WrongShape(name, values.shape, "(n, d), rows of an embedding")
    return values


def read_embedding(x: Any, name: str = "x") -> np.ndarray:
    """Return rows of finite real numbers, shape (n, d)."""
    values = read_vectors(x, name)
    check_finite(values, range(len(values)), name)
    return values


def read_matched(**matrices: Any) -> list[Matrix]:
    """Return finite matrices of one shape as arrays, or in CSR form where they are sparse."""
    matrices = {name: x.tocsr() if sparse.issparse(x) else np.asarray(x) for name, x in matrices.items()}
    shape = next(iter(matrices.values())).shape
    for name, x in matrices.items():
        if x.dtype.kind not in "biuf":
            raise WrongDtype(name, x.dtype)
        if x.ndim != 2 or 0 in x.shape:
            raise WrongShape(name, x.shape, "(n, g), samples by genes, at least one of each")
        if x.shape != shape:
            raise Mismatch(f"the shape of {name}", x.shape, shape)
    for name, x in matrices.items():
        # the sum of a row is finite only if the row is
        rows = np.asarray(x.sum(axis=1)).reshape(-1, 1) if sparse.issparse(x) else x
        check_finite(rows, range(len(rows)), name)
    return list(matrices.values())


def read_codes(codes: Any, n: int, n_groups: int | None = None) -> np.ndarray:
    """Return the group of each of ``n`` rows, of 0 … ``n_groups`` − 1 if that number is known."""
    codes = np.asarray(codes)
    if codes.shape != (n,):
        raise WrongShape("codes", codes.shape, f"({n},), one group per row")
    if n_groups is not None and codes.size and not (codes.min() >= 0 and codes.max() < n_groups):
        raise BadValue("codes", (int(codes.min()), int(codes.max())), f"from 0 to {n_groups - 1}")
    return codes


def read_labels(labels: Any, n: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the code of each row's label and the labels in order; every row has one."""
    # a list of strings as an array of strings would turn a missing one into the string "nan"
    values = np.asarray(labels, dtype=None if hasattr(labels, "dtype") else object)
    if values.shape != (n,):
        raise WrongShape(name, values.shape, f"({n},), one label per row")
    codes, names = pd.factorize(values, sort=True)
    if (missing := np.flatnonzero(codes < 0)).size:
        raise MissingValues(name, missing.tolist())
    return codes, np.asarray(names)


def read_mask(control: Any, n: int) -> np.ndarray:
    """Return which of ``n`` rows are controls."""
    mask = np.asarray(control)
    if mask.dtype != bool or mask.shape != (n,):
        needed = f"a mask of shape ({n},), one boolean per row"
        raise WrongType("control", type(control), needed, "compare labels, such as labels == 'DMSO'")
    return mask


def check_permutations(n_permutations: int) -> None:
    """Refuse a number of permutations that has no standard deviation; 0 leaves chance out."""
    check_whole("n_permutations", n_permutations, 0)
    if n_permutations == 1:
        raise BadValue("n_permutations", 1, "at least 2 for a standard deviation, or 0 to leave chance out")


def membership(codes: np.ndarray, n_groups: int, weights: np.ndarray | None = None) -> sparse.csc_array:
    """Return which group each row is in, shape (n_groups, n): a single 1, or the row's weight, in each column."""
    values = np.ones(codes.size) if weights is None else weights
    return sparse.csc_array((values, codes, np.arange(codes.size + 1)), shape=(n_groups, codes.size))


def dense(x: Matrix) -> np.ndarray:
    """Return a block as an array."""
    return x.toarray() if sparse.issparse(x) else x


def normalise(x: Array, eps: float = 1e-12) -> Array:
    """Return the rows of ``x``, shape (n, d), at length one; rows shorter than ``eps`` are divided by ``eps``."""
    xp = array_namespace(x)
    return x / xp.clip(xp.linalg.vector_norm(x, axis=-1, keepdims=True), min=eps)
