"""Numbers, tables, files and pictures inside the page; the templates turn them into HTML."""

import math
import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from typing import Any, Literal, NamedTuple

import pandas as pd

from semiclip._csv import format_csv
from semiclip.pl._style import OWN

NONE = "–"  # where there is no value
# letters become shapes, so that a picture looks alike everywhere; the salt names its parts the same each time
SETTINGS: dict[str, Any] = {"svg.fonttype": "path", "svg.hashsalt": "semiclip"}
MEDIA_TYPES = {"svg": "image/svg+xml", "png": "image/png"}
RESOLUTION = 200  # pixels per inch of what is no vector graphic
CSS_INCH = 96  # pixels of CSS
NO_METADATA = {"svg": dict.fromkeys(["Creator", "Date", "Format", "Type"]), "png": {"Software": None}}


def share(value: float) -> str:
    """Write a share in percent."""
    return NONE if math.isnan(value) else f"{100 * value:.1f}%"


def interval(low: float, high: float) -> str:
    """Write the ends of an interval of shares."""
    return NONE if math.isnan(low) else f"{share(low)} to {share(high)}"


def p_value(value: float) -> str:
    """Write a probability with two significant digits."""
    return NONE if math.isnan(value) else f"{value:#.2g}"


def decimals(value: float, digits: int = 1) -> str:
    """Write a number with so many decimals."""
    # adding 0 makes no number of minus zero
    return NONE if math.isnan(value) else f"{round(value, digits) + 0:,.{digits}f}".replace("-", "\N{MINUS SIGN}")


def count(value: float, noun: str = "") -> str:
    """Write a count, with the noun that it counts."""
    return f"{value:,} {noun}{'' if value == 1 else 's'}" if noun else f"{value:,}"


def listed(names: Sequence[str]) -> str:
    """Join names as a sentence does."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


class Download(NamedTuple):
    """A whole table as a file inside the page; labels such as ``=1+1`` get an apostrophe and compute nothing."""

    title: str
    table: pd.DataFrame

    @property
    def name(self) -> str:
        """The title as the name of a file."""
        return re.sub(r"[^\w.-]+", "_", self.title) + ".csv"

    @property
    def address(self) -> str:
        """The file as a data URI."""
        return _address("text/csv", format_csv(self.table).encode())


class Table:
    """A table, as columns with their titles: the first ``n_labels`` hold words and the others numbers."""

    def __init__(self, caption: str, columns: Iterable[Any], n_labels: int = 1, file: Download | None = None) -> None:
        self.caption, self.n_labels, self.download = caption, n_labels, file
        self.names, cells = zip(*columns, strict=True)
        self.rows = list(zip(*cells, strict=True))

    def tell(self, n_numbers: int) -> str:
        """Tell the first numbers of each row in words."""
        n, told = self.n_labels, []
        for row in self.rows:
            numbers = zip(self.names[n : n + n_numbers], row[n:], strict=False)
            told.append(f"{' in '.join(row[:n])}: {', '.join(map(' '.join, numbers))}")
        return "; ".join(told)


def _address(media_type: str, content: bytes) -> str:
    """Return content as an address that loads nothing."""
    return f"data:{media_type};base64,{b64encode(content).decode()}"


def illustrate(
    table: Table,
    draw: Callable[[Any], object],
    alt: str,
    caption: str,
    *,
    n_told: int = 1,
    size: tuple[float, float] = (5.8, 3.8),
    panels: int | None = None,
    file_format: Literal["svg", "png"] = "svg",
) -> dict[str, Any]:
    """Return a table, and what ``draw`` puts on axes of this size in inches, or on ``panels``, two beside each other.

    Those who cannot see the picture read ``alt`` and the first ``n_told`` numbers of each row.
    """
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n = panels or 1
    columns, rows = min(n, 2), -(-n // 2)
    inches = (size[0] * columns, size[1] * rows)
    with style.context(["default", SETTINGS]):
        figure = Figure(inches, layout="constrained")
        FigureCanvasAgg(figure)
        OWN.add(figure)  # pictures of many names may enlarge it
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for empty in axes[n:]:
            empty.remove()
        draw(axes[0] if panels is None else axes[:n])
        file = BytesIO()
        inches = tuple(figure.get_size_inches())
        figure.savefig(file, format=file_format, dpi=RESOLUTION, metadata=NO_METADATA[file_format])
    address = _address(MEDIA_TYPES[file_format], file.getvalue())
    alt = f"{alt}. {table.tell(n_told)}." if n_told else f"{alt}."
    width, height = (f"{CSS_INCH * side:.0f}" for side in inches)
    picture = {"address": address, "width": width, "height": height, "alt": alt, "caption": caption}
    return {"table": table, "picture": picture}
