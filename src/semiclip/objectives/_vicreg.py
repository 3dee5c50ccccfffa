from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import mse_loss, relu

from semiclip._arguments import check_number
from semiclip.objectives._protocol import Objective, Spec

EPSILON = 1e-4  # keeps the slope of a standard deviation finite at zero


class Vicreg(Objective):
    r"""The loss of VICReg: nearness to the teacher, kept from collapse by variances and covariances.

    The loss is a weighted sum of three terms: the mean squared difference of the pairs; the mean over dimensions of
    :math:`\max(0, 1 - \sqrt{\operatorname{Var} + 10^{-4}})`, averaged over both sides; and the squared covariances of
    different dimensions, divided by their number and summed over both sides. Variances and covariances are unbiased and
    nothing is normalised. The variances and covariances of a frozen teacher are constants, which the value includes.

    Parameters
    ----------
    invariance, variance, covariance
        Weights of the three terms.

    References
    ----------
    Bardes et al. 2022, DOI 10.48550/arXiv.2105.04906.

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
