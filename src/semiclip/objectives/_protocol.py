from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from semiclip.errors import TooFew
from semiclip.objectives._spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


class Objective(nn.Module):
    """A loss of paired rows: a scalar from student rows (B, d), teacher rows (B, D) and, if needed, their keys (B,).

    To add one, write its ``forward`` in a file of its own, and name it in ``OBJECTIVES`` and ``PRESETS``. Its
    parameters are learned with the adapter; only heads have weight decay. An objective that needs labels is a
    :class:`LabelObjective`.
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
