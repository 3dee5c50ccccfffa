"""One table or figure: its data, how it is printed or drawn, and the paper's own numbers."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from semiclip._cli._paper._grid import Grid

RESOLUTION = 150  # pixels per inch


class Section(NamedTuple):
    """A table or figure of the paper, made of a study."""

    name: str
    """Of its files, such as ``"table1"``."""
    number: str
    """As the paper calls it."""
    title: str
    data: pd.DataFrame = pd.DataFrame()
    grid: Grid | None = None
    draw: Callable[[Figure], None] | None = None
    size: tuple[float, float] = (6.4, 4.0)
    """Of the figure, in inches."""
    published: Grid | None = None
    note: str = ""
    missing: str = ""
    """Why there is nothing to show."""

    def paint(self) -> bytes:
        """Return the figure as a PNG file."""
        from matplotlib import style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        assert self.draw is not None
        with style.context("default"):
            figure = Figure(self.size, layout="constrained")
            FigureCanvasAgg(figure)
            self.draw(figure)
            file = BytesIO()
            figure.savefig(file, format="png", dpi=RESOLUTION, metadata={"Software": None})
        return file.getvalue()
