from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from semiclip._arguments import check_whole
from semiclip._numerics import row_blocks, rows_at_once
from semiclip.augment._protocol import FittedDraws
from semiclip.errors import TooMany

if TYPE_CHECKING:
    from collections.abc import Iterator

    from semiclip.augment._protocol import Expression

BLOCK_VALUES = 2**23  # values of expression that are held at a time, 32 MB as float32
BLOCK_ROWS = 1024  # and rows, since distances are between two blocks
LOWEST = 1e-6  # expression below this is 0


class ScGFT(FittedDraws):
    """Amplify random frequencies of each sample's Fourier transform over its genes, as scGFT does.

    Frequencies other than the mean are chosen uniformly. A factor from N(2, sd) multiplies the coefficient and its
    conjugate. The sd is the standard deviation of the coefficient's amplitudes over the samples of a perturbation,
    scaled so that their squares sum to 1; for a perturbation with one sample it is 1. The transform back is averaged
    with the sample and its nearest neighbours of the same perturbation.

    Genes are transformed in descending order of variance, so that the order of the columns does not matter. This
    differs from the released code in three things. With an odd number of genes that code leaves out the conjugate, and
    so makes half of the change. Two of its choices may be conjugates, and then both factors meet. Its neighbours are
    neighbours in a graph of all samples that belong to the perturbation; here they are the nearest within the
    perturbation over the same genes.

    Parameters
    ----------
    n_components
        Frequencies that are changed in each sample.
    n_neighbors
        Samples that the result is averaged with: the sample itself, then those of its perturbation that are nearest by
        Euclidean distance, as many as there are. 0 turns this off, 1 averages with the sample alone.
    n_variable
        Genes of highest variance that are transformed, all with ``None``. Others stay as they are.
    progress_bar
        Whether to show progress of the fit.

    References
    ----------
    Nouri 2025, Communications Biology 8:113; named as a rival of PEA by Bendidi et al., ICML 2025, Figure 2b, DOI
    10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from semiclip.augment import Expression, ScGFT
    >>> rng = np.random.default_rng(0)
    >>> counts, group = rng.poisson(20, (6, 30)), np.array([0, 0, 0, 1, 1, -1])
    >>> expression = Expression(counts, group, np.zeros(6, int), pd.Index([f"gene{i}" for i in range(30)]))
    >>> scgft = ScGFT(n_neighbors=2, progress_bar=False).fit(expression, rng)
    >>> drawn = scgft.draw(np.arange(6), rng)
    >>> (drawn == expression.read(np.arange(6))).all(axis=1).tolist()
    [False, False, False, False, False, True]
    """

    def __init__(
        self,
        *,
        n_components: int = 1,
        n_neighbors: int = 20,
        n_variable: int | None = 2000,
        progress_bar: bool = True,
    ) -> None:
        check_whole("n_components", n_components)
        check_whole("n_neighbors", n_neighbors, 0)
        if n_variable is not None:
            check_whole("n_variable", n_variable, 2)
        self.n_components, self.n_neighbors, self.n_variable = n_components, n_neighbors, n_variable
        self.progress_bar = progress_bar

    def fit(self, expression: Expression, rng: np.random.Generator) -> ScGFT:
        """Find the variable genes, how amplitudes vary and which samples are near; returns the augmentation itself.

        Raises
        ------
        ValueError
            If ``n_components`` is above half the number of genes, or expression is not finite; this augmentation is
            then as it was.
        """
        group = expression.group
        n_genes = min(expression.n_genes, self.n_variable or expression.n_genes)
        if self.n_components > n_genes // 2:
            raise TooMany(
                f"frequencies to change (n_components) in the transform of {n_genes} gene(s)",
                self.n_components,
                n_genes // 2,
                "choose fewer, or more genes with n_variable",
            )
        order = np.argsort(group, kind="stable")
        order = order[group[order] >= 0]
        genes = self._variable(expression, n_genes)
        sds = self._amplitude_sds(expression, genes, order)
        neighbors = self._nearest(expression, genes, order)
        self._expression, self.genes_, self.sds_, self.neighbors_ = expression, genes, sds, neighbors
        return self

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

    def _variable(self, expression: Expression, n_genes: int) -> np.ndarray:
        """Return the genes of highest variance over all samples, the highest first."""
        n = len(expression.group)
        total, squares = np.zeros((2, expression.n_genes))
        for rows in self._blocks(np.arange(n), _step(expression), "variances of genes"):
            block = expression.read(rows).astype(np.float64)
            total += block.sum(axis=0)
            squares += (block**2).sum(axis=0)
        return np.argsort(-(squares - total**2 / max(n, 1)), kind="stable")[:n_genes]

    def _amplitude_sds(self, expression: Expression, genes: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Return the standard deviation of each group's scaled amplitudes, shape (groups, frequencies)."""
        size = np.bincount(expression.group[order])
        total, squares = np.zeros((2, len(size), len(genes) // 2))
        for rows in self._blocks(order, _step(expression), "amplitudes"):
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
        group, step = expression.group[order], _step(expression)
        width = max(0, min(self.n_neighbors, np.bincount(group).max(initial=0)) - 1)
        neighbors = np.full((len(expression.group), width), -1)
        if not width:
            return neighbors
        for rows in self._blocks(order, step, "neighbours"):
            values = _read(expression, genes, rows)
            nearest, names = np.full((len(rows), width), np.inf), np.full((len(rows), width), -1)
            codes = expression.group[rows]
            candidates = order[np.searchsorted(group, codes[0]) : np.searchsorted(group, codes[-1], side="right")]
            for block in row_blocks(len(candidates), step):
                others = candidates[block]
                distance = _squared_distances(values, _read(expression, genes, others))
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

    def _blocks(self, rows: np.ndarray, step: int, what: str) -> Iterator[np.ndarray]:
        """Yield rows in blocks, with a progress bar."""
        from tqdm.auto import tqdm

        blocks = [*row_blocks(len(rows), step)]
        for block in tqdm(blocks, what, unit="block", delay=1, disable=not self.progress_bar):
            yield rows[block]


def amplify(values: np.ndarray, frequencies: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Return real rows (n, g), float64, after multiplying frequencies of their discrete Fourier transforms.

    ``frequencies``, shape (n, c), are distinct in each row, from 1 to ``g // 2``. Half a spectrum holds each once, so
    that a factor (n, c) that multiplies a coefficient multiplies its conjugate too.

    Examples
    --------
    >>> amplify(np.array([[1.0, 0.0, -1.0, 0.0]]), np.array([[1]]), np.array([[3.0]])).round(6).tolist()
    [[3.0, 0.0, -3.0, 0.0]]
    """
    spectrum = np.fft.rfft(values.astype(np.float64), axis=1)
    spectrum[np.arange(len(values))[:, None], frequencies] *= factors
    return np.fft.irfft(spectrum, values.shape[1], axis=1)


def _step(expression: Expression) -> int:
    """Return how many samples are read at a time."""
    return min(BLOCK_ROWS, rows_at_once(BLOCK_VALUES, expression.n_genes))


def _read(expression: Expression, genes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return float64 values of the genes that are transformed."""
    return expression.read(rows)[:, genes].astype(np.float64)


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
