"""PEA at work: random corrections of many rows at once, without a loop over rows."""

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from semiclip import _counter_rng
from semiclip.correction._bank import WhiteningBank
from semiclip.correction._correct import split_controls
from semiclip.correction._pea import PEA
from semiclip.correction._pools import ENTRY, NUMBER, PLAN, SUBSET, ControlPools
from semiclip.errors import NoVariation

logger = logging.getLogger(__name__)

# cost of whitening transforms (WhiteningBank.estimate_cost) that each training step may add: on two cores one on many
# controls in 256 dimensions takes a twelfth of a step of the paper's adapter. The number for GPUs is an estimate
COST_OF_A_STEP, COST_OF_A_STEP_CUDA = 2**24, 2**20


class Draw(NamedTuple):
    """What each of B rows draws: which steps, and the controls that they are fitted on.

    ``steps``, shape (B, 3), says whether a row is centred, scaled and whitened; the others have shape (B,). A whitened
    row takes the transform ``entry`` of the bank, another a ``number`` of controls, drawn from the state ``subset``.
    """

    steps: Tensor
    number: Tensor
    subset: Tensor
    entry: Tensor


class Augmentation:
    """Perturbation Embedding Augmentation of the rows of one embedding.

    Everything that is drawn for a row is a function of seed, epoch and row, so that the same seed gives the same draws
    on any device, in mini-batches of any order and size.

    Parameters
    ----------
    pea, seed
        What to draw from, and the seed of all draws.
    x, batch, control, fallback, batch_names
        As for :func:`semiclip.correction.augment`; only the control rows of ``x`` are read.
    device
        Where the rows to augment are.
    steps_per_epoch
        Training steps, by which ``bank_refresh=None`` is chosen; without it, the transforms are drawn every epoch.
    """

    def __init__(
        self,
        pea: PEA,
        x: np.ndarray,
        batch: np.ndarray,
        control: np.ndarray,
        *,
        seed: int = 0,
        fallback: str = "raise",
        batch_names: Sequence[object] | None = None,
        device: torch.device | str = "cpu",
        steps_per_epoch: int | None = None,
    ) -> None:
        self.pea, self.seed, self.device = pea, seed, torch.device(device)
        rows, pool_of_batch, _ = split_controls(batch, control, fallback, batch_names, at_least=pea.min_controls)
        self.pools = ControlPools(pea, x, rows, pool_of_batch, seed, self.device)
        steps, cumulative = pea.table
        constant = self.pools.constant.all(dim=1).nonzero()[:, 0].tolist()
        if constant and steps[:, 2].any():
            names = constant if batch_names is None else [batch_names[code] for code in constant]
            way_out = "drop these batches, or leave 'tvn' out of the methods of PEA"
            raise NoVariation("the controls of some batches", names, way_out)
        self.steps = torch.as_tensor(steps, device=self.device)
        self.cumulative = torch.as_tensor(cumulative.astype(np.float32), device=self.device)
        self.bank = WhiteningBank(self.pools, seed) if steps[:, 2].any() else None
        self.refresh = 1 if pea.bank_refresh is None else pea.bank_refresh
        if pea.bank_refresh is None and self.bank is not None and steps_per_epoch is not None:
            per_step = COST_OF_A_STEP_CUDA if self.device.type == "cuda" else COST_OF_A_STEP
            self.refresh = max(1, math.ceil(self.bank.estimate_cost(self.device) / (per_step * steps_per_epoch)))
            if self.refresh > 1 and pea.control_law != "all":
                told = "PEA draws its %d whitening transforms anew every %d epochs, to save time; bank_refresh=1 draws "
                logger.info(told + "them in every epoch", len(self.bank.mean), self.refresh)

    def start_epoch(self, epoch: int) -> None:
        """Draw the whitening transforms of an epoch, if they are due."""
        if self.bank is not None:
            self.bank.draw(epoch // self.refresh if self.refresh else 0)

    @torch.no_grad()
    def __call__(self, x: Tensor, row: Tensor, batch: Tensor, epoch: int | Tensor) -> Tensor:
        """Augment rows ``x``, shape (B, d), of these numbers and batch codes, both (B,)."""
        return self.apply(x, batch, self.draw(row, batch, epoch))

    def draw(self, row: Tensor, batch: Tensor, epoch: int | Tensor) -> Draw:
        """Draw for each of B rows by its number and batch code."""

        def states(*purpose: int | Tensor) -> Tensor:
            return _counter_rng.state(self.seed, epoch, row, *purpose)

        if self.pea.granularity == "batch":
            row = row[:1].expand(len(row))
        plan = torch.searchsorted(self.cumulative, _counter_rng.uniform(states(PLAN)), right=True)
        steps = self.steps[plan]
        number = self.pools.draw_number(_counter_rng.uniform(states(NUMBER)), batch)
        entry = torch.zeros_like(batch)
        if self.bank is not None:
            place = _counter_rng.below(states(ENTRY, batch), self.bank.size)
            entry = self.bank.first(batch, steps[:, 1]) + place
        return Draw(steps, number, states(SUBSET, batch), entry)

    def apply(self, x: Tensor, batch: Tensor, draw: Draw) -> Tensor:
        """Correct rows as they drew; a row that kept no step is not touched."""
        (centred, scaled, whitened), pools, bank, out = draw.steps.T, self.pools, self.bank, x.clone()

        def center(rows: Tensor | slice, mean: Tensor) -> Tensor:
            return torch.where(centred[rows, None], x[rows] - mean, x[rows])

        def by_moments(rows: Tensor | slice) -> Tensor:
            code = batch[rows]
            mean, sd = pools.subset_moments(code, draw.number[rows], draw.subset[rows])
            base, unit = pools.mean[code], pools.sd[code]
            moved = center(rows, base + unit * mean)
            return torch.where(scaled[rows, None], self._clip(moved / (unit * sd)), moved)

        def by_bank(bank: WhiteningBank, rows: Tensor | slice) -> Tensor:
            entry = draw.entry[rows]
            return self._clip(bank.whiten(center(rows, bank.mean[entry]), entry))

        def change(where: Tensor, correct: Callable[[Tensor | slice], Tensor]) -> None:
            if x.is_cuda:  # static shapes, for a CUDA graph
                out.copy_(torch.where(where[:, None], correct(slice(None)), out))
            elif len(rows := where.nonzero()[:, 0]):
                rows = rows[torch.argsort(batch[rows])]  # rows of a batch share controls: the cache then helps
                out[rows] = correct(rows)

        change((centred | scaled) & ~whitened, by_moments)
        if bank is not None:
            change(whitened, partial(by_bank, bank))
        return out

    def _clip(self, x: Tensor) -> Tensor:
        return x if self.pea.clip is None else x.clamp(-self.pea.clip, self.pea.clip)

    def count_controls(self, draw: Draw) -> Tensor:
        """Return on how many controls each row's correction is fitted, shape (B,); 0 where no step was kept."""
        number = torch.where(draw.steps.any(dim=1), draw.number, 0)
        return number if self.bank is None else torch.where(draw.steps[:, 2], self.bank.number[draw.entry], number)
