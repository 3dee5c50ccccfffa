from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from semiclip._arguments import check_number
from semiclip.objectives._protocol import Objective


class SigLip(Objective):
    r"""The sigmoid loss of SigLIP: each pair of rows is judged by itself, as belonging together or not.

    With :math:`\ell_{ij} = e^{t'} \cos(h_i, t_j) + b` the loss is
    :math:`-\frac{1}{B} \sum_{ij} \log \sigma(z_{ij} \ell_{ij})`, where :math:`z_{ij}` is 1 if :math:`i = j` and -1
    otherwise. Scale and bias are learned.

    Parameters
    ----------
    scale
        Initial :math:`e^{t'}`.
    bias
        Initial :math:`b`, so low that the many pairs that do not belong together cost little at first.

    References
    ----------
    Zhai et al. 2023, DOI 10.48550/arXiv.2303.15343.

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
