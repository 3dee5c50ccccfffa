from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from semiclip._checks import check_adata, check_finite, read_representation
from semiclip._design import Design
from semiclip._docs import document
from semiclip._views import split_views
from semiclip.correction import PEA, fit
from semiclip.correction._correct import split_controls
from semiclip.errors import BadValue, MissingEntry, UnknownChoice, WrongShape
from semiclip.pl import _style as style
from semiclip.pl._names import fit_names

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.patches import Ellipse

MAX_BATCHES = 12
STEPS = {1: "center", 2: "scale", 4: "whiten"}  # bits of what pp.pea_correct records
WHITENED = (("whiten",), ("scale", "whiten"))
# the steps after centring, with the units that they lead to
UNITS = {(): "embedding units", ("scale",): "control s.d."} | dict.fromkeys(WHITENED, "whitened units")
# two directions (d, 2), and on them, without and with a centre, controls of each batch and samples of the first one
Clouds = tuple[np.ndarray, list[list[np.ndarray]], list[np.ndarray]]
ROUND: dict[str, Any] = {"marker": "o", "linestyle": "none"}


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
    deviations) are the controls of the batch, under the same steps too, and outlines the controls of other batches. At
    most 12 batches are shown, those with most samples of the perturbation.

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
    perturbation, batch
        What to look at; by default the batch with most samples of the perturbation.
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
    KeyError, ValueError
        If the embedding, its views or a column are missing, or the perturbation is a control or has no sample in the
        batch.

    Examples
    --------
    >>> import semiclip as scl
    >>> images = scl.datasets.simulate(n_compounds=5, n_knockouts=20, n_pathways=5, n_genes=40, rng=0).mdata["image"]
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
    reference, is_control = design.reference(adata), design.controls(adata)
    labels = design.perturbations(adata)
    treated = (labels == perturbation).to_numpy()
    if not treated.any():
        raise UnknownChoice("perturbation", perturbation, labels[~is_control].value_counts().index)
    if is_control[treated].any():
        raise BadValue("perturbation", perturbation, "the label of a perturbation, not of a control")
    codes, names = design.batches(adata)
    n_treated = np.bincount(codes[treated], minlength=len(names))
    order = np.argsort(-n_treated, kind="stable")
    if batch is not None:
        if batch not in (choices := names[order[n_treated[order] > 0]].tolist()):
            raise UnknownChoice("batch", batch, choices, "which have samples of the perturbation")
        order = order[np.argsort(names[order] != batch, kind="stable")]  # the one to look at comes first
    shown = order[:MAX_BATCHES].tolist()
    pools, pool_of_batch, _ = split_controls(codes, reference, "pooled", names.tolist())
    rows = [np.flatnonzero(treated & (codes == code)) for code in shown]
    drawn = _read_views(adata, views, rows[0])
    pea = PEA(**adata.uns.get("semiclip", {}).get(views, {}).get("params", {}).get("pea", {}))

    axes = style.take_axes(ax, 8, size=(9.6, 5.4), columns=4).reshape(2, 4)
    marks: dict[str, Any] = {}
    effect = "Perturbation effect" if any(map(len, rows[1:])) else "Effect on these samples"
    vertical = "Between batches" if len(shown) > 1 else "Along the controls"
    for panels, (steps, unit) in zip(axes.T, UNITS.items(), strict=True):
        kept = ["+".join(plan) or "none" for plan in (steps, ("center", *steps))]
        if any(name in drawn.share for name in kept):
            clouds = _project([x[pools[pool_of_batch[code]]] for code in shown], [x[part] for part in rows], steps, pea)
            marks |= _draw_column(panels, drawn, kept, clouds)
        for panel, name in zip(panels, kept, strict=True):
            words = name.replace("none", "as it is").replace("center", "centre").replace("+", " + ")
            share = f"{'TVN, ' * (name.count('+') == 2)}{100 * drawn.share.get(name, 0):.0f} % of views"
            panel.set_title(f"{words}\n{share}", fontsize="small")
            panel.tick_params(labelsize="small")
            panel.spines[["top", "right"]].set_visible(False)
        panels[1].set_xlabel(f"{effect}\n({unit})", fontsize="small")
    for panel, row in zip(axes[:, 0], ("centre dropped", "centred"), strict=True):
        panel.set_ylabel(f"{vertical}\n({row})", fontsize="small")
    _explain_panels(axes, marks)
    if ax is None:
        where = f" in {names[shown[0]]}" if batch_key is not None else ""
        n_views, n_samples = drawn.kept.shape
        counts = f"{n_samples:,} sample{'s' * (n_samples > 1)} × {n_views:,} view{'s' * (n_views > 1)}"
        figure = axes[0, 0].figure
        title = fit_names([f"PEA of {perturbation}{where}: {counts}"], 0.95 * figure.get_figwidth(), 10, 3)[0]
        figure.suptitle(title, fontsize="medium")
    return axes


