"""The whitening transforms that PEA keeps, since one for every row would cost too much."""

import logging
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from semiclip import _counter_rng
from semiclip.correction._pools import BANK, ControlPools
from semiclip.correction._rota import Rota
from semiclip.correction._steps import EPS, noise_variance

logger = logging.getLogger(__name__)

BANK_BYTES = 1 << 30  # most memory of the whitening transforms of bank_size=0
BANK_MOST = 8  # most of them for each batch
AT_FIRST = 2  # of them, where more would make the first epoch long
# cost of transforms (WhiteningBank.estimate_cost) that each training step may add: one on many controls in 256
# dimensions takes a tenth of a step of the paper's adapter. Few controls may cost more, since draws of them differ
# most. The number for GPUs is an estimate
COST_OF_A_STEP, COST_OF_A_STEP_FEW, COST_OF_A_STEP_CUDA = 2**21, 2**24, 2**20
EXACT_BELOW = 0.1  # of ridges: eigenvectors of few controls are then multiplied in float64
AT_ONCE = 4  # transforms of many controls fitted together: the cache of a CPU then holds them
# transforms of few controls are fitted on so many numbers together: the cache of a CPU holds them, and a GPU is busy
AT_ONCE_FEW, AT_ONCE_FEW_CUDA = 1 << 20, 1 << 22


