from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from semiclip._arguments import check_choice, check_number
from semiclip.objectives._logits import NonTarget, kendall, non_target_divergence, soft_divergence
from semiclip.objectives._protocol import LabelObjective

Average = Literal["kept", "all"]


class C2kd(LabelObjective):
    r"""Customised cross-modal distillation: both sides learn their classes, and from each other where they agree.

    Each side has a head and a proxy, both linear maps of its embedding, with logits :math:`u` and :math:`q`; the
    authors' proxies read feature maps of a convolutional network instead. Let
    :math:`D(a \leftarrow b) = T^2 \operatorname{KL}(\sigma(\operatorname{sg} b / T) \,\|\, \sigma(a / T))`, where
    :math:`b` has no gradient, :math:`D_{\setminus y}` the same over the classes that are not the label, and :math:`K`
    the rows on which Kendall's :math:`\tau_b` of :math:`q_S` and :math:`q_T` is above a threshold. The loss is

    .. math::

        \sum_{X \in \{S, T\}} [\operatorname{CE}(u_X, y) + D(q_X \leftarrow u_X) + D(u_X \leftarrow q_X)]
        + \frac{1}{|K|} \sum_{i \in K} [D_{\setminus y}(q_S \leftarrow q_T) + D_{\setminus y}(q_T \leftarrow q_S)]_i

    with means over all rows in the first part. Without any row in :math:`K` the second part is 0.

    Parameters
    ----------
    temperature
        :math:`T`; the authors' is 1.
    threshold
        What :math:`\tau_b` must exceed; the authors' is 0.
    nontarget
        Whether the label leaves the softmax (``"exclude"``), or stays in it with a logit of ``"zero"``, as in the
        authors' code.
    average
        Whether the sum over :math:`K` is divided by the rows that are ``"kept"`` or, as in the authors' code, by
        ``"all"`` rows of the mini-batch.

    References
    ----------
    Huo et al., C2KD: bridging the modality gap for cross-modal knowledge distillation, CVPR 2024; Bendidi et al., ICML
    2025, DOI 10.48550/arXiv.2505.21317.
    """

    heads_of: ClassVar[dict[str, str]] = {
        **LabelObjective.heads_of,
        "student_proxy": "student",
        "teacher_proxy": "teacher",
    }

    def __init__(
        self,
        *,
        temperature: float = 2.0,
        threshold: float = 0.3,
        nontarget: NonTarget = "exclude",
        average: Average = "kept",
    ) -> None:
        super().__init__()
        check_number("temperature", temperature, above=0)
        check_number("threshold", threshold, least=-1, most=1)  # as a rank correlation is
        check_choice("nontarget", nontarget, NonTarget)
        check_choice("average", average, Average)
        self.temperature, self.threshold = temperature, threshold
        self.nontarget, self.average = nontarget, average

    def forward(self, student: Tensor, teacher: Tensor, label: Tensor) -> Tensor:
        """Return the loss of ``student`` rows (B, d) paired with ``teacher`` rows (B, D) of classes ``label`` (B,)."""
        student_loss, q_s = self._within("student", student, label)
        teacher_loss, q_t = self._within("teacher", teacher, label)
        kept = kendall(q_s, q_t) > self.threshold  # never where it is NaN, as it is for constant logits
        to_student, to_teacher = (
            non_target_divergence(a, b.detach(), label, self.temperature, nontarget=self.nontarget)
            for a, b in ((q_s, q_t), (q_t, q_s))
        )
        # rows are weighted, not picked out, since the host would have to wait for their number
        across = torch.where(kept, to_student + to_teacher, 0).sum()
        number = kept.sum().clamp(min=1) if self.average == "kept" else len(kept)
        return student_loss + teacher_loss + across / number

    def _within(self, side: str, embedding: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of head and proxy of one side, and the logits of the proxy."""
        head, proxy = (self.logits(f"{side}_{part}", embedding) for part in ("head", "proxy"))
        to_proxy = soft_divergence(proxy, head.detach(), self.temperature)
        to_head = soft_divergence(head, proxy.detach(), self.temperature)
        return cross_entropy(head, label) + to_proxy + to_head, proxy
