"""What encoders promise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from semiclip.errors import WrongShape
from semiclip.errors._base import remembered

if TYPE_CHECKING:
    from collections.abc import Collection
    from contextlib import AbstractContextManager

    import torch
    from anndata import AnnData


@runtime_checkable
class Encoder(Protocol):
    """Any object that embeds the observations of an AnnData."""

    def encode(self, adata: AnnData) -> np.ndarray:
        """Return an embedding of shape (n_obs, d); ``adata`` is not changed."""
        ...


class EmbedsImages(Protocol):
    """Any object that embeds an array of images, such as :class:`semiclip.encoders.ImageEncoder`."""

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return an embedding of shape (n, d) of images of shape (n, channels, height, width)."""
        ...


@runtime_checkable
class Trainable(Protocol):
    """A fitted encoder with a network that a model can train further, or from scratch.

    In evaluation mode, ``build(architecture)`` with the weights maps ``features(adata)`` to ``encode(adata)``.
    """

    @property
    def architecture(self) -> dict[str, Any]:
        """Plain values that JSON can hold, of which :func:`semiclip.encoders.build` makes the network."""
        ...

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Return the state dict of the network on the CPU, or ``None`` if the network starts from scratch."""
        ...

    def features(self, adata: AnnData) -> np.ndarray:
        """Return what the network reads, a new float32 array (n_obs, n_input); ``adata`` is not changed."""
        ...


def remembered_by(encoder: object, typed: Collection[str] = ()) -> AbstractContextManager[None]:
    """Let errors say of an encoder's settings that they come from it, but for those that a user has just typed."""
    return remembered("the encoder", [name for name in getattr(encoder, "__dict__", {}) if name not in typed])


def embed_checked(encoder: Encoder, adata: AnnData, typed: Collection[str] = (), **options: Any) -> np.ndarray:
    """Return the embedding by an encoder, which must be an array (n_obs, d)."""
    with remembered_by(encoder, typed):
        values = np.asarray(encoder.encode(adata, **options))
    if values.ndim != 2 or len(values) != adata.n_obs or values.shape[1] == 0:
        raise WrongShape("the embedding by the encoder", values.shape, f"({adata.n_obs}, d), a row per sample")
    return values
