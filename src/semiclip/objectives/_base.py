from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from torch import nn

from semiclip.errors import TooFew
from semiclip.objectives._spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


class PairLoss(nn.Module):
    """A loss of paired rows with an embedding as wide as the teacher, unless a method says otherwise."""

    spec: ClassVar[Spec] = Spec()

    def width(self, n_teacher: int) -> int:
        """Return the width of the embedding, that of the teacher."""
        return n_teacher

    def min_batch_size(self, n_student: int, n_teacher: int) -> int:
        """Return the fewest rows that a mini-batch may have, 1."""
        return 1

    def check_rows(self, student: Tensor, teacher: Tensor) -> None:
        """Refuse a mini-batch with fewer rows than the loss needs."""
        needed = self.min_batch_size(student.shape[1], teacher.shape[1])
        if len(student) < needed:
            raise TooFew("rows in the mini-batch", len(student), needed, self.spec.few_rows)
