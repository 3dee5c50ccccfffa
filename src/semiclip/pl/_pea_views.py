from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip._checks import check_adata, read_representation
from semiclip._design import Design
from semiclip._docs import document
from semiclip.correction import PEA
from semiclip.correction._correct import control_rows
from semiclip.errors import BadValue, UnknownChoice, WrongShape
from semiclip.pl._pea_panels import draw_column, explain_panels
from semiclip.pl._pea_plane import fit_plane, read_views
from semiclip.pl._style import strip_spines, take_axes

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import pandas as pd
    from anndata import AnnData
    from matplotlib.axes import Axes

MAX_BATCHES = 12
# the steps after centring, with the units that they lead to
UNITS = {
    (): "embedding units",
    ("scale",): "control s.d.",
    ("whiten",): "whitened units",
    ("scale", "whiten"): "whitened units",
}


@document
def pea_views(
    adata: AnnData,
    *,
    use_rep: str,
    perturbation_key: str,
    control: str | Sequence[str] | None,
    batch_key: str | None = None,
    views: str,
    perturbation: Hashable,
    batch: Hashable | None = None,
    ax: Sequence[Axes] | np.ndarray | None = None,
) -> np.ndarray:
    """Draw what Perturbation Embedding Augmentation makes of the samples of one perturbation in one batch.

    There is a panel for each choice of steps that a view can keep. In the upper row the centre was dropped, in the
    lower row it was subtracted. A dot is a view of a sample, and it is the darker, the more controls the view drew. A
    diamond is the same sample under the same steps with all controls. Grey dots and ellipses (mean and two standard
    deviations) are the controls of the batch, under the same steps too, and outlines the controls of other batches.

    Parameters
    ----------
    adata
        What :func:`semiclip.pp.pea_correct` wrote with ``stochastic=True``. Some hundred views fill the picture. They
        are quickly drawn for a copy that holds the controls and this perturbation alone.
    use_rep
        The embedding that the views are of.
    {columns}
    views
        The ``key_added`` of the views.
    perturbation
        The perturbation to look at.
    batch
        Batch to look at, by default the one with most samples of the perturbation.
    ax
        Eight axes to draw on, in two rows of four; by default a new figure.

    Returns
    -------
    The axes, of shape (2, 4). Horizontal is the direction from the controls to the samples of the perturbation in other
    batches, or in this one where there are no others. Vertical is the direction in which the control means of the
    batches differ most, or, with a single batch, in which its controls vary most. Views that are far off everything
    else are left out, and counted.

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
    >>> images = scl.datasets.simulate(**sizes, rng=0).mdata["image"]
    >>> keys = {"use_rep": "X_image", "perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
    >>> scl.pp.pea_correct(images, **keys, stochastic=True, n_views=4, rng=0)
    >>> axes = scl.pl.pea_views(images, **keys, views="X_image_pea", perturbation="compound_1")
    >>> [ax.get_title().splitlines()[0] for ax in axes[:, 1]]
    ['scale', 'centre + scale']
    """
    design = Design.of(perturbation_key=perturbation_key, control=control, batch_key=batch_key)
    x = read_representation(check_adata(adata), use_rep)
    if x.shape[1] < 2:
        raise WrongShape(use_rep, x.shape, "two dimensions or more for a picture")
    reference = design.reference(adata)
    treated = _find_treated(adata, design, perturbation)
    codes, names = design.batches(adata)
    shown = _choose_batches(np.bincount(codes[treated], minlength=len(names)), names, batch)
    pools, _ = control_rows(codes, reference, "pooled", names.tolist())
    rows = [np.flatnonzero(treated & (codes == code)) for code in shown]
    drawn = read_views(adata, views, rows[0])
    pea = PEA(**adata.uns.get("semiclip", {}).get(views, {}).get("params", {}).get("pea", {}))

    axes = take_axes(ax, 8, size=(9.6, 5.4), columns=4).reshape(2, 4)
    marks: dict[str, Any] = {}
    effect = "Perturbation effect" if any(map(len, rows[1:])) else "Effect on these samples"
    vertical = "Between batches" if len(shown) > 1 else "Along the controls"
    for panels, (steps, unit) in zip(axes.T, UNITS.items(), strict=True):
        kept = ["+".join(plan) or "none" for plan in (steps, ("center", *steps))]
        if any(name in drawn.share for name in kept):
            plane = fit_plane([x[pools[code]] for code in shown], [x[part] for part in rows], steps, pea)
            marks |= draw_column(panels, plane, drawn, kept)
        for panel, name in zip(panels, kept, strict=True):
            words = name.replace("none", "as it is").replace("center", "centre").replace("+", " + ")
            share = f"{'TVN, ' * (name.count('+') == 2)}{100 * drawn.share.get(name, 0):.0f} % of views"
            panel.set_title(f"{words}\n{share}", fontsize="small")
            panel.tick_params(labelsize="small")
            strip_spines(panel)
        panels[1].set_xlabel(f"{effect}\n({unit})", fontsize="small")
    for panel, row in zip(axes[:, 0], ("centre dropped", "centred"), strict=True):
        panel.set_ylabel(f"{vertical}\n({row})", fontsize="small")
    explain_panels(axes, marks)
    if ax is None:
        where = f" in {names[shown[0]]}" if batch_key is not None else ""
        n_views, n_samples = drawn.kept.shape
        counts = f"{n_samples:,} sample{'s' * (n_samples > 1)} × {n_views:,} view{'s' * (n_views > 1)}"
        axes[0, 0].figure.suptitle(f"PEA of {perturbation}{where}: {counts}", fontsize="medium")
    return axes


def _find_treated(adata: AnnData, design: Design, perturbation: Hashable) -> np.ndarray:
    """Mark the samples of the perturbation to look at."""
    labels, is_control = design.perturbations(adata), design.controls(adata)
    treated = (labels == perturbation).to_numpy()
    if not treated.any():
        raise UnknownChoice("perturbation", perturbation, labels[~is_control].value_counts().index)
    if is_control[treated].any():
        raise BadValue("perturbation", perturbation, "the label of a perturbation, not of a control")
    return treated


def _choose_batches(n_treated: np.ndarray, names: pd.Index, batch: Hashable | None) -> list[int]:
    """Return the codes of the batches to show, first the one to look at."""
    order = np.argsort(-n_treated, kind="stable").tolist()
    if batch is not None:
        treated = {names[code]: code for code in order if n_treated[code]}
        if batch not in treated:
            raise UnknownChoice("batch", batch, treated, "which have samples of the perturbation")
        order.remove(treated[batch])
        order.insert(0, treated[batch])
    return order[:MAX_BATCHES]
