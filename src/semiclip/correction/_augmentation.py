"""PEA at work: random corrections of many rows at once, without a loop over rows."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from semiclip import _counter_rng
from semiclip.correction._bank import WhiteningBank
from semiclip.correction._correct import split_controls
from semiclip.correction._moments import MomentsBank
from semiclip.correction._pea import PEA
from semiclip.correction._pools import MOMENTS, PLAN, TRANSFORM, ControlPools
from semiclip.errors import NoVariation


class Draw(NamedTuple):
    """What each of B rows draws: which steps, and what they are fitted on.

    ``steps``, shape (B, 3), says whether a row is centred, scaled and whitened; the others have shape (B,). A whitened
    row takes the transform ``transform`` of one bank, any other the mean and scale ``moments`` of another. Each of them
    is fitted on random controls of the row's batch.
    """

    steps: Tensor
    moments: Tensor
    transform: Tensor


class Augmentation:
    """Perturbation Embedding Augmentation of the rows of one embedding.

    Everything that is drawn for a row is a function of seed, epoch and row, so that the same seed gives the same draws
    on any device, in mini-batches of any order and size, if ``bank_refresh`` is given: otherwise device and number of
    steps choose it. A row does not fit its correction by itself: it picks one of
    those that ``start_epoch`` keeps in two banks, of moments and of whitening transforms.

    Parameters
    ----------
    pea, seed
        What to draw from, and the seed of all draws.
    x, batch, control, fallback, batch_names
        As for :func:`semiclip.correction.augment`; only the control rows of ``x`` are read. How many moments are kept
        for a batch follows from its share of the rows.
    device
        Where the rows to augment are.
    steps_per_epoch
        Training steps, by which ``bank_refresh=None`` is chosen; without it, all transforms are drawn in every epoch.
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
        whitened, whole = steps[:, 2], ~steps.any(axis=1)
        constant = self.pools.constant.all(dim=1).nonzero()[:, 0].tolist()
        if constant and whitened.any():
            names = constant if batch_names is None else [batch_names[code] for code in constant]
            way_out = "drop these batches, or leave 'tvn' out of the methods of PEA"
            raise NoVariation("the controls of some batches", names, way_out)
        self.steps = torch.as_tensor(steps, device=self.device)
        self.cumulative = torch.as_tensor(cumulative.astype(np.float32), device=self.device)
        self.bank = WhiteningBank(self.pools, seed, steps_per_epoch) if whitened.any() else None
        probability = float(np.diff(cumulative, prepend=0) @ ~(whitened | whole))
        self.moments = MomentsBank(self.pools, batch, probability, seed) if probability else None

    def start_epoch(self, epoch: int) -> None:
        """Draw the moments and the whitening transforms that are due in an epoch."""
        if self.moments is not None:
            self.moments.start_epoch(epoch)
        if self.bank is not None:
            self.bank.start_epoch(epoch)

    @torch.no_grad()
    def __call__(self, x: Tensor, row: Tensor, batch: Tensor, epoch: int | Tensor) -> Tensor:
        """Augment rows ``x``, shape (B, d), of these numbers and batch codes, both (B,)."""
        return self.apply(x, batch, self.draw(row, batch, epoch))

    def draw(self, row: Tensor, batch: Tensor, epoch: int | Tensor) -> Draw:
        """Draw for each of B rows by its number and batch code."""
        if self.pea.granularity == "batch":
            row = row[:1].expand(len(row))
        plan, number, place = (  # a tensor of these purposes would be copied from the host, which a CUDA graph refuses
            _counter_rng.uniform(_counter_rng.state(self.seed, epoch, row, what)) for what in (PLAN, MOMENTS, TRANSFORM)
        )
        steps = self.steps[torch.searchsorted(self.cumulative, plan, right=True)]
        moments = transform = torch.zeros_like(batch)
        if self.moments is not None:
            moments = self.moments.pick(number, batch)
        if self.bank is not None:
            transform = self.bank.pick(place, batch, steps[:, 1])
        return Draw(steps, moments, transform)

    def apply(self, x: Tensor, batch: Tensor, draw: Draw) -> Tensor:
        """Correct rows as they drew; a row that kept no step is not touched."""
        (centred, scaled, whitened), out = draw.steps.T, x.clone()

        def change(where: Tensor, entry: Tensor, correct: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
            if x.is_cuda:  # static shapes, for a CUDA graph
                out.copy_(torch.where(where[:, None], correct(x, draw.steps, entry), out))
            elif len(rows := where.nonzero()[:, 0]):
                rows = rows[torch.argsort(entry[rows])]  # rows of one entry share what they read: the cache then helps
                out.index_copy_(0, rows, correct(x.index_select(0, rows), draw.steps[rows], entry[rows]))

        if self.moments is not None:
            change(centred & ~scaled & ~whitened, draw.moments, partial(_center, self.moments))
            change(scaled & ~whitened, draw.moments, partial(self._standardise, self.moments))
        if self.bank is not None:
            change(whitened, draw.transform, partial(self._whiten, self.bank))
        return out

    def _standardise(self, bank: MomentsBank, x: Tensor, steps: Tensor, entry: Tensor) -> Tensor:
        return self._clip(_center(bank, x, steps, entry) / bank.scale.index_select(0, entry))

    def _whiten(self, bank: WhiteningBank, x: Tensor, steps: Tensor, entry: Tensor) -> Tensor:
        return self._clip(bank.whiten(_center(bank, x, steps, entry), entry))

    def _clip(self, x: Tensor) -> Tensor:
        return x if self.pea.clip is None else x.clamp(-self.pea.clip, self.pea.clip)

    def count_controls(self, draw: Draw) -> Tensor:
        """Return on how many controls each row's correction is fitted, shape (B,); 0 where no step was kept."""
        number = torch.zeros_like(draw.moments)
        if self.moments is not None:
            number = self.moments.number[draw.moments]
        if self.bank is not None:
            number = torch.where(draw.steps[:, 2], self.bank.number[draw.transform], number)
        return torch.where(draw.steps.any(dim=1), number, 0)


def _center(bank: MomentsBank | WhiteningBank, x: Tensor, steps: Tensor, entry: Tensor) -> Tensor:
    """Subtract the mean of each row's entry from rows that are centred."""
    return torch.addcmul(x, steps[:, :1].to(x.dtype), bank.mean.index_select(0, entry), value=-1)
