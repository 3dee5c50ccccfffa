from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from semiclip._arguments import check_choice, check_whole
from semiclip._numerics import row_blocks
from semiclip.correction._correct import check_rows
from semiclip.correction._pea import PEA
from semiclip.correction._steps import Fallback
from semiclip.errors import BadValue

BLOCK = 1 << 12  # rows augmented at a time, which bounds memory


class Views(NamedTuple):
    """Randomly corrected copies of an embedding, as :func:`augment` returns them."""

    values: np.ndarray
    """The copies, float32, shape (n_views, n, d)."""
    steps: np.ndarray
    """Whether a row was centred, scaled and whitened, shape (n_views, n, 3)."""
    n_controls: np.ndarray
    """Controls that a row's correction was fitted on, shape (n_views, n); 0 where no step was kept."""


def augment(
    x: np.ndarray,
    batch: np.ndarray,
    control: np.ndarray,
    *,
    pea: bool | PEA | Mapping[str, Any] = True,
    n_views: int = 1,
    rng: int | np.random.Generator | None = None,
    fallback: Fallback = "raise",
    batch_names: Sequence[object] | None = None,
) -> Views:
    """Draw Perturbation Embedding Augmentation (:class:`PEA`) of every row, as a model in training sees it.

    View *i* is what epoch *i* of training on these rows would be shown, controls too, where each epoch draws all
    whitening transforms anew (``bank_refresh`` of :class:`PEA`). With ``granularity="batch"`` all rows of a view keep
    the same steps, as those of one mini-batch.

    Parameters
    ----------
    x, batch, control
        Embedding, shape (n, d), with the integer batch code and a mask of the control rows, both (n,).
    pea
        What to draw from: ``True``, options of :class:`PEA` by name, or a :class:`PEA`.
    n_views
        How many times each row is drawn.
    rng
        Seed or generator; the same seed gives the same views.
    fallback, batch_names
        As for :func:`correct`, of batches with fewer controls than ``min_controls`` of :class:`PEA`.

    Returns
    -------
    The views, the steps that were kept and the number of controls drawn. A row that kept no step is the row of ``x``.

    Raises
    ------
    TooFewControls, NoVariation
        If a batch has too few controls, or controls that do not vary would whiten.

    Examples
    --------
    >>> import numpy as np
    >>> x, batch = np.random.default_rng(0).normal(size=(60, 3)), np.repeat([0, 1], 30)
    >>> views = augment(x, batch, np.arange(60) % 2 == 0, pea={"methods": ["center_scale"]}, n_views=4, rng=0)
    >>> # was the first row centred, scaled, whitened in the first and last view?
    >>> views.steps[[0, 3], 0]
    array([[ True,  True, False],
           [False, False, False]])
    >>> views.n_controls[:, 0]
    array([ 9,  6, 11,  0])
    """
    import torch

    from semiclip.correction._augmentation import Augmentation

    check_rows(x, batch, control)
    check_choice("fallback", fallback, Fallback)
    check_whole("n_views", n_views)
    if (options := PEA.of(pea)) is None:
        raise BadValue("pea", pea, "True, a dict of options or a semiclip.correction.PEA")
    seed, n = int(np.random.default_rng(rng).integers(2**63)), len(x)
    augmentation = Augmentation(options, x, batch, control, seed=seed, fallback=fallback, batch_names=batch_names)
    values = np.empty((n_views, n, x.shape[1]), dtype=np.float32)
    views = Views(values, np.empty((n_views, n, 3), dtype=bool), np.empty((n_views, n), dtype=np.int64))
    numbers = torch.zeros(n, dtype=torch.long) if options.granularity == "batch" else torch.arange(n)
    for view in range(n_views):
        augmentation.renew_banks(view)
        for part in row_blocks(n, BLOCK):
            codes = torch.as_tensor(batch[part].astype(np.int64))
            draw = augmentation.draw(numbers[part], codes, view)
            rows = torch.from_numpy(x[part].astype(np.float32))
            views.values[view, part] = augmentation.apply(rows, codes, draw).numpy()
            views.steps[view, part] = draw.steps.numpy()
            views.n_controls[view, part] = augmentation.count_controls(draw).numpy()
    return views
