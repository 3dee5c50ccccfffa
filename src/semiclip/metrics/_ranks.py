"""The cosines of given ranks among those of all pairs of rows, without sorting or keeping them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from semiclip.metrics._cosines import Cosines, row_products
from semiclip.metrics._matrices import DECIMALS

FEW = 1 << 19  # cosines of up to 1,024 rows are all selected from; of more, only those near a rank
SAMPLE = 1 << 16  # cosines that tell where a rank lies; of few, one in 128, and of very many, one in 4,096
DEVIATIONS = 5.0  # of a rank's place in the sample, beyond which it lies once in a million times
HELD = 1 << 25  # cosines near a rank that are held, 0.3 GB with their places
TIES = 1 << 7  # more than one cosine in so many are computed faster all together than each by itself


class Reading(NamedTuple):
    """What all cosines say of some ranks and of some pairs."""

    statistics: list[float]
    """The cosines of the ranks."""
    near: np.ndarray
    """The cosine of each pair, off by at most ``error``."""
    error: float


class _Untold(Exception):
    """Raised where so many cosines are equal, or nearly, that single precision does not tell them apart."""


def read_cosines(cosines: Cosines, ranks: Sequence[int], first: np.ndarray, second: np.ndarray) -> Reading:
    """Return the cosines of these ranks, counted from 0 in ascending order, and those of some pairs of rows.

    Each first row is before its second.
    """
    try:
        return _read(cosines, ranks, first, second, np.float32)
    except _Untold:
        return _read(cosines, ranks, first, second, np.float64)


def _read(cosines: Cosines, ranks: Sequence[int], first: np.ndarray, second: np.ndarray, dtype: Any) -> Reading:
    sample, deviations = _draw_sample(cosines, dtype), DEVIATIONS
    near, found = np.empty(len(first), dtype), dict[int, float]()
    blocks = cosines.look_up(first, second, near)
    while missing := [rank for rank in ranks if rank not in found]:
        edges = {rank: _embrace(rank / cosines.size, sample, deviations, cosines.error(dtype)) for rank in missing}
        brackets = {pair: _Bracket(cosines, dtype, *pair) for pair in edges.values()}
        for start, left, block in blocks:
            for bracket in brackets.values():
                bracket.count(start, left, block)
        values = {rank: brackets[pair].select(rank) for rank, pair in edges.items()}
        found |= {rank: value for rank, value in values.items() if value is not None}
        blocks, deviations = cosines.blocks(dtype), 8 * deviations  # where the sample misled, in a wider bracket
    return Reading([found[rank] for rank in ranks], near, cosines.error(dtype))


def _draw_sample(cosines: Cosines, dtype: Any) -> np.ndarray:
    """Return some of the cosines, sorted, or none if there are few."""
    if cosines.size <= FEW:
        return np.empty(0, dtype)
    rng, n = np.random.default_rng(0), len(cosines.unit)
    count = max(min(SAMPLE, cosines.size >> 7), cosines.size >> 12)
    i, shift = rng.integers(n, size=count), rng.integers(1, n, size=count)
    values = row_products(cosines.unit.astype(dtype, copy=False), i, (i + shift) % n)
    return np.sort(values if dtype == np.float32 else np.round(values, DECIMALS))


def _embrace(quantile: float, sample: np.ndarray, deviations: float, error: float) -> tuple[float, float]:
    """Return two values that most likely embrace a quantile and all that the error may confuse with it."""
    place, margin = quantile * sample.size, deviations * np.sqrt(sample.size * quantile * (1 - quantile)) + deviations
    low, high = int(place - margin), int(place + margin) + 1
    return (
        float(sample[low]) - 3 * error if low > 0 else -np.inf,
        float(sample[high]) + 3 * error if high < sample.size else np.inf,
    )


class _Bracket:
    """Two values that most likely embrace a rank. What lies below is counted, what lies between is selected from.

    What equals one of the two is only counted: a value that half of all pairs share needs no memory.
    """

    def __init__(self, cosines: Cosines, dtype: Any, low: float, high: float) -> None:
        self.cosines, self.error = cosines, cosines.error(dtype)
        self.low, self.high = dtype(low), dtype(high)  # so that comparisons are not in double precision
        self.n_below = self.n_to_low = self.n_between = self.n_high = 0
        self.values: list[np.ndarray] = []
        self.places: list[np.ndarray] = []
        """Where the values stand in each block."""
        self.blocks: list[tuple[int, int, int]] = []
        """First row, first column and width of each block."""

    def count(self, start: int, left: int, block: np.ndarray) -> None:
        """Take note of a block that begins at this row and column."""
        to_low = block <= self.low
        between = np.flatnonzero((block < self.high) & ~to_low)
        self.n_to_low += int(np.count_nonzero(to_low))
        self.n_between += between.size
        self.values.append(block.ravel()[between])
        if self.error:
            if self.n_between > HELD:
                raise _Untold
            self.places.append(between.astype(np.int32))
            self.blocks.append((start, left, block.shape[1]))
        else:
            self.n_below += int(np.count_nonzero(block < self.low))
            self.n_high += int(np.count_nonzero((block == self.high) & ~to_low))  # low may equal high

    def select(self, rank: int) -> float | None:
        """Return the cosine of the rank, if it lies here."""
        values, place = np.concatenate(self.values), rank - self.n_to_low
        if self.error:
            return self._tell_apart(values, place) if 0 <= place < values.size else None
        if not self.n_below <= rank < self.n_to_low + values.size + self.n_high:
            return None
        if place < 0:
            return float(self.low)
        return float(np.partition(values, place)[place] if place < values.size else self.high)

    def _tell_apart(self, values: np.ndarray, place: int) -> float | None:
        # no value is off by more than the error, and neither therefore is that of the rank: what is further from it
        # than two errors lies below or above the cosine of the rank, and among the others the rank is what remains
        value = float(np.partition(values, place)[place])
        low, high = value - 2 * self.error, value + 2 * self.error
        if not self.low < low < high < self.high:
            return None
        alike = np.flatnonzero((values >= np.float32(low)) & (values <= np.float32(high)))
        if alike.size > max(SAMPLE, self.cosines.size // TIES):
            raise _Untold
        number = np.searchsorted(np.cumsum([part.size for part in self.values]), alike, side="right")
        start, left, width = np.array(self.blocks)[number].T
        row, column = np.divmod(np.concatenate(self.places)[alike], width)
        exact = self.cosines.at(start + row, left + column)
        place -= int(np.count_nonzero(values < np.float32(low)))
        return float(np.partition(exact, place)[place])
