"""Labels of perturbations: which of them name nothing, and which name the same combination."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from semiclip._design import Design

# what tables write where there is no label, and guide callers and demultiplexers where there is no single one; compared
# without case and superfluous blanks
UNLABELLED = (
    "", "-", "?", "#n/a", "<na>", "n.a.", "n/a", "na", "nan", "none", "null", "ambiguous", "doublet", "doublets",
    "multiplet", "multiplets", "not assigned", "not available", "unassigned", "undetermined", "unknown",
)  # fmt: skip
# of columns beside the perturbation, such as a second drug, "none" may be a value: only what pandas writes is none
MISSING_AS_TEXT = ("", "<na>", "nan")
INVISIBLE = " \t\n\r\v\f\u00a0\u2007\u202f\u200b\u200c\u200d\u2060\ufeff"  # blanks, also those that str.strip keeps


def fold(label: str) -> str:
    """Return a label without case and superfluous blanks."""
    return " ".join(unicodedata.normalize("NFC", label.strip(INVISIBLE).casefold()).split())


def _fold_any(label: Any) -> str:
    """Return a label, or a number, without case and superfluous blanks; -1.0 is -1."""
    if isinstance(label, str):
        return fold(label)
    is_whole = isinstance(label, float | np.floating) and float(label).is_integer()
    return fold(str(int(label) if is_whole else label))


def list_unlabelled(design: Design, key: str) -> tuple[str, ...]:
    """Return the labels, folded, that name nothing in a column: those of ``unlabelled=``, or the usual ones."""
    named = None if design.unlabelled is None else tuple(_fold_any(label) for label in design.unlabelled)
    if key == design.perturbation_key or key == (design.pair_on or ("",))[0]:
        return UNLABELLED if named is None else named
    return tuple(label for label in MISSING_AS_TEXT if named is None or label in named)


def mark_unlabelled(column: pd.Series, labels: Iterable[str]) -> np.ndarray:
    """Return a mask of the rows whose label is one of those, which are folded; a number is as it is written."""
    codes, names = pd.factorize(np.asarray(column.array, dtype=object))
    labels = frozenset(labels)
    is_one = np.array([_fold_any(name) in labels for name in names], dtype=bool)
    return np.append(is_one, False)[codes]  # -1, a missing value, is the last


def sort_combination(label: str, separator: str) -> str:
    """Return a label of several parts with these in order; any other as it is.

    >>> [sort_combination(label, "+") for label in ("b + a", "CD4+", "b")]
    ['a+b', 'CD4+', 'b']
    """
    parts = split_combination(label, separator)
    return separator.join(sorted(parts)) if parts else label


def split_combination(label: str, separator: str) -> Sequence[str]:
    """Return the parts of a label, none of them empty, or nothing if it is no combination."""
    parts = [part.strip(INVISIBLE) for part in label.split(separator)]
    return parts if len(parts) > 1 and all(parts) else []
