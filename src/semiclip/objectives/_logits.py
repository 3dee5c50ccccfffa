"""Comparisons of the logits of two sides, row by row."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from semiclip._arguments import check_whole
from semiclip._counter_rng import keys, state
from semiclip._numerics import row_blocks

NonTarget = Literal["exclude", "zero"]
BLOCK = 1 << 16  # numbers of each side that a core compares at a time, which its cache holds


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


def mutual_divergence(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    r"""Return the divergences of ``b`` from ``a`` and of ``a`` from ``b`` in sum, each row's, shape (B,).

    Of logits of shape (B, C), :math:`T^2 [\operatorname{KL}(p_b \,\|\, p_a) + \operatorname{KL}(p_a \,\|\, p_b)]` with
    :math:`p_a = \sigma(a / T)`; each divergence teaches its second argument alone.
    """
    # The sum is T (p - q)(a - b) over classes, for the logarithms of both normalisers fall out. Its gradient by a, with
    # p - q held, is T (p - q), which is also that of the divergence that teaches a.
    return _across(a, b, _soften(a, temperature) - _soften(b, temperature), temperature)


def mutual_non_target_divergence(
    a: Tensor, b: Tensor, label: Tensor, temperature: float, *, nontarget: NonTarget = "exclude"
) -> Tensor:
    """Return the same over the classes that are not the row's ``label``, as in :func:`non_target_divergence`."""
    label = label[:, None]
    p, q = (_soften(logits, temperature, label, nontarget) for logits in (a, b))
    return _across(a, b, (p - q).scatter_(1, label, 0), temperature)


def _soften(logits: Tensor, temperature: float, label: Tensor | None = None, nontarget: NonTarget = "zero") -> Tensor:
    """Return the shares of all classes, without a gradient, with the logit of the label out of the way."""
    softened = logits.detach() / temperature
    if label is not None:
        softened.scatter_(1, label, 0 if nontarget == "zero" else torch.finfo(softened.dtype).min)
    return softened.softmax(dim=1)


def _across(a: Tensor, b: Tensor, apart: Tensor, temperature: float) -> Tensor:
    return temperature * (apart * (a - b)).sum(dim=1)


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


@torch.no_grad()
def estimate_kendall(a: Tensor, b: Tensor, *, n_pairs: int, seed: int | Tensor = 0) -> Tensor:
    r"""Return an estimate of Kendall's :math:`\tau_b` of each row from some pairs of columns; float64 of shape (B,).

    Columns are put on a circle in a random order, the same for all rows, and each is compared with the next
    :math:`m = \lceil P / C \rceil`, where :math:`P` is ``n_pairs`` and :math:`C` the number of columns, so that all
    columns take part in equally many pairs. Without ties the estimate is unbiased, and its variance is at most
    :math:`(1 - \tau^2) / (m C) \cdot (C - 1 - 2 m) / (C - 3)`: a standard error below :math:`1 / \sqrt P`. With ties,
    pairs that are tied are counted among the same pairs. Where these are all pairs there are, the result is that of
    :func:`kendall`. Time grows with ``n_pairs`` alone, and the host need not wait.

    Parameters
    ----------
    a, b
        Finite numbers of shape (B, C).
    n_pairs
        The least number of pairs.
    seed
        What the order follows from: an integer or a tensor of one.

    Examples
    --------
    >>> import torch
    >>> a, b = torch.tensor([[1.0, 2, 3, 4, 5]]), torch.tensor([[1.0, 3, 2, 5, 4]])
    >>> estimate_kendall(a, b, n_pairs=10), estimate_kendall(a, b, n_pairs=5)
    (tensor([0.6000], dtype=torch.float64), tensor([1.], dtype=torch.float64))
    """
    check_whole("n_pairs", n_pairs)
    n_rows, n = a.shape
    n_shifts = min(n // 2, -(-n_pairs // max(n, 1)))
    circle = keys(state(seed, torch.zeros(1, dtype=torch.int64, device=a.device)), n)[0].argsort(stable=True)
    circle = torch.cat([circle, circle[:n_shifts]])
    # blocks change no digit, since every sum is of whole numbers
    size = max(1, BLOCK * torch.get_num_threads() // max(n, 1)) if a.device.type == "cpu" else max(n_rows, 1)
    a, b = (side.to(torch.promote_types(side.dtype, torch.float32)) for side in (a, b))
    parts = [_concordance(a[rows][:, circle], b[rows][:, circle], n_shifts) for rows in row_blocks(n_rows, size)]
    surplus, untied_a, untied_b = torch.cat(parts, dim=1) if parts else a.new_zeros(3, 0, dtype=torch.float64)
    return (surplus / untied_a.sqrt() / untied_b.sqrt()).clamp(-1, 1)


def _concordance(a: Tensor, b: Tensor, n_shifts: int) -> Tensor:
    """Return pairs ordered alike less those ordered unlike, and pairs not tied in ``a`` and in ``b``, shape (3, B).

    A pair is a column and one of the ``n_shifts`` after it; so many columns are there again at the end.
    """
    n = a.shape[1] - n_shifts
    counts = torch.zeros(3, len(a), n, dtype=a.dtype, device=a.device)
    for shift in range(1, n_shifts + 1):
        width = n if 2 * shift != n else shift  # half a turn meets each pair twice
        turn_a, turn_b = ((side[:, shift : shift + width] - side[:, :width]).sign_() for side in (a, b))
        for count, x, y in zip(counts, (turn_a, turn_a, turn_b), (turn_b, turn_a, turn_b), strict=True):
            count[:, :width].addcmul_(x, y)
    return counts.sum(dim=2, dtype=torch.float64)


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
