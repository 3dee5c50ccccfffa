"""Single values of a large array by their rank, without sorting or copying it."""

from collections.abc import Sequence

import numpy as np

from semiclip._numerics import row_blocks

SAMPLE = 1 << 20  # values that tell between which two a rank lies; up to four times as many are selected in a copy
BLOCK = 1 << 22  # values looked at at a time


def order_statistics(values: np.ndarray, ranks: Sequence[int]) -> list[float]:
    """Return the values of these ranks, counted from 0 in ascending order; ``values`` stays as it is."""
    if values.size <= 4 * SAMPLE:
        part, selected = values.copy(), []
        for rank in ranks:  # one at a time, which NumPy selects several times faster than several at once
            part.partition(rank)
            selected.append(float(part[rank]))
        return selected
    sample = np.sort(values[:: values.size // SAMPLE])
    return [_select(values, rank, sample) for rank in ranks]


def _select(values: np.ndarray, rank: int, sample: np.ndarray) -> float:
    """Count what lies below two values that most likely embrace the rank, and select among those between them."""
    place = rank / values.size * sample.size
    margin = 4 * np.sqrt(sample.size)  # eight standard deviations of a median's place, more of any other's
    low, high = (sample[int(np.clip(at, 0, sample.size - 1))] for at in (place - margin, place + margin))
    below, between = 0, []
    for rows in row_blocks(values.size, BLOCK):
        block = values[rows]
        under = block < low
        below += int(np.count_nonzero(under))
        between.append(block[~under & (block <= high)])
    inside = np.concatenate(between)
    if below <= rank < below + inside.size:
        inside.partition(rank - below)
        return float(inside[rank - below])
    return float(np.partition(values, rank)[rank])  # the sample misled: exact all the same, at the cost of a copy
