"""Which pairs of genes a map recalls: those whose cosine lies in the tails of all cosines."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import ceil, floor, inf
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from semiclip import errors
from semiclip._numerics import rows_at_once
from semiclip.metrics import _cosines
from semiclip.metrics._brackets import Brackets, Limits
from semiclip.metrics._codes import PairCodes, count_values
from semiclip.metrics._cosines import Cosines
from semiclip.metrics._map import ONE_LABEL, GeneMap, Levels, distinct_pairs
from semiclip.metrics._ranks import read_cosines

HITS = 1 << 28  # bytes of codes that say which pairs are recalled, beyond which they are read in strips


Exchanged = tuple[int, np.ndarray, np.ndarray]  # number of the draw, codes of pairs, and their patterns


class Hits(NamedTuple):
    """Which pairs lie in the tails: those whose first row is in a strip of rows."""

    codes: PairCodes
    patterns: np.ndarray
    """Which tails a code stands for, shape (n_codes, n_thresholds)."""

    def look_up(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return which pairs of rows, in any order, are in the strip and the tails; shape (n_pairs, n_thresholds)."""
        return self.patterns[self.codes.look_up(one, other)]


class Tails(NamedTuple):
    """Where the tails of all cosines begin."""

    cuts: np.ndarray
    """Values below which and above which, strictly, a cosine lies in a tail; shape (n_thresholds, 2)."""
    error: float
    """By how much the values that tell pairs apart may be off, in single precision, or 0 in double precision."""
    hits: Hits | None = None
    """All pairs that lie there, if they were kept."""


def find_tails(
    cosines: Cosines, levels: Levels, pairs: tuple[np.ndarray, np.ndarray], *, keep: bool = False
) -> tuple[Tails, np.ndarray]:
    """Return the tails, and which of these pairs of rows lie in them, shape (n_pairs, n_levels).

    The first row of each pair is before its second. Where exchanges follow, ``keep`` keeps what lies in the tails, if
    memory allows, so that cosines are computed once.
    """
    # #{null ≤ v}/N ≤ low says that the null value of rank ⌊low·N⌋, counted from 0, exceeds v; #{null < v}/N ≥ high says
    # that the value of rank ⌈high·N⌉ − 1 is below v. Order statistics therefore suffice, and nothing is sorted.
    ranks = []
    for level in levels:
        # 0.95 is meant, not the binary float beside it
        low, high = (Fraction(threshold).limit_denominator(10**9) for threshold in level)
        ranks.append((floor(low * cosines.size), ceil(high * cosines.size) - 1))
    limits, n = Limits.of(np.array(ranks), 0, cosines.size - 1), len(cosines.unit)
    codes = PairCodes.make(n, limits.width, n) if keep and _strip_rows(n, limits.width) == n else None
    read = read_cosines(cosines, limits.keys.tolist(), *pairs, limits, codes)
    value = {-1: -inf, **dict(zip(limits.keys.tolist(), read.statistics, strict=True)), cosines.size: inf}
    cuts = np.array([[value[below], value[above]] for below, above in ranks])
    hit = in_tails(read.near, cuts)
    if read.error:
        unsure = np.flatnonzero((np.abs(read.near[:, None] - cuts.ravel()) <= read.error).any(axis=1))
        hit[unsure] = in_tails(cosines.at(*(rows[unsure] for rows in pairs)), cuts)
    kept = Hits(codes, limits.patterns) if codes is not None and read.is_coded else None
    return Tails(cuts, read.error, kept), hit


