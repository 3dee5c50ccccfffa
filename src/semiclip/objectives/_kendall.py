from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@torch.no_grad()
def kendall(a: Tensor, b: Tensor) -> Tensor:
    r"""Return Kendall's :math:`\tau_b` of each row of ``a`` with that row of ``b``, both of shape (B, C) and finite.

    Of :math:`n_0` pairs of columns, :math:`n_a` are tied in ``a`` and :math:`n_b` in ``b``. With :math:`P` pairs that
    both order alike and :math:`Q` pairs that they order unlike, :math:`\tau_b` is
    :math:`(P - Q) / \sqrt{(n_0 - n_a)(n_0 - n_b)}`, and NaN where a row is constant. Time grows as :math:`C \log C`
    (Knight, Journal of the American Statistical Association 61, 1966). The result, float64 of shape (B,), stays on the
    device, and the host need not wait for it.

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
    """Count the pairs in each row, a permutation of 0, 1, …, whose larger member comes first.

    Rows are sorted bit by bit, from the highest. Numbers that agree in the higher bits stand together, and in a
    permutation one knows where, so that each bit takes a single cumulative sum.
    """
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
