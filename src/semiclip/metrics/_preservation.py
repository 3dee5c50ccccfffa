from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse

from semiclip._arguments import check_choice, check_number
from semiclip._numerics import row_blocks, rows_at_once
from semiclip.errors import Empty, NoVariation, TooFew, WrongShape
from semiclip.metrics._matrices import Matrix, dense, read_labels, read_mask, read_matched

BLOCK = 1 << 22  # values that are dense at a time
RANKED = 1 << 20  # values ranked at a time
ROUNDING = 8  # a spread of so many rounding errors of the largest value is none
LEGACY_ROWS, LEGACY_EVERY = 512, 100  # the released evaluation kept one mini-batch of 512 rows in a hundred


def structural_integrity(
    predictions: ArrayLike | Matrix, targets: ArrayLike | Matrix, batch: ArrayLike, control: ArrayLike
) -> float:
    r"""Measure how well predicted expression keeps what distinguishes samples from the controls of their batch (B.2).

    In each batch the mean of its controls is subtracted from the predictions, which gives :math:`P_b`, and from the
    targets, which gives :math:`Y_b`. With :math:`n_b` rows in batch b, the result is :math:`1 - D / 2M`, where D and M
    are the means over batches of :math:`\lVert P_b - Y_b \rVert_F / n_b` and of :math:`\lVert Y_b \rVert_F / n_b`.
    Source: Bendidi et al., ICML 2025, section B.2, DOI 10.48550/arXiv.2505.21317.

    Parameters
    ----------
    predictions, targets
        Predicted and true expression, shape (n, n_genes), dense or sparse.
    batch, control
        Batch of each row, and mask of the controls, boolean, shape (n,). Batches without controls are left out.

    Returns
    -------
    1 if each batch is predicted up to a constant, 0.5 for predictions that do not vary within a batch, and negative
    for predictions further from the targets than their mirror image.

    Examples
    --------
    >>> targets = np.random.default_rng(0).normal(size=(6, 3))
    >>> batch, control = np.repeat(["A", "B"], 3), np.tile([True, False, False], 2)
    >>> [round(structural_integrity(scale * targets, targets, batch, control), 3) for scale in (1, 0.5, 0, -1)]
    [1.0, 0.75, 0.5, 0.0]
    """
    return _structure(*_read(predictions, targets, batch, control))[0]


