"""Corrections that are fitted on the controls of each batch: what there is to choose, fitting and applying."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from array_api_compat import array_namespace, device
from scipy.sparse import csc_array

from semiclip._arguments import check_arguments, check_choice, check_number
from semiclip._numerics import row_blocks
from semiclip.correction._steps import (
    RECIPES,
    Affine,
    Array,
    Fallback,
    Method,
    Profile,
    Recipe,
    carry_noise,
    fit,
    precision,
)
from semiclip.errors import NoVariation, TooFewControls, WrongDtype, WrongShape, some

logger = logging.getLogger(__name__)

BLOCK = 1 << 14  # rows transformed at a time, so that temporaries stay small beside the embedding
RIDGE = 0.5  # where controls are few beside dimensions; no direction then grows by more than 1.41
ENOUGH = 1.5  # controls for each direction: with fewer, what varies least is mostly noise, which whitening blows up


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
    rank: int | None = None
    """Directions that are left where whitening dropped those in which the controls do not vary; else ``None``."""

    def __call__(self, x: Array, batch: np.ndarray, rows: np.ndarray | None = None) -> Array:
        """Correct the rows of ``x``, or those of the given numbers, by their batch codes; shape (n, k)."""
        if all(part is None for chain in self.chains for part in chain):
            return x if rows is None else x[rows]
        xp, weight = array_namespace(x), self.chains[0].weight
        n, width = len(batch) if rows is None else len(rows), x.shape[1] if weight is None else weight.shape[-1]
        out = xp.empty((n, width), dtype=_raise_half(xp, x.dtype), device=device(x))
        for places, corrected in self.blocks(x, batch, rows):
            out[xp.asarray(places, device=device(x))] = corrected
        return out

    def blocks(self, x: Array, batch: np.ndarray, rows: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, Array]]:
        """Yield the same by blocks of a batch, each after its places in the result, for what needs no whole copy."""
        xp, numbers = array_namespace(x), np.arange(len(batch)) if rows is None else rows
        for chain, places in zip(self.chains, _rows_by_batch(batch[numbers], len(self.chains)), strict=True):
            for block in row_blocks(places.size, BLOCK):
                taken = _take(x, numbers[places[block]])
                yield places[block], chain(xp.astype(taken, _raise_half(xp, x.dtype), copy=False))

    def average(
        self, x: np.ndarray, batch: np.ndarray, rows: np.ndarray, codes: np.ndarray, n_groups: int
    ) -> np.ndarray:
        """Return the mean of the corrected rows of each group in float64, for rows of these numbers and group codes.

        A correction is affine: the rows of a group and batch are summed first, and their sum is corrected.
        """
        weight = self.chains[0].weight
        sums = np.zeros((n_groups, x.shape[1] if weight is None else weight.shape[-1]))
        for chain, places in zip(self.chains, _rows_by_batch(batch[rows], len(self.chains)), strict=True):
            for block in row_blocks(places.size, BLOCK):
                taken = places[block]
                present, group = np.unique(codes[taken], return_inverse=True)
                entries = np.ones(len(taken)), group, np.arange(len(taken) + 1)
                values = x[rows[taken]].astype(np.float64)
                if chain.shift is not None:
                    values -= chain.shift
                total = csc_array(entries, shape=(len(present), len(taken))) @ values
                if chain.weight is not None:  # in the precision of the rows, which is faster
                    total = Affine(weight=chain.weight)(total.astype(_raise_half(np, x.dtype), copy=False))
                sums[present] += total
        return sums / np.bincount(codes, minlength=n_groups)[:, None]


@dataclass(frozen=True)
class CorrectionSpec:
    """How an embedding is corrected, by the arguments that :func:`correct` explains."""

    method: Method | None = "tvn"
    profile: Profile = "clean"
    ridge: float | None = None
    coral_reg: float | None = 0.5
    fallback: Fallback = "raise"

    def __post_init__(self) -> None:
        if self.method is not None:
            check_choice("method", self.method, Method)
        check_choice("profile", self.profile, Profile)
        check_choice("fallback", self.fallback, Fallback)
        if self.ridge is not None:
            check_number("ridge", self.ridge, least=0)
        if self.coral_reg is not None:
            check_number("coral_reg", self.coral_reg, above=0)

    @classmethod
    def of(cls, name: str, correction: Method | Mapping[str, Any] | None, **usual: Any) -> Self:
        """Return the spec of a method, or of arguments by name beside the ``usual`` ones, as an argument gives them."""
        if isinstance(correction, Mapping):
            check_arguments(cls, correction, name)
            return cls(**{**usual, **correction})
        if correction is not None:
            check_choice(name, correction, Method)
        return cls(correction, **usual)

    @property
    def recipe(self) -> Recipe:
        """Steps of the correction; none without a method, and no CORAL without ``coral_reg``."""
        recipe = Recipe() if self.method is None else RECIPES[self.method, self.profile]
        return recipe if self.coral_reg is not None else recipe._replace(after=())

    @property
    def usual_ridge(self) -> float:
        """The ridge of whitening on many controls."""
        if self.ridge is not None:
            return self.ridge
        return RIDGE if self.profile == "batch" else 0.0

    def needs_ridge(self, n_controls: int, rank: int) -> bool:
        """Tell whether so many controls, which vary in ``rank`` directions, are too few for whitening as usual."""
        return self.ridge is None and self.profile in ("clean", "global") and n_controls < ENOUGH * rank

    @property
    def params(self) -> dict[str, Any]:
        """All of it by name, as files can hold it."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def fit(
        self, x: Array, batch: np.ndarray, control: np.ndarray, batch_names: Sequence[object] | None = None
    ) -> Correction:
        """Fit the correction on the control rows of ``x``, shape (n, d), to apply it to any rows of these batches."""
        check_rows(x, batch, control)
        if self.method is None:
            return Correction([Affine()] * (int(batch.max(initial=-1)) + 1))
        xp, d, recipe, rank = array_namespace(x), x.shape[1], self.recipe, None

        def keep(chain: Affine) -> Affine:  # in the precision of the rows that it is for
            dtype = _raise_half(xp, x.dtype)
            return Affine(*(part if part is None else xp.astype(part, dtype, copy=False) for part in chain))

        pools, pool_of_batch, n_own = split_controls(batch, control, self.fallback, batch_names)
        owners = range(len(pool_of_batch)) if batch_names is None else batch_names
        ridge = self.usual_ridge
        options: dict[str, Any] = {"coral": {"reg": self.coral_reg}}
        options |= {name: {"ridge": ridge} for name in ("whiten", "whiten_pca")}
        own = {int(pool): name for pool, name in zip(pool_of_batch, owners, strict=False) if pool < n_own}
        names = [own.get(pool, "all batches") for pool in range(len(pools))]
        eps = precision(x, np.concatenate(pools[:n_own] or pools))
        chains = _fit_each(recipe.before, (_take(x, rows) for rows in pools), names, noise=eps, **options)
        few = sum(len(pools[pool]) <= d for pool in pool_of_batch)
        if ridge == 0 and "whiten" in recipe.before and few:
            logger.info("whitening drops directions in %d batch(es) with no more controls than dimensions", few)
            rank = min(len(rows) for rows in pools) - 1
        if recipe.pooled:

            def read(pool: int) -> Array:  # each time anew, since all together are twice the controls in float64
                return chains[pool](xp.astype(_take(x, pools[pool]), xp.float64))

            sizes = [xp.max(xp.abs(_take(x, rows)), axis=0) for rows in pools]
            size = xp.astype(xp.max(xp.stack(sizes), axis=0), xp.float64)
            noise = eps * size
            # no control is seen twice, nor centred on those of another batch
            controls = xp.concat([read(pool) for pool in range(n_own)]) if n_own else read(0)
            n_controls = controls.shape[0]
            pooled = fit(recipe.pooled[:-1], controls, noise=noise, scale={"magnitude": size})
            controls = pooled(controls)
            left, noise = d, carry_noise(pooled, noise)
            whitening = fit(recipe.pooled[-1:], controls, noise=noise, **options)
            if ridge == 0:
                left = int(xp.linalg.matrix_rank(whitening.weight))
            if self.needs_ridge(n_controls, left):
                told = "whitening takes ridge=%s: %d controls are few for the %d directions in which they vary"
                logger.info(told, RIDGE, n_controls, left)
                whitening = fit(recipe.pooled[-1:], controls, whiten={"ridge": RIDGE})
            elif left < d:
                rank, told = left, "whitening keeps %d of %d directions: %d controls do not vary in the others"
                logger.info(told, left, d, n_controls)
            del controls
            pooled = pooled.then(whitening)

            # in one array, which the system takes back when it is done with, while it keeps what many small ones leave
            one: Any = keep(pooled).weight
            weights = xp.empty((len(pools) if recipe.after else 0, *one.shape), dtype=one.dtype, device=device(x))

            def finish(pool: int, step: Affine) -> Affine:  # at once, since all together are large in float64
                chain = chains[pool].then(pooled)
                if not recipe.after:  # one matrix serves all batches
                    return keep(chain)._replace(weight=one)
                # CORAL's weight holds the matrix of all batches already, and moves nothing
                chain = keep(chain._replace(weight=step.weight))
                weights[pool, ...] = chain.weight
                return chain._replace(weight=weights[pool, ...])

            options["coral"]["before"] = pooled.weight
            rows_of_pool = (pooled(read(pool)) for pool in range(len(pools)))
            chains = _fit_each(recipe.after, rows_of_pool, names, finish, **options)
        kept = [keep(chain) for chain in chains]
        return Correction([kept[pool] for pool in pool_of_batch], rank)


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
    """Correct an embedding for batch effects, with the controls as the reference.

    ``center`` subtracts the control mean of each batch and ``center_scale`` also divides by the control standard
    deviation (population). ``tvn`` is Typical Variation Normalisation (Ando et al. 2017, DOI 10.1101/161422; Bendidi et
    al., ICML 2025, Appendix C, DOI 10.48550/arXiv.2505.21317) in one of four profiles:

    - ``clean`` centres each batch, then scales and whitens (ZCA) on all controls, then aligns each batch's covariance
      (CORAL).
    - ``batch`` centres, scales and whitens each batch on its own controls alone. It takes a ``ridge`` unless there are
      many more controls than dimensions.
    - ``public`` is what EFAAR_benchmarking computes: centre, scale and PCA-whiten on all controls, then CORAL without
      removing the batches' means. A batch offset survives, so use it only to compare with published numbers.
    - ``global`` is ``public`` with the whitening of the paper (ZCA), which turns nothing: cosines are the same, and new
      data can be compared with those that a model has learned.

    Parameters
    ----------
    x
        Embedding, shape (n, d); NumPy array or torch tensor.
    batch, control
        Integer batch code of each row, and a mask of the control rows, both (n,).
    method, profile
        The correction, see above; ``method=None`` leaves the embedding as it is.
    ridge
        Added to the eigenvalues before whitening; 0 gives control covariance exactly I. ``None`` is 0.5 in the profile
        ``batch``, whose batches seldom have many more controls than dimensions, and in ``clean`` and ``global`` where
        all controls together are fewer than 1.5 for each direction in which they vary. It is 0 otherwise. Without a
        ridge, few controls make directions large in which they vary little by chance.
    coral_reg
        Added to each batch's control covariance in the CORAL step; ``None`` leaves that step out.
    fallback
        What happens to a batch with fewer than two controls: an error, or the pooled controls of all batches.
    batch_names
        Names of the batches by code, for errors.

    Returns
    -------
    The corrected embedding as a new array of the type and precision of ``x``, or float32 where ``x`` is float16, shape
    (n, d). In the ``public``
    profile directions without control variance are left out, so it may have fewer columns.

    Raises
    ------
    TooFewControls, NoVariation
        If a batch has fewer than two controls, or no control varies.

    Examples
    --------
    >>> import numpy as np
    >>> x, batch = np.random.default_rng(0).normal(size=(60, 3)), np.repeat([0, 1], 30)
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
    >>> fitted = fit_correction(x, batch, control=np.arange(60) % 2 == 0)
    >>> fitted(x, batch, np.arange(10)).shape  # of the first ten rows
    (10, 3)
    """
    return CorrectionSpec(method, profile, ridge, coral_reg, fallback).fit(x, batch, control, batch_names)


