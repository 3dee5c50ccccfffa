from __future__ import annotations

from inspect import signature
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._checks import batches, controls, finite_rows, nonempty, some, writable
from semiclip._pairing import keys_of
from semiclip._record import name_of, record
from semiclip.augment import AUGMENTATIONS, Expression, ExpressionAugmentation
from semiclip.encoders import ENCODERS, Encoder
from semiclip.encoders._protocol import counts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

BLOCK = 4096  # samples that are dense at a time


def augment(
    adata: AnnData,
    augmentation: str | ExpressionAugmentation,
    *,
    encoder: Encoder,
    pair_on: str | Sequence[str],
    control: str | Sequence[str] | None,
    perturbation_key: str | None = None,
    batch_key: str | None = None,
    n_views: int = 4,
    key_added: str | None = None,
    layer: str | None = None,
    normalize: bool | None = None,
    rng: int | np.random.Generator | None = 0,
    progress_bar: bool = True,
    **augmentation_kwargs: Any,
) -> ExpressionAugmentation:
    """Augment expression, encode it again, and keep the embeddings as views for training.

    The rivals of PEA: where PEA changes an embedding while a model is trained, these change what it is an embedding of.
    Their views are made once and drawn from by ``train(augment=key_added)``.

    Parameters
    ----------
    adata
        Expression of the student modality, as ``encoder`` reads it.
    augmentation
        ``"mwo"``, ``"scvi"``, ``"mdwgan_gp"``, ``"scgft"``, see :data:`semiclip.augment.AUGMENTATIONS`, or an
        :class:`~semiclip.augment.ExpressionAugmentation` of your own.
    encoder
        The fitted, frozen encoder of the embedding that a model is to be trained on.
    pair_on, control, perturbation_key, batch_key
        ``obs`` columns and labels as in :meth:`semiclip.model.SemiClip.setup_mudata`. Samples of one key are a group
        that an augmentation may mix or generate for; controls are not augmented.
    n_views
        Embeddings of each sample.
    key_added
        Where in ``obsm`` the views go; by default that of the embedding and the augmentation, such as ``"X_pca_mwo"``.
    layer
        Layer that holds the expression; the one that the encoder reads if ``None``.
    normalize
        Whether expression is counts, which are augmented as log1p of 10,000 counts of each sample and turned back to
        its own number of counts, or values normalised already; what the encoder reads if ``None``.
    rng
        Seed of all draws.
    progress_bar
        Whether to show progress.
    **augmentation_kwargs
        Arguments of the augmentation.

    Returns
    -------
    The fitted augmentation. ``obsm[key_added]`` holds the views, float32 of shape (n_obs, n_views, d), where those of a
    control are its plain embedding, and ``uns["semiclip"][key_added]["params"]`` how they were made.

    Raises
    ------
    KeyError, ValueError, TypeError
        If the data are not as described or the encoder or the augmentation is none; nothing is written then.

    References
    ----------
    Bendidi et al., ICML 2025, Figure 2b, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import semiclip as scl
    >>> rna = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40).mdata["rna"]
    >>> encoder = scl.pp.encode(rna, encoder="pca", n_components=10)
    >>> keys = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "control"}
    >>> augmentation = scl.pp.augment(rna, "mwo", encoder=encoder, **keys, batch_key="batch", progress_bar=False)
    >>> rna.obsm["X_pca_mwo"].shape
    (252, 4, 10)
    """
    if isinstance(augmentation, str):
        if augmentation not in AUGMENTATIONS:
            msg = f"augmentation={augmentation!r} is not one of {some(AUGMENTATIONS)}"
            raise ValueError(msg)
        kind = AUGMENTATIONS[augmentation]
        switch = {"progress_bar": progress_bar} if "progress_bar" in signature(kind).parameters else {}
        name, chosen = augmentation, kind(**{**switch, **augmentation_kwargs})
    else:
        name, chosen = name_of(augmentation, AUGMENTATIONS), augmentation
        if not isinstance(augmentation, ExpressionAugmentation) or isinstance(augmentation, type):
            msg = f"augmentation is a {name} without fit and draw; pass such an object, or one of {some(AUGMENTATIONS)}"
            raise TypeError(msg)
        if augmentation_kwargs:
            msg = f"the augmentation is made already, so {some(augmentation_kwargs)} would have no effect"
            raise TypeError(msg)
    if not isinstance(encoder, Encoder) or isinstance(encoder, type | str):
        msg = f"encoder is a {type(encoder).__name__} without encode(adata); pass what scl.pp.encode returned"
        raise TypeError(msg)
    if n_views < 1:
        msg = f"n_views={n_views} must be at least 1"
        raise ValueError(msg)
    key_added = key_added or f"X_{name_of(encoder, ENCODERS)}_{name}"
    writable(nonempty(adata), key_added)
    layer = getattr(encoder, "layer", None) if layer is None else layer
    normalize = bool(getattr(encoder, "normalize", True)) if normalize is None else normalize
    batch, batch_names = batches(adata, batch_key)
    group = np.where(controls(adata, perturbation_key, control), -1, keys_of(adata, pair_on))
    expression = Expression(
        counts(adata, layer), group, batch, adata.var_names, batch_names.tolist(), normalize=normalize
    )
    rng = np.random.default_rng(rng)
    chosen.fit(expression, rng)
    views = _views(adata, expression, chosen, encoder, layer, n_views, rng, progress_bar=progress_bar)
    finite_rows(views.reshape(adata.n_obs, -1), adata.obs_names, "the views")
    adata.obsm[key_added] = views
    params = {"augmentation": name, "encoder": name_of(encoder, ENCODERS), "n_views": n_views, **augmentation_kwargs}
    record(adata, key_added, params)
    return chosen


