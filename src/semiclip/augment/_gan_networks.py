"""The two networks of a conditional Wasserstein GAN, and what they minimise."""

from __future__ import annotations

from itertools import pairwise
from math import isqrt
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class Conditions(nn.Module):
    """Embeds each condition with V values, of which ``sizes`` holds the numbers, in floor(sqrt(V)) + 1 dimensions."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(size, isqrt(size) + 1) for size in sizes)
        self.width = sum(isqrt(size) + 1 for size in sizes)

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes of shape (..., number of conditions) to (..., width)."""
        return torch.cat([table(codes[..., i]) for i, table in enumerate(self.tables)], dim=-1)


class Generator(nn.Module):
    """Turns noise of ``n_latent`` dimensions and conditions into standardised expression."""

    def __init__(self, n_genes: int, sizes: Sequence[int], *, n_latent: int, n_hidden: Sequence[int]) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.conditions = Conditions(sizes)
        self.hidden = _hidden(n_latent + self.conditions.width, n_hidden)
        self.output = nn.Linear(n_hidden[-1], n_genes)

    def forward(self, noise: Tensor, codes: Tensor) -> Tensor:
        """Map noise (..., n_latent) and codes (..., number of conditions) to samples (..., n_genes)."""
        h = torch.cat([noise, self.conditions(codes)], dim=-1)
        for layer in self.hidden:
            h = torch.relu(layer(h))
        return self.output(h)


class Critic(nn.Module):
    """Says how real samples look under their conditions, against each of ``n_heads`` sets of real samples.

    The critics of the sets are linear heads on hidden layers that they share.
    """

    def __init__(self, n_genes: int, sizes: Sequence[int], *, n_hidden: Sequence[int], n_heads: int) -> None:
        super().__init__()
        self.n_genes = n_genes
        self.conditions = Conditions(sizes)
        self.hidden = _hidden(n_genes + self.conditions.width, n_hidden)
        self.heads = nn.Linear(n_hidden[-1], n_heads)

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        """Map samples (..., n, n_genes) and codes (n, number of conditions) to values (..., n, n_heads)."""
        return self.judge(self.first(x, codes))

    def first(self, x: Tensor, codes: Tensor) -> Tensor:
        """Return what enters the first ReLU, shape (..., n, width), which is linear in the samples."""
        conditions = self.conditions(codes).expand(*x.shape[:-1], -1)
        return self.hidden[0](torch.cat([x, conditions], dim=-1))

    def judge(self, first: Tensor) -> Tensor:
        """Map what enters the first ReLU to the values of the heads."""
        h = torch.relu(first)
        for layer in self.hidden[1:]:
            h = torch.relu(layer(h))
        return self.heads(h)

    def gradient(self, first: Tensor) -> Tensor:
        """Return the gradient of each head by the samples of its set, (n_heads, n, n_genes), from what ``first`` made.

        Small changes of the weights switch no ReLU, save at its kink. The gradient is thus a product of weights, and
        one pass of autograd, rather than two, finds how it depends on them.
        """
        with torch.no_grad():
            inputs = [first]
            for layer in self.hidden[1:]:
                inputs.append(layer(torch.relu(inputs[-1])))
        slope = self.heads.weight[:, None]
        layers: list[Any] = list(self.hidden)
        for layer, entering in zip(reversed(layers), reversed(inputs), strict=True):
            slope = (slope * (entering > 0)) @ layer.weight
        return slope[..., : self.n_genes]


def critic_loss(
    critic: Critic, real: Tensor, fake: Tensor, codes: Tensor, mix: Tensor, weights: Tensor, penalty: float
) -> Tensor:
    """Return the weighted Wasserstein loss with gradient penalty of each head against its own set of real samples.

    ``real`` holds a set of samples for each head, (n_heads, n, n_genes), ``fake`` generated samples (n, n_genes) of the
    same conditions ``codes``. ``mix``, (n_heads, n, 1), is the share of the real sample in the interpolate where the
    gradient is taken; its squared distance from length 1 weighs ``penalty``.
    """
    first = critic.first(torch.cat([real, fake[None]]), codes)
    values = critic.judge(first)
    distance = values[-1].mean(0) - values[:-1].diagonal(dim1=0, dim2=2).mean(0)
    # the interpolates need no pass of their own through the first layer, the widest, since it is linear
    between = torch.lerp(first[-1:], first[:-1], mix).detach()
    length = torch.linalg.vector_norm(critic.gradient(between), dim=-1)
    return weights @ (distance + penalty * (length - 1).square().mean(1))


