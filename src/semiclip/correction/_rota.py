"""When the entries of a bank are drawn anew."""

import numpy as np


class Rota:
    """Renews the entries of a bank in turn, so that each that was renewed lasts ``period`` epochs.

    What an entry holds is a function of its version, the epoch in which it was last due. A run that is taken up again
    therefore has the bank that it would have had.

    Parameters
    ----------
    place, size
        Which of how many entries of its group each one is, both (n,).
    period
        Epochs that an entry lasts; 0 for ever.
    at_first
        Entries of each group that epoch 0 draws, or a renewal's share if that is more. Later epochs add others as fast
        as they renew them when all are there.
    """

    def __init__(self, place: np.ndarray, size: np.ndarray, period: int, at_first: int) -> None:
        self.place, self.period = place, period
        at_first = np.maximum(at_first, -(-size // max(period, 1)))
        self.added, growing = (
            -(-np.maximum(last - at_first, 0) * period // size) for last in (place + 1, size)
        )  # epochs; renewals begin in the next
        self.first_due = growing + np.minimum(growing, 1) + place * period // size
        self.held = np.full(len(place), -1)

    def versions(self, epoch: int) -> np.ndarray:
        """Return the version of each entry in an epoch, shape (n,), -1 where it is not there yet."""
        if not self.period:
            return np.zeros(len(self.place), dtype=np.int64)
        first = np.where(self.added <= epoch, self.added, -1)
        return np.where(epoch < self.first_due, first, epoch - (epoch - self.first_due) % self.period)

    def turn(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the entries that are to be drawn for an epoch, and their versions; they count as drawn from now on."""
        version = self.versions(epoch)
        due = np.flatnonzero((version >= 0) & (version != self.held))
        self.held = version
        return due, version[due]