class _Views(NamedTuple):
    """Views of the samples that are looked at, and how often each plan was drawn."""

    values: np.ndarray  # (n_views, k, d)
    kept: np.ndarray  # (n_views, k), for example "center+scale"
    n_controls: np.ndarray  # (n_views, k)
    share: dict[str, float]  # of all views, by what was kept


def _read_views(adata: AnnData, key: str, rows: np.ndarray) -> _Views:
    """Read the views of some rows, and of all rows what they kept."""
    codes, n_controls = (adata.obsm.get(f"{key}_{part}") for part in ("steps", "controls"))
    if key not in adata.obsm or codes is None or n_controls is None:
        call = f"scl.pp.pea_correct(adata, …, stochastic=True, n_views=100, key_added={key!r})"
        raise MissingEntry(key, adata.obsm, name="views", way_out=f"draw some with {call}")
    names = np.array(["+".join(step for bit, step in STEPS.items() if code & bit) or "none" for code in range(8)])
    counts = np.bincount(codes.ravel(), minlength=len(names))
    share = {str(name): n / counts.sum() for name, n in zip(names, counts, strict=True) if n}
    values = split_views(adata, key, adata.obsm[key].shape[1] // codes.shape[1])[rows]
    check_finite(values.reshape(len(rows), -1), adata.obs_names[rows], f"obsm[{key!r}]")
    return _Views(values.swapaxes(0, 1), names[codes[rows].T], n_controls[rows].T, share)


def _project(controls: Sequence[np.ndarray], samples: Sequence[np.ndarray], steps: tuple[str, ...], pea: PEA) -> Clouds:
    """Fit the steps on all controls of each batch, with the centre dropped and with it subtracted, and look at them."""
    most = pea.clip if pea.clip and steps else np.inf
    moved: list[list[np.ndarray]] = [[], []]
    treated: list[list[np.ndarray]] = [[], []]
    for pool, rows in zip(controls, samples, strict=True):
        # as PEA has it, the ridge is in units of the variance where nothing is scaled
        ridge = pea.ridge * (1.0 if "scale" in steps else float(pool.var(axis=0).mean()))
        for centred in (False, True):
            chain = fit(("center",) * centred + steps, pool, whiten={"ridge": ridge})
            moved[centred].append(chain(pool).clip(-most, most))
            treated[centred].append(chain(rows).clip(-most, most))
    # to other batches, since in many dimensions samples look far away along a direction that was fitted on them
    replicates = [rows for rows in treated[1][1:] if len(rows)] or treated[1][:1]
    first = _normalise(np.concatenate(replicates).mean(axis=0))
    cloud = np.stack([pool.mean(axis=0) for pool in moved[0]]) if len(controls) > 1 else moved[1][0]
    cloud = cloud - cloud.mean(axis=0)
    cloud = cloud - np.outer(cloud @ first, first)
    second = np.linalg.svd(cloud, full_matrices=False)[2][0]
    sign = 1 if second @ cloud[0] >= 0 else -1
    axes = np.stack([first, _normalise(second - (second @ first) * first) * sign], axis=1)
    return axes, [[pool @ axes for pool in pools] for pools in moved], [rows[0] @ axes for rows in treated]


def _normalise(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), np.finfo(np.float64).tiny)


