"""Shares of annotated pairs per database, their mean and union, and what sampling and chance do to them."""

from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
from scipy import sparse

from semiclip.metrics._map import GeneMap, in_tails

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
    def of(cls, cosine_map: GeneMap) -> Self:
        """Count a pair that several databases have once."""
        genes, _, names, database, first, second = cosine_map
        _, row, pair = np.unique(first * len(genes) + second, return_index=True, return_inverse=True)
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

    def count_pairs(self, hit: np.ndarray) -> np.ndarray:
        """Return the number of ``hit`` pairs, shape (n_pairs, n), of each database and the union."""
        return np.concatenate([self.member @ hit.astype(float), hit.sum(axis=0, keepdims=True)]).astype(np.intp)

    def __call__(self, hit: np.ndarray) -> np.ndarray:
        """Return the shares of ``hit`` pairs, shape (n_pairs, n), in each database, in their mean and in the union."""
        whole = np.broadcast_to(self.n_pairs[:, None], (len(self.n_pairs), hit.shape[1]))
        share = np.divide(self.count_pairs(hit), whole, out=np.full(whole.shape, np.nan), where=whole > 0)
        held = self.n_pairs[:-1] > 0
        return np.concatenate([share[:-1], share[:-1][held].mean(axis=0, keepdims=True), share[-1:]])

    def estimate_uncertainty(self, hit: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return standard errors and ends of 95 % intervals of the shares ``value``, (n_keys,), of ``hit`` pairs."""
        # the variance is the sum of the products of what two pairs with a gene in common do to the share (Aronow et al.
        # 2015), or the binomial one, of single pairs alone, if that is larger
        counts = self.n_pairs[:-1]
        held = counts > 0
        database = np.repeat(np.arange(len(counts)), counts)
        data = (hit[self.member.indices] - value[database]) / counts[database]
        effect = sparse.csr_array((data, self.member.indices, self.member.indptr), shape=self.member.shape)
        mean, union = effect.sum(axis=0) / held.sum(), (hit - value[-1]) / hit.size
        effect = sparse.csr_array(sparse.vstack([effect, sparse.csr_array(np.stack([mean, union]))]))
        pairs = np.arange(hit.size)
        genes, both = np.append(self.first, self.second), np.append(pairs, pairs)
        has_gene = sparse.csr_array((np.ones(genes.size), (both, genes)), shape=(hit.size, genes.max() + 1))
        by_gene = effect @ has_gene
        alone = (effect @ effect.T).toarray()
        together = (by_gene @ by_gene.T).toarray() - alone  # each pair is in the sums of both of its genes
        error = np.sqrt(np.maximum(alone.diagonal(), together.diagonal()))
        low, high = _wilson(value, error, np.append(counts, [1, hit.size]))

        # the interval of the mean is put together from those of the databases (Zou and Donner 2008), since a small one
        # that recalls all or nothing has no error, but a wide interval
        shared = (self.member @ self.member.T).toarray()[np.ix_(held, held)]
        overlap = shared / np.sqrt(np.outer(counts[held], counts[held]))
        scale = np.outer(error[:-2][held], error[:-2][held])
        covariance = np.maximum(alone, together)[:-2, :-2][np.ix_(held, held)]
        # without errors, databases agree as far as they are the same
        correlation = np.divide(covariance, scale, out=overlap, where=scale > 0).clip(0, 1)
        for end in (low, high):
            reach = (end[:-2] - value[:-2])[held] / held.sum()
            away = np.sqrt(reach @ correlation @ reach)
            end[-2] = value[-2] + (away if end is high else -away)
        missing = np.isnan(value)
        return np.where(missing, np.nan, error), np.clip(low, 0, value), np.clip(high, value, 1)

    def draw_permuted(
        self, cosine_map: GeneMap, cuts: np.ndarray, n_draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Return the shares after exchanges of the gene labels, shape (n_keys, n_thresholds, n_draws)."""
        draws = np.empty((len(self.n_pairs) + 1, len(cuts), n_draws))
        for i in range(n_draws):  # an exchange moves the annotations over the same cosines: none is computed anew
            moved = rng.permutation(len(cosine_map.genes))
            draws[:, :, i] = self(in_tails(cosine_map.cosine(moved[self.first], moved[self.second]), cuts))
        return draws


def _wilson(value: np.ndarray, error: np.ndarray, n_pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of Wilson's 95 % intervals for as many independent pairs as have these errors, or for all."""
    n = np.where(n_pairs > 0, n_pairs, np.nan)
    n = np.divide(value * (1 - value), error**2, out=n, where=error > 0)
    middle = (value + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    return middle - half, middle + half
