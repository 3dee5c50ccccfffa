"""Which tails each pair of rows lies in, as a number of a few bits: what many exchanges of the rows look up."""

from typing import Any, NamedTuple, Self

import numpy as np

WIDTHS = (1, 2, 4, 8, 16, 32)  # bits of a code


class Codebook(NamedTuple):
    """The codes of cosines between the limits of tails.

    Only what differs has a code of its own: two for one pair of tails, and six, not 32, for five that lie within one
    another.
    """

    patterns: np.ndarray
    """Which tails a code stands for, shape (n_codes, n_levels); the first stands for none."""
    codes: np.ndarray
    """Code of what lies above so many of the limits, shape (n_limits + 1,)."""

    @classmethod
    def of(cls, low: np.ndarray, high: np.ndarray, n_limits: int) -> Self:
        """Return codes for levels, each tail of which ends at one of the limits, counted in ascending order."""
        n_above = np.arange(n_limits + 1)[:, None]
        hit = (n_above <= low) | (n_above > high)
        patterns, codes = np.unique(np.vstack([np.zeros_like(hit[:1]), hit]), axis=0, return_inverse=True)
        return cls(patterns, codes.ravel()[1:].astype(np.min_scalar_type(len(patterns) - 1)))

    @property
    def width(self) -> int:
        """Bits that a code takes."""
        return next(width for width in WIDTHS if len(self.patterns) <= 1 << width)


class PairCodes(NamedTuple):
    """A code for each pair of rows whose first row is in a strip of rows."""

    packed: np.ndarray
    """Codes of neighbouring second rows together, the first in the lowest bits."""
    width: int
    """Bits of a code."""
    start: int = 0
    """First row of the strip."""
    is_whole: bool = True
    """Whether the strip has all rows."""

    @classmethod
    def make(cls, n: int, width: int, n_rows: int) -> Self:
        """Make room for a strip of ``n_rows`` of ``n`` rows; what is never written takes no memory."""
        kind = {16: np.uint16, 32: np.uint32}.get(width, np.uint8)
        return cls(np.zeros((n_rows, count_values(n, width)), dtype=kind), width, is_whole=n_rows == n)

    def put(self, start: int, left: int, codes: np.ndarray) -> None:
        """Set the codes of a block that begins at this row and column."""
        packed = pack(codes, self.width)
        self._part(start, left, packed.shape)[:] = packed

    def add(self, start: int, left: int, codes: np.ndarray) -> None:
        """Set those codes of a block that are 0 until now, and leave the others, for which a 0 is given."""
        packed = pack(codes, self.width)
        self._part(start, left, packed.shape)[:] |= packed

    def _part(self, start: int, left: int, shape: tuple[int, ...]) -> np.ndarray:
        top, edge = start - self.start, left // (8 // min(self.width, 8))
        return self.packed[top : top + shape[0], edge : edge + shape[1]]

    def look_up(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Return the codes of pairs of rows, in any order, and 0 for those that are not in the strip."""
        n_rows, size = self.packed.shape
        together = 8 // min(self.width, 8)
        first, second = np.minimum(one, other), np.maximum(one, other)
        if not self.is_whole:
            first -= self.start
        # a place outside is that of any other pair
        codes = np.take(self.packed, first * size + (second >> together.bit_length() - 1), mode="clip")
        if together > 1:
            codes >>= ((second & together - 1) * self.width).astype(np.uint8)
            codes &= np.uint8((1 << self.width) - 1)
        if not self.is_whole:
            codes[(first < 0) | (first >= n_rows)] = 0
        return codes


def count_values(n: int, width: int) -> int:
    """Return how many values hold the codes of a row."""
    return -(-n // (8 // min(width, 8)))


def pack(codes: np.ndarray, width: int) -> np.ndarray:
    """Return codes, shape (n_rows, n), with as many of a row together as eight bits hold."""
    if width >= 8:
        return codes
    if width == 1:
        return np.packbits(codes, axis=1, bitorder="little")
    together = 8 // width
    if rest := -codes.shape[1] % together:
        codes = np.pad(codes, ((0, 0), (0, rest)))
    wide: Any = np.ascontiguousarray(codes).view(f"<u{together}")
    packed = wide.copy()
    for i in range(1, together):
        packed |= wide >> ((8 - width) * i)  # beside the code before; what is above the lowest eight bits is lost
    return packed.astype(np.uint8)
