from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@torch.no_grad()
def kendall(a: Tensor, b: Tensor) -> Tensor:
    r"""Return Kendall's :math:`\tau_b` of each row of one matrix with that of another, NaN where one is constant.

    Of :math:`n_0` pairs of columns, :math:`n_a` are tied in ``a`` and :math:`n_b` in ``b``. With :math:`P` pairs that
    both order alike and :math:`Q` pairs that they order unlike, it is
    :math:`(P - Q) / \sqrt{(n_0 - n_a)(n_0 - n_b)}`. Time grows as :math:`C \log C`.

    Parameters
    ----------
    a, b
        Finite, of shape (B, C).

    Returns
    -------
    In float64, of shape (B,), on the device of ``a`` and ``b``, for which nothing waits.

    References
    ----------
    Knight, A computer method for calculating Kendall's tau with ungrouped data, Journal of the American Statistical
    Association 61, 1966.

    Examples
    --------
    >>> import torch
    >>> kendall(torch.tensor([[1.0, 2, 3], [1, 1, 1]]), torch.tensor([[1.0, 3, 2], [1, 2, 3]]))
    tensor([0.3333,    nan], dtype=torch.float64)
    """
    # sorting by b what is sorted by a, and that by a again, leaves pairs that are tied in either in order
    a, order = a.sort(dim=1)
    b, order = b.gather(1, order).sort(dim=1, stable=True)
    ties_b = _ties(_changes(b))
    a, order = a.gather(1, order).sort(dim=1, stable=True)
    b = b.gather(1, order)
    ties_a, ties_both = _ties(_changes(a)), _ties(_changes(a) | _changes(b))
    pairs = a.shape[1] * (a.shape[1] - 1) // 2
    surplus = pairs - ties_a - ties_b + ties_both - 2 * _inversions(order)
    tau = surplus.double() / (pairs - ties_a).double().sqrt() / (pairs - ties_b).double().sqrt()
    return tau.clamp(-1, 1)  # of rounding


def _changes(ordered: Tensor) -> Tensor:
    """Whether a value differs from that before it; the first does."""
    return torch.cat([torch.ones_like(ordered[:, :1], dtype=torch.bool), ordered[:, 1:] != ordered[:, :-1]], dim=1)


def _ties(changes: Tensor) -> Tensor:
    """Count pairs of equal values in each row: each value makes one with all before it in its run."""
    place = torch.arange(changes.shape[1], dtype=torch.int32, device=changes.device)
    return (place - torch.where(changes, place, 0).cummax(dim=1).values).sum(dim=1)


def _inversions(permutation: Tensor) -> Tensor:
    """Count the pairs of each row of permutations of 0, 1, … in which the larger comes first.

    Rows are sorted bit by bit, from the highest. What agrees in the bits above stands together, and in a permutation
    one knows where, so that each bit takes a single cumulative sum.
    """
    n = permutation.shape[1]
    place = torch.arange(n, dtype=torch.int32, device=permutation.device)
    values = permutation.to(torch.int32)
    overtaken = torch.zeros_like(values)
    for bit in reversed(range(max(n - 1, 0).bit_length())):
        high = (values >> bit) & 1
        start = (values >> (bit + 1)) << (bit + 1)
        # those in the group that come before with the bit set; of the numbers below the group half have it set
        before = high.cumsum(dim=1, dtype=torch.int32) - high - (start >> 1)
        overtaken += before * (1 - high)
        target = torch.where(high == 1, start + (1 << bit) + before, place - before)
        values = torch.empty_like(values).scatter_(1, target.long(), values)
    return overtaken.sum(dim=1)
