"""Intervals of cosines around limits: what lies below is counted and coded, and what lies inside is told by others."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from semiclip.metrics._codes import Codebook


class Limits(NamedTuple):
    """The limits of tails in ascending order, without those beyond all cosines."""

    keys: np.ndarray
    """Rank, or cosine, of each limit, shape (n_limits,)."""
    is_high: np.ndarray
    """Whether a limit begins a high tail: a cosine equal to it lies below."""
    codes: np.ndarray
    """Code of a cosine above so many of the limits, shape (n_limits + 1,)."""
    patterns: np.ndarray
    """Which tails a code stands for, shape (n_codes, n_levels)."""
    width: int
    """Bits of a code."""

    @classmethod
    def of(cls, levels: np.ndarray, least: float, most: float) -> Self:
        """Sort the limits of levels, shape (n_levels, 2), all of which lie from ``least`` to ``most`` or beyond."""
        limits = sorted({(key, is_high) for level in levels.tolist() for is_high, key in enumerate(level)})
        number = {limit: i for i, limit in enumerate(limits)}
        low, high = (np.array([number[key, is_high] for key in levels[:, is_high].tolist()]) for is_high in (0, 1))
        book = Codebook.of(low, high, len(limits))
        keys, is_high = np.array(limits).T
        first, n = int(np.count_nonzero(keys < least)), int(np.count_nonzero(keys <= most))
        within = slice(first, n)
        return cls(keys[within], is_high[within] > 0, book.codes[first : n + 1], book.patterns, book.width)

    def code(self, cosine: np.ndarray, cuts: np.ndarray) -> np.ndarray:
        """Return the codes of cosines, where these are the cosines of the limits."""
        n_above = np.zeros(cosine.shape, dtype=np.min_scalar_type(len(cuts)))
        for cut, is_high in zip(cuts.astype(cosine.dtype), self.is_high, strict=True):
            n_above += cosine > cut if is_high else cosine >= cut
        return self.codes[n_above]

    def is_ascending(self, cuts: np.ndarray) -> bool:
        """Say whether these cosines of the limits are in order too: ranks that differ may have the same cosine."""
        # what equals such a cosine is above a low limit, yet not above the high one that came before it
        return not ((cuts[:-1] == cuts[1:]) & self.is_high[:-1] & ~self.is_high[1:]).any()


class Brackets:
    """Open intervals of cosines, in ascending order; those that overlap are one."""

    def __init__(self, edges: Sequence[tuple[float, float]], dtype: Any) -> None:
        self.low: list[Any] = []
        self.high: list[Any] = []
        self.number: list[int] = []
        """Bracket of each interval that was given."""
        for low, high in edges:
            low, high = dtype(low), dtype(high)  # so that comparisons are not in double precision
            if self.low and low < self.high[-1]:
                self.high[-1] = max(self.high[-1], high)
            else:
                self.low.append(low)
                self.high.append(high)
            self.number.append(len(self.low) - 1)
        self.n_to_low = [0] * len(self.low)
        """How many cosines lie at or below the lower end of each."""

    def split(self, block: np.ndarray) -> np.ndarray:
        """Count what lies at or below each bracket, and return the places of what lies inside. NaN lies nowhere."""
        return self._split(block, None, ())

    def split_and_code(self, block: np.ndarray, limits: Limits) -> tuple[np.ndarray, np.ndarray]:
        """Return also the code of each value; 0 for what lies inside."""
        ends = np.searchsorted(self.number, np.arange(len(self.low) + 1))  # limits below each bracket
        codes = np.full(block.shape, limits.codes[-1])
        # from the code of what lies above all limits; unsigned integers count as on a clock
        places = self._split(block, codes, limits.codes[ends[:-1]] - limits.codes[ends[1:]])
        codes.ravel()[places] = 0
        return places, codes

    def _split(self, block: np.ndarray, codes: np.ndarray | None, steps: Sequence[Any] | np.ndarray) -> np.ndarray:
        inside, below = np.zeros(block.shape, dtype=bool), np.empty(block.shape, dtype=bool)
        for i, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            np.less_equal(block, low, out=below)
            self.n_to_low[i] += int(np.count_nonzero(below))
            if codes is not None and steps[i]:
                codes += below.view(np.uint8) * steps[i]
            inside ^= below
            inside ^= np.less(block, high, out=below)
        return np.flatnonzero(inside)
