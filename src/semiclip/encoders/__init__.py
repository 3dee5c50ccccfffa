"""Encoders: what turns counts into the embedding that an adapter is trained on, frozen or trained along with it."""

from semiclip.encoders._mlp import MLPEncoder
from semiclip.encoders._network import network
from semiclip.encoders._pca import PCAEncoder
from semiclip.encoders._protocol import Encoder, Trainable
from semiclip.encoders._scvi import SCVIEncoder

ENCODERS: dict[str, type[PCAEncoder] | type[SCVIEncoder]] = {"pca": PCAEncoder, "scvi": SCVIEncoder}

__all__ = ["ENCODERS", "Encoder", "MLPEncoder", "PCAEncoder", "SCVIEncoder", "Trainable", "network"]
