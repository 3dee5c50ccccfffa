"""Shares of annotated pairs per database, their mean and union, and what sampling and chance do to them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import sparse

from semiclip.metrics._map import in_tails

if TYPE_CHECKING:
    from semiclip.metrics._map import GeneMap

BLOCK = 1 << 22  # draws times pairs that exist at a time
Z = 1.959963984540054  # two-sided 95 % of a normal distribution


class Shares(NamedTuple):
    """Turns statements about distinct pairs into shares of each database, their mean and their union."""

    member: sparse.csr_array
    """Which distinct pairs each database holds, shape (n_databases, n_pairs), of ones."""
    first: np.ndarray
    """First gene of each distinct pair, a position in the map; shape (n_pairs,)."""
    second: np.ndarray
    """Second gene of each distinct pair."""

    @classmethod
    def of(cls, found: GeneMap) -> Shares:
        """Count a pair that several databases have once."""
        names, database, first, second = found.pairs
        _, row, pair = np.unique(first * len(found.genes) + second, return_index=True, return_inverse=True)
        member = sparse.csr_array((np.ones(len(pair)), (database, pair)), shape=(len(names), len(row)))
        return cls(member, first[row], second[row])

    @property
    def n_pairs(self) -> np.ndarray:
        """Pairs of each database and of their union, shape (n_databases + 1,)."""
        return np.append(np.diff(self.member.indptr), self.member.shape[1])

    @property
    def n_genes(self) -> np.ndarray:
        """Genes with a pair in each database and in their union, shape (n_databases + 1,)."""
        members = [self.member.indices[a:b] for a, b in pairwise(self.member.indptr)]
        return np.array([np.union1d(self.first[rows], self.second[rows]).size for rows in [*members, slice(None)]])

    def __call__(self, hit: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
        """Return the share of ``hit`` pairs, shape (n_pairs, …), among all.

        Shape (n_databases + 2, …): each database, the mean of those with a pair, the union. ``weight``, of the shape of
        ``hit``, is how often a pair counts.
        """
        weight = np.ones(hit.shape) if weight is None else weight
        counted = weight * hit
        part = np.concatenate([self.member @ counted, counted.sum(axis=0, keepdims=True)])
        whole = np.concatenate([self.member @ weight, weight.sum(axis=0, keepdims=True)])
        share = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
        held = whole[:-1] > 0
        total = np.where(held, share[:-1], 0.0).sum(axis=0, keepdims=True)
        n_held = held.sum(axis=0, keepdims=True)
        mean = np.divide(total, n_held, out=np.full(total.shape, np.nan), where=n_held > 0)
        return np.concatenate([share[:-1], mean, share[-1:]])

    def binomial(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return standard error, and lower and upper end of Wilson's 95 % interval, for shares of shape (n_keys, n).

        The mean of databases that share pairs has the error of as many independent pairs as its weights are worth.
        """
        n_pairs = self.n_pairs[:-1]
        held = n_pairs > 0
        weight = self.member.T @ np.divide(1 / held.sum(), n_pairs, out=np.zeros(held.shape), where=held)
        n = np.append(n_pairs, [1 / (weight**2).sum(), self.member.shape[1]]).astype(float)[:, None]
        n[n == 0] = np.nan
        spread = value * (1 - value)
        spread[-2] = spread[-1]  # the mean's pairs are those of the union
        error = np.sqrt(spread / n)
        middle = (value + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z / (1 + Z**2 / n) * np.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
        # rounding must not push an end beyond the value
        return error, np.clip(middle - half, 0, value), np.clip(middle + half, value, 1)

    def bootstrapped(
        self, hit: np.ndarray, n_genes: int, n_draws: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return standard deviation and 95 % interval of the shares over draws of the genes with replacement.

        A pair counts as often as both of its genes together (Snijders and Borgatti 1999, the vertex bootstrap).
        """
        draws = np.empty((len(self.n_pairs) + 1, hit.shape[1], n_draws))
        size = max(1, BLOCK // max(len(self.first), n_genes))
        for start in range(0, n_draws, size):
            times = rng.multinomial(n_genes, np.full(n_genes, 1 / n_genes), size=min(size, n_draws - start)).T
            weight = (times[self.first] * times[self.second]).astype(float)
            for i, column in enumerate(hit.T):
                draws[:, i, start : start + size] = self(np.broadcast_to(column[:, None], weight.shape), weight)
        error, low, high = np.full((3, *draws.shape[:-1]), np.nan)
        held = [
            *(self.n_pairs[:-1] > 0),
            True,
            True,
        ]  # a draw may leave a database without a pair, and says nothing then
        low[held], high[held] = np.nanquantile(draws[held], [0.025, 0.975], axis=-1)
        error[held] = np.nanstd(draws[held], axis=-1, ddof=1)
        return error, low, high

    def permuted(self, found: GeneMap, cuts: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
        """Return the shares after exchanges of the gene labels, shape (n_keys, n_thresholds, n_draws).

        Exchanging labels moves the annotations over the same cosines, so nothing is computed anew.
        """
        draws = np.empty((len(self.n_pairs) + 1, len(cuts), n_draws))
        for i in range(n_draws):
            moved = rng.permutation(len(found.genes))
            draws[:, :, i] = self(in_tails(found.cosine(moved[self.first], moved[self.second]), cuts))
        return draws
