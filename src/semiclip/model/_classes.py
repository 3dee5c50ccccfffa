"""Classes of an objective that learns from labels: the perturbations of the training rows."""

from __future__ import annotations

import numpy as np
import pandas as pd

from semiclip._checks import some


def classes_of(labels: np.ndarray, key: np.ndarray, train: np.ndarray, n_keys: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the classes of the training rows, sorted, and the class of each pairing key, -1 if training has none.

    Parameters
    ----------
    labels, key
        Label and pairing key of each student row, shape (n_student,); the key is -1 where a row is not paired.
    train
        Training rows, all of them paired.
    n_keys
        Number of keys.

    Raises
    ------
    ValueError
        If rows of one key differ in label, so that the teacher rows they are paired with would have none.
    """
    paired = key >= 0
    names = pd.DataFrame({"key": key[paired], "label": labels[paired]}).drop_duplicates()
    if (twice := names["key"].duplicated(keep=False)).any():
        first = names[twice].sort_values("key", kind="stable")
        n, example = first["key"].nunique(), first[first["key"] == first["key"].iloc[0]]["label"]
        msg = (
            f"samples of one pairing key must have one label, but {n} key(s) have several, such as {some(example)}; "
            "pair on the label too, or choose another label_key"
        )
        raise ValueError(msg)
    classes = np.unique(labels[train])
    of_key = np.full(n_keys, -1)
    place = np.minimum(np.searchsorted(classes, names["label"]), len(classes) - 1)
    of_key[names["key"]] = np.where(classes[place] == names["label"].to_numpy(), place, -1)
    return classes, of_key
