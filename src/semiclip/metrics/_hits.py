"""Which pairs of genes a map recalls: those whose cosine lies in the tails of all cosines."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from math import ceil, floor, inf
from typing import NamedTuple

import numpy as np
import pandas as pd

from semiclip import errors
from semiclip._numerics import rows_at_once
from semiclip.metrics import _cosines
from semiclip.metrics._cosines import Cosines
from semiclip.metrics._map import ONE_LABEL, GeneMap, Levels, distinct_pairs
from semiclip.metrics._ranks import read_cosines

HITS = 1 << 28  # bytes of bits that say which pairs are recalled, beyond which they are read in strips


class Tails(NamedTuple):
    """Where the tails of all cosines begin."""

    cuts: np.ndarray
    """Values below which and above which, strictly, a cosine lies in a tail; shape (n_thresholds, 2)."""
    error: float
    """By how much the values that tell pairs apart may be off, in single precision, or 0 in double precision."""


def find_tails(cosines: Cosines, levels: Levels, pairs: tuple[np.ndarray, np.ndarray]) -> tuple[Tails, np.ndarray]:
    """Return the tails, and which of these pairs of rows lie in them, shape (n_pairs, n_levels).

    The first row of each pair is before its second.
    """
    # #{null ≤ v}/N ≤ low says that the null value of rank ⌊low·N⌋, counted from 0, exceeds v; #{null < v}/N ≥ high says
    # that the value of rank ⌈high·N⌉ − 1 is below v. Order statistics therefore suffice, and nothing is sorted.
    ranks = []
    for level in levels:
        # 0.95 is meant, not the binary float beside it
        low, high = (Fraction(threshold).limit_denominator(10**9) for threshold in level)
        ranks.append((floor(low * cosines.size), ceil(high * cosines.size) - 1))
    inside = sorted({rank for both in ranks for rank in both if 0 <= rank < cosines.size})
    read = read_cosines(cosines, inside, *pairs)
    value = {-1: -inf, **dict(zip(inside, read.statistics, strict=True)), cosines.size: inf}
    cuts = np.array([[value[below], value[above]] for below, above in ranks])
    hit = in_tails(read.near, cuts)
    if read.error:
        unsure = np.flatnonzero((np.abs(read.near[:, None] - cuts.ravel()) <= read.error).any(axis=1))
        hit[unsure] = in_tails(cosines.at(*(rows[unsure] for rows in pairs)), cuts)
    return Tails(cuts, read.error), hit


def in_tails(cosine: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Return which cosines, shape (n,), lie in one of the :class:`Tails`; shape (n, n_thresholds)."""
    return (cosine[:, None] < cuts[:, 0]) | (cosine[:, None] > cuts[:, 1])


class Hits(NamedTuple):
    """Which pairs lie in the tails, a bit for each: those whose first row is in a strip of rows."""

    bits: np.ndarray
    """Shape (n_thresholds, n_rows, ⌈n/8⌉), the first of eight pairs in the lowest bit."""
    start: int
    """First row of the strip."""

    def look_up(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return which pairs of rows, in any order, are in the strip and the tails; shape (n_pairs, n_thresholds)."""
        n_levels, n_rows, width = self.bits.shape
        first, second = np.minimum(one, other) - self.start, np.maximum(one, other)
        place, bit = first * width + (second >> 3), (second & 7).astype(np.uint8)
        hit = np.empty((n_levels, len(one)), dtype=bool)
        for level, bits in enumerate(self.bits.reshape(n_levels, -1)):
            hit[level] = np.take(bits, place, mode="clip") >> bit & 1  # a place outside is that of any other pair
        outside = (first < 0) | (first >= n_rows)
        if outside.any():
            hit[:, outside] = False
        return hit.T


def read_hits(cosines: Cosines, tails: Tails) -> Iterator[Hits]:
    """Yield which pairs lie in the tails, strip by strip; one lasts until the next is asked for.

    Up to 46,000 rows and one pair of thresholds, or 20,000 and five, there is a single strip.
    """
    n, width = len(cosines.unit), -(-len(cosines.unit) // 8)
    n_rows = min(n, rows_at_once(HITS, len(tails.cuts) * width * _cosines.ROWS) * _cosines.ROWS)
    # what is never written, below the diagonal, takes no memory
    hits = Hits(np.zeros((len(tails.cuts), n_rows, width), dtype=np.uint8), 0)
    for start, left, block in cosines.blocks(np.float32 if tails.error else np.float64):
        if start == hits.start + n_rows:
            yield hits
            hits = hits._replace(start=start)
        rows, columns = slice(start - hits.start, start - hits.start + len(block)), slice(left // 8, None)
        for level in range(len(tails.cuts)):
            packed = np.packbits(_mark(cosines, tails, level, start, left, block), axis=1, bitorder="little")
            hits.bits[level, rows, columns][:, : packed.shape[1]] = packed
    yield hits


def _mark(cosines: Cosines, tails: Tails, level: int, start: int, left: int, block: np.ndarray) -> np.ndarray:
    """Return which values of a block, which begins at this row and column, lie in the tails of one level."""
    low, high = tails.cuts[level]
    if not tails.error:
        return (block < low) | (block > high)
    hit = (block < np.float32(low - tails.error)) | (block > np.float32(high + tails.error))
    perhaps = (block <= np.float32(low + tails.error)) | (block >= np.float32(high - tails.error))
    unsure = np.flatnonzero(perhaps & ~hit)
    row, column = np.divmod(unsure, block.shape[1])
    hit.ravel()[unsure] = in_tails(cosines.at(start + row, left + column), tails.cuts[[level]])[:, 0]
    return hit


def exchange_labels(
    cosines: Cosines,
    tails: Tails,
    pairs: tuple[np.ndarray, np.ndarray],
    n_draws: int,
    draw: Callable[[np.random.Generator], np.ndarray],
    rng: np.random.Generator,
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield, for each draw, which pairs are recalled after the rows are exchanged, shape (n_pairs, n_thresholds).

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
            yield i, hits.look_up(*(moved[rows] for rows in pairs))


def recalled(cosine_map: GeneMap, pairs: tuple[np.ndarray, np.ndarray], levels: Levels) -> np.ndarray:
    """Return which pairs, given by position, the map recalls; shape (n_pairs, n_levels)."""
    return find_tails(cosine_map.cosines, levels, pairs)[1]


def recalled_elsewhere(
    other: GeneMap, cosine_map: GeneMap, pairs: tuple[np.ndarray, np.ndarray], levels: Levels
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return which pairs of a map another map recalls, how many of its own at each level, and how many both hold."""
    other_pairs = distinct_pairs(other)
    hit = recalled(other, other_pairs, levels)
    names, other_names = (
        pd.MultiIndex.from_arrays([held.genes[positions] for positions in both])
        for held, both in ((cosine_map, pairs), (other, other_pairs))
    )
    position = other_names.get_indexer(names)
    if (position < 0).all():
        raise errors.NothingShared("annotated pair", cosine_map.genes, other.genes, way_out=ONE_LABEL)
    # a pair that the other map lacks has the position −1, which is the row added: it is not recalled
    padded = np.vstack([hit, np.zeros_like(hit, shape=(1, hit.shape[1]))])
    return padded[position], hit.sum(axis=0), int((position >= 0).sum())