class Training:
    """Trains a generator and its critics, with ``stream`` as the source of all that is random.

    The heads have ``weights`` (n_heads,). Noise of standard deviation ``noise`` is on a share of each mini-batch.
    """

    def __init__(
        self,
        generator: Generator,
        critic: Critic,
        stream: torch.Generator,
        *,
        weights: Tensor,
        penalty: float,
        n_critic: int,
        lr: float,
        noise: float,
        noise_share: float,
    ) -> None:
        self.generator, self.critic, self.stream = generator, critic, stream
        self.weights, self.penalty, self.n_critic = weights, penalty, n_critic
        self.noise, self.noise_share = noise, noise_share
        self.random: dict[str, Any] = {"generator": stream, "device": stream.device}
        # the constants of Keras, with which the authors trained
        self.generator_step, self.critic_step = (
            torch.optim.RMSprop(network.parameters(), lr, alpha=0.9, eps=1e-7) for network in (generator, critic)
        )

    def epoch(self, real: Tensor, codes: Tensor, batch_size: int) -> None:
        """Pass once over the samples with the generator, and with the critics once for each of their steps.

        ``real`` holds sets of the same samples, (n_heads, n, n_genes). What does not fill a mini-batch is left out.
        """
        n = len(codes)
        size = min(batch_size, n)
        passes = torch.stack([torch.randperm(n, **self.random)[: n - n % size] for _ in range(self.n_critic)])
        for batches in passes.view(self.n_critic, -1, size).unbind(dim=1):
            seen, samples = codes[batches], self._noisy(real[:, batches])
            with torch.no_grad():
                fakes = self._generate(seen)
            mixes = torch.rand(len(real), self.n_critic, size, 1, **self.random)
            for i in range(self.n_critic):
                self.critic_step.zero_grad()
                mine = samples[:, i], fakes[i], seen[i], mixes[:, i]
                critic_loss(self.critic, *mine, self.weights, self.penalty).backward()
                self.critic_step.step()
            self.generator_step.zero_grad()
            loss = -self.critic(self._generate(seen[-1]), seen[-1]).mean(dim=0) @ self.weights
            loss.backward(inputs=list(self.generator.parameters()))
            self.generator_step.step()

    def _generate(self, codes: Tensor) -> Tensor:
        noise = torch.randn(*codes.shape[:-1], self.generator.n_latent, **self.random)
        return self._noisy(self.generator(noise, codes))

    def _noisy(self, x: Tensor) -> Tensor:
        """Add noise to the first rows of each mini-batch, which are random ones since mini-batches are."""
        noise = torch.zeros_like(x)
        noise[..., : round(self.noise_share * x.shape[-2]), :].normal_(0, self.noise, generator=self.stream)
        return x + noise


def energy_score(real: Tensor, drawn: Tensor) -> Tensor:
    """Return the mean energy score of several draws (m, n, d) for each real sample (n, d); the lower the better.

    Its expectation is lowest if draws follow the law of the real sample under its conditions (Gneiting and Raftery
    2007, DOI 10.1198/016214506000001437).
    """
    m = len(drawn)
    apart = torch.cdist(drawn.transpose(0, 1), drawn.transpose(0, 1), compute_mode="donot_use_mm_for_euclid_dist")
    return torch.linalg.vector_norm(drawn - real, dim=-1).mean() - apart.sum() / (2 * m * (m - 1) * len(real))


def _hidden(n_input: int, widths: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise([n_input, *widths]))
