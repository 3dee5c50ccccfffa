from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn


@runtime_checkable
class Objective(Protocol):
    """What a model asks of its objective, which is a :class:`torch.nn.Module` besides.

    To add one, write it in a file of its own and name it in ``OBJECTIVES``. Parameters of the objective are learned
    with the adapter, without weight decay but for heads. One that needs labels is a :class:`LabelObjective`.
    """

    needs_labels: ClassVar[bool]
    """Whether it learns from the perturbation of each row, beyond what is paired with what."""
    adapts_teacher: ClassVar[bool]
    """Whether the teacher has an adapter of its own, unless the model is told otherwise."""
    frozen: ClassVar[tuple[str, ...]]
    """Parts of the model that are not trained, or no longer once they are pretrained."""
    same_space: ClassVar[bool]
    """Whether it brings a student row near its teacher row, so that retrieval by cosine makes sense."""
    capturable: ClassVar[bool]
    """Whether it runs without waiting for the device, as a step that is captured as a CUDA graph must."""
    few_rows: ClassVar[str]
    """Why a mini-batch needs ``min_batch_size`` rows."""
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Arguments of the training plan for each ``profile``: what works on simulations, and what the paper gives."""

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


def enough_rows(objective: Objective, student: Tensor, teacher: Tensor) -> None:
    """Refuse a mini-batch too small for an objective."""
    needed = objective.min_batch_size(student.shape[1], teacher.shape[1])
    if len(student) < needed:
        msg = f"a mini-batch of {len(student)} needs at least {needed} rows here: {objective.few_rows}"
        raise ValueError(msg)
