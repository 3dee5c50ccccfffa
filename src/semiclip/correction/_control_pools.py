"""The controls of every batch as PEA draws from them: random subsets and their moments."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from semiclip import _counter_rng
from semiclip.correction._correct import split_controls
from semiclip.correction._pea import PEA
from semiclip.correction._steps import center, deviation

logger = logging.getLogger(__name__)


class ControlPools:
    """The controls that each batch draws from, its own or those of all batches; parameters as for ``Augmentation``.

    Below, ``batch``, ``number`` (of controls) and ``states`` (of the random numbers) have one entry for each of B rows.
    """

    def __init__(
        self,
        pea: PEA,
        x: np.ndarray,
        batch: np.ndarray,
        control: np.ndarray,
        fallback: str,
        names: Sequence[object] | None,
        seed: int,
        device: torch.device,
    ) -> None:
        self.pea = pea
        rows, borrowing = split_controls(batch, control, fallback, names, at_least=pea.min_controls)
        lending = [code for code in range(len(rows)) if code not in borrowing]
        pools = [rows[code] for code in (*lending, *sorted(borrowing)[:1])]  # all that borrow have the same
        pool_of_batch = np.full(len(rows), len(lending))
        pool_of_batch[lending] = np.arange(len(lending))
        most = pea.max_controls
        if most is not None and max(map(len, pools)) > most:
            logger.info("PEA draws from %d random controls of each batch that has more (max_controls)", most)
            rng = np.random.default_rng(seed)
            pools = [np.sort(rng.choice(pool, most, replace=False)) if len(pool) > most else pool for pool in pools]

        def place(by_pool: Any) -> Tensor:
            return torch.as_tensor(np.stack(by_pool)[pool_of_batch]).to(device)

        standard, mean, sd, constant = zip(*(_standardise(x[pool].astype(np.float64)) for pool in pools), strict=True)
        sizes = np.array([len(pool) for pool in pools])
        self.count, self.n_most, places = place(sizes), int(sizes.max()), np.arange(sizes.max())
        self.exists = place(places < sizes[:, None])
        self.rows = place((np.cumsum(sizes) - sizes)[:, None] + np.minimum(places, sizes[:, None] - 1))
        # in units of their standard deviation, so that float32 holds the moments of a subset well
        self.standard = torch.as_tensor(np.concatenate(standard).astype(np.float32)).to(device)
        self.with_squares = torch.cat([self.standard, self.standard**2], dim=1)
        self.mean, self.sd = (place(np.stack(part).astype(np.float32)) for part in (mean, sd))
        self.constant = place(constant)

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
        """Return a mask of the controls that rows draw of their batch without replacement, shape (B, n_most)."""
        exists = self.exists[batch]
        if self.pea.control_law == "all":
            return exists
        keys = _counter_rng.keys(states, self.n_most).masked_fill_(~exists, 2**63 - 1)
        return keys <= keys.sort(dim=1).values.gather(1, number[:, None] - 1)  # those with the smallest keys

    def subset_moments(self, batch: Tensor, number: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of drawn controls in units of the batch's, both (B, d)."""
        if self.pea.control_law == "all":
            return torch.zeros_like(self.mean[batch]), torch.ones_like(self.sd[batch])
        weight = self.draw_subset(batch, number, states).to(self.with_squares.dtype) / number[:, None]
        moments = embedding_bag(self.rows[batch], self.with_squares, mode="sum", per_sample_weights=weight)
        first, second = moments.tensor_split(2, dim=1)
        return first, self.floor((second - first**2).clamp(min=0).sqrt(), batch)

    def floor(self, sd: Tensor, batch: Tensor) -> Tensor:
        """Keep a scale from being tiny; the scale of a feature that is constant in all controls is 1."""
        sd = torch.clamp(sd, min=self.pea.scale_floor)
        return torch.where(self.constant[batch] | (sd == 0), torch.ones_like(sd), sd)


def _standardise(controls: np.ndarray) -> tuple[Any, ...]:
    """Return standardised controls, their mean, their standard deviation and where it is zero (1 stands for it)."""
    mean, sd = center(controls).shift, deviation(controls)
    unit = np.where(sd == 0, 1, sd)
    return (controls - mean) / unit, mean, unit, sd == 0
