from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from semiclip.objectives import OBJECTIVES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from semiclip.objectives import Objective

FEW_KEYS = 500  # with fewer pairing keys a small adapter generalises better: see n_hidden of SemiClip
SMALL, LARGE = (64,), (512, 1024)


def adapter(widths: Sequence[int]) -> nn.Sequential:
    """Linear maps of the given widths with ReLU between them (paper A.2)."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class SemiClipModule(nn.Module):
    """The student adapter and its objective; the teacher has no part in it, since it is frozen.

    Parameters
    ----------
    n_input, n_hidden, n_teacher
        Widths of the student, of the hidden layers and of the teacher; the objective says how wide the output is.
    objective
        Name of the objective in :data:`semiclip.objectives.OBJECTIVES`.
    **objective_kwargs
        Its arguments.
    """

    def __init__(
        self,
        n_input: int,
        n_hidden: Sequence[int],
        n_teacher: int,
        *,
        objective: str = "semiclip",
        **objective_kwargs: Any,
    ) -> None:
        super().__init__()
        self.objective_name = objective
        self.objective: Objective = OBJECTIVES[objective](**objective_kwargs)
        self.n_output = self.objective.width(n_teacher)
        self.adapter = adapter([n_input, *n_hidden, self.n_output])

    @property
    def min_batch_size(self) -> int:
        """Fewest rows of a mini-batch; the teacher has the width of the embedding here."""
        return self.objective.min_batch_size(self.n_output, self.n_output)

    def forward(self, student: Tensor) -> Tensor:
        """Embed student rows (n, n_input), in n_output dimensions."""
        return self.adapter(student)

    @torch.inference_mode()
    def embed(self, read: Callable[[slice], np.ndarray], n: int, block: int) -> np.ndarray:
        """Embed ``n`` rows in evaluation mode, reading a block at a time; float32 of shape (n, n_output)."""
        self.eval()
        out = np.empty((n, self.n_output), dtype=np.float32)
        for start in range(0, n, block):
            rows = np.require(read(slice(start, min(start + block, n))), np.float32, ["C", "W"])
            out[start : start + block] = self(torch.as_tensor(rows, device=self.device)).cpu().numpy()
        return out

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return next(self.parameters()).device

    def on_load(self, model: Any, **kwargs: Any) -> None:
        """Do nothing: scvi-tools calls this on every module that it loads."""
