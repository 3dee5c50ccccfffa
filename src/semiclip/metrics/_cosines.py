"""The cosines of all pairs of rows, 40 GB at 100,000 rows: read block by block, and kept only if they are few."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np

from semiclip._numerics import row_blocks, rows_at_once
from semiclip.metrics._matrices import DECIMALS, normalise

ROWS = 256  # rows of the cosine matrix that exist at a time
KEPT = 1 << 26  # cosines that are kept, 0.5 GB; of more than 11,585 rows they are computed anew each time they are read
BLOCK = 1 << 22  # values looked at at a time
SAMPLE = 1 << 20  # values that tell between which two a rank lies; up to four times as many are selected in a copy
SHARE = 512  # a sample of cosines that are not kept is one in so many, and 181 √size of them lie in a bracket


class Cosines(NamedTuple):
    """The cosines of all pairs of rows in the order of :func:`scipy.spatial.distance.pdist`, in float64.

    Cosines are rounded, so that equal rows have equal cosines whatever the order of summation. The square matrix
    never exists, and the triangle only if it is small.
    """

    unit: np.ndarray
    """Rows of length one, shape (n, d)."""
    size: int
    """Number of cosines."""
    kept: np.ndarray | None = None
    """All of them, shape (size,), if they are few."""

    @classmethod
    def of(cls, x: np.ndarray) -> Self:
        """Return the cosines of the rows of ``x``, shape (n, d)."""
        n = len(x)
        cosines = cls(normalise(x.astype(np.float64, copy=False)), n * (n - 1) // 2)
        if cosines.size > KEPT:
            return cosines
        kept = np.empty(cosines.size)
        for start, block in cosines.blocks():
            kept[start : start + block.size] = block
        return cosines._replace(kept=kept)

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the cosines block by block, each with the position of its first; they may only be read."""
        if self.kept is not None:
            yield from ((part.start, self.kept[part]) for part in row_blocks(self.size, BLOCK))
            return
        start = 0
        for rows in row_blocks(len(self.unit), ROWS):
            product = self.unit[rows] @ self.unit[rows.start :].T
            block = np.concatenate([row[i + 1 :] for i, row in enumerate(product)])
            del product  # at 100,000 rows it is 0.2 GB
            yield start, np.round(block, DECIMALS, out=block)
            start += block.size

    def read(self, positions: np.ndarray, ranks: Sequence[int] = ()) -> tuple[np.ndarray, list[float]]:
        """Return the cosines at these positions and those of these ranks, from 0 in ascending order, in one pass."""
        if self.kept is not None:
            return self.kept[positions], order_statistics(self, ranks)
        order = np.argsort(positions)
        ascending, found = positions[order], np.empty(positions.size)

        def look_up() -> Iterator[tuple[int, np.ndarray]]:
            for start, block in self.blocks():
                here = slice(*np.searchsorted(ascending, [start, start + block.size]))
                found[order[here]] = block[ascending[here] - start]
                yield start, block

        reading = look_up()
        values = order_statistics(self, ranks, reading)
        for _ in reading:  # without ranks nothing has been read yet
            pass
        return found, values

    def sample(self) -> np.ndarray:
        """Return some of the cosines, sorted; of those that are not kept, a random one in 512."""
        if self.kept is not None:
            return np.sort(self.kept[:: max(1, self.size // SAMPLE)])
        rng, n, count = np.random.default_rng(0), len(self.unit), self.size // SHARE + 1
        values = np.empty(count)
        for part in row_blocks(count, rows_at_once(BLOCK, self.unit.shape[1])):
            i, shift = rng.integers(n, size=part.stop - part.start), rng.integers(1, n, size=part.stop - part.start)
            values[part] = np.einsum("ij,ij->i", self.unit[i], self.unit[(i + shift) % n])
        return np.sort(np.round(values, DECIMALS, out=values))


def pair_position(i: np.ndarray, j: np.ndarray, n: int) -> np.ndarray:
    """Return where the pairs (i, j) of n rows stand in :class:`Cosines`; their order does not matter."""
    low, high = np.minimum(i, j), np.maximum(i, j)
    return low * (2 * n - low - 1) // 2 + high - low - 1


def order_statistics(
    cosines: Cosines, ranks: Sequence[int], blocks: Iterator[tuple[int, np.ndarray]] | None = None
) -> list[float]:
    """Return the values of these ranks, counted from 0 in ascending order, without sorting all.

    ``blocks`` are those of the cosines, for a caller that looks at them too; they are read to the end.
    """
    if cosines.kept is not None and cosines.size <= 4 * SAMPLE:
        # one at a time, which NumPy selects several times faster than several at once
        return [float(np.partition(cosines.kept, rank)[rank]) for rank in ranks]
    sample = cosines.sample()
    # eight standard deviations of a median's place in the sample, more of any other's
    margin = 4 * np.sqrt(sample.size)
    found: dict[int, float] = {}
    while missing := [rank for rank in ranks if rank not in found]:
        brackets = [_Bracket.around(rank, rank / cosines.size * sample.size, margin, sample) for rank in missing]
        for _, block in blocks or cosines.blocks():
            for bracket in brackets:
                bracket.count(block)
        found |= {bracket.rank: value for bracket in brackets if (value := bracket.select()) is not None}
        blocks, margin = None, 8 * margin  # where the sample misled, in a wider bracket
    return [found[rank] for rank in ranks]


class _Bracket:
    """Two values that most likely embrace a rank. What lies below them is counted, what lies between is selected from.

    What equals one of the two is only counted: a value that half of all pairs share needs no memory.
    """

    def __init__(self, rank: int, low: float, high: float) -> None:
        self.rank, self.low, self.high = rank, low, high
        self.n_below = self.n_to_low = self.n_to_high = 0
        self.between: list[np.ndarray] = []

    @classmethod
    def around(cls, rank: int, place: float, margin: float, sample: np.ndarray) -> Self:
        """Return the values of a sorted sample that are so many places away from the rank's own, or infinity."""
        low, high = int(place - margin), int(place + margin) + 1
        return cls(
            rank, float(sample[low]) if low > 0 else -np.inf, float(sample[high]) if high < sample.size else np.inf
        )

    def count(self, block: np.ndarray) -> None:
        """Take note of a block of values."""
        above, under = block > self.low, block < self.high
        self.n_below += int(np.count_nonzero(block < self.low))
        self.n_to_low += block.size - int(np.count_nonzero(above))
        self.n_to_high += int(np.count_nonzero(block <= self.high))
        self.between.append(block[above & under])

    def select(self) -> float | None:
        """Return the value of the rank, if it lies here."""
        if not self.n_below <= self.rank < self.n_to_high:
            return None
        if self.rank < self.n_to_low:
            return self.low
        inside = np.concatenate(self.between)
        place = self.rank - self.n_to_low
        if place >= inside.size:
            return self.high
        inside.partition(place)
        return float(inside[place])