def _draw_column(panels: np.ndarray, drawn: _Views, kept: Sequence[str], clouds: Clouds) -> dict[str, Any]:
    """Draw the two panels of a column and return what their colours and signs stand for."""
    from matplotlib.colors import LinearSegmentedColormap

    shades = LinearSegmentedColormap.from_list("controls", (style.OKABE_ITO[4], "#00283F")).with_extremes(under="0")
    plane, controls, samples = clouds
    points = [drawn.values[drawn.kept == name] @ plane for name in kept]
    frames = [  # the samples, and two standard deviations about the controls
        np.concatenate([part, *(pool.mean(axis=0) + np.outer([-2, 2], pool.std(axis=0)) for pool in pools)])
        for part, pools in zip(samples, controls, strict=True)
    ]
    left, right = (corner[0] for corner in _choose_limits(np.concatenate(frames), np.concatenate(points)))
    marks: dict[str, Any] = {}
    for panel, name, pools, views, treated, frame in zip(panels, kept, controls, points, samples, frames, strict=True):
        if name not in drawn.share:
            continue
        for pool in pools[:0:-1]:
            panel.add_patch(_make_ellipse(pool, fill=False, edgecolor=style.tone(0.75), linewidth=0.8))
        panel.add_patch(_make_ellipse(pools[0], facecolor="0.9", edgecolor="0.45", linewidth=0.8))
        marks["controls (± 2 s.d.)"] = panel.scatter(*pools[0].T, s=7, color="0.5", linewidths=0)
        if len(pools) > 1:
            look = {"markersize": 9, "fillstyle": "none", "color": style.tone(0.75)}
            marks["controls of other batches"] = style.make_mark(**look, **ROUND)
        shade = {"c": drawn.n_controls[drawn.kept == name], "cmap": shades, "vmin": 2, "vmax": drawn.n_controls.max()}
        marks["views"] = panel.scatter(*views.T, s=16, linewidths=0, zorder=2, **shade)
        diamond = {"marker": "D", "facecolors": "none", "edgecolors": style.OKABE_ITO[5], "linewidths": 1.5}
        marks["the same steps, all controls"] = panel.scatter(*treated.T, s=42, zorder=3, **diamond)
        low, high = _choose_limits(frame, views)
        low[0], high[0] = left, right
        if n_far := ((views < low) | (views > high)).any(axis=1).sum():
            panel.text(
                0.98,
                0.02,
                f"{n_far} beyond",
                transform=panel.transAxes,
                ha="right",
                color=style.tone(0.35),
                size="small",
            )
        panel.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    return marks


def _explain_panels(axes: np.ndarray, marks: dict[str, Any]) -> None:
    """Write the legend and the scale of the colours; mark panels without views."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    for panel in axes.flat:
        if not panel.has_data():
            panel.text(
                0.5, 0.5, "never drawn", transform=panel.transAxes, ha="center", va="center", color=style.tone(0.35)
            )
            panel.set(xticks=[], yticks=[])
    figure = axes[0, 0].figure
    bar = figure.colorbar(marks["views"], ax=list(axes.flat), shrink=0.6, ticks=MaxNLocator(5, integer=True))
    bar.set_label("Controls drawn", fontsize="small")
    bar.ax.tick_params(labelsize="small")
    marks["views"] = style.make_mark(markersize=4, color=style.OKABE_ITO[0], **ROUND)
    key = {"handles": marks.values(), "labels": marks.keys(), "frameon": False}
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.legend(**key, loc="outside lower center", ncols=4, fontsize="small")
    else:
        axes[0, 0].legend(**key, fontsize="x-small")


def _make_ellipse(points: np.ndarray, **look: Any) -> Ellipse:
    """Return the ellipse of two standard deviations about the mean of points (n, 2)."""
    from matplotlib.patches import Ellipse

    values, vectors = np.linalg.eigh(np.cov(points.T, ddof=0))
    width, height = 4 * np.sqrt(np.clip(values, 0, None))
    angle = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
    return Ellipse(points.mean(axis=0), width, height, angle=angle, **look)


def _choose_limits(certain: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return lower and upper limits, each (2,), that show all of ``certain`` and the views, unless they are far off."""
    low, high = certain.min(axis=0), certain.max(axis=0)
    reach = 0.5 * (high - low)
    if len(views):
        low, high = views.min(axis=0).clip(low - reach, low), views.max(axis=0).clip(high, high + reach)
    room = 0.08 * np.where(high > low, high - low, 1)
    return low - room, high + room
