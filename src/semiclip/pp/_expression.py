from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from semiclip._checks import check_adata, check_finite, check_writable
from semiclip._provenance import made_by, name_of, record
from semiclip.encoders import ENCODERS, Trainable
from semiclip.errors import WrongShape, WrongType

if TYPE_CHECKING:
    from anndata import AnnData


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
    genes in the encoder's order, so that each observation takes four bytes per gene;
    ``uns["semiclip"][key_added]["params"]`` says which encoder it is for.

    Raises
    ------
    WrongType, NotFitted
        If the object is not a trainable encoder, or not fitted.
    ValueError
        If the data have fewer genes than the encoder's ``min_overlap`` asks for, values are not what the encoder takes,
        or it has no network that can be trained.

    Examples
    --------
    >>> import semiclip as scl
    >>> study = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40, rng=0)
    >>> encoder = scl.encoders.MLPEncoder().fit(study.mdata["rna"])
    >>> scl.pp.expression(study.mdata["rna"], encoder=encoder)
    >>> study.mdata["rna"].obsm["X_expression"].shape
    (252, 40)
    """
    if isinstance(encoder, type) or not isinstance(encoder, Trainable):
        needed = "a fitted encoder with architecture, weights() and features(adata)"
        raise WrongType("encoder", type(encoder), needed, "scl.encoders.MLPEncoder().fit(adata) makes one")
    check_writable(check_adata(adata), key_added, copy=copy)
    needed_shape = (adata.n_obs, encoder.architecture["n_input"])
    features = np.asarray(encoder.features(adata))
    if features.shape != needed_shape:
        raise WrongShape(
            "what the encoder's features() returns", features.shape, f"{needed_shape}, as its network reads"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold is named next
        features = features.astype(np.float32, copy=False)
    check_finite(features, adata.obs_names, "expression")
    target = adata.copy() if copy else adata
    target.obsm[key_added] = features
    record(target, key_added, {"encoder": name_of(encoder, ENCODERS)}, **made_by(encoder))
    return target if copy else None
