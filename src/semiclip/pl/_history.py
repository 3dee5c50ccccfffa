"""How a training run went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from semiclip.errors import Empty, MissingEntry
from semiclip.pl import _style as style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

RANK, RECALL = "validation_mean_rank_percentile", "validation_recall_at_"


def history(
    model_or_history: Any | Mapping[str, pd.DataFrame], *, ax: Sequence[Axes] | np.ndarray | None = None
) -> np.ndarray:
    """Draw how training went: the loss, and how well the validation pairs find each other.

    Parameters
    ----------
    model_or_history
        A trained model, or its ``history``: tables indexed by epoch, one per quantity.
    ax
        Two axes to draw on; by default a new figure.

    Returns
    -------
    The two axes. Left are ``train_loss`` and ``validation_loss``. Right are recall at k, of which more is better, and
    the mean rank percentile of the right image among all validation images: 0 is best, and 0.5, dashed in the same
    colour, is chance. A dotted line is the epoch whose weights a model kept, where that is not the last one. Without
    validation it says so.

    Raises
    ------
    ValueError, KeyError
        If the model is not trained, there is no training loss, or ``ax`` does not hold two axes.

    Examples
    --------
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> losses = pd.DataFrame({"train_loss": [3.0, 2.0, 1.5]}, index=pd.RangeIndex(3, name="epoch"))
    >>> left, right = scl.pl.history({"train_loss": losses})
    >>> left.get_xlabel(), left.get_ylabel()
    ('Epoch', 'Loss (lower is better)')
    """
    tables = getattr(model_or_history, "history", model_or_history)
    if tables is None:
        raise Empty("epochs in the history of the model", "call .train() first")
    # epochs without a value go, and so does the object type that loggers leave
    curves = {name: table.iloc[:, 0].astype(float).dropna() for name, table in tables.items()}
    if "train_loss" not in curves:
        raise MissingEntry("train_loss", curves, "the history", way_out="draw the history of a SemiClip model")
    kept = _find_kept(model_or_history, curves)
    axes = left, right = style.take_axes(ax, 2, size=(8.4, 3.4), panels=("loss", "validation"))

    losses = {"training": curves["train_loss"]}
    losses |= {"validation": curves["validation_loss"]} if "validation_loss" in curves else {}
    left.set_ylabel("Loss (lower is better)")
    style.finish(left, [*_draw_lines(left, losses, style.OKABE_ITO), *_mark_kept(left, kept)])

    measures = {"rank percentile ↓": curves[RANK]} if RANK in curves else {}
    ks = sorted(int(name.removeprefix(RECALL)) for name in curves if name.startswith(RECALL))
    measures |= {f"recall@{k} ↑": curves[f"{RECALL}{k}"] for k in ks}
    if not measures:
        look: dict[str, Any] = {"ha": "center", "va": "center", "color": style.tone(0.35)}
        right.text(0.5, 0.5, "no validation", transform=right.transAxes, **look)
        right.set_axis_off()
        return axes
    lines = _draw_lines(right, measures, style.COLOURS[2:])
    if RANK in curves:
        chance = style.make_chance_look() | {"color": lines[0].get_color()}
        lines.insert(1, right.axhline(0.5, label="chance of the rank", **chance))
    right.set(ylim=(0, 1), yticks=np.linspace(0, 1, 6))
    right.set_ylabel("Retrieval in validation\n(↑ more, ↓ less is better)")
    columns = 2 if len(lines) < 8 else 3
    style.finish(right, [*lines, *_mark_kept(right, kept)], columns=columns)
    return axes


def _find_kept(model: Any, curves: Mapping[str, pd.Series]) -> int | None:
    """Return the epoch whose weights a model kept, if it was asked for the best and not the last one."""
    params = getattr(model, "train_params_", None) or {}
    curve = curves.get(params.get("monitor", "validation_loss"))
    if params.get("select") != "best" or curve is None or curve.empty:
        return None
    best = curve.argmax() if "recall" in str(curve.name) else curve.argmin()
    return int(curve.index[int(best)])


def _mark_kept(ax: Axes, kept: int | None) -> list[Any]:
    if kept is None:
        return []
    return [ax.axvline(kept, color=style.tone(0.1), linestyle=":", linewidth=1.2, label=f"kept: epoch {kept}")]


def _draw_lines(ax: Axes, curves: Mapping[str, pd.Series], colours: Sequence[str]) -> list[Any]:
    """Draw a line per curve, and a point where a curve has a single epoch."""
    from matplotlib.ticker import MaxNLocator

    lines: list[Any] = []
    for i, (label, curve) in enumerate(curves.items()):
        turn, which = divmod(i, len(colours))
        look = {"color": colours[which], "linestyle": style.LINE_STYLES[turn % len(style.LINE_STYLES)]}
        lines += ax.plot(curve.index, curve, label=label, marker="o" if len(curve) == 1 else None, **look)
    ax.set_xlabel("Epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    return lines
