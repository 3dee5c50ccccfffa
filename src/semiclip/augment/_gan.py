"""The networks of a conditional Wasserstein GAN, and how they are trained."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from math import isqrt
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from semiclip.augment._mdwgan_gp import MDWGANGP


class Network(nn.Module):
    """The generator, or critics with common hidden layers; conditions of ``sizes`` are embedded beside the input."""

    def __init__(self, n_input: int, n_output: int, sizes: Sequence[int], n_hidden: Sequence[int]) -> None:
        super().__init__()
        self.n_input, widths = n_input, [isqrt(size) + 1 for size in sizes]
        self.tables = nn.ModuleList(nn.Embedding(*shape) for shape in zip(sizes, widths, strict=True))
        self.hidden = nn.ModuleList(nn.Linear(*shape) for shape in pairwise([n_input + sum(widths), *n_hidden]))
        self.output = nn.Linear(n_hidden[-1], n_output)

    def forward(self, x: Tensor, codes: Tensor) -> Tensor:
        """Map input (..., n, n_input) and codes (n, number of conditions) to (..., n, n_output)."""
        return self.rest(self.first(x, codes))

    def first(self, x: Tensor, codes: Tensor) -> Tensor:
        """Return what enters the first ReLU, shape (..., n, width), which is linear in the input."""
        conditions = torch.cat([table(codes[..., i]) for i, table in enumerate(self.tables)], dim=-1)
        return self.hidden[0](torch.cat([x, conditions.expand(*x.shape[:-1], -1)], dim=-1))

    def rest(self, first: Tensor) -> Tensor:
        """Map what enters the first ReLU to the output."""
        for layer in self.hidden[1:]:
            first = layer(torch.relu(first))
        return self.output(torch.relu(first))

    def gradient(self, first: Tensor) -> Tensor:
        """Return the gradient of each output by its own set of inputs, (n_output, n, n_input), from :meth:`first`."""
        # Small changes of the weights switch no ReLU, save at its kink. The gradient is thus a product of weights, and
        # one pass of autograd, rather than two, finds how it depends on them.
        with torch.no_grad():
            inputs = [first]
            for layer in self.hidden[1:]:
                inputs.append(layer(torch.relu(inputs[-1])))
        slope = self.output.weight[:, None]
        layers: list[Any] = list(self.hidden)
        for layer, entering in zip(reversed(layers), reversed(inputs), strict=True):
            slope = (slope * (entering > 0)) @ layer.weight
        return slope[..., : self.n_input]


def critic_loss(
    critic: Network, real: Tensor, fake: Tensor, codes: Tensor, mix: Tensor, weights: Tensor, penalty: float
) -> Tensor:
    """Return the weighted Wasserstein loss with gradient penalty of critics on ``real`` (n_critics, n, n_genes).

    ``mix`` is the share of the real sample in the interpolate where the gradient is taken, (n_critics, n, 1).
    """
    first = critic.first(torch.cat([real, fake[None]]), codes)
    values = critic.rest(first)
    distance = values[-1].mean(0) - values[:-1].diagonal(dim1=0, dim2=2).mean(0)
    # the interpolates need no pass of their own through the first layer, the widest, since it is linear
    between = torch.lerp(first[-1:], first[:-1], mix).detach()
    length = torch.linalg.vector_norm(critic.gradient(between), dim=-1)
    return weights @ (distance + penalty * (length - 1).square().mean(1))


def start_at_means(networks: Sequence[Network], x: Tensor, codes: Tensor) -> None:
    """Set the embeddings of each kind of condition to the leading principal components of its means of ``x`` (n, d).

    All components of a kind have one scale, of mean square 1, so that what sets conditions apart most weighs most.
    """
    kinds: list[Any] = list(zip(*(network.tables for network in networks), strict=True))
    for i, tables in enumerate(kinds):
        n_conditions, width = tables[0].weight.shape
        means = x.new_zeros(n_conditions, x.shape[1]).index_add_(0, codes[:, i], x)
        means /= torch.bincount(codes[:, i], minlength=n_conditions).clamp(min=1)[:, None]
        means -= means.mean(dim=0)
        left, sizes, _ = torch.svd_lowrank(means, min(width, *means.shape), niter=2)
        components = left * sizes
        scale = components.square().mean().sqrt()
        if not scale > 1e-6:  # conditions that do not differ, where random embeddings do no harm
            continue
        for table in tables:
            with torch.no_grad():
                table.weight.zero_()[:, : len(sizes)] = components / scale


def train(
    generator: Network, critic: Network, real: Tensor, codes: Tensor, stream: torch.Generator, options: MDWGANGP
) -> Iterator[Network]:
    """Train for an epoch at each step on ``real`` (n_critics, n, n_genes), less what fills no mini-batch.

    What each step returns is the generator with its averaged weights.
    """
    n, n_critic = len(codes), options.n_critic
    random: dict[str, Any] = {"generator": stream, "device": stream.device}
    weights = torch.tensor([1, options.smooth_weight / 2, options.smooth_weight / 2], device=stream.device)
    # the constants of Keras, with which the authors trained; all parameters in one call, since most are small
    generator_step, critic_step = (
        torch.optim.RMSprop(network.parameters(), options.lr, alpha=0.9, eps=1e-7, foreach=True)
        for network in (generator, critic)
    )

    def add_noise(x: Tensor) -> Tensor:
        # on the first rows of each mini-batch, which are random ones; drawn as a tensor of their own, which is faster
        rows = x[..., : round(options.noise_share * x.shape[-2]), :]
        rows += options.noise * torch.randn(rows.shape, **random)
        return x

    def generate(codes: Tensor) -> Tensor:
        return add_noise(generator(torch.randn(*codes.shape[:-1], generator.n_input, **random), codes))

    average = deepcopy(generator) if options.average else generator
    averaged, current = ([parameter.data for parameter in network.parameters()] for network in (average, generator))
    size, n_steps = min(options.batch_size, n), 0
    while True:
        passes = torch.stack([torch.randperm(n, **random)[: n - n % size] for _ in range(n_critic)])
        for batches in passes.view(n_critic, -1, size).unbind(dim=1):
            seen, samples = codes[batches], add_noise(real[:, batches])
            with torch.no_grad():
                fakes = generate(seen)
            mixes = torch.rand(len(real), n_critic, size, 1, **random)
            for i in range(n_critic):
                critic_step.zero_grad()
                mine = samples[:, i], fakes[i], seen[i], mixes[:, i]
                critic_loss(critic, *mine, weights, options.penalty).backward()
                critic_step.step()
            # fakes that the critics have not just been trained on, which costs a sixth more time and is worth it
            generator_step.zero_grad()
            loss = -critic(generate(seen[-1]), seen[-1]).mean(dim=0) @ weights
            loss.backward(inputs=list(generator.parameters()))
            generator_step.step()
            n_steps += 1
            if options.average:
                # the weights that training started with, and those soon after, are forgotten sooner
                torch._foreach_lerp_(averaged, current, max(1 - options.average, 9 / (n_steps + 10)))
        yield average


def energy_score(real: Tensor, drawn: Tensor) -> Tensor:
    """Return the mean energy score of several draws (m, n, d) for each real sample (n, d); the lower the better."""
    # each pair of draws once, which is several times as fast as torch.cdist
    apart = [torch.linalg.vector_norm(drawn[i:] - drawn[:-i], dim=-1) for i in range(1, len(drawn))]
    return torch.linalg.vector_norm(drawn - real, dim=-1).mean() - torch.cat(apart).mean() / 2
