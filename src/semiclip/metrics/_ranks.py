"""The cosines of given ranks among those of all pairs of rows, without sorting or keeping them."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from semiclip.metrics._brackets import Brackets, Limits
from semiclip.metrics._codes import PairCodes
from semiclip.metrics._cosines import Cosines, row_products
from semiclip.metrics._matrices import DECIMALS

FEW = 1 << 19  # cosines of up to 1,024 rows are all selected from; of more, only those near a rank
SAMPLE = 1 << 16  # cosines that tell where a rank lies; of few, one in 128, and of very many, one in 4,096
DEVIATIONS = 5.0  # of a rank's place in the sample, beyond which it lies once in a million times
HELD = 1 << 25  # cosines near a rank that are held, 0.3 GB with their places
TIES = 1 << 7  # more than one cosine in so many are computed faster all together than each by itself


class CosineStatistics(NamedTuple):
    """What all cosines say of some ranks and of some pairs."""

    statistics: list[float]
    """The cosines of the ranks."""
    near: np.ndarray
    """The cosine of each pair, off by at most ``error``."""
    error: float
    is_coded: bool = False
    """Whether the codes of all pairs have been written."""


class _Untold(Exception):
    """Raised where so many cosines are equal, or nearly, that single precision does not tell them apart."""


def read_cosines(
    cosines: Cosines,
    ranks: Sequence[int],
    first: np.ndarray,
    second: np.ndarray,
    limits: Limits | None = None,
    codes: PairCodes | None = None,
) -> CosineStatistics:
    """Return the cosines of these ranks, counted from 0 in ascending order, and those of some pairs of rows.

    Each first row is before its second. Where ``codes`` are asked for, and the ranks are those of the limits, the codes
    of all pairs are written in the same pass, if single precision tells them apart.
    """
    try:
        return _read(cosines, ranks, first, second, limits, codes)
    except _Untold:
        return _read_in_double(cosines, ranks, first, second)


class _Held(NamedTuple):
    """The values of a block that lie in brackets."""

    start: int
    left: int
    shape: tuple[int, ...]
    places: np.ndarray
    """Where they stand in the block."""
    values: np.ndarray


class _Window(NamedTuple):
    """The values, ends included, that single precision does not tell from the cosine of a rank."""

    low: np.float32
    high: np.float32
    place: int
    """The rank among them."""

    def holds(self, values: np.ndarray) -> np.ndarray:
        return (values >= self.low) & (values <= self.high)


class _Exact(NamedTuple):
    """The cosines of those values of a block that lie in windows."""

    places: np.ndarray
    """Where they stand among the values that are held."""
    cosines: np.ndarray


def _read(
    cosines: Cosines,
    ranks: Sequence[int],
    first: np.ndarray,
    second: np.ndarray,
    limits: Limits | None,
    codes: PairCodes | None,
) -> CosineStatistics:
    error, deviations, windows = cosines.error(np.float32), DEVIATIONS, None
    sample, near = _draw_sample(cosines, np.float32), np.empty(len(first), np.float32)
    blocks = cosines.look_up(first, second, near)
    while windows is None:
        brackets = Brackets([_embrace(rank / cosines.size, sample, deviations, error) for rank in ranks], np.float32)
        held = _hold(blocks, brackets, limits, codes)
        windows = _place(cosines, held, brackets, ranks)
        # where the sample misled, in wider brackets
        blocks, deviations = cosines.blocks(np.float32), 8 * deviations
    exact = [_tell_apart(cosines, part, windows) for part in held]
    statistics = _select(held, exact, windows)
    coded = False
    if limits is not None and codes is not None:
        cuts = np.array(statistics)
        coded = limits.is_ascending(cuts)
        if coded:
            _add_codes(held, exact, limits, cuts, codes)
    return CosineStatistics(statistics, near, error, coded)


def _hold(
    blocks: Iterable[tuple[int, int, np.ndarray]],
    brackets: Brackets,
    limits: Limits | None,
    codes: PairCodes | None,
) -> list[_Held]:
    """Keep what lies in the brackets, count what lies below each, and write the codes of what lies outside of all."""
    held, n_held = [], 0
    for start, left, block in blocks:
        if limits is None or codes is None:
            places = brackets.split(block)
        else:
            places, coded = brackets.split_and_code(block, limits)
            codes.put(start, left, coded)
        n_held += places.size
        if n_held > HELD * len(brackets.number):
            raise _Untold
        held.append(_Held(start, left, block.shape, places.astype(np.int32), block.ravel()[places]))
    return held


def _place(cosines: Cosines, held: list[_Held], brackets: Brackets, ranks: Sequence[int]) -> list[_Window] | None:
    """Return the window of each rank, or nothing where one is not in its bracket."""
    # no value is off by more than the error, and neither therefore is that of the rank: what is further from it
    # than two errors lies below or above the cosine of the rank, and among the others the rank is what remains
    reach, windows = 2 * cosines.error(np.float32), []
    values = np.concatenate([np.empty(0, np.float32), *(part.values for part in held)])
    values.sort()  # in place, for there may be many
    for rank, number in zip(ranks, brackets.number, strict=True):
        below, above = brackets.low[number], brackets.high[number]
        begin, end = np.searchsorted(values, below, side="right"), np.searchsorted(values, above)
        place = int(begin) + rank - brackets.n_to_low[number]
        if not begin <= place < end:
            return None
        value = float(values[place])
        low, high = np.float32(value - reach), np.float32(value + reach)
        if not below < low < high < above:
            return None
        n_below, n_to_high = int(np.searchsorted(values, low)), int(np.searchsorted(values, high, side="right"))
        if n_to_high - n_below > max(SAMPLE, cosines.size // TIES):
            raise _Untold
        windows.append(_Window(low, high, place - n_below))
    return windows


def _tell_apart(cosines: Cosines, held: _Held, windows: list[_Window]) -> _Exact:
    alike = np.zeros(held.values.shape, dtype=bool)
    for window in windows:
        alike |= window.holds(held.values)
    places = np.flatnonzero(alike)
    row, column = np.divmod(held.places[places], held.shape[1])
    return _Exact(places, cosines.at(held.start + row, held.left + column))


def _select(held: list[_Held], exact: list[_Exact], windows: list[_Window]) -> list[float]:
    """Return the cosine of each window's rank."""
    if not windows:
        return []
    values = np.concatenate([part.values[alike.places] for part, alike in zip(held, exact, strict=True)])
    alike = np.concatenate([part.cosines for part in exact])
    return [float(np.partition(alike[window.holds(values)], window.place)[window.place]) for window in windows]


