"""The whitening transforms that PEA keeps, since one for every row would cost too much."""

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, normalize

from semiclip import _counter_rng
from semiclip.correction._pools import BANK, ControlPools
from semiclip.correction._steps import EPS, noise_variance

logger = logging.getLogger(__name__)

BANK_BYTES = 1 << 30  # most memory of the whitening transforms of bank_size=0
BANK_MOST = 8  # most of them for each batch
AT_ONCE = 16  # transforms of many controls fitted together
# transforms of few controls are fitted on so many numbers together: the cache of a CPU holds them, and a GPU is busy
AT_ONCE_FEW, AT_ONCE_FEW_CUDA = 1 << 18, 1 << 22


class WhiteningBank:
    """Whitening transforms of every batch, each fitted on a draw of controls: one for every row would cost too much."""

    def __init__(self, pools: ControlPools, seed: int) -> None:
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
        self.mean, self.weight = torch.empty(n, d, **new), torch.empty(n, rank if self.thin else d, d, **new)
        n_thin = n if self.thin else 0
        self.rest, self.into = torch.empty(n_thin, d, **new), torch.empty(n_thin, d, rank, **new)
        self.number, self.version = torch.empty(n, dtype=torch.long, device=pools.mean.device), -1
        if not self.pea.bank_size and self.size == size < BANK_MOST:
            logger.info("%d whitening transforms for each batch, as many as %d bytes hold", self.size, BANK_BYTES)

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

    def whiten(self, x: Tensor, entry: Tensor) -> Tensor:
        """Whiten each row by the transform of its entry."""
        if not self.thin:
            return _multiply(x, self.weight, entry)
        return self.rest[entry] * x + _multiply(_multiply(x, self.into, entry), self.weight, entry)

    @torch.no_grad()
    def draw(self, version: int) -> None:
        """Fit every transform on new controls, unless this version is there."""
        if version == self.version or (self.version >= 0 and self.pea.control_law == "all"):
            return
        at_once = AT_ONCE
        if self.few:
            together = AT_ONCE_FEW_CUDA if self.mean.is_cuda else AT_ONCE_FEW
            at_once = max(1, together // (self.pools.n_most * self.mean.shape[1]))
        for entry in torch.arange(len(self.mean), device=self.mean.device).split(at_once):
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
        if self.few:
            variance = torch.linalg.vector_norm(controls, dim=1) ** 2 / m
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
        rest, change, vectors = _thin_inverse_roots(controls * factor[:, None, :], chosen, ridge, number, noise)
        rest, into, weight = rest[:, None] / divisor, vectors / divisor[:, :, None], change[:, :, None] * vectors.mT
        if self.thin:
            self.rest[entry], self.into[entry], self.weight[entry] = rest.float(), into.float(), weight.float()
        else:
            self.weight[entry] = (torch.diag_embed(rest) + into @ weight).float()


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
    controls: Tensor, chosen: Tensor, ridge: Tensor, number: Tensor, noise: Tensor | None
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
    # of a direction without variation a vector of 1e-200 may be left, whose squares are 0: it must not become infinite
    vectors = normalize(controls.mT @ mixtures, dim=1, eps=1e-150)
    factors, rest = _invert_roots(values, vectors, ridge, number, noise)
    return rest, factors - rest[:, None], vectors


def _invert_roots(
    values: Tensor, vectors: Tensor, ridge: Tensor, number: Tensor, noise: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return ``(values + ridge)^(-1/2)``, shape (E, k), and what it is where eigenvalues are zero, (E,).

    Directions count as such that do not vary beyond ``noise``, the rounding error of each feature, if it is given.
    Without a ridge they are dropped.
    """
    tolerance = torch.clamp(number, min=vectors.shape[1])[:, None] * EPS * values.amax(dim=1, keepdim=True)
    null = values <= tolerance
    if noise is not None:
        null |= values <= noise_variance(noise, vectors, number[:, None].double())
    rest = torch.where(ridge > 0, ridge, torch.inf).rsqrt()
    factors = torch.where(null, rest[:, None], (torch.where(null, 1.0, values) + ridge[:, None]).rsqrt())
    return factors, rest
