from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from semiclip import metrics
from semiclip._arguments import check_choice
from semiclip._checks import check_adata, read_representation
from semiclip._design import Design
from semiclip._docs import document
from semiclip.encoders._expression import normalize_expression, read_counts, warn_unless_counts
from semiclip.encoders._pca import count_components, fit_pca
from semiclip.errors import BadValue, NameTaken
from semiclip.tl._columns import order_columns
from semiclip.tl._maps import list_names

Predict = Callable[[np.ndarray], np.ndarray]  # from numbers of rows to expression
DecodedBaseline = Literal["random", "constant", "PCA"]
BASELINES: tuple[DecodedBaseline, ...] = get_args(DecodedBaseline)
COUNTS = ["n_obs", "n_batches", "n_dropped_batches", "n_constant_genes"]
COLUMNS = ["metric", "representation", "key", "value", *COUNTS]


@document
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
    baselines: Sequence[DecodedBaseline] = BASELINES,
    legacy_subsample: bool = False,
    device: str = "auto",
    rng: int | np.random.Generator | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Return how much of measured expression each representation preserves (paper B.2).

    A decoder learns to predict expression from the representation as it is, on some of the batches and perturbations,
    and is judged on new batches; see :func:`semiclip.metrics.preservation` and
    :func:`semiclip.metrics.preservation_split`. Representations and baselines meet the same split and seed.

    Parameters
    ----------
    adata
        Expression with controls in several batches, and representations of it.
    use_rep
        Key or keys of ``obsm``. The output of a model is taken as it is, not corrected again.
    {columns}
    layer
        Layer that holds expression, ``X`` by default.
    normalize
        Whether to scale each sample to 10,000 counts and take log1p first; a sample without counts stays 0. Turn it
        off for values that are already normalised, for example L1000 z-scores.
    train_fraction
        Share of the batches, and of the perturbations, that train.
    max_epochs, batch_size, lr
        Training of the decoder: epochs (in the paper 30 for public data, 250 for its own), rows per step and learning
        rate. On a few thousand samples take more epochs, smaller steps or a higher rate: a decoder that has not
        converged scores below 25.
    baselines
        What to compare with. ``"random"``: a decoder of normal noise as wide as the first representation.
        ``"constant"``: the mean of each gene over the training rows, which scores 25. ``"PCA"``: a decoder of as many
        principal components of expression, fitted on the training rows.
    legacy_subsample
        Whether to measure on 512 random rows, as the evaluation released with the paper does.
    device
        Device of torch that trains; ``"auto"`` takes a GPU if there is one. It holds expression of the training rows
        and a decoder of about 5/4 · n_genes² weights, whose training takes 26 · n_genes² bytes: 0.1 GB for 2,000 genes,
        10.4 GB for 20,000.
    rng, progress_bar
        Seed or generator of split, decoders and baselines; and whether to show a bar for each decoder.

    Returns
    -------
    What :func:`semiclip.metrics.preservation` returns, for each ``representation``, then each baseline, on
    ``"seen perturbations"`` and ``"unseen perturbations"`` (``key``), both in new batches. If no training perturbation
    is in a new batch, the seen ones have ``n_obs`` 0 and no value.

    Raises
    ------
    semiclip.errors.TooLarge
        If the device has no room to train the decoder; keep fewer genes, for example the most variable.

    {paper}

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.simulate(n_compounds=12, n_knockouts=20, n_pathways=5, n_genes=40, rng=0).mdata["rna"]
    >>> encoder = scl.pp.encode(adata, encoder="pca", n_components=8)
    >>> columns = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    >>> options = {"max_epochs": 2, "baselines": ["constant"], "rng": 0, "progress_bar": False}
    >>> table = scl.tl.preservation(adata, use_rep="X_pca", **columns, **options)
    >>> table[["metric", "representation", "key", "value"]].tail(1).round(2).to_numpy().tolist()
    [['preservation', 'constant', 'unseen perturbations', 25.0]]
    """
    from semiclip._device import usable_device
    from semiclip.tl import _decoder

    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    if design.control is None:
        raise BadValue("control", None, "the label or labels of the controls")
    names = list_names(use_rep)
    for name in baselines:
        check_choice("baselines", name, DecodedBaseline)
    if taken := [name for name in names if name in BASELINES]:
        raise NameTaken(taken, "a baseline", "copy the representation to another key of obsm")
    check_adata(adata)
    used = usable_device(device)
    arrays = {name: read_representation(adata, name) for name in names}
    control_rows, (batch, _) = design.controls(adata), design.batches(adata)
    perturbations = design.perturbations(adata).to_numpy()
    rng = np.random.default_rng(rng)
    split = metrics.preservation_split(batch, perturbations, control_rows, train_fraction=train_fraction, rng=rng)
    raw = read_counts(adata, layer)
    if normalize:
        warn_unless_counts(raw, adata, layer)
    y = normalize_expression(raw, adata.obs_names, normalize=normalize).astype(np.float32, copy=False)
    y = y.tocsr() if sparse.issparse(y) else y  # rows of CSR are quick to take
    train, seed = y[split.train], int(rng.integers(2**31))
    width = arrays[names[0]].shape[1]

    def decode(name: str, x: np.ndarray) -> Predict:
        """Fit a decoder of the training rows."""
        decoder = _decoder.fit_decoder(
            x[split.train], train, rng=seed, name=f"decoder of {name}", device=used, max_epochs=max_epochs,
            batch_size=batch_size, lr=lr, progress_bar=progress_bar,
        )  # fmt: skip
        return lambda rows: _decoder.predict(decoder, x[rows])

    def fit(baseline: DecodedBaseline) -> Predict:
        """Fit a baseline of the width of a representation."""
        if baseline == "constant":
            mean = np.asarray(train.mean(axis=0, dtype=np.float64)).reshape(1, -1)
            return lambda rows: np.broadcast_to(mean, (len(rows), mean.shape[1]))
        if baseline == "random":
            return decode(baseline, np.random.default_rng(seed).normal(size=(len(batch), width)).astype(np.float32))
        return decode(baseline, fit_pca(train, min(width, count_components(train)), seed).transform(y))

    def judge(name: str, predict: Predict) -> list[pd.DataFrame]:
        """Return the scores of predictions on both test parts."""
        tables: list[pd.DataFrame] = []
        for key, rows in (("unseen perturbations", split.unseen), ("seen perturbations", split.seen)):
            if rows.size:
                parts = (predict(rows), y[rows], batch[rows], control_rows[rows])
                table = metrics.preservation(*parts, legacy_subsample=legacy_subsample, rng=seed)
            else:  # the unseen ones always exist and say which measures there are
                table = tables[0][["metric"]].assign(value=np.nan, **dict.fromkeys(COUNTS, 0))
            tables.append(table.assign(representation=name, key=key)[COLUMNS])
        return tables[::-1]

    tables = [table for name, x in arrays.items() for table in judge(name, decode(name, x))]
    tables += [table for name in dict.fromkeys(baselines) for table in judge(name, fit(name))]
    return order_columns(pd.concat(tables, ignore_index=True), ["metric", "representation"], ["key", "value"])