def _add_codes(held: list[_Held], exact: list[_Exact], limits: Limits, cuts: np.ndarray, codes: PairCodes) -> None:
    """Write the codes of what lies in the brackets of the limits, which are these cosines."""
    for part, alike in zip(held, exact, strict=True):
        inside = limits.code(part.values, cuts)
        inside[alike.places] = limits.code(alike.cosines, cuts)
        block = np.zeros(part.shape, dtype=inside.dtype)
        block.ravel()[part.places] = inside
        codes.add(part.start, part.left, block)


def _read_in_double(cosines: Cosines, ranks: Sequence[int], first: np.ndarray, second: np.ndarray) -> CosineStatistics:
    sample, deviations = _draw_sample(cosines, np.float64), DEVIATIONS
    near, found = np.empty(len(first)), dict[int, float]()
    blocks = cosines.look_up(first, second, near)
    while missing := [rank for rank in ranks if rank not in found]:
        edges = {rank: _embrace(rank / cosines.size, sample, deviations, 0.0) for rank in missing}
        brackets = {pair: _Bracket(*pair) for pair in edges.values()}
        for _, _, block in blocks:
            for bracket in brackets.values():
                bracket.count(block)
        values = {rank: brackets[pair].select(rank) for rank, pair in edges.items()}
        found |= {rank: value for rank, value in values.items() if value is not None}
        blocks, deviations = cosines.blocks(), 8 * deviations  # where the sample misled, in a wider bracket
    return CosineStatistics([found[rank] for rank in ranks], near, 0.0)


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
    """Two cosines that most likely embrace a rank. What lies below is counted, what lies between is selected from.

    What equals one of the two is only counted: a value that half of all pairs share needs no memory.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high
        self.n_below = self.n_to_low = self.n_high = 0
        self.values: list[np.ndarray] = []

    def count(self, block: np.ndarray) -> None:
        """Take note of a block."""
        to_low = block <= self.low
        between = block[(block < self.high) & ~to_low]
        self.n_to_low += int(np.count_nonzero(to_low))
        self.values.append(between)
        self.n_below += int(np.count_nonzero(block < self.low))
        self.n_high += int(np.count_nonzero((block == self.high) & ~to_low))  # low may equal high

    def select(self, rank: int) -> float | None:
        """Return the cosine of the rank, if it lies here."""
        values, place = np.concatenate(self.values), rank - self.n_to_low
        if not self.n_below <= rank < self.n_to_low + values.size + self.n_high:
            return None
        if place < 0:
            return float(self.low)
        return float(np.partition(values, place)[place] if place < values.size else self.high)
