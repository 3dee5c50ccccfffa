"""The controls that PEA draws from, and the moments of random ones for many draws at once."""

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from semiclip import _counter_rng
from semiclip.correction._pea import PEA
from semiclip.correction._steps import center, deviation, precision

logger = logging.getLogger(__name__)

# from so many numbers on, draws in a run that share controls are summed faster by one matrix product than one by one
NUMBERS_OF_A_PRODUCT = 1 << 20
# so many random numbers are sorted together: the cache of a CPU holds them, and a GPU is busy
KEYS_AT_ONCE, KEYS_AT_ONCE_CUDA = 1 << 15, 1 << 24
PLAN, MOMENTS, TRANSFORM, BANK = range(4)  # what a random number is for


class ControlPools:
    """The controls that each batch draws from; ``batch``, ``number`` and ``states`` have an entry for each draw."""

    def __init__(
        self,
        pea: PEA,
        x: np.ndarray,
        pools: list[np.ndarray],
        pool_of_batch: np.ndarray,
        seed: int,
        device: torch.device,
    ) -> None:
        self.pea = pea
        most = pea.max_controls
        if most is not None and max(map(len, pools)) > most:
            logger.info("PEA draws from %d random controls of each batch that has more (max_controls)", most)
            rng = np.random.default_rng(seed)
            pools = [np.sort(rng.choice(pool, most, replace=False)) if len(pool) > most else pool for pool in pools]

        def place(by_pool: Any) -> Tensor:
            return torch.as_tensor(np.stack(by_pool)[pool_of_batch]).to(device)

        eps = precision(x, np.concatenate(pools))
        parts = (_standardise(x[pool], eps) for pool in pools)
        standard, mean, sd, constant, noise = zip(*parts, strict=True)
        sizes = np.array([len(pool) for pool in pools])
        self.count, self.n_most, places = place(sizes), int(sizes.max()), np.arange(sizes.max())
        self.pool = torch.as_tensor(pool_of_batch).to(device)  # batches that share a pool share its table
        self._exists = torch.as_tensor(places < sizes[:, None]).to(device)
        table = (np.cumsum(sizes) - sizes)[:, None] + np.minimum(places, sizes[:, None] - 1)
        self._rows = torch.as_tensor(table).to(device)
        self.with_squares = torch.as_tensor(np.concatenate(standard)).to(device)
        self.standard = self.with_squares[:, : x.shape[1]]
        self.mean, self.sd = (place(np.stack(part).astype(np.float32)) for part in (mean, sd))
        self.constant, self.noise = place(constant), place(noise)

    def rows(self, batch: Tensor) -> Tensor:
        """Return where the controls of each batch are, shape (B, n_most), the last one again where it has fewer."""
        return self._rows[self.pool[batch]]

    def draw_number(self, uniform: Tensor, batch: Tensor) -> Tensor:
        """Turn numbers in [0, 1) into numbers of controls by the law of PEA, shape (B,)."""
        most, least = self.count[batch], self.pea.min_controls
        if self.pea.control_law == "all":
            return most
        if self.pea.control_law == "uniform":
            number = least + (uniform * (most - least + 1)).long()
        else:
            number = (least * ((most + 1) / least) ** uniform).long()
        return torch.clamp(number, max=most)

    def draw_subset(self, batch: Tensor, number: Tensor, states: Tensor) -> Tensor:
        """Return a mask of so many controls of their batch, drawn without replacement, shape (B, n_most)."""
        at_once = max(1, (KEYS_AT_ONCE_CUDA if batch.is_cuda else KEYS_AT_ONCE) // self.n_most)
        parts = zip(*(part.split(at_once) for part in (batch, number, states)), strict=True)
        return torch.cat([self._draw_subset(*part) for part in parts])

    def _draw_subset(self, batch: Tensor, number: Tensor, states: Tensor) -> Tensor:
        keys = _counter_rng.keys(states, self.n_most).masked_fill_(~self._exists[self.pool[batch]], 2**63 - 1)
        return keys <= _sort(keys).gather(1, number[:, None] - 1)  # those with the smallest keys

    def moments(self, batch: Tensor, number: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of chosen controls in units of the batch's, both (B, d)."""
        if self.pea.control_law == "all":
            return torch.zeros_like(self.mean[batch]), torch.ones_like(self.sd[batch])
        weight = chosen.to(self.with_squares.dtype).div_(number[:, None])
        first, second = self._combine(weight, batch).tensor_split(2, dim=1)
        sd = second.addcmul_(first, first, value=-1).clamp_(min=0).sqrt_()  # in place, since new memory takes longer
        return first, self.floor(sd, batch)

    def _combine(self, weight: Tensor, batch: Tensor) -> Tensor:
        """Return the controls of each batch beside their squares, summed by weights (B, n_most), shape (B, 2d)."""
        codes, numbers = torch.unique_consecutive(batch, return_counts=True)
        if weight.numel() * self.with_squares.shape[1] > NUMBERS_OF_A_PRODUCT * len(codes):
            starts, sizes = self._rows[self.pool[codes], 0].tolist(), self.count[codes].tolist()
            sums = weight.new_empty(len(weight), self.with_squares.shape[1])
            runs = (part.split(numbers.tolist()) for part in (weight, sums))
            for of_run, sum_of_run, first, n in zip(*runs, starts, sizes, strict=True):
                torch.mm(of_run[:, :n], self.with_squares[first : first + n], out=sum_of_run)
            return sums
        return embedding_bag(self.rows(batch), self.with_squares, mode="sum", per_sample_weights=weight)

    def floor(self, sd: Tensor, batch: Tensor) -> Tensor:
        """Keep a scale from being tiny; the scale of a feature that is constant in all controls is 1."""
        sd = torch.clamp(sd, min=self.pea.scale_floor)
        return sd.masked_fill_(self.constant[batch] | (sd == 0), 1.0)


def _sort(keys: Tensor) -> Tensor:
    """Sort each row, on CPU by NumPy, which takes a tenth of the time."""
    if keys.is_cuda:
        return keys.sort(dim=1).values
    return torch.from_numpy(np.sort(keys.numpy(), axis=1))


def _standardise(values: np.ndarray, eps: float) -> tuple[Any, ...]:
    """Return standardised controls beside their squares, in float32 (m, 2d), and their moments in float64.

    These are mean, standard deviation, where it is zero (1 stands for it) and the rounding error in units of it.
    """
    controls = values.astype(np.float64)
    noise = eps * np.abs(values).max(axis=0).astype(np.float64)
    mean: Any = center(controls).shift
    sd = deviation(controls, noise=noise)
    unit = np.where(sd == 0, 1, sd)
    # in units of their standard deviation, so that float32 holds the moments of a subset well
    standard = ((controls - mean) / unit).astype(np.float32)
    noise = noise / unit + np.finfo(np.float32).eps * np.abs(standard).max(axis=0)
    return np.concatenate([standard, standard**2], axis=1), mean, unit, sd == 0, noise
