from __future__ import annotations

from dataclasses import dataclass


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
