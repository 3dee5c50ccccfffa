"""The cosines of all pairs of rows, 40 GB at 100,000 rows: computed block by block, and never all kept."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Self

import numpy as np

from semiclip._numerics import row_blocks, rows_at_once
from semiclip.metrics._matrices import DECIMALS, normalise

ROWS, COLUMNS = 256, 1024  # of a block, 1 MB in single precision, so that what follows the product reads the cache
CHUNK = 192  # dimensions summed at a time in single precision: shorter sums round less, and longer ones are faster
LOOKED_UP = 1 << 16  # values of single pairs of rows that exist at a time, which stay in the cache


class Cosines(NamedTuple):
    """The cosines of all pairs of n rows, each pair once.

    A cosine is rounded, so that equal rows have equal cosines whatever the order of summation. Products of many rows
    in single precision are twice as fast and tell most cosines apart from a limit; :meth:`at` tells the others.
    """

    unit: np.ndarray
    """Rows of length one, shape (n, d), in float64."""

    @classmethod
    def of(cls, x: np.ndarray) -> Self:
        """Return the cosines of the rows of ``x``, shape (n, d)."""
        unit = np.empty(x.shape)
        for rows in row_blocks(len(x), rows_at_once(ROWS * COLUMNS, x.shape[1])):
            unit[rows] = normalise(x[rows].astype(np.float64, copy=False))
        return cls(unit)

    @property
    def size(self) -> int:
        """Number of cosines."""
        return len(self.unit) * (len(self.unit) - 1) // 2

    def error(self, dtype: Any) -> float:
        """Return by how much a value of :meth:`blocks` can be off the rounded cosine.

        A sum of m products is off by less than m·u times the sum of their sizes, in any order, where u is half the
        distance from 1 to the next number (Higham 2002, section 3.1), and products of rows of length one have sizes
        that sum to 1 at most. A value has a sum for each chunk, the sum of these, and both factors rounded once; two
        more u cover the terms in u² and the rounding of a limit that it is compared with.
        """
        if dtype == np.float64:
            return 0.0  # these are rounded cosines
        d = self.unit.shape[1]
        return float((min(d, CHUNK) + -(-d // CHUNK) + 5) * np.finfo(dtype).eps / 2)

    def blocks(self, dtype: Any = np.float64) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield first row, first column and values of blocks with all cosines, NaN where a column is not after its row.

        Rows come in order, and a block lasts until the next is asked for. In float64 its values are rounded.
        """
        unit = self.unit.astype(dtype, copy=False)
        n, d = unit.shape
        first, *others = row_blocks(max(d, 1), max(d, 1) if dtype == np.float64 else CHUNK)
        room, more = np.empty((2, ROWS * COLUMNS), dtype)
        for rows in row_blocks(n, ROWS):
            for columns in row_blocks(n - rows.start, COLUMNS):
                left = rows.start + columns.start
                one, other = unit[rows], unit[left : left + COLUMNS]
                shape = (len(one), len(other))
                block, part = (space[: shape[0] * shape[1]].reshape(shape) for space in (room, more))
                np.matmul(one[:, first], other[:, first].T, out=block)
                for chunk in others:
                    block += np.matmul(one[:, chunk], other[:, chunk].T, out=part)
                if left < rows.stop:
                    block[np.arange(rows.start, rows.stop)[:, None] >= left + np.arange(shape[1])] = np.nan
                if dtype == np.float64:
                    np.round(block, DECIMALS, out=block)
                yield rows.start, left, block

    def look_up(
        self, first: np.ndarray, second: np.ndarray, found: np.ndarray
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """Yield all blocks in the precision of ``found``, and write there what they say of these pairs of rows.

        Each first row is before its second.
        """
        strip, most = first // ROWS, -(-len(self.unit) // COLUMNS)
        number = strip * most + (second - strip * ROWS) // COLUMNS  # of a pair's block, in their order
        order = np.argsort(number, kind="stable")
        ascending, begin = number[order], 0
        for start, left, block in self.blocks(found.dtype):
            end = int(np.searchsorted(ascending, start // ROWS * most + (left - start) // COLUMNS, side="right"))
            here = order[begin:end]
            found[here] = block[first[here] - start, second[here] - left]
            begin = end
            yield start, left, block

    def at(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Return the cosines of these pairs of rows, the same to the last bit whichever others are asked for."""
        return np.round(row_products(self.unit, first, second), DECIMALS)


def row_products(unit: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the products of some pairs of rows."""
    products = np.empty(len(first), unit.dtype)
    at_once = min(len(first), rows_at_once(LOOKED_UP, unit.shape[1]))
    room = np.empty((2, at_once, unit.shape[1]), unit.dtype)  # made once: memory that is new is slow
    for part in row_blocks(len(first), max(at_once, 1)):
        one, other = (
            unit.take(rows[part], axis=0, out=space[: part.stop - part.start], mode="clip")
            for rows, space in zip((first, second), room, strict=True)
        )
        np.einsum("ij,ij->i", one, other, out=products[part])
    return products
