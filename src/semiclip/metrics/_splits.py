from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from semiclip.metrics._matrices import coded, mask

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


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
    """Hold out batches and perturbations, both at once (paper B.2).

    Batches and perturbations are drawn at random and independently. With 70 % of each about 49 % of the perturbed
    rows train, 21 % are known perturbations in new batches, 9 % are new perturbations in new batches, and the new
    perturbations in training batches, 21 %, are in no part. Each part has all controls of its batches.

    Parameters
    ----------
    batch, perturbation
        Batch and perturbation of each row, shape (n,).
    control
        Mask of the controls, boolean, shape (n,); their perturbation does not matter.
    train_fraction
        Share of the batches, and of the perturbations, that train; between 0 and 1.
    rng
        Seed or generator of the draws.

    Returns
    -------
    Row numbers ``train``, ``seen`` and ``unseen``.

    Raises
    ------
    TypeError
        If ``control`` is not a mask.
    ValueError
        If lengths differ, a label is missing, ``train_fraction`` is out of range, there are fewer than two batches or
        perturbations, or no perturbed row trains or is new in both respects.

    References
    ----------
    Bendidi et al., ICML 2025, section B.2, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import numpy as np
    >>> batch, perturbation = np.repeat(np.arange(10), 11), np.tile(np.arange(11), 10)
    >>> split = preservation_split(batch, perturbation, perturbation == 0, rng=0)
    >>> [len(part) for part in split]
    [56, 24, 12]
    """
    n = np.size(batch)
    codes, names = coded(batch, n, "batch")
    is_control = mask(control, n)
    perturbations = np.asarray(perturbation)
    if not 0 < train_fraction < 1:
        msg = f"train_fraction={train_fraction} must lie between 0 and 1, so that something trains and something is new"
        raise ValueError(msg)
    if perturbations.shape != (n,):
        msg = f"perturbation has shape {perturbations.shape} for {n} rows; one label per row is needed"
        raise ValueError(msg)
    labels, kinds = coded(perturbations[~is_control], n - int(is_control.sum()), "perturbation")
    for count, what in ((len(names), "batch(es)"), (len(kinds), "perturbation(s) beside the controls")):
        if count < 2:
            msg = f"there are {count} {what}; some must train and others be new, so at least 2 are needed"
            raise ValueError(msg)
    rng = np.random.default_rng(rng)
    in_training = _drawn(len(names), train_fraction, rng)[codes]
    known = np.zeros(n, dtype=bool)
    known[~is_control] = _drawn(len(kinds), train_fraction, rng)[labels]
    parts = {"train": (in_training, known), "seen": (~in_training, known), "unseen": (~in_training, ~known)}
    rows = {}
    for name, (of_batch, of_kind) in parts.items():
        perturbed = of_batch & of_kind & ~is_control
        if perturbed.any():
            rows[name] = np.flatnonzero(perturbed | (of_batch & is_control))
        elif name == "seen":  # where each perturbation has a batch of its own; controls alone would test nothing
            rows[name] = np.flatnonzero(perturbed)
        else:
            msg = (
                f"no row is left for the part {name!r}: none of its perturbations is in one of its batches; take "
                "another rng, or a train_fraction nearer to one half"
            )
            raise ValueError(msg)
    return PreservationSplit(**rows)


def _drawn(n: int, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a share of n things, at least one and not all; a mask."""
    drawn = np.zeros(n, dtype=bool)
    drawn[rng.permutation(n)[: min(max(1, round(fraction * n)), n - 1)]] = True
    return drawn