def split_controls(
    batch: np.ndarray, control: np.ndarray, fallback: str, names: Sequence[object] | None, *, at_least: int = 2
) -> tuple[list[np.ndarray], np.ndarray, int]:
    """Return pools of reference rows, the pool of each batch, and how many pools are those of one batch.

    The batches with too few controls share one more pool, the last, which has all controls.
    """
    short, rows = find_short_batches(batch, control, fallback, names, at_least=at_least), np.flatnonzero(control)
    if short:
        told = some(short.values())
        logger.info("the pooled controls of all batches serve for %d batch(es): %s", len(short), told)
    own = _rows_by_batch(batch[rows], int(batch.max()) + 1)
    pools = [rows[places] for code, places in enumerate(own) if code not in short]
    pool_of_batch = np.full(len(own), len(pools))
    pool_of_batch[[code for code in range(len(own)) if code not in short]] = np.arange(len(pools))
    return [*pools, rows] if short else pools, pool_of_batch, len(pools)


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


def _fit_each(
    steps: Sequence[str],
    controls: Iterable[Array],
    names: Sequence[object],
    finish: Callable[[int, Affine], Affine] = lambda pool, step: step,
    **options: Any,
) -> list[Affine]:
    """Fit steps on the controls of each batch, and name the batches whose controls are all alike."""
    chains, constant = [], []
    for pool, (name, rows) in enumerate(zip(names, controls, strict=True)):
        try:
            chains.append(finish(pool, fit(steps, rows, **options)))
        except NoVariation:
            constant.append(name)
    if constant:
        way_out = "drop these batches, or use method='center'"
        raise NoVariation("the controls of some batches", constant, way_out)
    return chains


def _raise_half(xp: Any, dtype: Any) -> Any:
    """Return the type that rows of a type are corrected in: float32 where they are stored in half precision."""
    return xp.float32 if dtype == xp.float16 else dtype


def _take(x: Array, rows: np.ndarray) -> Array:
    return x[array_namespace(x).asarray(rows, device=device(x))]


def _rows_by_batch(batch: np.ndarray, n_batches: int) -> list[np.ndarray]:
    """Return the row numbers of each batch code."""
    ends = np.cumsum(np.bincount(batch, minlength=n_batches))
    return np.split(np.argsort(batch, kind="stable"), ends[:-1])
