from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from semiclip.objectives._semiclip import SemiClipped
from semiclip.objectives._spec import Spec

if TYPE_CHECKING:
    from semiclip.objectives._semiclip import Duplicates


class Clip(SemiClipped):
    r"""The loss of CLIP with an adapter on either side, so that the teacher gives way too.

    With :math:`s_{ij} = \cos(h_i, t_j) / \tau` the loss is the mean of two cross-entropies: of each student row among
    the teacher rows, and of each teacher row among the student rows. The teacher's adapter and the second direction set
    it apart from :class:`SemiClipped`.

    Parameters
    ----------
    temperature, duplicates
        As in :class:`SemiClipped`.
    symmetric
        ``False`` leaves out the direction from teacher to student.

    References
    ----------
    Radford et al. 2021, DOI 10.48550/arXiv.2103.00020.

    Examples
    --------
    >>> import torch
    >>> round(Clip()(torch.eye(4), torch.eye(4)).item(), 7)
    0.0001362
    """

    spec: ClassVar[Spec] = Spec(adapts_teacher=True)

    def __init__(
        self, *, temperature: float = 0.1, symmetric: bool = True, duplicates: Duplicates = "negative"
    ) -> None:
        super().__init__(temperature=temperature, symmetric=symmetric, duplicates=duplicates)
