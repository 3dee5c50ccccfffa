"""The steps that every correction is made of, each fitted on controls alone, and the recipes made of them.

NumPy arrays and torch tensors both work, on any device: the arithmetic is written against the array API.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from array_api_compat import array_namespace, device

from semiclip._numerics import row_blocks
from semiclip.errors import Conflict, NoVariation

Array = Any  # a NumPy array or a torch tensor
Method = Literal["center", "center_scale", "tvn"]
Profile = Literal["clean", "batch", "public", "global"]
Fallback = Literal["raise", "pooled"]
EPS = float(np.finfo(np.float64).eps)
LOOK = 1 << 10  # rows looked at together for their precision, of which the first mostly tell
# values are off by a third of a rounding error at most, and sums that made them by a few
SLACK = 4.0


class Affine(NamedTuple):
    """The map ``x ↦ (x − shift) · weight``: a shift (d,) and scales (d,) or a matrix (d, k), ``None`` for nothing."""

    shift: Array | None = None
    weight: Array | None = None

    def __call__(self, x: Array) -> Array:
        """Apply to rows ``x`` of shape (n, d), in the precision of ``x``; doing nothing returns ``x`` itself."""
        xp = array_namespace(x)
        if self.shift is not None:
            x = x - xp.astype(self.shift, x.dtype, copy=False)
        if self.weight is not None:
            weight = xp.astype(self.weight, x.dtype, copy=False)
            x = x * weight if weight.ndim == 1 else x @ weight
        return x

    def then(self, step: "Affine") -> "Affine":
        """Return this map followed by ``step`` as one map, so that rows are multiplied once."""
        if step.shift is not None:
            if self.weight is not None:
                raise Conflict("centring", "a scale or a matrix before it", "centre first")
            return Affine(step.shift if self.shift is None else self.shift + step.shift, step.weight)
        if self.weight is None or step.weight is None:
            return Affine(self.shift, self.weight if step.weight is None else step.weight)
        if self.weight.ndim == 2 and step.weight.ndim == 2:
            return Affine(self.shift, self.weight @ step.weight)
        left = self.weight[:, None] if self.weight.ndim < step.weight.ndim else self.weight
        return Affine(self.shift, left * step.weight)


def center(controls: Array) -> Affine:
    """Subtract the control mean (paper C.1)."""
    return Affine(shift=_mean(controls))


def scale(controls: Array, *, magnitude: Array | None = None, noise: Array | None = None) -> Affine:
    """Divide by the population standard deviation of the controls (paper C.2); a constant feature keeps its scale.

    ``magnitude``, shape (d,), is how large the values were before anything was subtracted from them, and ``noise`` the
    rounding error that they came with.
    """
    xp = array_namespace(controls)
    sd = deviation(controls, magnitude=magnitude, noise=noise)
    return Affine(weight=1 / xp.where(sd == 0, xp.ones_like(sd), sd))


def deviation(controls: Array, *, magnitude: Array | None = None, noise: Array | None = None) -> Array:
    """Return the population standard deviation of each feature, shape (d,), exactly 0 where it is rounding error."""
    xp = array_namespace(controls)
    m = controls.shape[0]
    mean = _mean(controls)
    variance = xp.mean((controls - mean) ** 2, axis=0)
    # a variance within rounding error of zero is zero, by the bound that scikit-learn uses
    size = xp.abs(mean) if magnitude is None else magnitude
    constant = variance <= m * EPS * variance + (m * EPS * size) ** 2
    if noise is not None:
        constant = constant | (variance <= noise**2)
    return xp.sqrt(xp.where(constant, xp.zeros_like(variance), variance))


def whiten(controls: Array, *, ridge: float = 0.0, noise: Array | None = None) -> Affine:
    """Turn the control covariance into the identity without rotating it, ZCA (paper C.3); no mean is subtracted.

    With ``ridge`` η an eigenvalue λ becomes λ/(λ+η). Without it, directions in which the controls do not vary are
    mapped to zero, since nothing is known of their scale, and so are those of ``noise``, the rounding error of each
    feature, shape (d,).
    """
    return Affine(weight=_inverse_root(controls, ridge, ddof=0, noise=None if ridge else noise))


def whiten_pca(controls: Array, *, ridge: float = 0.0, noise: Array | None = None) -> Affine:
    """Whiten by rotating to the principal components of the controls, as EFAAR_benchmarking does.

    Directions in which the controls do not vary beyond ``noise``, the rounding error of each feature, shape (d,), are
    left out, so the result may have fewer dimensions.
    """
    vectors, values = _spectrum(controls, ddof=0, noise=noise)
    return Affine(weight=vectors * (1 / array_namespace(values).sqrt(values + ridge)))


def coral(controls: Array, *, reg: float = 0.5, before: Array | None = None) -> Affine:
    """Multiply by ``(cov + reg·I)^(-1/2)``, covariance with ddof 1, as EFAAR_benchmarking does within each batch.

    With ``before``, a matrix (k, d), the map is multiplication by that matrix and then this one.
    """
    return Affine(weight=_inverse_root(controls, reg, ddof=1, before=before))


def _mean(controls: Array) -> Array:
    # relative to the first row, so that a constant feature has exactly its value as mean and nothing is left of it
    first = controls[0, :]
    return first + array_namespace(controls).mean(controls - first, axis=0)


def _inverse_root(
    controls: Array, ridge: float, *, ddof: int, noise: Array | None = None, before: Array | None = None
) -> Array:
    """Return ``before @ (cov + ridge·I)^(-1/2)``, shape (k, d), by default ``before`` is the identity.

    Without a ridge, directions without variance become zero.
    """
    vectors, values = _spectrum(controls, ddof=ddof, noise=noise)
    xp = array_namespace(vectors)
    rest = ridge**-0.5 if ridge else 0.0  # the factor of all directions that the controls do not span
    # few controls span few directions: two thin products are much less than one of two square matrices
    turned = vectors if before is None else before @ vectors
    if before is None:
        before = xp.eye(vectors.shape[0], dtype=vectors.dtype, device=device(vectors))
    return (turned * (1 / xp.sqrt(values + ridge) - rest)) @ vectors.T + rest * before


def _spectrum(controls: Array, *, ddof: int, noise: Array | None = None) -> tuple[Array, Array]:
    """Return the eigenvectors (d, k) and eigenvalues (k,) of the covariance that are more than rounding error."""
    xp = array_namespace(controls)
    m, d = controls.shape
    centred = controls - _mean(controls)
    if m > d:
        values, vectors = xp.linalg.eigh(centred.T @ centred / (m - ddof))
    else:  # the covariance has no more directions than there are controls
        _, roots, rows = xp.linalg.svd(centred, full_matrices=False)
        values, vectors = roots**2 / (m - ddof), _orient(rows.T)
    # dividing by the root of rounding error would let noise swallow every cosine
    informed = values > max(m, d) * EPS * xp.max(values)
    if noise is not None:
        informed = informed & (values > noise_variance(noise, vectors, m))
    if not xp.any(informed):
        raise NoVariation(f"the {m} controls", way_out="use method='center'")
    return vectors[:, informed], values[informed]


def _orient(vectors: Array) -> Array:
    """Turn columns so that their largest entry is positive: decompositions of rows leave the sign to their order."""
    xp = array_namespace(vectors)
    size = xp.abs(vectors)
    # the first of those that only rounding tells apart
    largest = xp.argmax(xp.astype(size >= (1 - 1e-6) * xp.max(size, axis=0), xp.int8), axis=0)
    first = xp.arange(vectors.shape[0], device=device(vectors))[:, None] == largest
    return vectors * xp.sign(xp.sum(xp.where(first, vectors, xp.zeros_like(vectors)), axis=0))


def noise_variance(noise: Array, vectors: Array, m: Any) -> Array:
    """Return the most variance that independent rounding errors (…, d) of m rows give directions (…, d, k).

    The largest eigenvalue of a covariance of pure noise is (1 + √(d/m))² times its variance (Marchenko & Pastur 1967).
    """
    spread = (1 + (vectors.shape[-2] / m) ** 0.5) ** 2
    return SLACK * spread * ((noise[..., None, :] ** 2) @ vectors**2)[..., 0, :]


def precision(x: Array, rows: np.ndarray) -> float:
    """Return the relative rounding error of rows of ``x``: that of the narrowest type that holds all, 0 if whole."""
    xp, eps = array_namespace(x), float(array_namespace(x).finfo(x.dtype).eps)
    types = [None, *(narrow for narrow in (xp.float16, xp.float32) if xp.finfo(narrow).eps > eps)]
    with np.errstate(over="ignore"):
        for block in row_blocks(len(rows), LOOK):
            part = x[xp.asarray(rows[block], device=device(x))]
            as_held = [xp.round(part) if held is None else xp.astype(xp.astype(part, held), x.dtype) for held in types]
            types = [held for held, values in zip(types, as_held, strict=True) if xp.all(values == part)]
            if not types:
                return eps
    return 0.0 if types[0] is None else float(xp.finfo(types[0]).eps)


STEPS: dict[str, Callable[..., Affine]] = {step.__name__: step for step in (center, scale, whiten, whiten_pca, coral)}
ROUNDED = ("scale", "whiten", "whiten_pca")  # steps that look at the rounding error of the values


class Recipe(NamedTuple):
    """Steps fitted on the controls of each batch, then on all pooled, of which the last whitens, then on each again."""

    before: tuple[str, ...] = ()
    pooled: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


METHODS = {"center": ("center",), "center_scale": ("center", "scale"), "tvn": ("center", "scale", "whiten")}
RECIPES: dict[tuple[str, str], Recipe] = {
    **{(method, profile): Recipe(steps) for method, steps in METHODS.items() for profile in get_args(Profile)},
    ("tvn", "clean"): Recipe(("center",), ("scale", "whiten"), ("coral",)),
    ("tvn", "public"): Recipe((), ("center", "scale", "whiten_pca"), ("coral",)),
    ("tvn", "global"): Recipe((), ("center", "scale", "whiten"), ("coral",)),
}


def fit(
    steps: Sequence[str], controls: Array, *, noise: Array | float | None = None, **options: dict[str, Any]
) -> Affine:
    """Fit steps one after the other, each on the controls as the steps before it left them.

    Parameters
    ----------
    steps
        Names of :data:`STEPS`, in order; none gives the identity.
    controls
        Control rows, shape (m, d), m ≥ 2; fitted in float64 whatever their precision.
    noise
        Rounding error of each feature, shape (d,), or relative to its largest value as a number; by default that of
        the type that the values fit in. Directions that vary less are no directions.
    **options
        Keyword arguments of a step by its name, such as ``whiten={"ridge": 0.5}``.

    Returns
    -------
    The composed map.

    Examples
    --------
    >>> import numpy as np
    >>> controls = np.array([[0.0, 1.0], [2.0, 5.0]])
    >>> fit(("center", "scale"), controls)(controls)
    array([[-1., -1.],
           [ 1.,  1.]])
    """
    xp = array_namespace(controls)
    magnitude = xp.astype(xp.max(xp.abs(controls), axis=0), xp.float64)
    noise = precision(controls, np.arange(controls.shape[0])) if noise is None else noise
    noise = noise * magnitude if isinstance(noise, float) else noise
    controls = xp.astype(controls, xp.float64, copy=False)
    options = {"scale": {"magnitude": magnitude}, **options}
    chain = Affine()
    for place, name in enumerate(steps, 1):
        given = {"noise": noise} if name in ROUNDED else {}
        step = STEPS[name](controls, **given, **options.get(name, {}))
        chain = chain.then(step)
        if place < len(steps):
            controls, noise = step(controls), carry_noise(step, noise)
    return chain


def carry_noise(step: Affine, noise: Array) -> Array:
    """Return the rounding error that features have after a step."""
    if step.weight is None:
        return noise
    weight = array_namespace(noise).abs(step.weight)
    return noise * weight if weight.ndim == 1 else (noise**2 @ weight**2) ** 0.5