def _views(
    adata: AnnData,
    expression: Expression,
    augmentation: ExpressionAugmentation,
    encoder: Encoder,
    layer: str | None,
    n_views: int,
    rng: np.random.Generator,
    *,
    progress_bar: bool,
) -> np.ndarray:
    from tqdm.auto import tqdm

    def encoded(rows: np.ndarray, values: Any) -> np.ndarray:
        found = np.asarray(encoder.encode(_like(adata, rows, values, layer)))
        if found.ndim != 2 or len(found) != len(rows) or found.shape[1] == 0:
            msg = f"the encoder returned shape {found.shape} for {len(rows)} observations; (n_obs, d) is needed"
            raise ValueError(msg)
        return found

    one = np.arange(1)
    views = np.empty((adata.n_obs, n_views, encoded(one, expression.values[one]).shape[1]), dtype=np.float32)
    for rows in _blocks(np.flatnonzero(expression.group < 0)):
        views[rows] = encoded(rows, expression.values[rows])[:, None]
    rounding = rng if expression.whole else None
    blocks = _blocks(np.flatnonzero(expression.group >= 0))
    for view, rows in tqdm([*product(range(n_views), blocks)], disable=not progress_bar or None, desc="augment"):
        drawn = augmentation.draw(rows, rng)
        if drawn.shape != (needed := (len(rows), expression.n_genes)):
            msg = f"the augmentation drew shape {drawn.shape} for {len(rows)} samples, but {needed} is needed"
            raise ValueError(msg)
        views[rows, view] = encoded(rows, expression.restore(rows, drawn, rounding))
    return views


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[first : first + BLOCK] for first in range(0, len(rows), BLOCK)]


def _like(adata: AnnData, rows: np.ndarray, values: Any, layer: str | None) -> AnnData:
    """Make an AnnData of some rows with other values, where the encoder looks for them."""
    from anndata import AnnData

    layers = None if layer is None else {layer: values}
    var = pd.DataFrame(index=adata.var_names)
    return AnnData(values if layer is None else None, obs=adata.obs.iloc[rows], var=var, layers=layers)
