from inspect import signature
from typing import Any

import numpy as np
from anndata import AnnData

from semiclip._arguments import check_arguments
from semiclip._checks import check_adata, check_finite, check_writable
from semiclip._messages import warn_once
from semiclip._provenance import made_by, name_of, record
from semiclip.encoders import ENCODERS, Encoder, Trainable
from semiclip.encoders._protocol import embed_checked, remembered_by
from semiclip.errors import BadValue, Conflict, IdleArgument, UnknownChoice, WrongShape, WrongType

ELSEWHERE = {
    "mlp": "lay out scl.encoders.MLPEncoder().fit(adata) with scl.pp.expression and train it with the adapter, by "
    "scl.tl.semiclip(..., model_kwargs={'encoder': mlp})",
    "image": "for a table of image files there is scl.io.images",
    "profiles": "for a table of features there is scl.io.profiles",
}


def encode(
    adata: AnnData,
    *,
    encoder: str | Encoder = "pca",
    key_added: str | None = None,
    zscores: bool = False,
    **encoder_kwargs: Any,
) -> Encoder:
    """Embed expression with an encoder that stays frozen afterwards, and return the encoder.

    Parameters
    ----------
    adata
        Expression; raw counts, unless ``normalize=False`` or ``zscores=True`` says otherwise.
    encoder
        ``"pca"`` or ``"scvi"`` to fit one on ``adata``, ``"scgpt"`` to read a published one (``checkpoint=folder``), or
        an encoder that is ready: one that an earlier call or :func:`semiclip.encoders.load` returned, or any object
        with ``encode(adata) -> array of shape (n_obs, d)``. PCA takes seconds; scVI trains a network for minutes.
    key_added
        Key of the embedding in ``obsm``, by default ``"X_pca"``, ``"X_scvi"`` or ``"X_scgpt"``; needed for your own
        encoder.
    zscores
        Whether expression is z-scores of each gene, to be embedded by a :class:`~semiclip.encoders.PCAEncoder` that was
        fitted on other data. Such data, like those of L1000, often lack many genes: allow it first by
        ``encoder.min_overlap``. To fit on z-scores, pass ``encoder="pca", normalize=False`` instead.
    **encoder_kwargs
        Arguments of :class:`~semiclip.encoders.PCAEncoder`, :class:`~semiclip.encoders.SCVIEncoder` or
        :class:`~semiclip.encoders.ScGPTEncoder`.

    Returns
    -------
    The fitted encoder, with which to embed other data in the same space. ``obsm[key_added]`` holds the embedding,
    float32 of shape (n_obs, d), ``uns["semiclip"][key_added]`` how it was made (``"params"``) and, of an encoder of
    this package, the ``"fingerprint"`` by which a trained model knows whether other data are embedded with the same.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40, rng=0)
    >>> encoder = scl.pp.encode(study.mdata["rna"], n_components=10)
    >>> encoder = scl.pp.encode(study.knockouts["rna"], encoder=encoder)
    >>> study.knockouts["rna"].obsm["X_pca"].shape
    (312, 10)
    """
    if isinstance(encoder, str):
        if encoder not in ENCODERS:
            raise UnknownChoice("encoder", encoder, ENCODERS, ELSEWHERE.get(encoder, "write other embeddings to obsm"))
        others = {
            f"encoder={name!r}": list(signature(kind).parameters) for name, kind in ENCODERS.items() if name != encoder
        }
        check_arguments(ENCODERS[encoder], encoder_kwargs, f"encoder={encoder!r}", homes=others)
    elif not isinstance(encoder, Encoder) or isinstance(encoder, type):
        raise WrongType("encoder", type(encoder), f"an object with encode(adata), or one of {', '.join(ENCODERS)}")
    elif encoder_kwargs:
        raise IdleArgument(list(encoder_kwargs), "with an encoder that is fitted already")
    name = encoder if isinstance(encoder, str) else name_of(encoder, ENCODERS)
    if key_added is None and name not in ENCODERS:
        raise BadValue("key_added", None, f"named for an encoder of type {type(encoder).__name__}")
    if zscores and isinstance(encoder, str):
        raise Conflict("zscores=True", "an encoder that is fitted on them", "pass normalize=False to encoder='pca'")
    if zscores and "zscores" not in signature(encoder.encode).parameters:  # a string has gone before
        raise BadValue("zscores", zscores, f"False for an encoder of type {type(encoder).__name__}", "fit a PCAEncoder")
    key_added = key_added or f"X_{name}"
    check_writable(check_adata(adata), key_added)
    with warn_once():
        fitted = ENCODERS[encoder](**encoder_kwargs).fit(adata) if isinstance(encoder, str) else encoder
        values = embed_checked(fitted, adata, encoder_kwargs, **({"zscores": True} if zscores else {}))
    adata.obsm[key_added] = _as_float32(values, adata, "the embedding")
    params = {"encoder": name, **encoder_kwargs, **({"zscores": True} if zscores else {})}
    record(adata, key_added, params, **made_by(fitted, adata, key_added))
    return fitted


def expression(
    adata: AnnData, *, encoder: Trainable, key_added: str = "X_expression", copy: bool = False
) -> AnnData | None:
    """Write expression as an encoder's network reads it, for a model that trains this encoder.

    :func:`encode` writes an embedding by an encoder that stays frozen; this writes what comes before it.

    Parameters
    ----------
    adata
        Expression with the genes that the encoder was fitted on.
    encoder
        A fitted encoder with a network: :class:`~semiclip.encoders.SCVIEncoder`,
        :class:`~semiclip.encoders.PCAEncoder`, :class:`~semiclip.encoders.MLPEncoder`,
        :class:`~semiclip.encoders.ScGPTEncoder` or your own :class:`~semiclip.encoders.Trainable`.
    key_added
        Key of the result in ``obsm``.
    copy
        Return a copy with the result instead of writing into ``adata``.

    Returns
    -------
    ``None``, or the copy. ``obsm[key_added]`` holds the expression, dense float32 of shape (n_obs, n_genes) with the
    genes in the encoder's order; ``uns["semiclip"][key_added]["params"]`` says which encoder it is for.

    Raises
    ------
    ValueError
        If the data have fewer genes than the encoder's ``min_overlap`` asks for, values are not what the encoder takes,
        or it has no network that can be trained.

    Examples
    --------
    >>> import semiclip as scl
    >>> rna = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40, rng=0).mdata["rna"]
    >>> scl.pp.expression(rna, encoder=scl.encoders.MLPEncoder().fit(rna))
    >>> rna.obsm["X_expression"].shape
    (252, 40)
    """
    if isinstance(encoder, type) or not isinstance(encoder, Trainable):
        needed = "a fitted encoder with architecture, weights() and features(adata)"
        raise WrongType("encoder", type(encoder), needed, "scl.encoders.MLPEncoder().fit(adata) makes one")
    check_writable(check_adata(adata), key_added, copy=copy)
    shape = (adata.n_obs, encoder.architecture["n_input"])
    with remembered_by(encoder):
        features = np.asarray(encoder.features(adata))
    if features.shape != shape:
        raise WrongShape("what the encoder's features() returns", features.shape, f"{shape}, as its network reads")
    features = _as_float32(features, adata, "expression")
    target = adata.copy() if copy else adata
    target.obsm[key_added] = features
    record(target, key_added, {"encoder": name_of(encoder, ENCODERS)}, **made_by(encoder, target, key_added))
    return target if copy else None


def _as_float32(values: np.ndarray, adata: AnnData, what: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # what float32 cannot hold is named next
        values = values.astype(np.float32, copy=False)
    check_finite(values, adata.obs_names, what)
    return values
