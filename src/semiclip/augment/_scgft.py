from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from semiclip._arguments import check_whole
from semiclip._numerics import row_blocks, rows_at_once
from semiclip.augment._protocol import Expression, FittedDraws
from semiclip.errors import TooMany

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_VALUES = 2**23  # values of expression that are held at a time, 32 MB as float32
BLOCK_ROWS = 1024  # and rows, since distances are between two blocks
LOWEST = 1e-6  # expression below this is 0


@dataclass(kw_only=True, eq=False)
class ScGFT(FittedDraws):
    """Amplify random frequencies of each sample's Fourier transform over its genes, as scGFT does.

    Frequencies other than the mean are chosen uniformly. A factor from N(2, sd) multiplies the coefficient and its
    conjugate. The sd is the standard deviation of the coefficient's amplitudes over the samples of a perturbation,
    scaled so that their squares sum to 1; for a perturbation with one sample it is 1. The transform back is averaged
    with the sample and its nearest neighbours of the same perturbation.

    Genes are transformed in descending order of variance, so that the order of the columns does not matter. The source
    is Nouri 2025, Communications Biology 8:113. In the released code an odd number of genes leaves out the conjugate,
    which halves the change; two choices may be conjugates, and then both factors meet; and neighbours are those in a
    graph of all samples that belong to the perturbation, here the nearest within it over the same genes.

    Parameters
    ----------
    n_components
        Frequencies that are changed in each sample, at most half the number of genes.
    n_neighbors
        Samples that the result is averaged with: the sample itself, then those of its perturbation that are nearest by
        Euclidean distance, as many as there are. 0 turns this off, 1 averages with the sample alone.
    n_variable
        Genes of highest variance that are transformed, all with ``None``. Others stay as they are.
    progress_bar
        Whether to show progress of the fit.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from semiclip.augment import Expression
    >>> rng, group = np.random.default_rng(0), np.array([0, 0, 0, 1, 1, -1])
    >>> expression = Expression(rng.poisson(20, (6, 8)), group, np.zeros(6, int), pd.Index(list("abcdefgh")))
    >>> drawn = ScGFT(progress_bar=False).fit(expression, rng).draw(np.arange(6), rng)
    >>> (drawn == expression.read(np.arange(6))).all(axis=1).tolist()
    [False, False, False, False, False, True]
    """

    n_components: int = 1
    n_neighbors: int = 20
    n_variable: int | None = 2000
    progress_bar: bool = True

    def __post_init__(self) -> None:
        check_whole("n_components", self.n_components)
        check_whole("n_neighbors", self.n_neighbors, 0)
        if self.n_variable is not None:
            check_whole("n_variable", self.n_variable, 2)

    def _learn(self, expression: Expression, rng: np.random.Generator) -> None:
        group = expression.group
        n_genes = min(expression.n_genes, self.n_variable or expression.n_genes)
        if self.n_components > n_genes // 2:
            what = f"frequencies to change (n_components) in the transform of {n_genes} gene(s)"
            raise TooMany(what, self.n_components, n_genes // 2, "choose fewer, or more genes with n_variable")
        order = np.argsort(group, kind="stable")
        order = order[group[order] >= 0]
        genes = self._variable_genes(expression, n_genes)
        sds = self._amplitude_sds(expression, genes, order)
        neighbors = self._nearest(expression, genes, order)
        self.genes_, self.sds_, self.neighbors_ = genes, sds, neighbors

    def _change(self, drawn: np.ndarray, rows: np.ndarray, treated: np.ndarray, rng: np.random.Generator) -> None:
        chosen, target = rows[treated], np.ix_(treated, self.genes_)
        original = drawn[target]
        shuffled = rng.random((len(chosen), self.sds_.shape[1]))
        picked = np.argpartition(shuffled, self.n_components - 1, axis=1)[:, : self.n_components]
        factors = rng.normal(2, self.sds_[self._expression.group[chosen, None], picked])
        values = amplify(original, picked + 1, factors)
        if self.n_neighbors:
            values = self._averaged(values + original, chosen)
        if self._expression.normalize:  # values that are normalised already may be negative
            values[values < LOWEST] = 0
        drawn[target] = values

    def _variable_genes(self, expression: Expression, n_genes: int) -> np.ndarray:
        """Return the genes of highest variance over all samples, the highest first."""
        n = len(expression.group)
        total, squares = np.zeros((2, expression.n_genes))
        for rows in self._blocks(expression, np.arange(n), "variances of genes"):
            block = expression.read(rows).astype(np.float64)
            total += block.sum(axis=0)
            squares += (block**2).sum(axis=0)
        return np.argsort(-(squares - total**2 / max(n, 1)), kind="stable")[:n_genes]

    def _amplitude_sds(self, expression: Expression, genes: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Return the standard deviation of each group's scaled amplitudes, shape (groups, frequencies)."""
        size = np.bincount(expression.group[order])
        total, squares = np.zeros((2, len(size), len(genes) // 2))
        for rows in self._blocks(expression, order, "amplitudes"):
            amplitude = np.abs(np.fft.rfft(_read(expression, genes, rows), axis=1)[:, 1:])
            groups, starts = np.unique(expression.group[rows], return_index=True)
            total[groups] += np.add.reduceat(amplitude, starts)
            squares[groups] += np.add.reduceat(amplitude**2, starts)
        # the squares of scaled amplitudes sum to 1, and so the sum over all samples gives their variance
        n = size[:, None]
        explained = np.divide(total**2, n * squares, out=np.ones_like(total), where=squares > 0)
        sds = np.sqrt(np.maximum(1 - explained, 0) / np.maximum(n - 1, 1))
        sds[size == 1] = 1
        return sds.astype(np.float32)

    def _nearest(self, expression: Expression, genes: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Return the nearest other samples of the same group, in no order; -1 where a group has fewer."""
        group = expression.group[order]
        width = max(0, min(self.n_neighbors, np.bincount(group).max(initial=0)) - 1)
        neighbors = np.full((len(expression.group), width), -1)
        if not width:
            return neighbors
        for rows in self._blocks(expression, order, "neighbours"):
            x, codes = _read(expression, genes, rows), expression.group[rows]
            nearest, names = np.full((len(rows), width), np.inf), np.full((len(rows), width), -1)
            candidates = order[np.searchsorted(group, codes[0]) : np.searchsorted(group, codes[-1], side="right")]
            for block in row_blocks(len(candidates), _step(expression)):
                others = candidates[block]
                y = _read(expression, genes, others)
                distance = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
                distance[(codes[:, None] != expression.group[others]) | (rows[:, None] == others)] = np.inf
                distance = np.hstack([nearest, distance])
                names = np.hstack([names, np.broadcast_to(others, (len(rows), len(others)))])
                best = np.argpartition(distance, width - 1, axis=1)[:, :width]
                nearest, names = np.take_along_axis(distance, best, 1), np.take_along_axis(names, best, 1)
            neighbors[rows] = np.where(np.isfinite(nearest), names, -1)
        return neighbors

    def _averaged(self, total: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Add the neighbours of some rows to the sum of two arrays, and return the average."""
        neighbors = self.neighbors_[rows]
        exists = neighbors >= 0
        names, column = np.unique(neighbors[exists], return_inverse=True)
        entries = np.ones(column.size), (np.nonzero(exists)[0], column)
        member = sparse.csc_array(entries, shape=(len(rows), max(names.size, 1)))
        for block in row_blocks(names.size, _step(self._expression)):
            total += member[:, block] @ _read(self._expression, self.genes_, names[block])
        return total / (2 + exists.sum(axis=1, keepdims=True))

    def _blocks(self, expression: Expression, rows: np.ndarray, what: str) -> Iterator[np.ndarray]:
        """Yield rows in blocks, with a progress bar."""
        from tqdm.auto import tqdm

        blocks = [*row_blocks(len(rows), _step(expression))]
        for block in tqdm(blocks, what, unit="block", delay=1, disable=not self.progress_bar):
            yield rows[block]


def amplify(values: np.ndarray, frequencies: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Multiply frequencies (n, c), distinct in each row, of the Fourier transforms of real rows (n, g) by factors."""
    # half a spectrum holds each frequency once, so that what multiplies a coefficient multiplies its conjugate too
    spectrum = np.fft.rfft(values.astype(np.float64), axis=1)
    spectrum[np.arange(len(values))[:, None], frequencies] *= factors
    return np.fft.irfft(spectrum, values.shape[1], axis=1)


def _step(expression: Expression) -> int:
    """Return how many samples are read at a time."""
    return min(BLOCK_ROWS, rows_at_once(BLOCK_VALUES, expression.n_genes))


def _read(expression: Expression, genes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return float64 values of the genes that are transformed."""
    return expression.read(rows)[:, genes].astype(np.float64)
