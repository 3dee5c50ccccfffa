from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from semiclip.encoders._network import build
from semiclip.objectives import OBJECTIVES, LabelObjective

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from semiclip.objectives import Objective


BLOCK = 1 << 14  # rows embedded at a time


def adapter(widths: Sequence[int]) -> nn.Sequential:
    """Linear maps of the given widths with ReLU between them (paper A.2)."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def widths_of(layers: nn.Sequential) -> list[int]:
    """Return the widths that an adapter was made with."""
    maps = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return [maps[0].in_features, *(layer.out_features for layer in maps)]


class SemiClipModule(nn.Module):
    """The student's adapter and its objective, with a trainable encoder and an adapter of the teacher where asked for.

    Parameters
    ----------
    n_input, n_hidden, n_teacher
        Widths of the student, of the hidden layers and of the teacher; the objective says how wide the output is.
    objective
        Name of the objective in :data:`semiclip.objectives.OBJECTIVES`.
    teacher_hidden
        Widths of the hidden layers of the teacher's adapter; ``None`` leaves the teacher as it is.
    encoder
        Architecture of an encoder before the student's adapter, see :func:`semiclip.encoders.build`; ``None`` where
        the student is encoded already.
    **objective_kwargs
        Arguments of the objective.
    """

    def __init__(
        self,
        n_input: int,
        n_hidden: Sequence[int],
        n_teacher: int,
        *,
        objective: str = "semiclip",
        teacher_hidden: Sequence[int] | None = None,
        encoder: Mapping[str, Any] | None = None,
        **objective_kwargs: Any,
    ) -> None:
        super().__init__()
        self.objective_name = objective
        self.objective: Objective = OBJECTIVES[objective](**objective_kwargs)
        self.n_output = self.objective.width(n_teacher)
        self.encoder = None if encoder is None else build(encoder)
        n_encoded = n_input if encoder is None else encoder["n_output"]
        self.adapter = adapter([n_encoded, *n_hidden, self.n_output])
        self.teacher_adapter = None if teacher_hidden is None else adapter([n_teacher, *teacher_hidden, self.n_output])

    @property
    def min_batch_size(self) -> int:
        """Fewest rows of a mini-batch; the teacher has the width of the embedding here."""
        return self.objective.min_batch_size(self.n_output, self.n_output)

    @property
    def capturable(self) -> bool:
        """Whether a training step runs without waiting for the device, as one that is captured as a graph must."""
        return self.objective.capturable and getattr(self.encoder, "capturable", True)

    @property
    def block_rows(self) -> int:
        """Rows that are embedded at a time, which a large encoder has fewer of."""
        return getattr(self.encoder, "block_rows", BLOCK)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return what can be learned, by the part whose learning rate it has."""
        modules: dict[str, nn.Module | None] = {
            "student": self.adapter,
            "encoder": self.encoder,
            "teacher": self.teacher_adapter,
        }
        if isinstance(self.objective, LabelObjective):
            modules |= self.objective.heads.items()
        parts = {name: list(module.parameters()) for name, module in modules.items() if module is not None}
        own = {id(parameter) for each in parts.values() for parameter in each}
        if rest := [parameter for parameter in self.objective.parameters() if id(parameter) not in own]:
            parts["objective"] = rest
        return parts

    @property
    def trained_parts(self) -> list[str]:
        """Names of the parts that distillation trains, also of heads that are not made yet."""
        names = dict.fromkeys([*self.parts(), *getattr(self.objective, "heads_of", ())])
        return [name for name in names if name not in self.objective.frozen]

    def set_classes(self, n_classes: int) -> None:
        """Make the objective's heads for so many classes."""
        objective: Any = self.objective
        objective.set_classes(self.n_output, self.n_output, n_classes)
        objective.to(self.device)

    def forward(self, student: Tensor) -> Tensor:
        """Embed student rows (n, n_input), in n_output dimensions."""
        return self.adapter(student if self.encoder is None else self.encoder(student))

    def teach(self, teacher: Tensor) -> Tensor:
        """Return teacher rows (n, n_teacher) as the objective sees them, in n_output dimensions."""
        return teacher if self.teacher_adapter is None else self.teacher_adapter(teacher)

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
        """Make the heads that a saved model had, before scvi-tools loads their weights."""
        if model.classes_ is not None:
            self.set_classes(len(model.classes_))
