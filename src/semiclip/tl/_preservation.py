from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from semiclip import metrics
from semiclip._checks import batches, column, controls, nonempty, representation, some
from semiclip.encoders._expression import normalize_expression, read_counts, warn_unless_counts
from semiclip.encoders._pca import count_components, fit_pca
from semiclip.tl._baselines import check_baselines
from semiclip.tl._maps import named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anndata import AnnData

    Baseline = Literal["random", "constant", "PCA"]

BASELINES: tuple[Baseline, ...] = ("random", "constant", "PCA")
COUNTS = ["n_obs", "n_batches", "n_dropped_batches", "n_constant_genes"]
COLUMNS = ["metric", "representation", "key", "value", *COUNTS]


class Study(NamedTuple):
    """What every representation is measured on."""

    values: Any  # normalised expression, dense or sparse float32 (n, n_genes)
    batch: np.ndarray  # (n,)
    control: np.ndarray  # (n,)
    split: metrics.PreservationSplit
    seed: int


def preservation(
    adata: AnnData,
    *,
    use_rep: str | Sequence[str],
    perturbation_key: str,
    control: str | Sequence[str],
    batch_key: str,
    layer: str | None = None,
    normalize: bool = True,
    train_fraction: float = 0.7,
    max_epochs: int = 30,
    batch_size: int = 512,
    lr: float = 1e-4,
    baselines: Sequence[Baseline] = BASELINES,
    legacy_subsample: bool = False,
    device: str = "auto",
    rng: int | np.random.Generator | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Measure how much of measured expression each representation preserves (paper B.2).

    A decoder learns to predict expression from the representation as it is, on some of the batches and perturbations,
    and is judged on new batches; see :func:`semiclip.metrics.preservation` and
    :func:`semiclip.metrics.preservation_split`. Representations and baselines meet the same split and seed.

    Parameters
    ----------
    adata
        Expression with controls in its batches, and representations of it.
    use_rep
        Key or keys of ``obsm``. The output of a model is taken as it comes, not corrected again.
    perturbation_key
        Column of ``obs`` with the perturbation.
    control
        Label or labels in that column that mark controls.
    batch_key
        Column of ``obs`` with the batch.
    layer
        Layer that holds expression, ``X`` by default.
    normalize
        Whether to scale each sample to 10,000 counts and take log1p first; a sample without counts stays 0. Turn it
        off for values that are already normalised, such as L1000 z-scores.
    train_fraction
        Share of the batches, and of the perturbations, that train.
    max_epochs, batch_size, lr
        Training of the decoder: epochs (the paper takes 30 for public data, 250 for its own), rows per step and
        learning rate. The paper's need thousands of steps. On a few thousand samples take more epochs, smaller steps
        or a higher rate: a decoder that has not converged scores below 25.
    baselines
        What to compare with. ``"random"``: a decoder of normal noise as wide as the first representation.
        ``"constant"``: the mean of each gene over the training rows, which scores 25. ``"PCA"``: a decoder of so many
        principal components of expression, fitted on the training rows.
    legacy_subsample
        Measure on 512 random rows as the evaluation released with the paper does, see
        :func:`semiclip.metrics.preservation`.
    device
        Device of torch that trains; ``"auto"`` takes a GPU if there is one. It holds expression of the training rows
        (sparse where it comes sparse) and a decoder of about 5/4 · n_genes² weights.
    rng
        Seed or generator of split, decoders and baselines.
    progress_bar
        Whether to show a bar for each decoder.

    Returns
    -------
    Four rows for each representation, then each baseline, on ``"seen perturbations"`` and ``"unseen perturbations"``
    (``key``), both in new batches: ``metric``, ``representation``, ``key``, ``value``, ``n_obs``, ``n_batches``,
    ``n_dropped_batches`` and ``n_constant_genes``. If no training perturbation is in a new batch, the seen ones have
    ``n_obs`` 0 and no value.

    Raises
    ------
    KeyError
        If a column, layer or representation does not exist.
    TypeError, ValueError
        If a control label matches no row, values are missing, not finite or (with ``normalize``) negative, a
        representation is called like a baseline, a training diverges, or as in
        :func:`semiclip.metrics.preservation_split` and :func:`semiclip.metrics.preservation`.

    References
    ----------
    Bendidi et al., ICML 2025, section B.2, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=12, n_knockouts=20, n_pathways=5, n_genes=40).mdata["rna"]
    >>> encoder = scl.pp.encode(adata, encoder="pca", n_components=8)
    >>> table = scl.tl.preservation(
    ...     adata,
    ...     use_rep="X_pca",
    ...     perturbation_key="perturbation",
    ...     control="control",
    ...     batch_key="batch",
    ...     max_epochs=2,
    ...     baselines=["constant"],
    ...     rng=0,
    ...     progress_bar=False,
    ... )
    >>> table.loc[table["metric"] == "preservation", ["representation", "key"]]
       representation                   key
    3           X_pca    seen perturbations
    7           X_pca  unseen perturbations
    11       constant    seen perturbations
    15       constant  unseen perturbations
    """
    from semiclip._device import usable_device

    keys = named(use_rep)
    check_baselines(baselines, BASELINES)
    if taken := [key for key in keys if key in BASELINES]:
        msg = f"a representation is called {some(taken)} like a baseline; copy it to another key of obsm"
        raise ValueError(msg)
    nonempty(adata)
    training = {
        "max_epochs": max_epochs,
        "batch_size": batch_size,
        "lr": lr,
        "device": usable_device(device),
        "progress_bar": progress_bar,
    }
    inputs = {key: representation(adata, key) for key in keys}
    study = _study(adata, perturbation_key, control, batch_key, train_fraction, rng, layer=layer, normalize=normalize)
    width = inputs[keys[0]].shape[1]
    tables = []
    for name in [*keys, *dict.fromkeys(baselines)]:
        if name in inputs:
            predict = _decoded(study, name, inputs[name], training)
        else:
            predict = _baseline(study, name, width, training)
        tables += _measured(study, name, predict, legacy_subsample=legacy_subsample)
    return pd.concat(tables, ignore_index=True)


def _study(
    adata: AnnData,
    perturbation_key: str,
    control: str | Sequence[str],
    batch_key: str,
    train_fraction: float,
    rng: int | np.random.Generator | None,
    *,
    layer: str | None,
    normalize: bool,
) -> Study:
    is_control = controls(adata, perturbation_key, control)
    if not is_control.any():
        msg = "control=None, but structure is measured against controls; pass the label(s) that mark them"
        raise ValueError(msg)
    batch, _ = batches(adata, batch_key)
    perturbation = column(adata, perturbation_key, "perturbation_key").to_numpy()
    rng = np.random.default_rng(rng)
    split = metrics.preservation_split(batch, perturbation, is_control, train_fraction=train_fraction, rng=rng)
    raw = read_counts(adata, layer)
    if normalize:
        warn_unless_counts(raw, adata, layer)
    values = normalize_expression(raw, adata.obs_names, normalize=normalize).astype(np.float32, copy=False)
    values = values.tocsr() if sparse.issparse(values) else values  # whose rows are quick to take
    return Study(values, batch, is_control, split, int(rng.integers(2**31)))


def _measured(
    study: Study, name: str, predict: Callable[[np.ndarray], np.ndarray], *, legacy_subsample: bool
) -> list[pd.DataFrame]:
    """Judge predictions on both test parts."""
    tables: list[pd.DataFrame] = []
    for key, rows in (("unseen perturbations", study.split.unseen), ("seen perturbations", study.split.seen)):
        if rows.size:
            table = metrics.preservation(
                predict(rows),
                study.values[rows],
                study.batch[rows],
                study.control[rows],
                legacy_subsample=legacy_subsample,
                rng=study.seed,
            )
        else:  # the unseen ones always exist and say which measures there are
            table = tables[0][["metric"]].assign(value=np.nan, **dict.fromkeys(COUNTS, 0))
        tables.append(table.assign(representation=name, key=key)[COLUMNS])
    return tables[::-1]


def _decoded(study: Study, name: str, x: np.ndarray, training: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    """Train a decoder of a representation."""
    from semiclip.model._decoder import fit_decoder

    train = study.split.train
    decoder = fit_decoder(x[train], study.values[train], rng=study.seed, name=f"decoder of {name}", **training)
    return lambda rows: decoder.predict(x[rows])


def _baseline(study: Study, name: str, width: int, training: dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    values, train = study.values, study.split.train
    if name == "constant":
        mean = np.asarray(values[train].mean(axis=0, dtype=np.float64)).reshape(1, -1)
        return lambda rows: np.broadcast_to(mean, (len(rows), values.shape[1]))
    if name == "random":
        x = np.random.default_rng(study.seed).normal(size=(values.shape[0], width)).astype(np.float32)
    else:
        seen = values[train]
        x = fit_pca(seen, min(width, count_components(seen)), study.seed).transform(values)
    return _decoded(study, name, x, training)
