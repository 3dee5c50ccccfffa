from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._checks import arguments, finite_rows, nonempty, some, writable
from semiclip._provenance import made_by, name_of, record
from semiclip.encoders import ENCODERS, Encoder
from semiclip.encoders._protocol import embedded, warned_once

if TYPE_CHECKING:
    from anndata import AnnData

ELSEWHERE = {
    "mlp": "lay out scl.encoders.MLPEncoder().fit(adata) with scl.pp.expression and train it with the adapter, by "
    "scl.tl.semiclip(..., model_kwargs={'encoder': mlp})",
    "image": "for a table of image files there is scl.pp.images",
    "profiles": "for a table of features there is scl.pp.profiles",
}


def encode(
    adata: AnnData, *, encoder: str | Encoder = "scvi", key_added: str | None = None, **encoder_kwargs: Any
) -> Encoder:
    """Embed expression with an encoder that stays frozen afterwards.

    Parameters
    ----------
    adata
        Expression; raw counts for ``"scvi"``.
    encoder
        ``"scvi"`` or ``"pca"`` to fit one on ``adata``, ``"scgpt"`` to read a published one (``checkpoint=folder``), or
        an encoder that is ready: one that an earlier call or :func:`semiclip.encoders.load` returned, or any object
        with ``encode(adata) -> array of shape (n_obs, d)``.
    key_added
        Where in ``obsm`` the embedding goes, ``"X_scvi"``, ``"X_pca"`` or ``"X_scgpt"`` by default; needed for your own
        encoder.
    **encoder_kwargs
        Arguments of :class:`~semiclip.encoders.SCVIEncoder`, :class:`~semiclip.encoders.PCAEncoder` or
        :class:`~semiclip.encoders.ScGPTEncoder`.

    Returns
    -------
    The fitted encoder, with which to embed other data in the same space. ``obsm[key_added]`` holds the embedding,
    float32 of shape (n_obs, d), and ``uns["semiclip"][key_added]["params"]`` how it was made.
    Beside the latter is the ``"fingerprint"`` of an encoder of this package, by which a trained model knows whether
    other data are embedded with the same one.

    Raises
    ------
    ValueError
        If the encoder is unknown, genes that it needs are missing or its embedding is not finite.
    TypeError
        If the object has no ``encode``, arguments are missing or unknown, or given for an encoder that is already
        fitted.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40)
    >>> encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=10)
    >>> encoder = scl.pp.encode(study.knockouts["rna"], encoder=encoder)
    >>> study.knockouts["rna"].obsm["X_pca"].shape
    (312, 10)
    """
    if isinstance(encoder, str) and encoder in ELSEWHERE:
        msg = f"encoder={encoder!r} is not fitted on expression alone; {ELSEWHERE[encoder]}"
        raise ValueError(msg)
    if isinstance(encoder, str) and encoder not in ENCODERS:
        msg = f"encoder={encoder!r} is not one of {some(ENCODERS)}; for embeddings made elsewhere write them to obsm"
        raise ValueError(msg)
    if isinstance(encoder, str):
        arguments(ENCODERS[encoder], encoder_kwargs, f"encoder={encoder!r}")
    if not isinstance(encoder, str | Encoder) or isinstance(encoder, type):
        msg = f"encoder is a {type(encoder).__name__} without encode(adata); pass such an object, or {some(ENCODERS)}"
        raise TypeError(msg)
    if encoder_kwargs and not isinstance(encoder, str):
        msg = f"the encoder is already fitted, so {some(encoder_kwargs)} would have no effect"
        raise TypeError(msg)
    name = encoder if isinstance(encoder, str) else name_of(encoder, ENCODERS)
    if key_added is None and name not in ENCODERS:
        msg = f"key_added= is needed for an encoder of type {type(encoder).__name__}"
        raise ValueError(msg)
    key_added = key_added or f"X_{name}"
    writable(nonempty(adata), key_added)
    with warned_once():
        fitted = ENCODERS[encoder](**encoder_kwargs).fit(adata) if isinstance(encoder, str) else encoder
        values = embedded(fitted, adata)
    with np.errstate(over="ignore"):  # what float32 cannot hold is named next
        embedding = values.astype(np.float32, copy=False)
    finite_rows(embedding, adata.obs_names, "the embedding")
    adata.obsm[key_added] = embedding
    record(adata, key_added, {"encoder": name, **encoder_kwargs}, **made_by(fitted))
    return fitted
