from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, device

from semiclip._numerics import row_blocks
from semiclip.correction._spec import CorrectionSpec
from semiclip.correction._steps import Affine, fit, magnitude
from semiclip.errors import TooFewControls, WrongDtype, WrongShape, some

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from semiclip.correction._spec import Fallback, Method, Profile

    Array = Any  # a NumPy array or a torch tensor

logger = logging.getLogger(__name__)

BLOCK = 1 << 16  # rows transformed at a time, so that temporaries stay small beside the embedding


class Correction(NamedTuple):
    """A fitted correction: one map for each batch code, as :func:`fit_correction` returns them.

    Examples
    --------
    >>> import numpy as np
    >>> offsets = Correction([Affine(shift=np.array([1.0])), Affine(shift=np.array([2.0]))])
    >>> offsets(np.array([[5.0], [5.0]]), np.array([0, 1])).tolist()
    [[4.0], [3.0]]
    """

    chains: list[Affine]
    """The map of each batch, by its code."""
    rank: int | None = None
    """Directions that are left where whitening dropped those in which the controls do not vary; else ``None``."""

    @classmethod
    def of(cls, chains: Sequence[Affine], x: Array, rank: int | None = None) -> Correction:
        """Keep the maps in the precision of the rows that they are for."""
        xp = array_namespace(x)
        kept = [Affine(*(part if part is None else xp.astype(part, x.dtype) for part in chain)) for chain in chains]
        return cls(kept, rank)

    def __call__(self, x: Array, batch: np.ndarray, rows: np.ndarray | None = None) -> Array:
        """Correct the rows of ``x``, or those of the given numbers, by their batch codes; shape (n, k)."""
        if all(part is None for chain in self.chains for part in chain):
            return x if rows is None else x[rows]
        xp, weight = array_namespace(x), self.chains[0].weight
        numbers = np.arange(len(batch)) if rows is None else rows
        width = x.shape[1] if weight is None else weight.shape[-1]
        out = xp.empty((len(numbers), width), dtype=x.dtype, device=device(x))
        for code, places in _rows_by_batch(batch[numbers], len(self.chains)):
            out[xp.asarray(places, device=device(x))] = self.chains[code](_take(x, numbers[places]))
        return out


def correct(
    x: Array,
    batch: np.ndarray,
    control: np.ndarray,
    *,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    coral_reg: float | None = 0.5,
    fallback: Fallback = "raise",
    batch_names: Sequence[object] | None = None,
) -> Array:
    """Correct an embedding for batch effects, with the controls as the reference (paper Appendix C).

    ``center`` subtracts the control mean of each batch and ``center_scale`` also divides by the control standard
    deviation (population). ``tvn`` is Typical Variation Normalisation in one of three profiles:

    - ``clean`` centres each batch, then scales and whitens (ZCA) on all controls, then aligns each batch's covariance
      (CORAL).
    - ``batch`` centres, scales and whitens each batch on its own controls alone. It takes a ``ridge`` unless there are
      many more controls than dimensions.
    - ``public`` is what EFAAR_benchmarking computes: centre, scale and PCA-whiten on all controls, then CORAL without
      removing the batches' means. A batch offset survives, so use it only to compare with published numbers.

    Parameters
    ----------
    x
        Embedding, shape (n, d); NumPy array or torch tensor.
    batch
        Integer batch code of each row, shape (n,).
    control
        Mask of the control rows, shape (n,).
    method, profile
        The correction, see above; ``method=None`` leaves the embedding as it is.
    ridge
        Added to the eigenvalues before whitening; 0 gives control covariance exactly I. ``None`` is 0.5 in the profile
        ``batch``, whose batches seldom have many more controls than dimensions, and 0 in the others.
    coral_reg
        Added to each batch's control covariance in the CORAL step; ``None`` leaves that step out.
    fallback
        What happens to a batch with fewer than two controls: an error, or the pooled controls of all batches.
    batch_names
        Names of the batches by code, for errors.

    Returns
    -------
    The corrected embedding as a new array of the type and precision of ``x``, shape (n, d). In the ``public``
    profile directions without control variance are left out, so it may have fewer columns.

    Raises
    ------
    TooFewControls, NoVariation
        If a batch has fewer than two controls, or no control varies.
    BadValue, UnknownChoice, WrongShape, WrongDtype
        If an argument means nothing, shapes do not agree or ``x`` does not hold floating-point values.

    References
    ----------
    Bendidi et al., ICML 2025, Appendix C, DOI 10.48550/arXiv.2505.21317; Ando et al. 2017, DOI 10.1101/161422.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> x, batch = rng.normal(size=(60, 3)), np.repeat([0, 1], 30)
    >>> control = np.arange(60) % 2 == 0
    >>> corrected = correct(x + 5 * batch[:, None], batch, control, method="center")
    >>> bool(np.abs(corrected[control & (batch == 1)].mean(axis=0)).max() < 1e-12)
    True
    """
    spec = CorrectionSpec(method, profile, ridge, coral_reg, fallback)
    return spec.fit(x, batch, control, batch_names)(x, batch)


def fit_correction(
    x: Array,
    batch: np.ndarray,
    control: np.ndarray,
    *,
    method: Method | None = "tvn",
    profile: Profile = "clean",
    ridge: float | None = None,
    coral_reg: float | None = 0.5,
    fallback: Fallback = "raise",
    batch_names: Sequence[object] | None = None,
) -> Correction:
    """Fit a correction on the controls, to apply it to a part of the rows at a time.

    This takes the parameters of :func:`correct` and raises the same errors. Only the control rows of ``x`` are read.

    Returns
    -------
    The fitted correction, in the precision of ``x``.

    Examples
    --------
    >>> import numpy as np
    >>> x, batch = np.random.default_rng(0).normal(size=(60, 3)), np.repeat([0, 1], 30)
    >>> control = np.arange(60) % 2 == 0
    >>> fitted = fit_correction(x, batch, control)
    >>> first = fitted(x, batch, np.arange(10))
    >>> bool(np.allclose(first, correct(x, batch, control)[:10]))
    True
    """
    return CorrectionSpec(method, profile, ridge, coral_reg, fallback).fit(x, batch, control, batch_names)


