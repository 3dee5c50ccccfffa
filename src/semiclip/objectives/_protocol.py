from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from semiclip.objectives._spec import Spec


@runtime_checkable
class Objective(Protocol):
    """What a model asks of its objective, which is a :class:`torch.nn.Module` besides.

    To add one, write it in a file of its own, and name it in ``OBJECTIVES`` and ``PRESETS``. Its parameters are learned
    with the adapter; only heads have weight decay. An objective that needs labels is a :class:`LabelObjective`.
    """

    spec: ClassVar[Spec]
    """What it needs beside the paired rows."""

    def width(self, n_teacher: int) -> int:
        """Return the width of the embedding for a teacher of width ``n_teacher``."""
        ...

    def min_batch_size(self, n_student: int, n_teacher: int) -> int:
        """Return the fewest rows of these widths for which the loss says something."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return what is learned, as every module does."""
        ...

    def __call__(self, student: Tensor, teacher: Tensor, key: Tensor | None = None) -> Tensor:
        """Return the loss of paired rows, a scalar; ``key`` is the class of each row if labels are needed."""
        ...
