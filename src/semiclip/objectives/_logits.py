"""Comparisons of the logits of two sides, row by row."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

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
    >>> round(non_target_divergence(student, teacher, torch.tensor([0]), 1.0).item(), 4)
    0.3278
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


@torch.no_grad()
def kendall(a: Tensor, b: Tensor) -> Tensor:
    r"""Return Kendall's :math:`\tau_b` of each row of ``a`` with that row of ``b``, both of shape (B, C) and finite.

    Of :math:`n_0` pairs of columns, :math:`n_a` are tied in ``a`` and :math:`n_b` in ``b``. With :math:`P` pairs that
    both order alike and :math:`Q` pairs that they order unlike, :math:`\tau_b` is
    :math:`(P - Q) / \sqrt{(n_0 - n_a)(n_0 - n_b)}`, and NaN where a row is constant; float64 of shape (B,). Time grows
    as :math:`C \log C` (Knight, Journal of the American Statistical Association 61, 1966). The host need not wait.

    Examples
    --------
    >>> import torch
    >>> kendall(torch.tensor([[1.0, 2, 3], [1, 1, 1]]), torch.tensor([[1.0, 3, 2], [1, 2, 3]]))
    tensor([0.3333,    nan], dtype=torch.float64)
    """
    # sorted by a, then by b, then by a again, pairs that are tied in either stay in order
    a, order = a.sort(dim=1)
    b, order = b.gather(1, order).sort(dim=1, stable=True)
    ties_b = _ties(_changes(b))
    a, order = a.gather(1, order).sort(dim=1, stable=True)
    b = b.gather(1, order)
    ties_a, ties_both = _ties(_changes(a)), _ties(_changes(a) | _changes(b))
    pairs = a.shape[1] * (a.shape[1] - 1) // 2
    surplus = pairs - ties_a - ties_b + ties_both - 2 * _inversions(order)
    tau = surplus.double() / (pairs - ties_a).double().sqrt() / (pairs - ties_b).double().sqrt()
    return tau.clamp(-1, 1)  # rounding may lead out


def _changes(ordered: Tensor) -> Tensor:
    """Return whether each value differs from the one before it; the first does."""
    return torch.cat([torch.ones_like(ordered[:, :1], dtype=torch.bool), ordered[:, 1:] != ordered[:, :-1]], dim=1)


def _ties(changes: Tensor) -> Tensor:
    """Count the pairs of equal values in each row: a value makes one with every value before it in its run."""
    place = torch.arange(changes.shape[1], dtype=torch.int32, device=changes.device)
    return (place - torch.where(changes, place, 0).cummax(dim=1).values).sum(dim=1)


def _inversions(permutation: Tensor) -> Tensor:
    """Count the pairs in each row, a permutation of 0, 1, …, whose larger member comes first."""
    # Rows are sorted bit by bit, from the highest. Numbers that agree in the higher bits stand together, and in a
    # permutation one knows where, so that each bit takes a single cumulative sum.
    n = permutation.shape[1]
    place = torch.arange(n, dtype=torch.int32, device=permutation.device)
    values = permutation.to(torch.int32)
    overtaken = torch.zeros_like(values)
    for bit in reversed(range(max(n - 1, 0).bit_length())):
        high = (values >> bit) & 1
        start = (values >> (bit + 1)) << (bit + 1)
        # members of the group with the bit set that come before; half of the numbers below the group have it set
        before = high.cumsum(dim=1, dtype=torch.int32) - high - (start >> 1)
        overtaken += before * (1 - high)
        target = torch.where(high == 1, start + (1 << bit) + before, place - before)
        values = torch.empty_like(values).scatter_(1, target.long(), values)
    return overtaken.sum(dim=1)
