"""Draws pictures into files in memory, without pyplot and whatever the user's settings of matplotlib are."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

from semiclip._report._parts import Drawing

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

# letters become shapes, so that a picture looks alike everywhere; the salt names its parts the same each time
SETTINGS: dict[str, Any] = {"svg.fonttype": "path", "svg.hashsalt": "semiclip"}
KINDS = {"svg": "image/svg+xml", "png": "image/png"}
RESOLUTION = 200  # pixels per inch of what is no vector graphic
NO_METADATA = {"svg": dict.fromkeys(["Creator", "Date", "Format", "Type"]), "png": {"Software": None}}


def drawn(
    draw: Callable[[Any], object], *, size: tuple[float, float], file_format: Literal["svg", "png"] = "svg"
) -> Drawing:
    """Return what ``draw`` puts on axes in a figure of this size in inches."""
    return _drawn(lambda axes: draw(axes[0]), 1, 1, size, file_format)


def panels(draw: Callable[[np.ndarray], object], n: int, *, size: tuple[float, float]) -> Drawing:
    """Return what ``draw`` puts on ``n`` axes, two beside each other, each of this size in inches."""
    return _drawn(draw, n, min(n, 2), size, "svg")


def _drawn(
    draw: Callable[[np.ndarray], object], n: int, columns: int, size: tuple[float, float], file_format: str
) -> Drawing:
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = -(-n // columns)
    whole = (size[0] * columns, size[1] * rows)
    with style.context(["default", SETTINGS]):
        figure = Figure(whole, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for spare in axes[n:]:
            spare.remove()
        draw(axes[:n])
        file = BytesIO()
        figure.savefig(file, format=file_format, dpi=RESOLUTION, metadata=NO_METADATA[file_format])
    return Drawing(KINDS[file_format], file.getvalue(), whole)