class WhiteningBank:
    """Whitening transforms of every batch, each fitted on a draw of controls: one for every row would cost too much.

    Where training steps are few for drawing all of them in every epoch, each lasts ``refresh`` epochs.
    """

    def __init__(self, pools: ControlPools, seed: int, steps_per_epoch: int | None) -> None:
        self.pools, self.pea, self.seed = pools, pools.pea, seed
        steps = self.pea.table[0]
        self.kinds = sorted({bool(scaled) for scaled in steps[steps[:, 2], 1]}, reverse=True)  # scaled first
        n_batches, d = pools.mean.shape
        rank = pools.n_most - 1  # centred controls vary in no more directions
        self.few = pools.n_most < d  # the products of controls are then smaller than their covariance
        self.thin = 4 * rank < d  # two factors of a transform are half of its matrix, and as much faster
        numbers = (2 * rank + 1 if self.thin else d) * d
        affordable = BANK_BYTES // (n_batches * len(self.kinds) * numbers * 4)
        size = self.pea.bank_size or int(np.clip(affordable, 2, BANK_MOST))
        self.size = 1 if self.pea.control_law == "all" else size
        n = n_batches * len(self.kinds) * self.size
        new: dict[str, Any] = {"dtype": torch.float32, "device": pools.mean.device}
        # a row x becomes x @ weight, or rest * x + (x @ into) @ weight where factors are thin
        self.mean, self.weight = torch.zeros(n, d, **new), torch.zeros(n, rank if self.thin else d, d, **new)
        n_thin = n if self.thin else 0
        self.rest, self.into = torch.zeros(n_thin, d, **new), torch.zeros(n_thin, d, rank, **new)
        self.number = torch.zeros(n, dtype=torch.long, device=pools.mean.device)
        if not self.pea.bank_size and self.size == size < BANK_MOST:
            logger.info("%d whitening transforms for each batch, as many as %d bytes hold", self.size, BANK_BYTES)
        self.refresh = self._choose_refresh(steps_per_epoch)
        period = 0 if self.pea.control_law == "all" else self.refresh
        self.rota = Rota(np.arange(n) % self.size, np.full(n, self.size), period, at_first=AT_FIRST)
        self.n_there = self.size

    def _choose_refresh(self, steps_per_epoch: int | None) -> int:
        if self.pea.bank_refresh is not None:
            return self.pea.bank_refresh
        if steps_per_epoch is None:
            return 1
        device = self.mean.device
        of_a_step = COST_OF_A_STEP_FEW if self.few else COST_OF_A_STEP
        if device.type == "cuda":
            of_a_step = COST_OF_A_STEP_CUDA
        refresh = max(1, math.ceil(self.estimate_cost(device) / (of_a_step * steps_per_epoch)))
        if refresh > 1 and self.pea.control_law != "all":
            told = "each of PEA's %d whitening transforms lasts %d epochs, to save time; bank_refresh=1 draws all "
            logger.info(told + "of them anew in every epoch", len(self.mean), refresh)
        return refresh

    def estimate_cost(self, device: torch.device) -> int:
        """Return what drawing all transforms costs, in units of which decomposing a (d, d) matrix takes d³."""
        n, d = self.mean.shape
        size = min(self.pools.n_most, d)
        if self.few and device.type == "cpu":  # all that is done beside a small decomposition costs more than it
            return n * size * d * (size + 64)  # measured for 4 to 255 controls and 64 to 1024 dimensions
        return n * size**3

    def first(self, batch: Tensor, scaled: Tensor) -> Tensor:
        """Return the first transform of each batch for scaled or unscaled controls."""
        kind = (~scaled).long() if len(self.kinds) == 2 else 0
        return (batch * len(self.kinds) + kind) * self.size

    def pick(self, uniform: Tensor, batch: Tensor, scaled: Tensor) -> Tensor:
        """Turn numbers in [0, 1) into transforms of batches for scaled or unscaled controls, shape (B,)."""
        return self.first(batch, scaled) + (uniform * self.n_there).long()

    def whiten(self, x: Tensor, entry: Tensor) -> Tensor:
        """Whiten each row by the transform of its entry."""
        if not self.thin:
            return _multiply(x, self.weight, entry)
        return self.rest[entry] * x + _multiply(_multiply(x, self.into, entry), self.weight, entry)

    @torch.no_grad()
    def start_epoch(self, epoch: int) -> None:
        """Fit the transforms that are due on new controls."""
        at_once = AT_ONCE
        if self.few:
            together = AT_ONCE_FEW_CUDA if self.mean.is_cuda else AT_ONCE_FEW
            at_once = max(1, together // (self.pools.n_most * self.mean.shape[1]))
        due = (torch.as_tensor(part, device=self.mean.device) for part in self.rota.turn(epoch))
        for entry, version in zip(*(part.split(at_once) for part in due), strict=True):
            self._fit(entry, version)
        self.n_there = int((self.rota.held[: self.size] >= 0).sum())

    def draw_controls(self, entry: Tensor, version: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the batch of each of E transforms, how many controls it is fitted on and which, (E, n_most)."""
        batch = entry // (len(self.kinds) * self.size)
        states = _counter_rng.state(self.seed, version, entry, BANK)
        number = self.pools.draw_number(_counter_rng.uniform(states), batch)
        return batch, number, self.pools.draw_subset(batch, number, states)

    def _fit(self, entry: Tensor, version: Tensor) -> None:
        pools = self.pools
        batch, number, chosen = self.draw_controls(entry, version)
        scaled = torch.tensor(self.kinds, device=entry.device)[entry // self.size % len(self.kinds)]
        controls, chosen = pools.standard[pools.rows(batch)].double(), chosen.double()
        self.number[entry] = number
        m = number[:, None].double()
        mean = torch.einsum("en,end->ed", chosen, controls) / m
        controls.sub_(mean[:, None]).mul_(chosen[..., None])  # in place, since new memory takes longer
        if self.few:
            variance = controls.square().sum(dim=1) / m
        else:
            covariance = controls.mT @ controls / m[..., None]
            variance = torch.diagonal(covariance, dim1=1, dim2=2)
        sd, unit = variance.clamp(min=0).sqrt(), pools.sd[batch].double()
        divisor = torch.where(scaled[:, None], unit * pools.floor(sd, batch), torch.ones_like(unit))
        factor = unit / divisor  # of the controls as the steps before leave them
        varying = 1 - pools.constant[batch].double()
        ridge = self.pea.ridge * torch.where(scaled, 1.0, ((unit * varying) ** 2).mean(dim=1))
        noise = None if self.pea.ridge else pools.noise[batch] * factor
        self.mean[entry] = (pools.mean[batch].double() + unit * mean).float()
        if not self.few:
            covariance = factor[:, :, None] * covariance * factor[:, None, :]
            self.weight[entry] = (_inverse_roots(covariance, ridge, number, noise) / divisor[:, :, None]).float()
            return
        exact = self.pea.ridge < EXACT_BELOW
        roots = _thin_inverse_roots(controls.mul_(factor[:, None, :]), chosen, ridge, number, noise, exact=exact)
        rest, change, vectors, divisor = (part.float() for part in (*roots, divisor))
        rest, into, weight = rest[:, None] / divisor, vectors / divisor[:, :, None], change[:, :, None] * vectors.mT
        if self.thin:
            self.rest[entry], self.into[entry], self.weight[entry] = rest, into, weight
        else:
            self.weight[entry] = torch.diag_embed(rest) + into @ weight


def _multiply(x: Tensor, matrices: Tensor, entry: Tensor) -> Tensor:
    """Multiply rows, shape (B, k), by the matrices (n, k, l) of their entries, without copying matrices."""
    k = x.shape[1]
    index = entry[:, None] * k + torch.arange(k, device=x.device)
    return embedding_bag(index, matrices.view(-1, matrices.shape[2]), mode="sum", per_sample_weights=x)


def _inverse_roots(covariance: Tensor, ridge: Tensor, number: Tensor, noise: Tensor | None) -> Tensor:
    """Return ``(covariance + ridge)^(-1/2)`` of matrices (E, d, d)."""
    values, vectors = torch.linalg.eigh(covariance)
    factors, _ = _invert_roots(values, vectors, ridge, number, noise)
    return (vectors * factors[:, None, :]) @ vectors.mT


def _thin_inverse_roots(
    controls: Tensor, chosen: Tensor, ridge: Tensor, number: Tensor, noise: Tensor | None, *, exact: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the same of fewer centred controls than dimensions, (E, n, d), as ``rest * I + V @ diag(change) @ V.T``.

    ``rest`` has shape (E,), ``change`` (E, n - 1) and ``V`` (E, d, n - 1): but for zeros, the covariance has the
    eigenvalues of the products of one control with another.
    """
    products = controls @ controls.mT / number[:, None, None]
    size = torch.diagonal(products, dim1=1, dim2=2).amax(dim=1, keepdim=True)
    # LAPACK may fail on many rows of zeros, so controls that were not chosen stand apart, below all others
    values, mixtures = torch.linalg.eigh(products - torch.diag_embed((1 - chosen) * size))
    values, mixtures = values[:, 1:], mixtures[:, :, 1:]  # the smallest is such a control, or the mean's direction
    # vectors of length 1, but for directions without variation, of which no vector is left
    null = values <= _tolerance(values, number, controls.shape[2])
    lengths = torch.where(null, torch.inf, number[:, None] * values).sqrt()
    # float32 is faster; with a small ridge, the inverse roots of small eigenvalues would blow its rounding up
    dtype = torch.float64 if exact else torch.float32
    vectors = controls.to(dtype).mT @ (mixtures / lengths[:, None]).to(dtype)
    factors, rest = _invert_roots(values, vectors, ridge, number, noise)
    return rest, factors - rest[:, None], vectors


def _invert_roots(
    values: Tensor, vectors: Tensor, ridge: Tensor, number: Tensor, noise: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return ``(values + ridge)^(-1/2)``, shape (E, k), and what it is where eigenvalues are zero, (E,).

    Directions count as such that do not vary beyond ``noise``, the rounding error of each feature, if it is given.
    Without a ridge they are dropped.
    """
    null = values <= _tolerance(values, number, vectors.shape[1])
    if noise is not None:
        null |= values <= noise_variance(noise, vectors, number[:, None].double())
    rest = torch.where(ridge > 0, ridge, torch.inf).rsqrt()
    factors = torch.where(null, rest[:, None], (torch.where(null, 1.0, values) + ridge[:, None]).rsqrt())
    return factors, rest


def _tolerance(values: Tensor, number: Tensor, d: int) -> Tensor:
    """Return how large eigenvalues (E, k) of d dimensions may be by rounding alone, (E, 1)."""
    return torch.clamp(number, min=d)[:, None] * EPS * values.amax(dim=1, keepdim=True)
