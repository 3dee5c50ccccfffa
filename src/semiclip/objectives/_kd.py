from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch.nn.functional import cross_entropy

from semiclip._arguments import check_number
from semiclip.objectives._labels import LabelObjective
from semiclip.objectives._soft_targets import soft_divergence

if TYPE_CHECKING:
    from torch import Tensor

    from semiclip.objectives._spec import Spec


class Kd(LabelObjective):
    r"""Knowledge distillation: the student learns its classes, and what a pretrained teacher says of all classes.

    The loss is the mean over rows of

    .. math::

        \operatorname{CE}(u_S, y) + \alpha T^2 \operatorname{KL}(\sigma(u_T / T) \,\|\, \sigma(u_S / T)),

    where :math:`u_S` are the logits of the student's head, and :math:`u_T` those of the teacher's, which is frozen
    together with the teacher's adapter.

    Parameters
    ----------
    temperature
        :math:`T`, which softens both sides.
    alpha
        :math:`\alpha`, the weight of the teacher.

    References
    ----------
    Hinton et al. 2015, DOI 10.48550/arXiv.1503.02531.
    """

    spec: ClassVar[Spec] = replace(LabelObjective.spec, frozen=("teacher", "teacher_head"))

    def __init__(self, *, temperature: float = 9.0, alpha: float = 10.0) -> None:
        super().__init__()
        check_number("temperature", temperature, above=0)
        check_number("alpha", alpha, least=0)
        self.temperature, self.alpha = temperature, alpha

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
        """Return the loss of ``student`` rows (B, d) paired with ``teacher`` rows (B, D) of classes ``label`` (B,)."""
        student_logits = self.logits("student_head", student)
        with torch.no_grad():
            teacher_logits = self.logits("teacher_head", teacher)
        divergence = soft_divergence(student_logits, teacher_logits, self.temperature)
        return cross_entropy(student_logits, label) + self.alpha * divergence
