from __future__ import annotations

from inspect import signature
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._arguments import check_arguments, check_choice, check_whole
from semiclip._checks import check_adata, check_finite, check_writable
from semiclip._design import Design
from semiclip._docs import document
from semiclip._messages import warn_once
from semiclip._numerics import row_blocks, rows_at_once
from semiclip._pairing import key_codes
from semiclip._provenance import made_by, name_of, record
from semiclip.augment import AUGMENTATIONS, Expression, ExpressionAugmentation
from semiclip.encoders import ENCODERS, Encoder
from semiclip.encoders._expression import read_counts, warn_unless_counts
from semiclip.encoders._protocol import embed_checked, remembered_by
from semiclip.errors import BadValue, IdleArgument, NameTaken, WrongShape, WrongType, some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

BLOCK, BLOCK_VALUES = 4096, 2**24  # samples, and values of theirs, that are dense at a time


@document
def augment(
    adata: AnnData,
    augmentation: str | ExpressionAugmentation,
    *,
    encoder: Encoder,
    pair_on: str | Sequence[str],
    perturbation_key: str | None = None,
    control: str | Sequence[str] | None,
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
    """Return the fitted augmentation, after augmenting expression, encoding it again and keeping the embeddings.

    These are the rivals of PEA (Bendidi et al., ICML 2025, Figure 2b, DOI 10.48550/arXiv.2505.21317): where PEA changes
    an embedding while a model is trained, they change the expression that is embedded. Their views are made once, and
    ``train(views=key_added)`` draws from them. If anything is refused, nothing is written.

    Parameters
    ----------
    adata
        Expression of the student modality, as ``encoder`` reads it.
    augmentation
        ``"mwo"``, ``"scvi"``, ``"mdwgan_gp"``, ``"scgft"``, see :data:`semiclip.augment.AUGMENTATIONS`, or an
        :class:`~semiclip.augment.ExpressionAugmentation` of your own.
    encoder
        The fitted, frozen encoder of the embedding that a model is to be trained on.
    pair_on
        ``obs`` column or columns of the pairing key. Samples of one key are a group that an augmentation may mix or
        generate for; controls are not augmented.
    {columns}
    split_key
        ``obs`` column whose groups, such as experiments, training holds out whole. They are then never mixed, but
        ``"scvi"`` and ``"mdwgan_gp"``, which model expression, are fitted on all samples, as a frozen encoder is.
    n_views
        Embeddings of each sample.
    key_added
        Key of ``obsm`` for the views; by default the names of the embedding and the augmentation, such as
        ``"X_pca_mwo"``.
    layer
        Layer that holds the expression; ``None`` is the one that the encoder reads.
    normalize
        Whether expression is counts, which are augmented as log1p of 10,000 counts of each sample and turned back to
        its own number of counts, or values normalised already. ``None`` is what the encoder reads.
    rng, progress_bar
        Seed of all draws, and whether to show progress.
    **augmentation_kwargs
        Arguments of the augmentation.

    Returns
    -------
    The fitted augmentation. ``obsm[key_added]`` holds the views side by side, float32 of shape (n_obs, n_views * d);
    every view of a control is its plain embedding. ``uns["semiclip"][key_added]["params"]`` says how they were made.

    Examples
    --------
    >>> import semiclip as scl
    >>> rna = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40, rng=0).mdata["rna"]
    >>> encoder = scl.pp.encode(rna, encoder="pca", n_components=10)
    >>> keys = {"pair_on": ["perturbation", "dose"], "perturbation_key": "perturbation", "control": "control"}
    >>> augmentation = scl.pp.augment(rna, "mwo", encoder=encoder, **keys, progress_bar=False)
    >>> rna.obsm["X_pca_mwo"].shape
    (252, 40)
    """
    design = Design.of(
        perturbation_key=perturbation_key, control=control, batch_key=batch_key, pair_on=pair_on, split_key=split_key
    )
    if design.pair_on is None:
        raise BadValue("pair_on", None, "one or more obs columns")
    name, chosen = _make(augmentation, augmentation_kwargs, progress_bar=progress_bar)
    if not isinstance(encoder, Encoder) or isinstance(encoder, type | str):
        raise WrongType("encoder", type(encoder), "a fitted encoder", "pass what scl.pp.encode returned")
    check_whole("n_views", n_views)
    key_added = key_added or f"X_{name_of(encoder, ENCODERS)}_{name}"
    check_writable(check_adata(adata), key_added)
    recorded = adata.uns.get("semiclip", {}).get(key_added, {}).get("params", {})
    if key_added in adata.obsm and "n_views" not in recorded:
        raise NameTaken(key_added, "an embedding that is no augmented view")
    typed = () if layer is None else ("layer",)
    layer = getattr(encoder, "layer", None) if layer is None else layer
    normalize = bool(getattr(encoder, "normalize", True)) if normalize is None else normalize
    batch, batch_names = design.batches(adata)
    treated = ~design.within(adata).controls(adata)
    group = key_codes(adata, [*design.pair_on, *([split_key] if split_key else [])], treated)
    with remembered_by(encoder, typed):
        values = read_counts(adata, layer)
    generator = np.random.default_rng(rng)
    with warn_once():
        if normalize:
            warn_unless_counts(values, adata, layer)  # which knows more than what is augmented and encoded below
        expression = Expression(values, group, batch, adata.var_names, batch_names.tolist(), normalize=normalize)
        chosen.fit(expression, generator)
        views = _draw_views(adata, expression, chosen, encoder, n_views, generator, progress_bar=progress_bar)
    check_finite(views, adata.obs_names, "the views")
    adata.obsm[key_added] = views
    options = {"layer": layer, "normalize": normalize, "n_views": n_views, "rng": rng, **augmentation_kwargs}
    params = {"augmentation": name, "encoder": name_of(encoder, ENCODERS), **design.params, **options}
    record(adata, key_added, params, **made_by(encoder, adata, key_added))
    return chosen


def _make(
    augmentation: str | ExpressionAugmentation, options: Mapping[str, Any], *, progress_bar: bool
) -> tuple[str, ExpressionAugmentation]:
    """Return the name of an augmentation, and the augmentation itself."""
    if isinstance(augmentation, str):
        check_choice("augmentation", augmentation, AUGMENTATIONS)
        kind = AUGMENTATIONS[augmentation]
        check_arguments(kind, options, f"augmentation={augmentation!r}")
        switch = {"progress_bar": progress_bar} if "progress_bar" in signature(kind).parameters else {}
        return augmentation, kind(**{**switch, **options})
    if not isinstance(augmentation, ExpressionAugmentation) or isinstance(augmentation, type):
        needed = f"one of {some(AUGMENTATIONS)}, or an object with fit and draw"
        raise WrongType("augmentation", type(augmentation), needed)
    if options:
        raise IdleArgument(list(options), "on an augmentation that is made already")
    return name_of(augmentation, AUGMENTATIONS), augmentation


def _draw_views(
    adata: AnnData,
    expression: Expression,
    augmentation: ExpressionAugmentation,
    encoder: Encoder,
    n_views: int,
    rng: np.random.Generator,
    *,
    progress_bar: bool,
) -> np.ndarray:
    """Return the embeddings of what is drawn, shape (n_obs, n_views * d)."""
    from anndata import AnnData
    from tqdm.auto import tqdm

    layer = getattr(encoder, "layer", None)
    size = min(BLOCK, rows_at_once(BLOCK_VALUES, expression.n_genes))

    def encode(rows: np.ndarray, values: Any) -> np.ndarray:
        layers = {} if layer is None else {layer: values}  # where the encoder reads
        return embed_checked(encoder, AnnData(values, obs=adata.obs.iloc[rows], var=adata.var, layers=layers))

    plain, treated, first = np.flatnonzero(expression.group < 0), np.flatnonzero(expression.group >= 0), np.arange(1)
    views = np.empty((adata.n_obs, n_views, encode(first, expression.values[first]).shape[1]), dtype=np.float32)
    for block in row_blocks(len(plain), size):
        views[plain[block]] = encode(plain[block], expression.values[plain[block]])[:, None]
    rounding = rng if expression.whole else None
    parts = [*product(range(n_views), row_blocks(len(treated), size))]
    for view, block in tqdm(parts, disable=not progress_bar or None, desc="augment"):
        rows = treated[block]
        drawn = augmentation.draw(rows, rng)
        if drawn.shape != (shape := (len(rows), expression.n_genes)):
            raise WrongShape("what the augmentation drew", drawn.shape, f"the genes of each sample, {shape}")
        views[rows, view] = encode(rows, expression.restore(rows, drawn, rounding))
    return views.reshape(adata.n_obs, -1)
