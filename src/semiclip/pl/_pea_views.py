from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._checks import batches, column, controls, nonempty, representation, some
from semiclip.correction import PEA
from semiclip.correction._correct import control_rows
from semiclip.pl._pea_panels import draw_column, explain
from semiclip.pl._pea_plane import plane, read_views
from semiclip.pl._style import bare

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

BATCHES = 12  # shown at most
# the steps after centring, with the units that they lead to
COLUMNS = {
    (): "embedding units",
    ("scale",): "control s.d.",
    ("whiten",): "whitened units",
    ("scale", "whiten"): "whitened units",
}


def pea_views(
    adata: AnnData,
    *,
    use_rep: str,
    views: str,
    perturbation_key: str,
    perturbation: Hashable,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    batch: Hashable | None = None,
    ax: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw what Perturbation Embedding Augmentation makes of the samples of one perturbation in one batch.

    There is a panel for each choice of steps that a view can keep: in the upper row the centre was dropped, in the
    lower one it was subtracted. A dot is a view of a sample, the darker, the more controls it drew; a diamond is the
    same sample under the same steps with all controls. Grey dots and ellipses (mean and two standard deviations) are
    the controls of the batch, under the same steps too, and outlines those of other batches.

    Parameters
    ----------
    adata
        What :func:`semiclip.pp.pea_correct` wrote with ``stochastic=True``. Some hundred views fill the picture; so
        many are quickly drawn for a copy that holds the controls and this perturbation alone.
    use_rep
        The embedding that the views are of.
    views
        The ``key_added`` of the views.
    perturbation_key, perturbation
        Column of ``obs``, and the label in it to look at.
    control, batch_key
        As they were for the views.
    batch
        Batch to look at, by default the one with most samples of the perturbation.
    ax
        Eight axes to draw on, in two rows of four; by default a new figure.

    Returns
    -------
    The axes, of shape (2, 4). Horizontal is the direction from the controls to the perturbation, as its samples in
    other batches have it where there are any; vertical is the direction in which the control means of the batches
    differ most (of a single batch: in which the controls vary most). Views that are far off everything else are left
    out, and counted.

    Raises
    ------
    KeyError
        If the embedding, its views or a column are missing.
    ValueError
        If the perturbation is not there, not in this batch, or is a control, or ``ax`` does not hold eight axes.

    Notes
    -----
    At most 12 batches are shown, those with most samples of the perturbation.

    References
    ----------
    Bendidi et al., ICML 2025, section 3 and Algorithm 1, DOI 10.48550/arXiv.2505.21317.

    Examples
    --------
    >>> import semiclip as scl
    >>> sizes = {"n_compounds": 5, "n_knockouts": 20, "n_pathways": 5, "n_genes": 40, "n_image_features": 8}
    >>> images = scl.datasets.simulate(**sizes).mdata["image"]
    >>> keys = {"use_rep": "X_image", "perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    >>> scl.pp.pea_correct(images, **keys, stochastic=True, n_views=4, rng=0)
    >>> axes = scl.pl.pea_views(images, **keys, views="X_image_pea", perturbation="compound_1")
    >>> [ax.get_title().splitlines()[0] for ax in axes[:, 1]]
    ['scale', 'centre + scale']
    """
    x = representation(nonempty(adata), use_rep)
    if x.shape[1] < 2:
        msg = f"use_rep={use_rep!r} has a single dimension; a picture takes two"
        raise ValueError(msg)
    reference = controls(adata, perturbation_key, control) if control is not None else np.ones(adata.n_obs, dtype=bool)
    treated = _treated(adata, perturbation_key, perturbation, reference if control is not None else ~reference)
    codes, names = batches(adata, batch_key)
    shown = _shown(np.bincount(codes[treated], minlength=len(names)), names, batch, perturbation)
    pools, _ = control_rows(codes, reference, "pooled", names.tolist())
    rows = [np.flatnonzero(treated & (codes == code)) for code in shown]
    drawn = read_views(adata, views, rows[0])
    pea = PEA(**adata.uns.get("semiclip", {}).get(views, {}).get("params", {}).get("pea", {}))

    axes = _axes(ax)
    marks: dict[str, Any] = {}
    effect = "Perturbation effect" if any(map(len, rows[1:])) else "Effect on these samples"
    vertical = "Between batches" if len(shown) > 1 else "Along the controls"
    for panels, (steps, unit) in zip(axes.T, COLUMNS.items(), strict=True):
        kept = ["+".join(plan) or "none" for plan in (steps, ("center", *steps))]
        if any(name in drawn.share for name in kept):
            flat = plane([x[pools[code]] for code in shown], [x[part] for part in rows], steps, pea)
            marks |= draw_column(panels, flat, drawn, kept)
        for panel, name in zip(panels, kept, strict=True):
            words = name.replace("none", "as it is").replace("center", "centre").replace("+", " + ")
            share = f"{'TVN, ' * (name.count('+') == 2)}{100 * drawn.share.get(name, 0):.0f} % of views"
            panel.set_title(f"{words}\n{share}", fontsize="small")
            panel.tick_params(labelsize="small")
            bare(panel)
        panels[1].set_xlabel(f"{effect}\n({unit})", fontsize="small")
    for panel, row in zip(axes[:, 0], ("centre dropped", "centred"), strict=True):
        panel.set_ylabel(f"{vertical}\n({row})", fontsize="small")
    where = f" in {names[shown[0]]}" if batch_key is not None else ""
    size = [f"{n:,} {what}{'s' * (n > 1)}" for n, what in zip(drawn.kept.shape[::-1], ("sample", "view"), strict=True)]
    explain(axes, marks, f"PEA of {perturbation}{where}: {' × '.join(size)}", own=ax is None)
    return axes


def _treated(adata: AnnData, key: str, perturbation: Hashable, is_control: np.ndarray) -> np.ndarray:
    labels = column(adata, key, "perturbation_key")
    treated = (labels == perturbation).to_numpy()
    if not treated.any():
        frequent = some(labels[~is_control].value_counts().index)
        msg = f"perturbation={perturbation!r} matches no row of obs[{key!r}], which has {frequent}"
        raise ValueError(msg)
    if is_control[treated].any():
        msg = f"perturbation={perturbation!r} is a control; name the perturbation to look at"
        raise ValueError(msg)
    return treated


def _shown(count: np.ndarray, names: pd.Index, batch: Hashable | None, perturbation: Hashable) -> list[int]:
    """Return the codes of the batches to show, the one to look at first."""
    order = np.argsort(-count, kind="stable").tolist()
    if batch is not None:
        here = [code for code in order if names[code] == batch]
        if not here or not count[here[0]]:
            there = some(names[code] for code in order if count[code])
            msg = f"batch={batch!r} has no sample of {perturbation}; there are some in {there}"
            raise ValueError(msg)
        order = here + [code for code in order if code != here[0]]
    return order[:BATCHES]


def _axes(ax: Sequence[Axes] | np.ndarray | None) -> np.ndarray:
    if ax is None:
        from matplotlib import pyplot as plt

        return plt.subplots(2, 4, figsize=(9.6, 5.4), layout="constrained")[1]
    axes = np.asarray(ax, dtype=object)
    if axes.size != 8:
        msg = f"ax holds {axes.size} axes; eight are needed, such as plt.subplots(2, 4)[1]"
        raise ValueError(msg)
    return axes.reshape(2, 4)
