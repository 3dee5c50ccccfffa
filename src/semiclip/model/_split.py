"""Which samples train and which are held out, never tearing a group apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Sequence


def split_groups(
    rows: np.ndarray, groups: np.ndarray, train_size: float, validation_size: float | None, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split rows so that no group is on two sides."""
    from sklearn.model_selection import GroupShuffleSplit

    validation_size = 1 - train_size if validation_size is None else validation_size
    if not 0 < train_size <= 1 or not 0 <= validation_size <= 1 or train_size + validation_size > 1 + 1e-9:
        msg = (
            f"train_size={train_size} and validation_size={validation_size} must be fractions that add up to 1 at most"
        )
        raise ValueError(msg)
    none = rows[:0]
    if validation_size < 1e-9:
        return rows, none, none
    n_groups = len(np.unique(groups))
    if n_groups < 2:
        msg = (
            "all paired samples belong to one group, so none can be held out for validation; name another split_key in "
            "the setup or train with train_size=1.0"
        )
        raise ValueError(msg)
    n_validation = min(max(1, round(validation_size * n_groups)), n_groups - 1)
    n_train = min(max(1, round(train_size * n_groups)), n_groups - n_validation)
    splitter = GroupShuffleSplit(1, train_size=n_train, test_size=n_validation, random_state=seed % 2**32)
    train, validation = next(splitter.split(rows, groups=groups))
    return rows[train], rows[validation], np.setdiff1d(rows, rows[np.concatenate([train, validation])])


def tied(code: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Put groups together of which samples share a pairing key, and so the teacher that they learn from.

    Parameters
    ----------
    code
        Code of the group of each sample, such as its guide, shape (n,).
    key
        Code of its pairing key, such as its gene, shape (n,); -1 for none.

    Returns
    -------
    For each sample the first code of all the groups that are tied to its own.

    Examples
    --------
    >>> tied(np.array([0, 1, 2, 3]), np.array([0, 0, 1, -1])).tolist()
    [0, 0, 2, 3]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_groups, keyed = int(code.max(initial=-1)) + 1, key >= 0
    size = n_groups + int(key.max(initial=-1)) + 1
    edges = code[keyed], n_groups + key[keyed]
    graph = coo_array((np.ones(keyed.sum(), dtype=bool), edges), shape=(size, size))
    component = connected_components(graph, directed=False)[1][:n_groups]
    _, first, whole = np.unique(component, return_index=True, return_inverse=True)
    return first[whole][code]


def given_split(external_indexing: Sequence[np.ndarray], paired: np.ndarray) -> list[np.ndarray]:
    parts = [np.flatnonzero(part) if np.asarray(part).dtype == bool else np.asarray(part) for part in external_indexing]
    parts += [paired[:0]] * (3 - len(parts))
    if unpaired := np.setdiff1d(np.concatenate(parts), paired).tolist():
        msg = f"external_indexing has rows that are controls, unpaired or not there: {some(unpaired)}"
        raise ValueError(msg)
    if np.unique(np.concatenate(parts)).size < sum(map(len, parts)):
        msg = "external_indexing has rows in more than one of training, validation and test"
        raise ValueError(msg)
    return parts
