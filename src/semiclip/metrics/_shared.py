from __future__ import annotations

from typing import NamedTuple

import numpy as np

from semiclip._arguments import check_number, check_whole
from semiclip._numerics import inverse_root
from semiclip.errors import NoVariation, TooFew, WrongShape

LEVEL = 0.05  # share of permutations whose largest correlation may be above that of a shared direction


class SharedDirections(NamedTuple):
    """Directions of two sides that go together.

    ``n`` is how many correlate more than chance allows. ``correlations`` are all of them, from the largest on, shape
    (m,), and ``null`` the largest one of each permutation of the keys. ``student`` (d, m) and ``teacher`` (D, m) are
    the directions, and ``student_mean`` (d,) and ``teacher_mean`` (D,) what is taken off before.
    """

    n: int
    correlations: np.ndarray
    null: np.ndarray
    student: np.ndarray
    teacher: np.ndarray
    student_mean: np.ndarray
    teacher_mean: np.ndarray


def shared_directions(
    student: np.ndarray,
    teacher: np.ndarray,
    *,
    shrinkage: float | None = None,
    n_permutations: int = 50,
    rng: int | np.random.Generator | None = None,
) -> SharedDirections:
    """Return the directions that two embeddings of the same keys share, and how many these are.

    They are the canonical directions of both sides, with covariances that are shrunk towards a multiple of the
    identity. A direction is shared if its correlation is above the largest one that keys in a random order have, in 95
    of 100 orders. If there is none, the two sides have nothing to tell each other.

    Parameters
    ----------
    student, teacher
        A row for each key, such as the mean of its samples, shapes (K, d) and (K, D).
    shrinkage
        Share of the identity in both covariances, from 0 to 1; ``None`` estimates it for each side after Ledoit and
        Wolf. With 0 the correlations are those of classical canonical correlation analysis.
    n_permutations
        Random orders of the keys; 0 leaves chance out, and ``n`` is then the number of all directions.
    rng
        Seed of the orders.

    Returns
    -------
    The directions, those with the largest correlations first. Shrinkage makes correlations smaller.

    References
    ----------
    Hotelling, Biometrika 1936, DOI 10.1093/biomet/28.3-4.321; Ledoit and Wolf, Journal of Multivariate Analysis 2004,
    DOI 10.1016/S0047-259X(03)00096-4.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> shared = rng.normal(size=(400, 3))
    >>> student = shared @ rng.normal(size=(3, 8)) + rng.normal(size=(400, 8))
    >>> teacher = shared @ rng.normal(size=(3, 9)) + rng.normal(size=(400, 9))
    >>> shared_directions(student, teacher, rng=0).n
    3
    """
    if np.ndim(student) != 2 or np.ndim(teacher) != 2 or len(student) != len(teacher):
        raise WrongShape("the embeddings", (np.shape(student), np.shape(teacher)), "(K, d) and (K, D), a row a key")
    if len(student) < 2:
        raise TooFew("keys that both sides have", len(student), 2)
    if shrinkage is not None:
        check_number("shrinkage", shrinkage, least=0, most=1)
    check_whole("n_permutations", n_permutations, 0)
    (x, left), (y, right) = (_whiten(side, shrinkage) for side in (student, teacher))
    vectors, correlations, others = np.linalg.svd(x.T @ y, full_matrices=False)
    orders, generator = range(n_permutations), np.random.default_rng(rng)
    null = np.array([np.linalg.norm(x.T @ y[generator.permutation(len(y))], 2) for _ in orders])
    n = int((correlations > np.quantile(null, 1 - LEVEL)).sum()) if n_permutations else len(correlations)
    means: list[np.ndarray] = [np.asarray(side, np.float64).mean(axis=0) for side in (student, teacher)]
    return SharedDirections(n, correlations, null, left @ vectors, right @ others.T, *means)


def _whiten(values: np.ndarray, shrinkage: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Return rows with the identity as sum of products, and what makes them of centred rows."""
    from sklearn.covariance import ledoit_wolf_shrinkage

    centred = values - np.mean(values, axis=0, dtype=np.float64)
    if not centred.any():
        raise NoVariation("the rows of an embedding")
    share = ledoit_wolf_shrinkage(centred, assume_centered=True) if shrinkage is None else shrinkage
    # a covariance with a share of the identity is, but for its scale, one with so much added
    root = inverse_root(centred.T @ centred / len(centred), share / max(1 - share, 1e-9))
    return centred @ root / np.sqrt(len(centred)), root
