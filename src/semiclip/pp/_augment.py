from __future__ import annotations

from inspect import signature
from itertools import product
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._checks import arguments, batches, controls, finite_rows, nonempty, own_labels, some, writable
from semiclip._pairing import columns_of, keys_of
from semiclip._provenance import made_by, name_of, record
from semiclip.augment import AUGMENTATIONS, Expression, ExpressionAugmentation
from semiclip.encoders import ENCODERS, Encoder
from semiclip.encoders._protocol import counts, embedded, warned_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anndata import AnnData

BLOCK, BLOCK_VALUES = 4096, 2**24  # samples, and values of theirs, that are dense at a time


def augment(
    adata: AnnData,
    augmentation: str | ExpressionAugmentation,
    *,
    encoder: Encoder,
    pair_on: str | Sequence[str],
    control: str | Sequence[str] | None,
    perturbation_key: str | None = None,
    batch_key: str | None = None,
    split_key: str | None = None,
    n_views: int = 4,
    key_added: str | None = None,
    layer: str | None = None,
    normalize: bool | None = None,
    rng: int | np.random.Generator | None = None,
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
    split_key
        ``obs`` column of what training shall hold out in whole, such as the experiment, as in the setup of the model:
        its groups are then never mixed. Augmentations with a model of expression (``"scvi"``,
        ``"mdwgan_gp"``) are fitted on all samples even so, as a frozen encoder is.
    n_views
        Embeddings of each sample.
    key_added
        Where in ``obsm`` the views go; by default that of the embedding and the augmentation, such as ``"X_pca_mwo"``.
    layer
        Layer that holds the expression; the one that the encoder reads if ``None``. The encoder finds what was drawn
        in the layer that it reads, or else in ``X``.
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
        arguments(kind, augmentation_kwargs, f"augmentation={augmentation!r}")
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
    if not isinstance(n_views, Integral) or n_views < 1:
        msg = f"n_views={n_views!r} is not a whole number of at least 1"
        raise ValueError(msg)
    key_added = key_added or f"X_{name_of(encoder, ENCODERS)}_{name}"
    writable(nonempty(adata), key_added)
    if key_added in adata.obsm and np.ndim(adata.obsm[key_added]) != 3:
        msg = f"key_added={key_added!r} would overwrite what is no augmented view; choose another name"
        raise ValueError(msg)
    layer = getattr(encoder, "layer", None) if layer is None else layer
    normalize = bool(getattr(encoder, "normalize", True)) if normalize is None else normalize
    batch, batch_names = batches(adata, batch_key)
    treated = ~controls(adata, perturbation_key, own_labels(adata, perturbation_key, control))
    group = keys_of(adata, [*columns_of(pair_on), *([split_key] if split_key else [])], treated)
    expression = Expression(
        counts(adata, layer), group, batch, adata.var_names, batch_names.tolist(), normalize=normalize
    )
    generator = np.random.default_rng(rng)
    chosen.fit(expression, generator)
    with warned_once():
        views = _views(adata, expression, chosen, encoder, n_views, generator, progress_bar=progress_bar)
    finite_rows(views.reshape(adata.n_obs, -1), adata.obs_names, "the views")
    adata.obsm[key_added] = views
    keys = {"pair_on": pair_on, "control": control, "perturbation_key": perturbation_key, "batch_key": batch_key}
    how = {"split_key": split_key, "layer": layer, "normalize": normalize, "n_views": n_views, "rng": rng}
    params = {"augmentation": name, "encoder": name_of(encoder, ENCODERS), **keys, **how, **augmentation_kwargs}
    record(adata, key_added, params, **made_by(encoder))
    return chosen


def _views(
    adata: AnnData,
    expression: Expression,
    augmentation: ExpressionAugmentation,
    encoder: Encoder,
    n_views: int,
    rng: np.random.Generator,
    *,
    progress_bar: bool,
) -> np.ndarray:
    from tqdm.auto import tqdm

    def encoded(rows: np.ndarray, values: Any) -> np.ndarray:
        return embedded(encoder, _like(adata, rows, values, getattr(encoder, "layer", None)))

    one = np.arange(1)
    views = np.empty((adata.n_obs, n_views, encoded(one, expression.values[one]).shape[1]), dtype=np.float32)
    size = max(1, min(BLOCK, BLOCK_VALUES // expression.n_genes))
    for rows in _blocks(np.flatnonzero(expression.group < 0), size):
        views[rows] = encoded(rows, expression.values[rows])[:, None]
    rounding = rng if expression.whole else None
    blocks = _blocks(np.flatnonzero(expression.group >= 0), size)
    for view, rows in tqdm([*product(range(n_views), blocks)], disable=not progress_bar or None, desc="augment"):
        drawn = augmentation.draw(rows, rng)
        if drawn.shape != (needed := (len(rows), expression.n_genes)):
            msg = f"the augmentation drew shape {drawn.shape} for {len(rows)} samples, but {needed} is needed"
            raise ValueError(msg)
        views[rows, view] = encoded(rows, expression.restore(rows, drawn, rounding))
    return views


def _blocks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def _like(adata: AnnData, rows: np.ndarray, values: Any, layer: str | None) -> AnnData:
    """Make an AnnData of some rows with other values, where the encoder looks for them."""
    from anndata import AnnData

    layers = {} if layer is None else {layer: values}
    return AnnData(values, obs=adata.obs.iloc[rows], var=adata.var, layers=layers)
