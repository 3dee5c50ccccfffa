from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from semiclip.errors import Refused, TooFew
from semiclip.objectives._protocol import Objective
from semiclip.objectives._spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


class LabelObjective(Objective):
    """An objective that learns the classes of the training rows, their perturbations, by linear heads.

    A head gives the logits of the classes from an embedding. ``student_head`` and ``teacher_head`` are pretrained on
    the classes, each with the adapter of its side (paper, section 4). Other heads start at :meth:`begin`.

    Examples
    --------
    Heads that say nothing leave the cross-entropy of chance, log 3, on each side that learns its classes.

    >>> import torch
    >>> from semiclip.objectives import C2kd, Kd
    >>> for objective in (Kd(), C2kd()):
    ...     objective.set_classes(4, 5, 3)
    ...     for weights in objective.parameters():
    ...         _ = torch.nn.init.zeros_(weights)
    ...     print(round(objective(torch.ones(2, 4), torch.ones(2, 5), torch.tensor([0, 2])).item(), 4))
    1.0986
    2.1972
    """

    spec: ClassVar[Spec] = Spec(needs_labels=True, adapts_teacher=True, same_space=False)
    heads_of: ClassVar[dict[str, str]] = {"student_head": "student", "teacher_head": "teacher"}
    """Heads by name, and the side whose embedding each one reads."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict()

    def set_classes(self, n_student: int, n_teacher: int, n_classes: int) -> None:
        """Make new heads for embeddings of these widths."""
        if n_classes < 2:
            raise TooFew("classes to learn", n_classes, 2, "train on at least two perturbations")
        width = {"student": n_student, "teacher": n_teacher}
        self.heads = nn.ModuleDict({name: nn.Linear(width[side], n_classes) for name, side in self.heads_of.items()})

    def logits(self, head: str, embedding: Tensor) -> Tensor:
        """Return the logits that a head gives embedded rows, (B, C), in single precision at least."""
        if head not in self.heads:
            raise Refused(f"{type(self).__name__} has no {head} yet", way_out="call set_classes first")
        logits: Tensor = self.heads[head](embedding)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def pretrain(self, student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
        """Return the loss that trains each side alone: the sum of both cross-entropies, which share no parameter."""
        student_loss = cross_entropy(self.logits("student_head", student), label)
        return student_loss + cross_entropy(self.logits("teacher_head", teacher), label)

    def begin(self) -> None:
        """Start distillation from what was pretrained."""