def in_tails(cosine: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Return which cosines, shape (n,), lie in one of the :class:`Tails`; shape (n, n_thresholds)."""
    return (cosine[:, None] < cuts[:, 0]) | (cosine[:, None] > cuts[:, 1])


def _strip_rows(n: int, width: int) -> int:
    """Return how many of n rows make a strip.

    Up to 46,000 rows and one pair of thresholds, or 23,000 and five, there is a single strip.
    """
    return min(n, rows_at_once(HITS, count_values(n, width) * max(1, width // 8) * _cosines.ROWS) * _cosines.ROWS)


def read_hits(cosines: Cosines, tails: Tails) -> Iterator[Hits]:
    """Yield which pairs lie in the tails, strip by strip; one lasts until the next is asked for."""
    if tails.hits is not None:
        yield tails.hits
        return
    dtype: Any = np.float32 if tails.error else np.float64
    limits, n = _read_limits(tails), len(cosines.unit)
    # what a cosine is too near to for a comparison of rounded values, or what it equals
    ends = [[dtype(cut - tails.error), dtype(cut + tails.error)] for cut in limits.keys]
    brackets = Brackets([tuple(np.nextafter(both, dtype([-inf, inf]))) for both in ends], dtype)
    hits = Hits(PairCodes.make(n, limits.width, _strip_rows(n, limits.width)), limits.patterns)
    for start, left, block in cosines.blocks(dtype):
        if start == hits.codes.start + len(hits.codes.packed):
            yield hits
            hits = hits._replace(codes=hits.codes._replace(start=start))
        places, codes = brackets.split_and_code(block, limits)
        row, column = np.divmod(places, block.shape[1])
        near = cosines.at(start + row, left + column) if tails.error else block.ravel()[places]
        codes.ravel()[places] = limits.code(near, limits.keys)
        hits.codes.put(start, left, codes)
    yield hits


def _read_limits(tails: Tails) -> Limits:
    return Limits.of(tails.cuts, *np.finfo(np.float64).max * np.array([-1, 1]))


def count_strips(cosines: Cosines, tails: Tails) -> int:
    """Return how many strips :func:`read_hits` yields, and so how often :func:`exchange_labels` yields a draw."""
    n = len(cosines.unit)
    return 1 if tails.hits is not None else -(-n // _strip_rows(n, _read_limits(tails).width))


def exchange_labels(
    cosines: Cosines,
    tails: Tails,
    pairs: tuple[np.ndarray, np.ndarray],
    n_draws: int,
    draw: Callable[[np.random.Generator], np.ndarray],
    rng: np.random.Generator,
) -> Iterator[Exchanged]:
    """Yield, for each draw, the codes of the pairs after the rows are exchanged, and what :class:`Hits` they stand for.

    ``draw`` says which row each row takes the place of. No cosine is computed anew for an exchange, which only moves
    the pairs. Of many rows a strip is looked at at a time, by the same exchanges, each of which then comes several
    times with pairs that no other time has.
    """
    state, n = rng.bit_generator.state, len(cosines.unit)
    narrow = np.min_scalar_type(-n * n)  # half as wide up to 46,000 rows, and twice as fast
    for hits in read_hits(cosines, tails):
        rng.bit_generator.state = state
        for i in range(n_draws):
            moved = draw(rng).astype(narrow)
            yield i, hits.codes.look_up(*(moved.take(rows) for rows in pairs)), hits.patterns


def recalled(cosine_map: GeneMap, pairs: tuple[np.ndarray, np.ndarray], levels: Levels) -> np.ndarray:
    """Return which pairs, given by position, the map recalls; shape (n_pairs, n_levels)."""
    return find_tails(cosine_map.cosines, levels, pairs)[1]


class RecalledPairs(NamedTuple):
    """Which of its annotated pairs a map recalls, by the names of genes: what is left of a map without its cosines."""

    genes: pd.Index
    pairs: pd.MultiIndex
    hit: np.ndarray
    """Shape (n_pairs, n_levels)."""

    @classmethod
    def of(cls, cosine_map: GeneMap, levels: Levels) -> Self:
        """Read a map."""
        pairs = distinct_pairs(cosine_map)
        return cls(cosine_map.genes, name_pairs(cosine_map.genes, pairs), recalled(cosine_map, pairs, levels))

    def look_up(self, genes: pd.Index, pairs: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, int]:
        """Return which pairs of another map, positions in its genes, are recalled here, and how many this map holds."""
        position = self.pairs.get_indexer(name_pairs(genes, pairs))
        if (position < 0).all():
            raise errors.NothingShared("annotated pair", genes, self.genes, way_out=ONE_LABEL)
        # a pair that is not here has the position −1, which is the row added: it is not recalled
        padded = np.vstack([self.hit, np.zeros_like(self.hit, shape=(1, self.hit.shape[1]))])
        return padded[position], int((position >= 0).sum())


def name_pairs(genes: pd.Index, pairs: tuple[np.ndarray, np.ndarray]) -> pd.MultiIndex:
    """Return the names of pairs of genes that are given by position."""
    return pd.MultiIndex.from_arrays([genes[positions] for positions in pairs])
