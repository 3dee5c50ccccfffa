from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.nn.functional import mse_loss, relu

from semiclip.objectives._protocol import enough_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

EPSILON = 1e-4  # keeps the slope of a standard deviation finite at zero


class Vicreg(nn.Module):
    r"""The loss of VICReg: nearness to the teacher, kept from collapse by variances and covariances.

    A weighted sum of three terms: the mean squared difference of the pairs; the mean over dimensions of
    :math:`\max(0, 1 - \sqrt{\operatorname{Var} + 10^{-4}})`, averaged over both sides; and the squared covariances of
    different dimensions, divided by their number and summed over both sides. Variances and covariances are unbiased and
    nothing is normalised. Of a frozen teacher the last two are constants, which belong to the value none the less.

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

    needs_labels: ClassVar[bool] = False
    adapts_teacher: ClassVar[bool] = False
    frozen: ClassVar[tuple[str, ...]] = ()
    same_space: ClassVar[bool] = True
    capturable: ClassVar[bool] = True
    few_rows: ClassVar[str] = "one row alone has no variance"
    profiles: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "default": {"lr": 0.003},
        "paper": {"lr": 0.1, "min_lr": 1e-10},
    }

    def __init__(self, *, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        super().__init__()
        weights = {"invariance": invariance, "variance": variance, "covariance": covariance}
        for name, weight in weights.items():
            if not weight >= 0:
                msg = f"{name}={weight} must not be negative"
                raise ValueError(msg)
        self.invariance, self.variance, self.covariance = invariance, variance, covariance

    def width(self, n_teacher: int) -> int:
        """Return the width of the teacher."""
        return n_teacher

    def min_batch_size(self, n_student: int, n_teacher: int) -> int:
        """Return 2."""
        return 2

    def forward(self, student: Tensor, teacher: Tensor, key: Tensor | None = None) -> Tensor:
        """Return the loss of ``student`` rows (B, d) paired with ``teacher`` rows (B, d), B at least 2."""
        enough_rows(self, student, teacher)
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
