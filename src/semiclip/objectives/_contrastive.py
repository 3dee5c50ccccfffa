"""Losses that tell the pairs of a mini-batch from its other combinations of rows."""

from __future__ import annotations

from math import log
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, softplus

from semiclip._arguments import check_choice, check_number
from semiclip.errors import BadValue
from semiclip.objectives._protocol import Objective, Spec

Duplicates = Literal["negative", "mask", "multi_positive"]


class SemiClipped(Objective):
    r"""The contrastive loss of CLIP from student to frozen teacher.

    With :math:`s_{ij} = \cos(h_i, t_j) / \tau` the loss is the mean over rows of
    :math:`-s_{ii} + \log \sum_j \exp s_{ij}`. The paper (Bendidi et al., ICML 2025, Algorithm 1, DOI
    10.48550/arXiv.2505.21317) prints a sum, which would only rescale the learning rate.

    Parameters
    ----------
    temperature
        :math:`\tau`, fixed.
    symmetric
        Average with the same loss from teacher to student, as CLIP does.
    duplicates
        How another row of the mini-batch with the same key counts: as a ``"negative"`` like any other (as in the
        paper), not at all (``"mask"``), or as one of several equally right answers (``"multi_positive"``).

    Examples
    --------
    >>> import torch
    >>> round(SemiClipped()(torch.eye(4), torch.eye(4)).item(), 7)
    0.0001362
    """

    def __init__(
        self, *, temperature: float = 0.1, symmetric: bool = False, duplicates: Duplicates = "negative"
    ) -> None:
        super().__init__()
        check_number("temperature", temperature, above=0)
        check_choice("duplicates", duplicates, Duplicates)
        self.temperature, self.symmetric, self.duplicates = temperature, symmetric, duplicates

    def forward(self, student: Tensor, teacher: Tensor, key: Tensor | None = None) -> Tensor:
        """Return the loss of ``student`` rows (B, d) paired with ``teacher`` rows (B, d) that have keys (B,)."""
        scores = normalize(student, dim=1) @ normalize(teacher, dim=1).T / self.temperature
        target: Tensor = torch.arange(len(scores), device=scores.device)
        if self.duplicates != "negative":
            if key is None:
                raise BadValue("key", None, f"the key of each row with duplicates={self.duplicates!r}")
            same = key[:, None] == key[None, :]
            if self.duplicates == "mask":
                others = same & (target[:, None] != target[None, :])
                scores = scores.masked_fill(others, -torch.inf)
            else:
                target = same / same.sum(dim=1, keepdim=True, dtype=scores.dtype)
        loss = cross_entropy(scores, target)
        # the target is the same from teacher to student, since having one key is mutual
        return (loss + cross_entropy(scores.T, target)) / 2 if self.symmetric else loss


class Clip(SemiClipped):
    """The loss of CLIP with an adapter on either side, so that the teacher gives way too.

    It is the mean of two cross-entropies: of each student row among the teacher rows, and of each teacher row among the
    student rows (Radford et al. 2021, DOI 10.48550/arXiv.2103.00020). The teacher's adapter and the second direction
    set it apart from :class:`SemiClipped`, whose parameters it has.
    """

    spec: ClassVar[Spec] = Spec(adapts_teacher=True)

    def __init__(
        self, *, temperature: float = 0.1, symmetric: bool = True, duplicates: Duplicates = "negative"
    ) -> None:
        super().__init__(temperature=temperature, symmetric=symmetric, duplicates=duplicates)


class SigLip(Objective):
    r"""The sigmoid loss of SigLIP: each pair of rows is judged by itself, as belonging together or not.

    With :math:`\ell_{ij} = e^{t'} \cos(h_i, t_j) + b` the loss is
    :math:`-\frac{1}{B} \sum_{ij} \log \sigma(z_{ij} \ell_{ij})`, where :math:`z_{ij}` is 1 if :math:`i = j` and -1
    otherwise (Zhai et al. 2023, DOI 10.48550/arXiv.2303.15343). Scale and bias are learned.

    Parameters
    ----------
    scale
        Initial :math:`e^{t'}`.
    bias
        Initial :math:`b`, so low that the many pairs that do not belong together cost little at first.

    Examples
    --------
    >>> import torch
    >>> round(SigLip()(torch.eye(16), torch.eye(16)).item(), 6)
    0.693828
    """

    def __init__(self, *, scale: float = 10.0, bias: float = -10.0) -> None:
        super().__init__()
        check_number("scale", scale, above=0)
        check_number("bias", bias)
        self.log_scale = nn.Parameter(torch.tensor(log(scale)))
        self.bias = nn.Parameter(torch.tensor(float(bias)))

    def forward(self, student: Tensor, teacher: Tensor, key: Tensor | None = None) -> Tensor:
        """Return the loss of ``student`` rows (B, d) paired with ``teacher`` rows (B, d)."""
        cosine = normalize(student, dim=1) @ normalize(teacher, dim=1).T
        # a scale without dimensions would leave what follows in half precision
        logits = self.log_scale.exp() * cosine.to(torch.promote_types(cosine.dtype, self.log_scale.dtype)) + self.bias
        sign = 1 - 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device)
        return softplus(sign * logits).sum(dim=1).mean()
