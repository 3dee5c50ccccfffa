"""PEA at work: random corrections of many rows at once, without a loop over rows."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import embedding_bag

from semiclip import _counter_rng
from semiclip._checks import some
from semiclip.correction._correct import control_rows
from semiclip.correction._steps import EPS, center, deviation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from semiclip.correction._pea import PEA

logger = logging.getLogger(__name__)

BANK_BYTES = 1 << 30  # of the whitening transforms of bank_size=0, ...
BANK_MOST = 8  # ... of which there are at most so many for each batch
AT_ONCE = 16  # transforms fitted together
# d³ of the transforms that may be fitted for each training step: on two cores one of 256 dimensions takes a twelfth
# of a step of the paper's adapter. The number for GPUs, where steps are shorter, is an estimate
COST_OF_A_STEP, COST_OF_A_STEP_CUDA = 2**24, 2**20
PLAN, NUMBER, SUBSET, ENTRY, BANK = range(5)  # what a random number is for


class Draw(NamedTuple):
    """What each row draws: which steps, and the controls that they are fitted on."""

    steps: Tensor
    """Whether the row is centred, scaled and whitened; shape (B, 3)."""
    number: Tensor
    """Controls drawn; shape (B,). A whitened row takes those of its transform instead."""
    subset: Tensor
    """State from which the controls are drawn; shape (B,)."""
    entry: Tensor
    """Transform of the bank of a whitened row; shape (B,)."""


class Augmentation:
    """Perturbation Embedding Augmentation of the rows of one embedding.

    Everything that is drawn for a row is a function of seed, epoch and row, so that the same seed gives the same draws
    on any device, in mini-batches of any order and size.

    Parameters
    ----------
    pea
        What to draw from.
    x
        Embedding with its controls, shape (n, d); only control rows are read.
    batch
        Integer batch code of each row, shape (n,).
    control
        Mask of the control rows, shape (n,).
    seed
        Of all draws.
    fallback, batch_names
        As for :func:`semiclip.correction.correct`.
    device
        Where the rows to augment are.
    steps_per_epoch
        Training steps, by which ``bank_refresh=None`` is chosen; without it, it is 1.

    Raises
    ------
    ValueError
        If a batch has fewer than ``pea.min_controls`` controls and ``fallback="raise"``.
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
        pools, of_batch = _pools(pea, batch, control, fallback, batch_names, seed)
        sizes = np.array([len(pool) for pool in pools])
        moments = [_moments(x[pool].astype(np.float64)) for pool in pools]
        standard, mean, sd, flat = (list(part) for part in zip(*moments, strict=True))
        if pea.table[0][:, 2].any():
            _refuse_constant([still.all() for still in flat], of_batch, batch_names)

        def place(values: np.ndarray) -> Tensor:
            return torch.as_tensor(values).to(self.device)

        self.start, self.count = place((np.cumsum(sizes) - sizes)[of_batch]), place(sizes[of_batch])
        self.width, self.n_most = x.shape[1], int(sizes.max())
        # controls in units of their batch's standard deviation, so that float32 holds the moments of a subset well
        self.standard = place(np.concatenate(standard).astype(np.float32))
        self.squares = torch.cat([self.standard, self.standard**2], dim=1)
        self.mean, self.sd = (place(np.stack(part)[of_batch].astype(np.float32)) for part in (mean, sd))
        self.flat = place(np.stack(flat)[of_batch])
        steps, cumulative = pea.table
        self.steps = torch.as_tensor(steps, device=self.device)
        self.cumulative = torch.as_tensor(cumulative.astype(np.float32), device=self.device)
        self.bank = _Bank(self) if steps[:, 2].any() else None
        self.refresh = pea.bank_refresh
        if self.refresh is None:
            self.refresh = self._affordable_refresh(steps_per_epoch)

    def _affordable_refresh(self, steps_per_epoch: int | None) -> int:
        if self.bank is None or steps_per_epoch is None:
            return 1
        per_step = (COST_OF_A_STEP_CUDA if self.device.type == "cuda" else COST_OF_A_STEP) / self.width**3
        return max(1, math.ceil(len(self.bank.mean) / (per_step * steps_per_epoch)))

    def start_epoch(self, epoch: int) -> None:
        """Draw the whitening transforms of an epoch, if they are due."""
        if self.bank is not None:
            self.bank.draw(epoch // self.refresh if self.refresh else 0)

    def draw(self, row: Tensor, batch: Tensor, epoch: int | Tensor) -> Draw:
        """Draw for each of B rows by its number and batch code."""
        if self.pea.granularity == "batch":
            row = row[:1].expand(len(row))
        steps = self.steps[torch.searchsorted(self.cumulative, self._uniform(row, epoch, PLAN), right=True)]
        number = self._number(self._uniform(row, epoch, NUMBER), batch)
        entry = torch.zeros_like(batch)
        if self.bank is not None:
            place = _counter_rng.below(_counter_rng.state(self.seed, epoch, row, ENTRY, batch), self.bank.size)
            entry = self.bank.first(batch, steps[:, 1]) + place
        return Draw(steps, number, _counter_rng.state(self.seed, epoch, row, SUBSET, batch), entry)

    @torch.no_grad()
    def __call__(self, x: Tensor, row: Tensor, batch: Tensor, epoch: int | Tensor) -> Tensor:
        """Augment rows ``x``, shape (B, d), of these numbers and batch codes, both (B,)."""
        return self.apply(x, batch, self.draw(row, batch, epoch))

    def apply(self, x: Tensor, batch: Tensor, draw: Draw) -> Tensor:
        """Correct rows as they drew; one that kept no step is not touched."""
        centred, scaled, whitened = draw.steps.T
        out = x.clone()

        def change(where: Tensor, correct: object) -> None:
            if x.is_cuda:  # static shapes, for a CUDA graph
                out.copy_(torch.where(where[:, None], correct(slice(None)), out))  # type: ignore[operator]
            elif len(rows := where.nonzero()[:, 0]):
                rows = rows[torch.argsort(batch[rows])]  # rows of a batch share controls: the cache then helps
                out[rows] = correct(rows)  # type: ignore[operator]

        def by_moments(rows: Tensor | slice) -> Tensor:
            code = batch[rows]
            mean, sd = self._subset_moments(code, draw.number[rows], draw.subset[rows])
            base, unit = self.mean[code], self.sd[code]
            moved = torch.where(centred[rows, None], x[rows] - (base + unit * mean), x[rows])
            return torch.where(scaled[rows, None], self._clip(moved / (unit * sd)), moved)

        def by_bank(rows: Tensor | slice) -> Tensor:
            entry = draw.entry[rows]
            moved = torch.where(centred[rows, None], x[rows] - self.bank.mean[entry], x[rows])  # type: ignore[union-attr]
            return self._clip(self.bank.whiten(moved, entry))  # type: ignore[union-attr]

        change((centred | scaled) & ~whitened, by_moments)
        if self.bank is not None:
            change(whitened, by_bank)
        return out

    def fitted_on(self, draw: Draw) -> Tensor:
        """Return on how many controls each row's correction is fitted, shape (B,); 0 where no step was kept."""
        number = torch.where(draw.steps.any(dim=1), draw.number, 0)
        return number if self.bank is None else torch.where(draw.steps[:, 2], self.bank.number[draw.entry], number)

    def _uniform(self, row: Tensor, epoch: int | Tensor, purpose: int) -> Tensor:
        return _counter_rng.uniform(_counter_rng.state(self.seed, epoch, row, purpose))

    def _number(self, uniform: Tensor, batch: Tensor) -> Tensor:
        most, least = self.count[batch], self.pea.min_controls
        if self.pea.control_law == "all":
            return most
        if self.pea.control_law == "uniform":
            number = least + (uniform * (most - least + 1)).long()
        else:
            number = (least * ((most + 1) / least) ** uniform).long()
        return torch.clamp(number, max=most)

    def drawn(self, batch: Tensor, number: Tensor, subset: Tensor) -> Tensor:
        """Return which controls of their batch the rows drew, shape (B, n_most)."""
        place = torch.arange(self.n_most, device=self.device)
        there = place < self.count[batch][:, None]
        if self.pea.control_law == "all":
            return there
        keys = _counter_rng.keys(subset, self.n_most).masked_fill_(~there, 2**63 - 1)
        return keys <= keys.sort(dim=1).values.gather(1, number[:, None] - 1)

    def pool(self, batch: Tensor) -> Tensor:
        """Return the rows of ``standard`` that are a batch's controls, shape (B, n_most); the last are padding."""
        place = torch.arange(self.n_most, device=self.device)
        return self.start[batch][:, None] + torch.minimum(place, self.count[batch][:, None] - 1)

    def _subset_moments(self, batch: Tensor, number: Tensor, subset: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the drawn controls in units of the batch's, both (B, d)."""
        if self.pea.control_law == "all":
            return torch.zeros_like(self.mean[batch]), torch.ones_like(self.sd[batch])
        weight = self.drawn(batch, number, subset).to(self.squares.dtype) / number[:, None]
        first, second = embedding_bag(
            self.pool(batch), self.squares, mode="sum", per_sample_weights=weight
        ).tensor_split(2, dim=1)
        return first, self.floored((second - first**2).clamp(min=0).sqrt(), batch)

    def floored(self, sd: Tensor, batch: Tensor) -> Tensor:
        """Keep a scale from being tiny; that of a feature that is constant in all controls is 1."""
        sd = torch.clamp(sd, min=self.pea.scale_floor)
        return torch.where(self.flat[batch] | (sd == 0), torch.ones_like(sd), sd)

    def _clip(self, x: Tensor) -> Tensor:
        return x if self.pea.clip is None else x.clamp(-self.pea.clip, self.pea.clip)


class _Bank:
    """Whitening transforms of every batch, for scaled and for unscaled controls, each fitted on a draw of controls."""

    def __init__(self, owner: Augmentation) -> None:
        pea, self.owner = owner.pea, owner
        whitening = owner.steps[owner.steps[:, 2]]
        self.kinds = [bool(scaled) for scaled in torch.unique(whitening[:, 1]).flip(0)]  # scaled first
        n_batches, d = len(owner.count), owner.width
        affordable = BANK_BYTES // (n_batches * len(self.kinds) * d * d * 4)
        size = pea.bank_size or int(np.clip(affordable, 2, BANK_MOST))
        self.size = 1 if pea.control_law == "all" else size
        n = n_batches * len(self.kinds) * self.size
        self.mean = torch.empty(n, d, device=owner.device)
        self.weight = torch.empty(n, d, d, device=owner.device)
        self.number = torch.empty(n, dtype=torch.long, device=owner.device)
        self.version = -1
        if not pea.bank_size and self.size == size < BANK_MOST:
            logger.info("%d whitening transforms for each batch, as many as %d bytes hold", self.size, BANK_BYTES)

    def first(self, batch: Tensor, scaled: Tensor) -> Tensor:
        """Return the first transform of each batch for scaled or unscaled controls."""
        kind = (~scaled).long() if len(self.kinds) == 2 else 0
        return (batch * len(self.kinds) + kind) * self.size

    def whiten(self, x: Tensor, entry: Tensor) -> Tensor:
        """Multiply each row by the matrix of its entry, without copying matrices."""
        d = x.shape[1]
        index = entry[:, None] * d + torch.arange(d, device=x.device)
        return embedding_bag(index, self.weight.view(-1, d), mode="sum", per_sample_weights=x)

    @torch.no_grad()
    def draw(self, version: int) -> None:
        """Fit every transform on new controls, unless this version is there."""
        if version == self.version or (self.version >= 0 and self.owner.pea.control_law == "all"):
            return
        for entry in torch.arange(len(self.mean), device=self.mean.device).split(AT_ONCE):
            self._fit(entry, version)
        self.version = version

    def _fit(self, entry: Tensor, version: int) -> None:
        owner, pea = self.owner, self.owner.pea
        batch = entry // (len(self.kinds) * self.size)
        scaled = torch.tensor(self.kinds, device=entry.device)[entry // self.size % len(self.kinds)]
        states = _counter_rng.state(owner.seed, version, entry, BANK)
        number = owner._number(_counter_rng.uniform(states), batch)
        drawn = owner.drawn(batch, number, states).double()
        u = owner.standard[owner.pool(batch)].double()
        self.number[entry] = number
        m = number[:, None].double()
        mean = torch.einsum("en,end->ed", drawn, u) / m
        u = (u - mean[:, None]) * drawn[..., None]
        covariance = u.mT @ u / m[..., None]
        sd, unit = torch.diagonal(covariance, dim1=1, dim2=2).clamp(min=0).sqrt(), owner.sd[batch].double()
        divisor = torch.where(scaled[:, None], unit * owner.floored(sd, batch), torch.ones_like(unit))
        factor = unit / divisor  # of the controls as the steps before leave them
        covariance = factor[:, :, None] * covariance * factor[:, None, :]
        varying = 1 - owner.flat[batch].double()
        ridge = pea.ridge * torch.where(scaled, 1.0, ((unit * varying) ** 2).mean(dim=1))
        self.weight[entry] = (_whitening(covariance, ridge, number) / divisor[:, :, None]).float()
        self.mean[entry] = (owner.mean[batch].double() + unit * mean).float()


def _whitening(covariance: Tensor, ridge: Tensor, number: Tensor) -> Tensor:
    """Return ``(covariance + ridge)^(-1/2)`` of matrices (E, d, d); without a ridge, null directions are dropped."""
    values, vectors = torch.linalg.eigh(covariance)
    tolerance = torch.clamp(number, min=values.shape[1])[:, None] * EPS * values.amax(dim=1, keepdim=True)
    null = values <= tolerance
    rest = torch.where(ridge > 0, ridge, torch.inf)[:, None].rsqrt()
    factors = torch.where(null, rest, (torch.where(null, 1.0, values) + ridge[:, None]).rsqrt())
    return (vectors * factors[:, None, :]) @ vectors.mT


def _moments(controls: np.ndarray) -> tuple[Any, ...]:
    """Standardised controls, their mean, their standard deviation and where that is zero (it then counts as 1)."""
    mean, sd = center(controls).shift, deviation(controls)
    unit = np.where(sd == 0, 1, sd)
    return (controls - mean) / unit, mean, unit, sd == 0


def _pools(
    pea: PEA, batch: np.ndarray, control: np.ndarray, fallback: str, names: Sequence[object] | None, seed: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the rows of each distinct pool of controls, and which of them serves each batch."""
    rows, short = control_rows(batch, control, fallback, names, at_least=pea.min_controls)
    own = [code for code in range(len(rows)) if code not in short]
    pools = [rows[code] for code in own] + [rows[code] for code in sorted(short)[:1]]  # the others borrow the same
    of_batch = np.full(len(rows), len(own))
    of_batch[own] = np.arange(len(own))
    most = pea.max_controls
    if most is not None and max(map(len, pools)) > most:
        logger.info("PEA draws from %d random controls of each batch that has more (max_controls)", most)
        rng = np.random.default_rng(seed)
        pools = [np.sort(rng.choice(pool, most, replace=False)) if len(pool) > most else pool for pool in pools]
    return pools, of_batch


def _refuse_constant(constant: list[bool], of_batch: np.ndarray, names: Sequence[object] | None) -> None:
    codes = [code for code, pool in enumerate(of_batch.tolist()) if constant[pool]]
    if codes:
        named = some(code if names is None else names[code] for code in codes)
        msg = (
            f"the controls of {len(codes)} batch(es) do not vary, so nothing can be whitened by them: {named}; drop "
            "these batches, or leave 'tvn' out of the methods of PEA"
        )
        raise ValueError(msg)
