"""The whitening transforms that PEA keeps, since one for every row would cost too much."""

import logging
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from semiclip import _counter_rng
from semiclip.correction._pools import BANK, ControlPools
from semiclip.correction._steps import EPS, noise_variance

logger = logging.getLogger(__name__)

BANK_BYTES = 1 << 30  # most memory of the whitening transforms of bank_size=0
BANK_MOST = 8  # most of them for each batch
AT_ONCE = 16  # transforms fitted together


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
        new: dict[str, Any] = {"dtype": torch.float32, "device": pools.mean.device}
        self.mean, self.weight = (torch.empty(shape, **new) for shape in ((n, d), (n, d, d)))
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
