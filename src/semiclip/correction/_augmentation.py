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
from semiclip.errors import NotFitted, NoVariation

UNTOUCHED, CENTRED, SCALED, WHITENED = range(4)  # kinds of rows, each by its last step
ENTRY_BITS = 40  # of a number that sorts rows by kind and entry
# rows whose random numbers are drawn together: the cache of a CPU holds them, and a GPU is busy
ROWS_AT_ONCE, ROWS_AT_ONCE_CUDA = 1 << 16, 1 << 24


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
        self.pea, self.seed, self.device, self.n_rows = pea, seed, torch.device(device), len(x)
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
        self.numbers: Tensor | None = None

    def start_epoch(self, epoch: int) -> None:
        """Draw what is due in an epoch: moments, whitening transforms, and the random numbers of all rows."""
        self.renew_banks(epoch)
        # of all rows, since in each mini-batch the calls would take longer than their work
        at_once = ROWS_AT_ONCE_CUDA if self.device.type == "cuda" else ROWS_AT_ONCE
        parts = torch.arange(self.n_rows, device=self.device).split(at_once)
        # new memory in each epoch, in which a CUDA graph is captured anew
        self.numbers = torch.cat([self._draw_numbers(part, epoch) for part in parts], dim=1)

    def renew_banks(self, epoch: int) -> None:
        """Draw the moments and the whitening transforms that are due in an epoch."""
        if self.moments is not None:
            self.moments.start_epoch(epoch)
        if self.bank is not None:
            self.bank.start_epoch(epoch)

    @torch.no_grad()
    def __call__(self, x: Tensor, row: Tensor, batch: Tensor) -> Tensor:
        """Augment rows ``x``, shape (B, d), of these numbers and batch codes, both (B,), in the epoch that started."""
        if self.numbers is None:
            raise NotFitted("this augmentation", "call start_epoch first")
        return self.apply(x, batch, self._choose(self.numbers[:, self._share(row)], batch))

    def draw(self, row: Tensor, batch: Tensor, epoch: int | Tensor) -> Draw:
        """Draw for each of B rows by its number and batch code."""
        return self._choose(self._draw_numbers(self._share(row), epoch), batch)

    def _share(self, row: Tensor) -> Tensor:
        """Return the row that draws for each row: itself, or the first of a mini-batch."""
        return row[:1].expand(len(row)) if self.pea.granularity == "batch" else row

    def _draw_numbers(self, row: Tensor, epoch: int | Tensor) -> Tensor:
        """Draw three numbers in [0, 1) for each of B rows, (3, B): of its plan, its moments and its transform."""
        # a tensor of these purposes would be copied from the host, which a CUDA graph refuses
        states = (_counter_rng.state(self.seed, epoch, row, what) for what in (PLAN, MOMENTS, TRANSFORM))
        return torch.stack([_counter_rng.uniform(state) for state in states])

    def _choose(self, numbers: Tensor, batch: Tensor) -> Draw:
        """Turn the numbers of rows into steps and entries of the banks."""
        plan, number, place = numbers
        steps = self.steps[torch.searchsorted(self.cumulative, plan, right=True)]
        moments = transform = torch.zeros_like(batch)
        if self.moments is not None:
            moments = self.moments.pick(number, batch)
        if self.bank is not None:
            transform = self.bank.pick(place, batch, steps[:, 1])
        return Draw(steps, moments, transform)

    def apply(self, x: Tensor, batch: Tensor, draw: Draw) -> Tensor:
        """Correct rows as they drew; a row that kept no step is not touched."""
        centred, scaled, whitened = draw.steps.T
        kind = torch.where(whitened, WHITENED, torch.where(scaled, SCALED, centred.long()))
        corrections: dict[int, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], Tensor]] = {}
        if self.moments is not None:
            corrections[CENTRED] = partial(_center, self.moments), draw.moments
            corrections[SCALED] = partial(self._standardise, self.moments), draw.moments
        if self.bank is not None:
            corrections[WHITENED] = partial(self._whiten, self.bank), draw.transform
        if x.is_cuda:  # static shapes, for a CUDA graph
            out = x
            for number, (correct, entry) in corrections.items():
                out = torch.where((kind == number)[:, None], correct(x, draw.steps, entry), out)
            return out
        # rows of one kind together, and in them those of one entry, which share what they read: the cache helps
        order = torch.argsort((kind << ENTRY_BITS) + torch.where(whitened, draw.transform, draw.moments))
        out = x.clone()
        for number, rows in enumerate(order.split(torch.bincount(kind, minlength=WHITENED + 1).tolist())):
            if len(rows) and number != UNTOUCHED:
                correct, entry = corrections[number]
                of_kind = correct(x.index_select(0, rows), draw.steps[rows], entry[rows])
                out.index_copy_(0, rows, of_kind.to(out.dtype))
        return out

    def _standardise(self, bank: MomentsBank, x: Tensor, steps: Tensor, entry: Tensor) -> Tensor:
        return self._clip(_center(bank, x, steps, entry).div_(bank.scale.index_select(0, entry)))

    def _whiten(self, bank: WhiteningBank, x: Tensor, steps: Tensor, entry: Tensor) -> Tensor:
        return self._clip(bank.whiten(_center(bank, x, steps, entry), entry))

    def _clip(self, x: Tensor) -> Tensor:
        return x if self.pea.clip is None else x.clamp_(-self.pea.clip, self.pea.clip)

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
