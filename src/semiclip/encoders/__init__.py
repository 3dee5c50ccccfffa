"""Frozen encoders: what turns counts into the embedding that an adapter is trained on."""

from semiclip.encoders._pca import PCAEncoder
from semiclip.encoders._protocol import Encoder
from semiclip.encoders._scvi import SCVIEncoder

ENCODERS: dict[str, type[PCAEncoder] | type[SCVIEncoder]] = {"pca": PCAEncoder, "scvi": SCVIEncoder}

__all__ = ["ENCODERS", "Encoder", "PCAEncoder", "SCVIEncoder"]