def preservation(
    predictions: ArrayLike | Matrix,
    targets: ArrayLike | Matrix,
    batch: ArrayLike,
    control: ArrayLike,
    *,
    legacy_subsample: bool = False,
    rng: int | np.random.Generator | None = None,
) -> pd.DataFrame:
    """Measure how well expression that was predicted from an embedding preserves the measured one.

    Parameters
    ----------
    predictions, targets, batch, control
        As in :func:`structural_integrity`.
    legacy_subsample
        Measure as the evaluation released with the paper does, to compare with its numbers: on one random mini-batch
        of 512 rows (one for every 51,200 rows), in which batches without a control stay uncentred. Where batches are
        many this rewards predictions of mean expression, up to a score of 46 instead of 25.
    rng
        Seed or generator of that subset.

    Returns
    -------
    One row per ``metric``:

    ``"structural_integrity"``
        As in :func:`structural_integrity`.
    ``"spearman_gene"``, ``"spearman_sample"``
        Spearman's correlation of each gene across the samples, averaged over genes, and of each sample across the
        genes, averaged over samples. A gene or sample of constant predictions or targets counts as 0.
    ``"preservation"``
        100 · (structural integrity + Spearman's correlation per gene) / 2.

    and in columns its ``value``, ``n_obs`` (rows), ``n_batches`` and ``n_dropped_batches`` (batches with and without
    controls; the structural integrity is taken over the former, the correlations over all rows) and
    ``n_constant_genes`` (genes without a correlation).

    Examples
    --------
    >>> targets = np.random.default_rng(0).normal(size=(40, 3))
    >>> table = preservation(np.ones((40, 3)), targets, np.zeros(40), np.tile([True, False], 20))
    >>> dict(zip(table["metric"], table["value"]))
    {'structural_integrity': 0.5, 'spearman_gene': 0.0,
     'spearman_sample': 0.0, 'preservation': 25.0}
    """
    parts = _read(predictions, targets, batch, control)
    if legacy_subsample:
        n = len(parts[-1])
        size = min(n, LEGACY_ROWS * -(-n // (LEGACY_ROWS * LEGACY_EVERY)))
        rows = np.sort(np.random.default_rng(rng).choice(n, size, replace=False))
        parts = tuple(part[rows] for part in parts)
    integrity, n_kept, n_dropped = _structure(*parts, uncentred=legacy_subsample)
    by_gene, constant = spearman(*parts[:2], axis=0)
    by_sample, _ = spearman(*parts[:2], axis=1)
    gene = float(by_gene.mean())
    values = {"structural_integrity": integrity, "spearman_gene": gene, "spearman_sample": float(by_sample.mean())}
    values["preservation"] = 100 * (integrity + gene) / 2
    counts = {"n_obs": len(by_sample), "n_batches": n_kept, "n_dropped_batches": n_dropped}
    table = pd.DataFrame({"metric": list(values), "value": list(values.values()), **counts})
    return table.assign(n_constant_genes=int(constant.sum()))


def _read(predictions: object, targets: object, batch: object, control: object) -> tuple[Matrix, ...]:
    """Return predictions, targets, batch codes and the mask of the controls."""
    matrices = read_matched(predictions=predictions, targets=targets)
    n = matrices[0].shape[0]
    is_control = read_mask(control, n)
    return *matrices, read_labels(batch, n, "batch")[0], is_control


def _structure(
    predictions: Matrix, targets: Matrix, codes: np.ndarray, control: np.ndarray, *, uncentred: bool = False
) -> tuple[float, int, int]:
    """Return structural integrity and the numbers of batches that it was taken over and that were left out.

    Batches without controls are left out, or kept as they are if ``uncentred``.
    """
    batches = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    batches = [rows for rows in batches if rows.size]
    kept = [rows for rows in batches if uncentred or control[rows].any()]
    if not kept:
        raise Empty(f"controls in any of the {len(batches)} batches")
    norms = np.array([_norms(predictions, targets, rows, rows[control[rows]]) / len(rows) for rows in kept])
    distance, extent = norms.mean(axis=0)
    if extent == 0:
        raise NoVariation("targets about the mean of their batch's controls")
    return float(1 - distance / (2 * extent)), len(kept), len(batches) - len(kept)


def _norms(predictions: Matrix, targets: Matrix, rows: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the Frobenius norms of a batch's error and of its targets, both about the mean of the reference rows."""
    p_mean, y_mean = (_mean(x, reference) if reference.size else np.zeros(1) for x in (predictions, targets))
    error = extent = 0.0
    for block in _blocks(rows, targets.shape[1]):
        p, y = dense(predictions[block]) - p_mean, dense(targets[block]) - y_mean
        p -= y
        error, extent = error + np.vdot(p, p), extent + np.vdot(y, y)
    return np.sqrt([error, extent])


def _mean(x: Matrix, rows: np.ndarray) -> np.ndarray:
    """Return the mean of some rows in float64; exactly the row itself where all are equal."""
    first = dense(x[rows[:1]])[0].astype(np.float64)
    rest = np.zeros(len(first))
    for block in _blocks(rows, len(first)):
        rest += (dense(x[block]) - first).sum(axis=0)
    return first + rest / len(rows)


def _blocks(rows: np.ndarray, width: int) -> Iterator[np.ndarray]:
    return (rows[block] for block in row_blocks(len(rows), rows_at_once(BLOCK, width)))


def spearman(x: ArrayLike | Matrix, y: ArrayLike | Matrix, *, axis: Literal[0, 1] = 0) -> tuple[np.ndarray, np.ndarray]:
    """Correlate the ranks of two matrices, column by column or row by row.

    Values that differ by no more than 8 rounding errors of the largest among them count as constant, so that a
    network's outputs for equal inputs are not ranked by their rounding. A sparse matrix is dense only block by block.

    Parameters
    ----------
    x, y
        Values, shape (n, g), dense or sparse.
    axis
        Along which to rank: 0 correlates each column over the rows, 1 each row over the columns.

    Returns
    -------
    Spearman's coefficient of each column (shape (g,)) or row (shape (n,)), with average ranks for ties; and a mask of
    the same shape where one side is constant: the coefficient is not defined there, and 0.

    Examples
    --------
    >>> x = np.array([[1.0, 5.0, 0.0], [2.0, 4.0, 0.0], [3.0, 4.5, 0.0]])
    >>> correlation, constant = spearman(x, x**2 * [1, -1, 1])
    >>> correlation.round(3).tolist(), constant.tolist()
    ([1.0, -1.0, 0.0], [False, False, True])
    """
    check_choice("axis", axis, (0, 1))
    x, y = read_matched(x=x, y=y)
    length, n = x.shape[axis], x.shape[1 - axis]
    if length < 2:
        raise TooFew("values to rank", length, 2)
    if axis == 0:  # sparse columns are quick to take from this form only
        x, y = (values.tocsc() if sparse.issparse(values) else values for values in (x, y))
    correlation, constant = np.zeros(n), np.zeros(n, dtype=bool)
    for part in row_blocks(n, rows_at_once(RANKED, length)):
        (a, flat_a), (b, flat_b) = (_ranks(values[part] if axis else values[:, part].T) for values in (x, y))
        constant[part] = flat_a | flat_b
        length_a, length_b = (np.sqrt(np.einsum("ij,ij->i", ranks, ranks)) for ranks in (a, b))
        norm = np.where(constant[part], 1.0, length_a * length_b)
        correlation[part] = np.where(constant[part], 0.0, np.einsum("ij,ij->i", a, b) / norm)
    return np.clip(correlation, -1, 1, out=correlation), constant


def _ranks(block: Matrix) -> tuple[np.ndarray, np.ndarray]:
    """Return the ranks of each row about its mean rank, and which rows are constant."""
    from scipy.stats import rankdata

    values = np.ascontiguousarray(dense(block))
    high, low = values.max(axis=1).astype(np.float64), values.min(axis=1).astype(np.float64)
    eps = np.finfo(values.dtype).eps if values.dtype.kind == "f" else 0.0
    flat = high - low <= ROUNDING * eps * np.maximum(np.abs(high), np.abs(low))
    return rankdata(values, axis=1) - (values.shape[1] + 1) / 2, flat


class PreservationSplit(NamedTuple):
    """Row numbers of the parts, in ascending order; the test parts share the controls of the new batches."""

    train: np.ndarray
    """Controls and training perturbations of the training batches."""
    seen: np.ndarray
    """Controls and training perturbations of the new batches; empty if they have none of these."""
    unseen: np.ndarray
    """Controls and new perturbations of the new batches."""


def preservation_split(
    batch: ArrayLike,
    perturbation: ArrayLike,
    control: ArrayLike,
    *,
    train_fraction: float = 0.7,
    rng: int | np.random.Generator | None = None,
) -> PreservationSplit:
    """Hold out batches and perturbations, both at once, to measure :func:`preservation`.

    Batches and perturbations are drawn independently. With 70 % of each about 49 % of the perturbed rows train, 21 %
    are known and 9 % new perturbations in new batches, and the new perturbations in training batches are in no part.
    Each part has all controls of its batches.

    Parameters
    ----------
    batch, perturbation
        Batch and perturbation of each row, shape (n,); at least two batches and two perturbations beside the controls.
    control
        Mask of the controls, boolean, shape (n,); their perturbation does not matter.
    train_fraction, rng
        Share of the batches, and of the perturbations, that train, between 0 and 1; and seed or generator of the draws.

    Returns
    -------
    Row numbers ``train``, ``seen`` and ``unseen``.

    Examples
    --------
    >>> batch, perturbation = np.repeat(np.arange(10), 11), np.tile(np.arange(11), 10)
    >>> [len(part) for part in preservation_split(batch, perturbation, perturbation == 0, rng=0)]
    [56, 24, 12]
    """
    check_number("train_fraction", train_fraction, above=0, below=1)
    n = np.size(batch)
    codes, batches = read_labels(batch, n, "batch")
    is_control = read_mask(control, n)
    if (shape := np.shape(perturbation)) != (n,):
        raise WrongShape("perturbation", shape, f"({n},), one label per row")
    labels, kinds = read_labels(np.asarray(perturbation)[~is_control], n - int(is_control.sum()), "perturbation")
    for names, what in ((batches, "batches"), (kinds, "perturbations beside the controls")):
        if len(names) < 2:
            raise TooFew(what, len(names), 2)
    rng = np.random.default_rng(rng)
    in_training = _draw(len(batches), train_fraction, rng)[codes]
    trained = np.zeros(n, dtype=bool)
    trained[~is_control] = _draw(len(kinds), train_fraction, rng)[labels]
    parts = {"train": (in_training, trained), "seen": (~in_training, trained), "unseen": (~in_training, ~trained)}
    rows = {}
    for name, (of_batch, of_kind) in parts.items():
        perturbed = of_batch & of_kind & ~is_control
        # where each perturbation has a batch of its own, no seen one is in a new batch; controls would test nothing
        rows[name] = np.flatnonzero(perturbed | (of_batch & is_control & perturbed.any()))
        if not rows[name].size and name != "seen":
            way_out = "take another rng, or a train_fraction nearer to one half"
            raise Empty(f"perturbed rows for the part {name!r}", way_out)
    return PreservationSplit(**rows)


def _draw(n: int, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return a mask of a random share of n things, at least one and not all."""
    drawn = np.zeros(n, dtype=bool)
    drawn[rng.permutation(n)[: min(max(1, round(fraction * n)), n - 1)]] = True
    return drawn
