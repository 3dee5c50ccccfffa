"""The moments of random controls that PEA keeps, from which rows that are centred and scaled draw."""

import math

import numpy as np
import torch
from torch import Tensor

from semiclip import _counter_rng
from semiclip.correction._pools import MOMENTS, ControlPools
from semiclip.correction._rota import Rota

# so many entries for each row of a mini-batch of 1,024 that needs moments: one in twelve meets its entry there again
ENTRIES_PER_ROW, TOGETHER = 12, 1024
FEWEST = 32  # of a batch
BANK_BYTES = 1 << 28  # most memory of the entries
PERIOD = 32  # epochs that an entry lasts
# entries of so many controls and dimensions are fitted together, which bounds memory
AT_ONCE, AT_ONCE_CUDA = 1 << 19, 1 << 24


class MomentsBank:
    """Means and scales of random controls of every batch, in the units of the rows; each entry has its own controls.

    How many a batch has follows from its share of the rows alone, so that what a row draws does not depend on
    mini-batches. The numbers of controls are spread evenly over the entries of a batch: entry *i* of *n* has the number
    that belongs to (*i* + *u*) / *n* by its law, for a uniform *u* of its own.

    Parameters
    ----------
    pools
        The controls of each batch.
    batch
        Batch code of every row, shape (n,).
    probability
        That a row needs moments.
    seed
        Of all draws.
    """

    def __init__(self, pools: ControlPools, batch: np.ndarray, probability: float, seed: int) -> None:
        self.pools, self.seed = pools, seed
        n_batches, d = pools.mean.shape
        affordable = BANK_BYTES // (2 * d * 4)
        wanted = min(math.ceil(ENTRIES_PER_ROW * probability * min(TOGETHER, len(batch))), affordable)
        share = np.bincount(batch, minlength=n_batches) / len(batch)
        fewest = min(max(affordable // n_batches, 1), FEWEST)
        size = np.maximum(np.ceil(share * wanted).astype(np.int64), fewest)
        if pools.pea.control_law == "all":
            size[:] = 1
        first, n = np.cumsum(size) - size, int(size.sum())
        of_batch = np.repeat(np.arange(n_batches), size)
        place = np.arange(n) - first[of_batch]
        period = 0 if pools.pea.control_law == "all" else PERIOD
        self.rota = Rota(place, size[of_batch], period, at_first=n)
        device = pools.mean.device
        self.size, self.first = torch.as_tensor(size, device=device), torch.as_tensor(first, device=device)
        self.batch = torch.as_tensor(of_batch, device=device)
        self.mean, self.scale = torch.zeros(n, d, device=device), torch.zeros(n, d, device=device)
        self.number = torch.zeros(n, dtype=torch.long, device=device)

    def pick(self, uniform: Tensor, batch: Tensor) -> Tensor:
        """Turn numbers in [0, 1) into entries of batches, shape (B,); the larger, the more controls."""
        return self.first[batch] + (uniform * self.size[batch]).long()

    @torch.no_grad()
    def start_epoch(self, epoch: int) -> None:
        """Fit the entries that are due on new controls."""
        device = self.mean.device
        numbers = self.pools.n_most + self.mean.shape[1]
        at_once = max(1, (AT_ONCE_CUDA if device.type == "cuda" else AT_ONCE) // numbers)
        due, versions = (torch.as_tensor(part, device=device).split(at_once) for part in self.rota.turn(epoch))
        for entry, version in zip(due, versions, strict=True):
            batch, number, chosen = self.draw_controls(entry, version)
            mean, sd = self.pools.moments(batch, number, chosen)
            unit = self.pools.sd[batch]
            self.mean[entry] = mean.mul_(unit).add_(self.pools.mean[batch])
            self.scale[entry], self.number[entry] = sd.mul_(unit), number

    def draw_controls(self, entry: Tensor, version: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the batch of each of E entries, how many controls it is fitted on and which, (E, n_most)."""
        batch = self.batch[entry]
        place = entry - self.first[batch]
        states = _counter_rng.state(self.seed, version, batch, place, MOMENTS)
        # in float64, since float32 would round some of these to the next entry's
        uniform = (place + _counter_rng.uniform(states).double()) / self.size[batch]
        number = self.pools.draw_number(uniform, batch)
        return batch, number, self.pools.draw_subset(batch, number, states)
