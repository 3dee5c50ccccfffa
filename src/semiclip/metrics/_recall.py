from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse

from semiclip._arguments import check_whole
from semiclip._docs import document
from semiclip.metrics._hits import Exchanged, Tails, count_strips, exchange_labels, find_tails
from semiclip.metrics._map import GeneMap, Levels, Thresholds, distinct_pairs, gene_map, read_thresholds
from semiclip.metrics._matrices import check_permutations
from semiclip.metrics._misspelt import count_misspelt

Z = 1.959963984540054  # two-sided 95 % of a normal distribution
RANGE = (-1.0, 1.0)  # of a cosine

Watch = Callable[[Iterable[Exchanged], int], Iterable[Exchanged]]  # of so many exchanges


@document
def relationship_recall(
    embedding: ArrayLike,
    genes: ArrayLike,
    relationships: pd.DataFrame,
    *,
    control: ArrayLike | None = None,
    thresholds: Thresholds = (0.05, 0.95),
    n_permutations: int = 1000,
    rng: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Measure how many known gene relationships stand out in a map of perturbations (paper B.1).

    The cosines of all pairs of genes are the null distribution. An annotated pair is recalled if the share of null
    cosines that are at most its own is no more than the low threshold, or the share of those strictly below its own
    is no less than the high threshold. Recall is the recalled fraction of the annotated pairs in the map. Sources:
    Bendidi et al., ICML 2025, section B.1, DOI 10.48550/arXiv.2505.21317; Celik et al., PLOS Computational Biology
    2024, DOI 10.1371/journal.pcbi.1012463; Wilson, JASA 1927, DOI 10.1080/01621459.1927.10502953; the error: Aronow,
    Samii and Assenova, Political Analysis 2015, DOI 10.1093/pan/mpv018; the interval of the mean: Zou and Donner,
    Statistics in Medicine 2008, DOI 10.1002/sim.3095.

    Parameters
    ----------
    {gene_map}
    thresholds
        Low and high quantile beyond which a pair is recalled, 0 ≤ low ≤ high ≤ 1; one such pair or a list of them.
    n_permutations, rng
        Number of random exchanges of the gene labels that measure chance on these annotations, of which 0 leaves it
        out, and their seed or generator.

    Returns
    -------
    For each pair of thresholds a row per database (``key``) in order of appearance, one for their ``"mean"`` and one
    for their ``"union"``:

    ``metric``, ``key``, ``value``
        ``"relationship_recall"``, and the recall. The mean is the unweighted mean of the databases with a pair in the
        map; the union holds each distinct pair once.
    ``threshold_low``, ``threshold_high``, ``n_pairs``, ``n_recalled``
        What recall was counted from. A database without a pair in the map has ``n_pairs`` 0 and no value.
    ``error``, ``ci_low``, ``ci_high``
        Standard error and 95 % interval. The error is binomial, or larger where pairs that share a gene are recalled
        together: they are worth fewer independent pairs. The interval is Wilson's for that number. The interval of the
        mean is put together from those of the databases.
    ``chance``, ``chance_mean``, ``chance_sd``, ``p_value``
        What a map that knows nothing recalls, ``low + 1 − high``. With permutations also mean and standard deviation
        over them, and a one-sided p-value: (1 + number of permutations that recall as much or more) / (1 +
        ``n_permutations``).
    ``n_genes``, ``n_annotated``
        Genes of the map, and those among them with an annotated pair; the others only make up the null.
    ``n_misspelt``
        Annotated pairs that are not in the map, but would be if case and blanks did not matter; a warning names some.

    Examples
    --------
    >>> embedding = np.repeat(np.random.default_rng(0).normal(size=(20, 8)), 2, axis=0)
    >>> genes = [f"G{i:02}" for i in range(40)]
    >>> annotated = pd.DataFrame({"gene_a": genes[0::2], "gene_b": genes[1::2]})
    >>> table = relationship_recall(embedding, genes, annotated, n_permutations=99, rng=0)
    >>> table[["key", "value", "n_pairs", "chance", "p_value"]].round(2).head(1).to_numpy().tolist()
    [['relationships', 1.0, 20, 0.1, 0.01]]
    """
    check_permutations(n_permutations)
    limits = read_thresholds(thresholds)
    cosine_map = gene_map(embedding, genes, relationships, control=control)
    table = measure_recall(cosine_map, limits, n_permutations, rng)
    return add_misspelt(table, count_misspelt(relationships, cosine_map))


def add_misspelt(table: pd.DataFrame, n_misspelt: np.ndarray) -> pd.DataFrame:
    """Return recall with the pairs that each database, and the union, lose by spelling."""
    by_key = [*n_misspelt, n_misspelt[-1]]  # the mean looks at the pairs of the union
    return table.assign(n_misspelt=by_key * (len(table) // len(by_key)))


def measure_recall(
    cosine_map: GeneMap,
    limits: Levels,
    n_permutations: int,
    rng: int | np.random.Generator | None,
    watch: Watch = lambda exchanges, n: exchanges,
) -> pd.DataFrame:
    """Return the recall of a map, as in :func:`relationship_recall`; ``watch`` is given the exchanges as they come."""
    rng = np.random.default_rng(rng)
    shares = Shares.of(cosine_map)
    pairs = shares.first, shares.second
    tails, hit = find_tails(cosine_map.cosines, limits, pairs, keep=n_permutations > 0)
    value = shares(hit)
    per_threshold = [shares.estimate_uncertainty(*column) for column in zip(hit.T, value.T, strict=True)]
    error, low, high = np.array(per_threshold).transpose(1, 2, 0)

    keys = [*cosine_map.names, "mean", "union"]
    union = [*range(len(keys) - 1), -1]  # the mean looks at the pairs of the union
    n_pairs = shares.n_pairs[union, None]
    threshold_low, threshold_high = np.array(limits).T
    columns = {"value": value, "threshold_low": threshold_low, "threshold_high": threshold_high}
    columns |= {"n_pairs": n_pairs, "n_recalled": shares.count_pairs(hit)[union]}
    columns |= {"error": error, "ci_low": low, "ci_high": high, "chance": threshold_low + 1 - threshold_high}
    if n_permutations:
        draws = shares.draw_permuted(cosine_map, tails, n_permutations, rng, watch)
        columns |= {"chance_mean": draws.mean(axis=-1), "chance_sd": draws.std(axis=-1, ddof=1)}
        # shares of equal counts are equal, however their sums were rounded
        as_high = (draws.round(12) >= value[..., None].round(12)).sum(axis=-1)
        columns["p_value"] = np.where(n_pairs > 0, (1 + as_high) / (1 + n_permutations), np.nan)
    columns |= {"n_genes": np.array(len(cosine_map.genes)), "n_annotated": shares.n_genes[union, None]}
    shape = (len(keys), len(limits))
    table = pd.DataFrame({name: np.broadcast_to(array, shape).T.ravel() for name, array in columns.items()})
    table.insert(0, "key", keys * len(limits))
    table.insert(0, "metric", "relationship_recall")
    return table


@document
def recalled_pairs(
    embedding: ArrayLike,
    genes: ArrayLike,
    relationships: pd.DataFrame,
    *,
    control: ArrayLike | None = None,
    thresholds: tuple[float, float] = (0.05, 0.95),
) -> pd.DataFrame:
    """Tell for each annotated gene pair whether the map recalls it, as :func:`relationship_recall` counts (paper B.1).

    Parameters
    ----------
    {gene_map}
    {threshold}

    Returns
    -------
    One row per database and unique unordered pair with both genes in the map: ``database``, ``gene_a``, ``gene_b``
    (in alphabetical order), ``cosine`` and ``recalled``.

    Examples
    --------
    >>> embedding = np.repeat(np.random.default_rng(0).normal(size=(20, 8)), 2, axis=0)
    >>> annotated = pd.DataFrame({"gene_a": ["G01", "G02"], "gene_b": ["G00", "absent"]})
    >>> recalled_pairs(embedding, [f"G{i:02}" for i in range(40)], annotated)
            database gene_a gene_b  cosine  recalled
    0  relationships    G00    G01     1.0      True
    """
    limits = read_thresholds(thresholds, single=True)
    cosine_map = gene_map(embedding, genes, relationships, control=control)
    genes, cosines, names, database, first, second = cosine_map
    columns = {"database": names[database], "gene_a": genes[first], "gene_b": genes[second]}
    hit = find_tails(cosines, limits, (first, second))[1][:, 0]
    return pd.DataFrame({**columns, "cosine": cosines.at(first, second), "recalled": hit})


@document
def similarity(
    embedding: ArrayLike,
    genes: ArrayLike,
    relationships: pd.DataFrame,
    *,
    control: ArrayLike | None = None,
    thresholds: tuple[float, float] = (0.05, 0.95),
    n_bins: int = 100,
) -> pd.DataFrame:
    """Count the cosines of all pairs of genes, and of the annotated pairs, in bins, see :func:`relationship_recall`.

    Parameters
    ----------
    {gene_map}
    {threshold}
    n_bins
        Number of bins of equal width from -1 to 1.

    Returns
    -------
    One row per bin: ``low`` and ``high`` (its edges; a cosine on the edge of two bins counts in the upper one),
    ``n_all`` and ``n_annotated`` (pairs in it; an annotated pair counts once however many databases have it), ``all``
    and ``annotated`` (densities: counts divided by their sum and by the width of a bin), and ``cut_low`` and
    ``cut_high``, the cosines below and above which a pair is recalled, the same in each row.

    Examples
    --------
    >>> embedding = np.repeat(np.random.default_rng(0).normal(size=(20, 8)), 2, axis=0)
    >>> annotated = pd.DataFrame({"gene_a": ["G00", "G02"], "gene_b": ["G01", "G03"]})
    >>> table = similarity(embedding, [f"G{i:02}" for i in range(40)], annotated, n_bins=4)
    >>> table["n_all"].tolist(), table["n_annotated"].tolist()
    ([64, 304, 304, 108], [0, 0, 0, 2])
    """
    check_whole("n_bins", n_bins)
    limits = read_thresholds(thresholds, single=True)
    cosine_map = gene_map(embedding, genes, relationships, control=control)
    pairs = distinct_pairs(cosine_map)
    ((cut_low, cut_high),) = find_tails(cosine_map.cosines, limits, pairs)[0].cuts
    n_annotated, edges = np.histogram(cosine_map.cosines.at(*pairs), n_bins, RANGE)
    n_all = np.zeros_like(n_annotated)
    for *_, block in cosine_map.cosines.blocks():
        # with a number of bins NumPy goes through the values in blocks, with edges it would sort them
        n_all += np.histogram(block, n_bins, RANGE)[0]
    width = (RANGE[1] - RANGE[0]) / n_bins
    columns = {"low": edges[:-1], "high": edges[1:], "n_all": n_all, "n_annotated": n_annotated}
    columns |= {"all": n_all / n_all.sum() / width, "annotated": n_annotated / n_annotated.sum() / width}
    return pd.DataFrame({**columns, "cut_low": cut_low, "cut_high": cut_high})


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
        return self.divide(self.count_pairs(hit))

    def divide(self, n_hit: np.ndarray) -> np.ndarray:
        """Return the shares that these numbers of pairs are, shape (n_databases + 1, n)."""
        whole = np.broadcast_to(self.n_pairs[:, None], n_hit.shape)
        share = np.divide(n_hit, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
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
        self, cosine_map: GeneMap, tails: Tails, n_draws: int, rng: np.random.Generator, watch: Watch
    ) -> np.ndarray:
        """Return the shares after exchanges of the gene labels, shape (n_keys, n_thresholds, n_draws)."""
        n_genes, pairs = len(cosine_map.genes), (self.first, self.second)
        n_hit = np.zeros((n_draws, len(self.n_pairs), len(tails.cuts)), dtype=np.intp)
        exchanges = exchange_labels(
            cosine_map.cosines, tails, pairs, n_draws, lambda rng: rng.permutation(n_genes), rng
        )
        n_exchanges = n_draws * count_strips(cosine_map.cosines, tails)
        for i, codes, patterns in watch(exchanges, n_exchanges):
            n_hit[i] += self.count_pairs(np.take(patterns, codes, axis=0))
        return np.stack([self.divide(of_draw) for of_draw in n_hit], axis=-1)


def _wilson(value: np.ndarray, error: np.ndarray, n_pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of Wilson's 95 % intervals for as many independent pairs as have these errors, or for all."""
    n = np.where(n_pairs > 0, n_pairs, np.nan)
    n = np.divide(value * (1 - value), error**2, out=n, where=error > 0)
    middle = (value + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    return middle - half, middle + half
