from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import cross_entropy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor


class LabelObjective(nn.Module):
    """An objective that learns from classes, the perturbations of the training rows, by linear heads.

    A head gives the logits of the classes from an embedding. ``student_head`` and ``teacher_head`` are pretrained on
    the classes, each with the adapter of its side (paper, section 4); what else there is starts at :meth:`begin`.
    """

    needs_labels: ClassVar[bool] = True
    same_space: ClassVar[bool] = False
    capturable: ClassVar[bool] = True
    adapts_teacher: ClassVar[bool] = True
    few_rows: ClassVar[str] = "there must be a pair"
    heads_of: ClassVar[dict[str, str]] = {"student_head": "student", "teacher_head": "teacher"}
    """Heads by name, and the side whose embedding each one reads."""
    pretraining: ClassVar[Mapping[str, Any]] = {"lr": 0.1}
    """Arguments of the training plan of pretraining, whose rates the paper does not give."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict()

    def set_classes(self, n_student: int, n_teacher: int, n_classes: int) -> None:
        """Make new heads for embeddings of these widths."""
        if n_classes < 2:
            msg = f"{n_classes} class cannot be told from others; training needs at least two perturbations"
            raise ValueError(msg)
        width = {"student": n_student, "teacher": n_teacher}
        self.heads = nn.ModuleDict({name: nn.Linear(width[side], n_classes) for name, side in self.heads_of.items()})

    def logits(self, head: str, embedding: Tensor) -> Tensor:
        """Return what a head says of embedded rows, (B, C), in single precision at least."""
        if head not in self.heads:
            msg = f"{type(self).__name__} has no {head} yet: call set_classes first"
            raise ValueError(msg)
        logits: Tensor = self.heads[head](embedding)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def pretrain(self, student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
        """Return the loss that trains each side alone: the sum of both cross-entropies, which share no parameter."""
        own = cross_entropy(self.logits("student_head", student), label)
        return own + cross_entropy(self.logits("teacher_head", teacher), label)

    def begin(self) -> None:
        """Start distillation from what was pretrained."""

    def width(self, n_teacher: int) -> int:
        """Return the width of the teacher."""
        return n_teacher

    def min_batch_size(self, n_student: int, n_teacher: int) -> int:
        """Return 1."""
        return 1


def positive(**numbers: float) -> None:
    """Refuse numbers that are not above zero."""
    for name, number in numbers.items():
        if not number > 0:  # so that NaN is refused too
            msg = f"{name}={number} must be positive"
            raise ValueError(msg)


def not_negative(**numbers: float) -> None:
    """Refuse numbers below zero."""
    for name, number in numbers.items():
        if not number >= 0:
            msg = f"{name}={number} must not be negative"
            raise ValueError(msg)


def one_of(known: Iterable[str], **choices: str) -> None:
    """Refuse what is not known."""
    for name, choice in choices.items():
        if choice not in known:
            msg = f"{name}={choice!r} is not one of {', '.join(known)}"
            raise ValueError(msg)
