"""Encoders: what turns counts or images into the embedding that is trained on, frozen or trained along with it."""

from collections.abc import Callable
from typing import Any

from semiclip.encoders._files import Stored, load
from semiclip.encoders._image import ImageEncoder
from semiclip.encoders._network import MLPEncoder, build, network
from semiclip.encoders._pca import PCAEncoder
from semiclip.encoders._protocol import EmbedsImages, Encoder, Trainable
from semiclip.encoders._scgpt import ScGPTEncoder
from semiclip.encoders._scvi import SCVIEncoder

ENCODERS: dict[str, Callable[..., Any]] = {"pca": PCAEncoder, "scvi": SCVIEncoder, "scgpt": ScGPTEncoder}

__all__ = [
    "ENCODERS",
    "EmbedsImages",
    "Encoder",
    "ImageEncoder",
    "MLPEncoder",
    "PCAEncoder",
    "SCVIEncoder",
    "ScGPTEncoder",
    "Stored",
    "Trainable",
    "build",
    "load",
    "network",
]
