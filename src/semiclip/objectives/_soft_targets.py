"""Divergences of softened class probabilities, pure functions of logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch.nn.functional import kl_div, log_softmax

if TYPE_CHECKING:
    from torch import Tensor

NonTarget = Literal["exclude", "zero"]


def soft_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    r"""Return :math:`T^2 \operatorname{KL}(\sigma(v / T) \,\|\, \sigma(u / T))`, the mean over rows.

    Student logits :math:`u` and teacher logits :math:`v` have shape (B, C). The factor :math:`T^2` keeps gradients of
    one size whatever the temperature (Hinton et al. 2015, DOI 10.48550/arXiv.1503.02531).

    Examples
    --------
    >>> import torch
    >>> round(soft_divergence(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 4.0]]), 2.0).item(), 4)
    1.3113
    """
    student, teacher = (log_softmax(logits / temperature, dim=1) for logits in (student_logits, teacher_logits))
    return temperature**2 * kl_div(student, teacher, reduction="batchmean", log_target=True)


def non_target_divergence(
    student_logits: Tensor,
    teacher_logits: Tensor,
    label: Tensor,
    temperature: float,
    *,
    nontarget: NonTarget = "exclude",
) -> Tensor:
    """Return the same divergence of each row, shape (B,), over the classes that are not its ``label``, shape (B,).

    The label leaves the softmax (``"exclude"``), or stays in it with a logit of ``"zero"``. Without the label, one
    class or two leave nothing to tell, and the divergence is 0.

    Examples
    --------
    >>> import torch
    >>> student, teacher = torch.tensor([[5.0, 0.0, 0.0]]), torch.tensor([[9.0, 0.0, 2.0]])
    >>> for nontarget in ("exclude", "zero"):
    ...     print(round(non_target_divergence(student, teacher, torch.tensor([0]), 1.0, nontarget=nontarget).item(), 4))
    0.3278
    0.433
    """
    target = label[:, None] == torch.arange(student_logits.shape[1], device=label.device)
    student, teacher = (logits.masked_fill(target, 0) / temperature for logits in (student_logits, teacher_logits))
    if nontarget == "exclude":
        # the lowest number rather than -inf: one class alone would leave nothing else, and NaN as gradient
        student, teacher = (x.masked_fill(target, torch.finfo(x.dtype).min) for x in (student, teacher))
    student, teacher = (log_softmax(x, dim=1) for x in (student, teacher))
    if nontarget == "exclude":
        student, teacher = (x.masked_fill(target, 0) for x in (student, teacher))
    return temperature**2 * (teacher.exp() * (teacher - student)).sum(dim=1)
