"""PEA at work: random corrections of many rows at once, without a loop over rows."""

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from semiclip import _counter_rng
from semiclip.correction._correct import split_controls
from semiclip.correction._pea import PEA
from semiclip.correction._steps import EPS, center, deviation, noise_variance, precision
from semiclip.errors import NoVariation

logger = logging.getLogger(__name__)

BANK_BYTES = 1 << 30  # most memory of the whitening transforms of bank_size=0
BANK_MOST = 8  # most of them for each batch
AT_ONCE = 16  # transforms fitted together
# d³ of the transforms that may be fitted for each training step: on two cores one of 256 dimensions takes a twelfth
# of a step of the paper's adapter. The number for GPUs, where steps are shorter, is an estimate
COST_OF_A_STEP, COST_OF_A_STEP_CUDA = 2**24, 2**20
PLAN, NUMBER, SUBSET, ENTRY, BANK = range(5)  # what a random number is for


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
            n, d = self.bank.mean.shape
            per_step = (COST_OF_A_STEP_CUDA if self.device.type == "cuda" else COST_OF_A_STEP) / d**3
            self.refresh = max(1, math.ceil(n / (per_step * steps_per_epoch)))

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


class ControlPools:
    """The controls that each batch draws from; ``batch``, ``number`` and ``states`` have an entry for each row."""

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
        """Return a mask of the controls that rows draw of their batch without replacement, shape (B, n_most)."""
        keys = _counter_rng.keys(states, self.n_most).masked_fill_(~self._exists[self.pool[batch]], 2**63 - 1)
        return keys <= keys.sort(dim=1).values.gather(1, number[:, None] - 1)  # those with the smallest keys

    def subset_moments(self, batch: Tensor, number: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of drawn controls in units of the batch's, both (B, d)."""
        if self.pea.control_law == "all":
            return torch.zeros_like(self.mean[batch]), torch.ones_like(self.sd[batch])
        weight = self.draw_subset(batch, number, states).to(self.with_squares.dtype) / number[:, None]
        moments = embedding_bag(self.rows(batch), self.with_squares, mode="sum", per_sample_weights=weight)
        first, second = moments.tensor_split(2, dim=1)
        return first, self.floor((second - first**2).clamp(min=0).sqrt(), batch)

    def floor(self, sd: Tensor, batch: Tensor) -> Tensor:
        """Keep a scale from being tiny; the scale of a feature that is constant in all controls is 1."""
        sd = torch.clamp(sd, min=self.pea.scale_floor)
        return torch.where(self.constant[batch] | (sd == 0), torch.ones_like(sd), sd)


class WhiteningBank:
    """Whitening transforms of every batch, each fitted on a draw of controls: one for every row would cost too much."""

    def __init__(self, pools: ControlPools, seed: int) -> None:
        self.pools, self.pea, self.seed = pools, pools.pea, seed
        steps = self.pea.table[0]
        self.kinds = sorted({bool(scaled) for scaled in steps[steps[:, 2], 1]}, reverse=True)  # scaled first
        n_batches, d = pools.mean.shape
        affordable = BANK_BYTES // (n_batches * len(self.kinds) * d * d * 4)
        size = self.pea.bank_size or int(np.clip(affordable, 2, BANK_MOST))
        self.size = 1 if self.pea.control_law == "all" else size
        n = n_batches * len(self.kinds) * self.size
        self.mean, self.weight = (torch.empty(shape, device=pools.mean.device) for shape in ((n, d), (n, d, d)))
        self.number, self.version = torch.empty(n, dtype=torch.long, device=pools.mean.device), -1
        if not self.pea.bank_size and self.size == size < BANK_MOST:
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
        if version == self.version or (self.version >= 0 and self.pea.control_law == "all"):
            return
        for entry in torch.arange(len(self.mean), device=self.mean.device).split(AT_ONCE):
            self._fit(entry, version)
        self.version = version

    def draw_controls(self, entry: Tensor, version: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the batch of each of E transforms, how many controls it is fitted on and which, (E, n_most)."""
        batch = entry // (len(self.kinds) * self.size)
        states = _counter_rng.state(self.seed, version, entry, BANK)
        number = self.pools.draw_number(_counter_rng.uniform(states), batch)
        return batch, number, self.pools.draw_subset(batch, number, states)

    def _fit(self, entry: Tensor, version: int) -> None:
        pools = self.pools
        batch, number, chosen = self.draw_controls(entry, version)
        scaled = torch.tensor(self.kinds, device=entry.device)[entry // self.size % len(self.kinds)]
        controls, chosen = pools.standard[pools.rows(batch)].double(), chosen.double()
        self.number[entry] = number
        m = number[:, None].double()
        mean = torch.einsum("en,end->ed", chosen, controls) / m
        controls = (controls - mean[:, None]) * chosen[..., None]
        covariance = controls.mT @ controls / m[..., None]
        sd, unit = torch.diagonal(covariance, dim1=1, dim2=2).clamp(min=0).sqrt(), pools.sd[batch].double()
        divisor = torch.where(scaled[:, None], unit * pools.floor(sd, batch), torch.ones_like(unit))
        factor = unit / divisor  # of the controls as the steps before leave them
        covariance = factor[:, :, None] * covariance * factor[:, None, :]
        varying = 1 - pools.constant[batch].double()
        ridge = self.pea.ridge * torch.where(scaled, 1.0, ((unit * varying) ** 2).mean(dim=1))
        noise = pools.noise[batch] * factor
        self.weight[entry] = (_inverse_roots(covariance, ridge, number, noise) / divisor[:, :, None]).float()
        self.mean[entry] = (pools.mean[batch].double() + unit * mean).float()


def _inverse_roots(covariance: Tensor, ridge: Tensor, number: Tensor, noise: Tensor) -> Tensor:
    """Return ``(covariance + ridge)^(-1/2)`` of matrices (E, d, d).

    Without a ridge, directions are dropped that do not vary beyond ``noise``, the rounding error of each feature.
    """
    values, vectors = torch.linalg.eigh(covariance)
    tolerance = torch.clamp(number, min=values.shape[1])[:, None] * EPS * values.amax(dim=1, keepdim=True)
    null = values <= tolerance
    null |= (ridge == 0)[:, None] & (values <= noise_variance(noise, vectors, number[:, None].double()))
    rest = torch.where(ridge > 0, ridge, torch.inf)[:, None].rsqrt()
    factors = torch.where(null, rest, (torch.where(null, 1.0, values) + ridge[:, None]).rsqrt())
    return (vectors * factors[:, None, :]) @ vectors.mT


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
