"""Losses of the covariances of a mini-batch."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, relu

from semiclip._arguments import check_number, check_whole
from semiclip.objectives._protocol import Objective, Spec

EPSILON = 1e-4  # keeps the slope of a standard deviation finite at zero


class Vicreg(Objective):
    r"""The loss of VICReg: nearness to the teacher, kept from collapse by variances and covariances.

    The loss is a weighted sum of three terms: the mean squared difference of the pairs; the mean over dimensions of
    :math:`\max(0, 1 - \sqrt{\operatorname{Var} + 10^{-4}})`, averaged over both sides; and the squared covariances of
    different dimensions, divided by their number and summed over both sides. Variances and covariances are unbiased and
    nothing is normalised. The variances and covariances of a frozen teacher are constants, which the value includes.
    Source: Bardes et al. 2022, DOI 10.48550/arXiv.2105.04906.

    Parameters
    ----------
    invariance, variance, covariance
        Weights of the three terms.

    Examples
    --------
    >>> import torch
    >>> round(Vicreg()(torch.ones(4, 2), torch.ones(4, 2)).item(), 4)
    24.75
    """

    spec: ClassVar[Spec] = Spec(few_rows="one row alone has no variance")

    def __init__(self, *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        super().__init__()
        weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
        for name, weight in weights.items():
            check_number(name, weight, least=0)
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def min_batch_size(self, n_student: int, n_teacher: int) -> int:
        """Return the fewest rows that have a variance, 2."""
        return 2

    def forward(self, student: Tensor, teacher: Tensor, key: Tensor | None = None) -> Tensor:
        """Return the loss of ``student`` rows (B, d) paired with ``teacher`` rows (B, d), B at least 2."""
        self.check_rows(student, teacher)
        with torch.autocast(student.device.type, enabled=False):  # moments in half precision would be noise
            h, t = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (student, teacher))
            loss = self.invariance * mse_loss(h, t)
            for x in (h, t):
                centred = x - x.mean(dim=0)
                covariance = centred.T @ centred / (len(x) - 1)
                deviation = (covariance.diagonal() + EPSILON).sqrt()
                off_diagonal = covariance - torch.diag(covariance.diagonal())
                loss = loss + self.variance * relu(1 - deviation).mean() / 2
                loss = loss + self.covariance * off_diagonal.square().sum() / x.shape[1]
        return loss


class Dcca(Objective):
    r"""The loss of deep canonical correlation analysis: minus the sum of the canonical correlations of both sides.

    These are the singular values of :math:`S_{11}^{-1/2} S_{12} S_{22}^{-1/2}` with the covariances of the mini-batch,
    in float64, where :math:`\varepsilon` is added to the variances of each side. Invertible linear maps of either side
    do not change the loss, so that the embedding need not be like the teacher, row by row. Directions without any
    variance have no correlation. Source: Andrew et al. 2013, ICML, PMLR 28.

    Of a mini-batch of n rows at least :math:`\max(0, d_1 + d_2 - (n - 1))` canonical correlations are 1 whatever the
    data, so that n must be at least :math:`d_1 + d_2 + 2`. The fewer the rows, the more correlated is noise: losses of
    mini-batches of different sizes, such as those of training and validation, do not compare. A model therefore keeps
    few dimensions: its embedding has ``n_components``, and the teacher is reduced to as many principal components.

    Parameters
    ----------
    n_components
        Width of the embedding, at most that of the teacher; ``None`` is the width of the teacher.
    k
        Number of canonical correlations in the sum, the largest ones; ``None`` for all.
    epsilon
        :math:`\varepsilon`, in the unit of a variance.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> round(Dcca()(x, x @ torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)).item(), 3)
    -2.0
    """

    spec: ClassVar[Spec] = Spec(
        same_space=False,
        capturable=False,  # eigenvalues are iterated for, until the device says that they converged
        few_rows="with fewer than both widths and 2 more, canonical correlations are 1 whatever the data",
    )

    def __init__(self, *, n_components: int | None = 30, k: int | None = None, epsilon: float = 1e-6) -> None:
        super().__init__()
        for name, number in {"n_components": n_components, "k": k}.items():
            if number is not None:
                check_whole(name, number)
        check_number("epsilon", epsilon, least=0)
        self.n_components, self.k, self.epsilon = n_components, k, epsilon

    def width(self, n_teacher: int) -> int:
        """Return ``n_components``, or the width of a teacher that has fewer."""
        return n_teacher if self.n_components is None else min(self.n_components, n_teacher)

    def min_batch_size(self, n_student: int, n_teacher: int) -> int:
        """Return the fewest rows for which not all correlations are 1 by chance, the sum of the widths and 2."""
        return n_student + n_teacher + 2

    def forward(self, student: Tensor, teacher: Tensor, key: Tensor | None = None) -> Tensor:
        """Return the loss of ``student`` rows (B, d) paired with ``teacher`` rows (B, D), B at least d + D + 2."""
        self.check_rows(student, teacher)
        loss = -correlations(student, teacher, self.epsilon)[: self.k].sum()
        return loss.to(torch.promote_types(student.dtype, torch.float32))


def correlations(student: Tensor, teacher: Tensor, epsilon: float) -> Tensor:
    """Return the canonical correlations of paired rows, descending and in float64; their sums can be differentiated."""
    h, g = (x.double() - x.double().mean(dim=0) for x in (student, teacher))
    n = len(h) - 1
    with torch.autocast(h.device.type, enabled=False):
        s11, s22, s12 = h.T @ h / n, g.T @ g / n, h.T @ g / n
        with torch.no_grad():
            root1, root2 = _inverse_root(s11, epsilon), _inverse_root(s22, epsilon)
            u, sigma, vh = torch.linalg.svd(root1 @ s12 @ root2, full_matrices=False)
            left, right = root1 @ u, root2 @ vh.T
        # the derivative of each singular value, finite also where some are equal; the values of its terms cancel out
        # but for that of epsilon
        between = (left * (s12 @ right)).sum(dim=0)
        within = (left * (s11 @ left)).sum(dim=0) + (right * (s22 @ right)).sum(dim=0)
        slope = between - sigma / 2 * within
    return sigma + slope - slope.detach()


def _inverse_root(covariance: Tensor, epsilon: float) -> Tensor:
    """Return the inverse square root of a covariance plus ``epsilon``, zero in directions that have neither."""
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp(min=0) + epsilon
    least = values[-1:] * len(values) * torch.finfo(values.dtype).eps
    kept = values > least
    return vectors * torch.where(kept, values, 1).rsqrt().mul(kept) @ vectors.T
