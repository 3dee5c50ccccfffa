from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from semiclip.errors import Refused, TooFew


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What an objective asks of the model that is trained with it.

    Examples
    --------
    >>> from semiclip.objectives import OBJECTIVES
    >>> [name for name, objective in OBJECTIVES.items() if objective.spec.needs_labels]
    ['kd', 'shake', 'c2kd']
    """

    needs_labels: bool = False
    """Whether it learns from the class of each row, beyond which rows are paired."""
    adapts_teacher: bool = False
    """Whether the teacher has an adapter of its own, unless the model is told otherwise."""
    frozen: tuple[str, ...] = ()
    """Parts of the model that are not trained, or no longer once they are pretrained."""
    same_space: bool = True
    """Whether it brings a student row near its teacher row, so that retrieval by cosine makes sense."""
    capturable: bool = True
    """Whether it runs without waiting for the device, which a step captured as a CUDA graph must."""
    few_rows: str = "there must be a pair"
    """Why a mini-batch needs ``min_batch_size`` rows."""


class Objective(nn.Module):
    """A loss of paired rows: a scalar from student rows (B, d), teacher rows (B, D) and, if needed, their keys (B,).

    To add one, write its ``forward``, name it in ``OBJECTIVES`` and its rates in ``_presets.py``. Its parameters are
    learned with the adapter; only heads have weight decay. An objective that needs labels is a :class:`LabelObjective`.
    """

    spec: ClassVar[Spec] = Spec()
    """What it needs beside the paired rows."""

    def width(self, n_teacher: int) -> int:
        """Return the width of the embedding for a teacher of width ``n_teacher``, by default the same."""
        return n_teacher

    def min_batch_size(self, n_student: int, n_teacher: int) -> int:
        """Return the fewest rows of these widths for which the loss says something, by default 1."""
        return 1

    def check_rows(self, student: Tensor, teacher: Tensor) -> None:
        """Refuse a mini-batch with fewer rows."""
        needed = self.min_batch_size(student.shape[1], teacher.shape[1])
        if len(student) < needed:
            raise TooFew("rows in the mini-batch", len(student), needed, self.spec.few_rows)


class LabelObjective(Objective):
    """An objective that learns the classes of the training rows, their perturbations, by linear heads.

    A head gives the logits of the classes from an embedding. ``student_head`` and ``teacher_head`` are pretrained on
    the classes, each with the adapter of its side (paper, section 4). Other heads start at :meth:`begin`.

    Examples
    --------
    >>> import torch
    >>> from semiclip.objectives import Kd
    >>> objective = Kd()
    >>> objective.set_classes(n_student=4, n_teacher=5, n_classes=3)
    >>> objective.logits("student_head", torch.ones(2, 4)).shape
    torch.Size([2, 3])
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
