from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
import pandas as pd

from semiclip.encoders._expression import densify, find_rows, is_fractional, normalize_expression, warn_unless_counts
from semiclip.errors import NotFitted, WrongShape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData


@runtime_checkable
class ExpressionAugmentation(Protocol):
    """Anything that can draw other expression of the samples that it was fitted on."""

    def fit(self, expression: Expression, rng: np.random.Generator) -> ExpressionAugmentation:
        """Learn what drawing needs; returns the augmentation itself."""
        ...

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw expression for these rows, float32 of shape (len(rows), n_genes) in the scale of ``Expression.read``."""
        ...


class FittedDraws:
    """The protocol that all augmentations share; ``_learn`` and ``_change`` are theirs."""

    _expression: Expression

    def fit(self, expression: Expression, rng: np.random.Generator) -> Self:
        """Learn what drawing needs and return the augmentation itself; a fit that fails leaves it as it was."""
        self._learn(expression, rng)
        self._expression = expression
        return self

    def draw(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw other expression of these rows, float32 of shape (len(rows), n_genes); rows of group -1 are as read."""
        if not hasattr(self, "_expression"):
            raise NotFitted(type(self).__name__, "call .fit(expression, rng) first")
        rows = np.asarray(rows)
        drawn = self._expression.read(rows)
        self._change(drawn, rows, np.flatnonzero(self._expression.group[rows] >= 0), rng)
        return drawn

    def _learn(self, expression: Expression, rng: np.random.Generator) -> None:
        """Set attributes, once nothing can fail any more."""
        raise NotImplementedError

    def _change(self, drawn: np.ndarray, rows: np.ndarray, treated: np.ndarray, rng: np.random.Generator) -> None:
        """Put what is drawn into ``drawn[treated]``, where the expression of ``rows`` is."""
        raise NotImplementedError


@dataclass(frozen=True)
class Expression:
    """Expression of all samples, dense or sparse, which augmentations read in blocks.

    Parameters
    ----------
    values
        Counts, or values that are normalised already, shape (n, n_genes).
    group
        Integer code of each sample's perturbation, shape (n,); -1 for those that are not augmented, such as controls.
    batch
        Integer code of each sample's batch, shape (n,).
    genes, batch_names
        Names of the genes, and of the batches by their codes.
    normalize
        Whether values are counts, which are read as log1p of 10,000 counts of each sample, or read as they are. Counts
        that are not whole numbers bring a warning.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> one = np.zeros(2, dtype=int)
    >>> expression = Expression(np.array([[1, 3], [0, 2]]), group=one, batch=one, genes=pd.Index(["ABCB1", "ACTB"]))
    >>> np.expm1(expression.read(np.array([0]))).round().tolist()
    [[2500.0, 7500.0]]
    """

    values: Any
    group: np.ndarray
    batch: np.ndarray
    genes: pd.Index
    batch_names: Sequence[Any] = ("all rows",)
    normalize: bool = True

    def __post_init__(self) -> None:
        n = self.values.shape[0]
        for name in ("group", "batch"):
            if (shape := getattr(self, name).shape) != (n,):
                raise WrongShape(name, shape, f"one code for each sample, ({n},)")
        if self.normalize:
            warn_unless_counts(self.values)

    @property
    def whole(self) -> bool:
        """Whether values are counts, and all of them whole numbers."""
        return self.normalize and not find_rows(self.values, is_fractional).size

    @property
    def n_genes(self) -> int:
        """Number of genes."""
        return self.values.shape[1]

    def adata(self, rows: np.ndarray, batch_key: str, layer: str | None = None) -> AnnData:
        """Return some rows as encoders read them, with the names of their batches in ``obs[batch_key]``."""
        from anndata import AnnData

        obs = pd.DataFrame({batch_key: np.asarray(self.batch_names, dtype=str)[self.batch[rows]]}, rows.astype(str))
        values = self.values[rows]
        return AnnData(values, obs, pd.DataFrame(index=self.genes), layers={} if layer is None else {layer: values})

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return expression of some rows, a new dense float32 array (len(rows), n_genes)."""
        if not len(rows):
            return np.empty((0, self.n_genes), dtype=np.float32)
        names = pd.Index(rows).map("row {}".format)
        return densify(normalize_expression(self.values[rows], names, normalize=self.normalize), copy=True)

    def restore(self, rows: np.ndarray, drawn: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Return what was drawn in the scale of the values: counts that sum to the number of counts of each row.

        With ``rng``, counts are rounded up or down at random, so that they are whole, and right on average.
        """
        if not self.normalize:
            return drawn
        counts = np.maximum(drawn, 0, dtype=np.float64)
        np.expm1(counts, out=counts)
        total = counts.sum(axis=1, keepdims=True)
        library = np.asarray(self.values[rows].sum(axis=1), dtype=np.float64).reshape(-1, 1)
        counts *= np.divide(library, total, out=np.zeros_like(total), where=total > 0)
        if rng is not None:
            counts += rng.random(counts.shape)
            np.floor(counts, out=counts)
        return counts.astype(np.float32)