def fit_spec(
    spec: CorrectionSpec, x: Array, batch: np.ndarray, control: np.ndarray, batch_names: Sequence[object] | None
) -> Correction:
    """Fit what a :class:`CorrectionSpec` says."""
    check_rows(x, batch, control)
    if spec.method is None:
        return Correction([Affine()] * (int(batch.max(initial=-1)) + 1))
    recipe, ridge, rank = spec.recipe, spec.whitening_ridge, None
    options: dict[str, Any] = {name: {"ridge": ridge} for name in ("whiten", "whiten_pca")}
    options["coral"] = {"reg": spec.coral_reg}
    xp = array_namespace(x)
    pools, borrowing = split_controls(batch, control, spec.fallback, batch_names)
    chains = [fit(recipe.before, _take(x, rows), **options) for rows in pools]
    if not recipe.pooled and not recipe.after:
        few = sum(len(rows) <= x.shape[1] for rows in pools)
        if ridge == 0 and "whiten" in recipe.before and few:
            logger.info("whitening drops directions in %d batch(es) with no more controls than dimensions", few)
            rank = min(len(rows) for rows in pools) - 1
        return Correction.of(chains, x, rank)
    references = [xp.astype(_take(x, rows), xp.float64) for rows in pools]
    size = xp.max(xp.stack([magnitude(reference) for reference in references]), axis=0)
    references = [chain(reference) for chain, reference in zip(chains, references, strict=True)]
    if recipe.pooled:
        # no control is seen twice, nor centred on those of another batch
        distinct = [reference for code, reference in enumerate(references) if code not in borrowing]
        all_controls = xp.concat(distinct) if distinct else references[0]
        pooled = fit(recipe.pooled[:-1], all_controls, scale={"magnitude": size})
        whitening = fit(recipe.pooled[-1:], pooled(all_controls), **options)
        if ridge == 0:
            rank = _count_directions(xp, whitening.weight, len(all_controls))
        pooled = pooled.then(whitening)
        chains = [chain.then(pooled) for chain in chains]
        references = [pooled(reference) for reference in references]
    last = [fit(recipe.after, reference, **options) for reference in references]
    return Correction.of([chain.then(step) for chain, step in zip(chains, last, strict=True)], x, rank)


def split_controls(
    batch: np.ndarray, control: np.ndarray, fallback: str, names: Sequence[object] | None, *, at_least: int = 2
) -> tuple[list[np.ndarray], set[int]]:
    """Return the reference rows of each batch, and the batches that borrow all controls because they have too few."""
    short = find_short_batches(batch, control, fallback, names, at_least=at_least)
    all_rows = np.flatnonzero(control)
    order = all_rows[np.argsort(batch[all_rows], kind="stable")]
    pools = np.split(order, np.cumsum(np.bincount(batch[all_rows], minlength=int(batch.max()) + 1))[:-1])
    if short:
        named = some(short.values())
        logger.warning("the pooled controls of all batches serve for %d batch(es): %s", len(short), named)
        pools = [all_rows if code in short else rows for code, rows in enumerate(pools)]
    return pools, set(short)


def find_short_batches(
    batch: np.ndarray, control: np.ndarray, fallback: str, names: Sequence[object] | None, *, at_least: int = 2
) -> dict[int, str]:
    """Name the batches with too few controls, by code, and refuse them unless all controls can stand in."""
    counts = np.bincount(batch[control], minlength=int(batch.max()) + 1)
    short = {code: code if names is None else names[code] for code in np.flatnonzero(counts < at_least).tolist()}
    if short and not (fallback == "pooled" and counts.sum() >= at_least):
        few = {name: int(counts[code]) for code, name in short.items()}
        raise TooFewControls(few, at_least, int(counts.sum()))
    return {code: f"{name} ({counts[code]})" for code, name in short.items()}


def check_rows(x: Array, batch: np.ndarray, control: np.ndarray) -> None:
    """Refuse arrays that do not fit together."""
    if x.ndim != 2 or not x.shape[:1] == batch.shape == control.shape:
        shapes = (tuple(x.shape), batch.shape, control.shape)
        raise WrongShape("x, batch and control", shapes, "(n, d), (n,) and (n,)")
    if not array_namespace(x).isdtype(x.dtype, "real floating"):
        raise WrongDtype("x", x.dtype, "floating-point numbers", way_out="convert it with astype")


def _rows_by_batch(batch: np.ndarray, n_batches: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each batch code with its rows, a block at a time."""
    order = np.argsort(batch, kind="stable")
    ends = np.cumsum(np.bincount(batch, minlength=n_batches))
    for code, rows in enumerate(np.split(order, ends[:-1])):
        yield from ((code, rows[block]) for block in row_blocks(rows.size, BLOCK))


def _take(x: Array, rows: np.ndarray) -> Array:
    return x[array_namespace(x).asarray(rows, device=device(x))]


def _count_directions(xp: Any, whitening: Array, n_controls: int) -> int | None:
    """Return how many directions whitening keeps, or ``None`` for all."""
    d, rank = whitening.shape[0], int(xp.linalg.matrix_rank(whitening))
    if rank == d:
        return None
    logger.info("whitening keeps %d of %d directions: %d controls do not vary in the others", rank, d, n_controls)
    return rank
