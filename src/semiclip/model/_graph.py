"""A training step as a CUDA graph, so that neither Python nor Lightning is on the hot path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning import Trainer
    from torch import Tensor

    from semiclip.model._tensors import MiniBatch

WARM_UP = 3  # steps taken without a graph, in which libraries and the optimiser set up their memory


def can_capture(trainer: Trainer) -> bool:
    """Whether the steps of this trainer can be graphs: one GPU, and nothing that Lightning does within a step."""
    return (
        trainer.strategy.root_device.type == "cuda"
        and trainer.world_size == 1
        and trainer.precision in ("32-true", "bf16-mixed")
        and trainer.gradient_clip_val is None
        and trainer.accumulate_grad_batches == 1
    )


class GraphedStep:
    """Takes whole training steps: the first few as they are, then by replaying one that was captured.

    A graph holds for one epoch, since the learning rate and the epoch's random numbers are fixed in it; capturing it
    anew costs about as much as one step in Python.

    Parameters
    ----------
    loss_of
        Gives the loss of a mini-batch: gathering rows, augmentation, adapter and objective.
    optimizer
        Takes the step; its state must not live on the host.
    """

    def __init__(self, loss_of: Callable[[MiniBatch], Tensor], optimizer: torch.optim.Optimizer) -> None:
        self.loss_of, self.optimizer = loss_of, optimizer
        self.warm_up = WARM_UP
        self.captured_for: object = None

    def __call__(self, batch: MiniBatch, epoch: int) -> Tensor:
        """Take a step and return its loss, which the next step overwrites."""
        if self.warm_up:
            self.warm_up -= 1
            return self._beside(lambda: self._step(batch))
        valid_for = (epoch, id(batch.source), len(batch.row))
        if valid_for != self.captured_for:
            self.static = batch._replace(**{name: getattr(batch, name).clone() for name in batch._fields[:-1]})
            self.replay, self.loss = self._capture(lambda: self._step(self.static))
            self.captured_for = valid_for
        for kept, new in zip(self.static[:-1], batch[:-1], strict=True):
            kept.copy_(new)
        self.replay()
        return self.loss

    def _step(self, batch: MiniBatch) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        device = batch.row.device.type
        # within a graph, a cached copy of the weights in half precision would never be renewed
        with torch.autocast(
            device, torch.get_autocast_dtype(device), enabled=torch.is_autocast_enabled(device), cache_enabled=False
        ):
            loss = self.loss_of(batch)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def _beside(self, step: Callable[[], Tensor]) -> Tensor:
        """Run on another stream, as capturing will."""
        if not torch.cuda.is_available():
            return step()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            loss = step()
        torch.cuda.current_stream().wait_stream(stream)
        return loss

    def _capture(self, step: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Record a step without running it; return what runs it, and where its loss will be."""
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            loss = step()
        return graph.replay, loss
