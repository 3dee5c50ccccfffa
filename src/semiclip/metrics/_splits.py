from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from semiclip._arguments import check_number
from semiclip.errors import Empty, TooFew, WrongShape
from semiclip.metrics._matrices import read_labels, read_mask


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

    Batches and perturbations are drawn at random and independently. With 70 % of each about 49 % of the perturbed
    rows train, 21 % are known perturbations in new batches, 9 % are new perturbations in new batches, and the new
    perturbations in training batches, 21 %, are in no part. Each part has all controls of its batches.

    Parameters
    ----------
    batch, perturbation
        Batch and perturbation of each row, shape (n,); at least two batches and two perturbations beside the controls.
    control
        Mask of the controls, boolean, shape (n,); their perturbation does not matter.
    train_fraction
        Share of the batches, and of the perturbations, that train; between 0 and 1.
    rng
        Seed or generator of the draws.

    Returns
    -------
    Row numbers ``train``, ``seen`` and ``unseen``.

    Examples
    --------
    >>> import numpy as np
    >>> batch, perturbation = np.repeat(np.arange(10), 11), np.tile(np.arange(11), 10)
    >>> split = preservation_split(batch, perturbation, perturbation == 0, rng=0)
    >>> [len(part) for part in split]
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
        if perturbed.any():
            rows[name] = np.flatnonzero(perturbed | (of_batch & is_control))
        elif name == "seen":  # where each perturbation has a batch of its own; controls alone would test nothing
            rows[name] = np.flatnonzero(perturbed)
        else:
            way_out = "take another rng, or a train_fraction nearer to one half"
            raise Empty(f"perturbed rows for the part {name!r}", way_out)
    return PreservationSplit(**rows)


def _draw(n: int, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """Return a mask of a random share of n things, at least one and not all."""
    drawn = np.zeros(n, dtype=bool)
    drawn[rng.permutation(n)[: min(max(1, round(fraction * n)), n - 1)]] = True
    return drawn
