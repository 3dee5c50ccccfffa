"""Reads expression back from an embedding, to measure what the embedding preserves (paper B.2)."""

from itertools import pairwise
from math import cos, pi
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from tqdm.auto import tqdm

from semiclip._arguments import check_number, check_whole
from semiclip._device import free_bytes, usable_device
from semiclip._numerics import row_blocks, single_precision
from semiclip._seed import seeded
from semiclip.errors import Diverged, TooLarge
from semiclip.model._module import make_adapter

WEIGHT_DECAY, WARMUP_EPOCHS, WARMUP_FROM = 1e-6, 10, 0.3


def make_decoder(n_input: int, n_genes: int) -> nn.Sequential:
    """Return a perceptron with three hidden layers, whose widths go evenly from the input's to the number of genes."""
    return make_adapter(_widths(n_input, n_genes))


def _widths(n_input: int, n_genes: int) -> list[int]:
    return [n_input, *(int(n_input + (n_genes - n_input) * i / 4) for i in (1, 2, 3)), n_genes]


def training_bytes(n_input: int, n_genes: int) -> int:
    """Return how much memory training takes, 26 · n_genes² bytes of many genes (10.4 GB of 20,000)."""
    layers = [(a + 1) * b for a, b in pairwise(_widths(n_input, n_genes))]
    # weights, gradients and two moments of AdamW; and in its step, two temporaries of the largest layer
    return 4 * (4 * sum(layers) + 2 * max(layers))


@torch.inference_mode()
def predict(decoder: nn.Sequential, embedding: np.ndarray, *, block: int = 4096) -> np.ndarray:
    """Predict expression of embedded rows on the decoder's device; float32 of shape (n, n_genes)."""
    *_, bias = decoder.parameters()
    expression = np.empty((len(embedding), len(bias)), dtype=np.float32)
    for rows in row_blocks(len(embedding), block):
        x = np.require(embedding[rows], np.float32, ["C", "W"])
        expression[rows] = decoder(torch.as_tensor(x, device=bias.device)).cpu().numpy()
    return expression


def check_room(n_input: int, n_genes: int, device: torch.device) -> None:
    """Refuse a decoder whose training the memory of the device cannot hold, before the system ends the process."""
    free, needed = free_bytes(device), training_bytes(n_input, n_genes)
    if free is not None and needed > free:
        fitting = int(n_genes * (free / needed) ** 0.5)
        way_out = f"keep about {fitting:,} genes at most, for example the most variable, or take another device"
        raise TooLarge(f"training a decoder of {n_genes:,} genes", needed / 1e9, free / 1e9, str(device), way_out)


class Expression:
    """Rows of expression on a device; sparse ones stay compressed until a mini-batch asks for them."""

    def __init__(self, values: Any, device: torch.device) -> None:
        self.n_genes = values.shape[1]
        self.start: Tensor | None = None
        if sparse.issparse(values):
            rows = values.tocsr(copy=True)
            rows.sum_duplicates()
            self.start = torch.as_tensor(rows.indptr.astype(np.int64), device=device)
            self.column = torch.as_tensor(rows.indices, device=device)
            values = rows.data
        self.values = torch.as_tensor(np.require(values, np.float32, ["C", "W"]), device=device)

    def __getitem__(self, rows: Tensor) -> Tensor:
        if self.start is None:
            return self.values[rows]
        start, count = self.start[rows], self.start[rows + 1] - self.start[rows]
        row = torch.repeat_interleave(torch.arange(len(rows), device=rows.device), count)
        shift = start - (torch.cumsum(count, 0) - count)
        entry = torch.arange(len(row), device=rows.device) + shift[row]
        dense = torch.zeros(len(rows), self.n_genes, device=rows.device)
        dense[row, self.column[entry].long()] = self.values[entry]
        return dense


def fit_decoder(
    embedding: np.ndarray,
    targets: Any,
    *,
    max_epochs: int = 30,
    batch_size: int = 512,
    lr: float = 1e-4,
    device: str | torch.device = "auto",
    rng: int | np.random.Generator | None = None,
    progress_bar: bool = True,
    name: str = "decoder",
) -> nn.Sequential:
    """Return a decoder of expression, dense or sparse, trained by mean squared error with AdamW on the device."""
    check_whole("max_epochs", max_epochs)
    check_whole("batch_size", batch_size)
    check_number("lr", lr, above=0)
    target_device, n = usable_device(device), len(embedding)
    check_room(embedding.shape[1], targets.shape[1], target_device)
    x = torch.as_tensor(np.require(embedding, np.float32, ["C", "W"]), device=target_device)
    y = Expression(targets, target_device)
    steps = -(-n // batch_size)
    with single_precision(), seeded(int(np.random.default_rng(rng).integers(2**63))):
        decoder = make_decoder(x.shape[1], y.n_genes).to(target_device)
        optimizer = torch.optim.AdamW(decoder.parameters(), lr, weight_decay=WEIGHT_DECAY)
        with tqdm(total=max_epochs * steps, desc=name, unit="step", disable=not progress_bar) as bar:
            for epoch in range(max_epochs):
                total = torch.zeros((), device=target_device)
                for i, rows in enumerate(torch.randperm(n).to(target_device).split(batch_size)):
                    for group in optimizer.param_groups:
                        group["lr"] = lr * learning_rate(epoch * steps + i, steps, max_epochs)
                    loss = mse_loss(decoder(x[rows]), y[rows])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    total += loss.detach() * len(rows)
                    bar.update()
                mean = float(total) / n
                if not np.isfinite(mean):
                    raise Diverged(f"the {name}", epoch, "scale the representation to values of order 1 first")
                bar.set_postfix(loss=f"{mean:.4g}")
    return decoder


def learning_rate(step: int, steps: int, max_epochs: int) -> float:
    """Share of the highest rate: linear from 0.3 to 1 over ten epochs of ``steps`` steps, then to 0 as a cosine."""
    warmup = steps * min(WARMUP_EPOCHS, max_epochs / 3)  # a third of the training at most
    if step < warmup:
        return WARMUP_FROM + (1 - WARMUP_FROM) * step / warmup
    return (1 + cos(pi * (step - warmup) / (steps * max_epochs - warmup))) / 2
