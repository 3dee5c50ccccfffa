"""Augmentations of expression, the rivals of PEA: other expression of the same samples, to be encoded again."""

from collections.abc import Callable

from semiclip.augment._mdwgan_gp import MDWGANGP
from semiclip.augment._mwo import MWO
from semiclip.augment._protocol import Expression, ExpressionAugmentation
from semiclip.augment._scgft import ScGFT
from semiclip.augment._scvi import SCVIAugmentation

AUGMENTATIONS: dict[str, Callable[..., ExpressionAugmentation]]
AUGMENTATIONS = {"mwo": MWO, "scvi": SCVIAugmentation, "mdwgan_gp": MDWGANGP, "scgft": ScGFT}

__all__ = ["AUGMENTATIONS", "MDWGANGP", "MWO", "Expression", "ExpressionAugmentation", "SCVIAugmentation", "ScGFT"]
