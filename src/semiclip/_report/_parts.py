"""Tables, files and pictures inside the page; the templates turn them into HTML."""

from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from typing import Any, Literal, NamedTuple

import pandas as pd

# letters become shapes, so that a picture looks alike everywhere; the salt names its parts the same each time
SETTINGS: dict[str, Any] = {"svg.fonttype": "path", "svg.hashsalt": "semiclip"}
MEDIA_TYPES = {"svg": "image/svg+xml", "png": "image/png"}
RESOLUTION = 200  # pixels per inch of what is no vector graphic
CSS_INCH = 96  # pixels of CSS
NO_METADATA = {"svg": dict.fromkeys(["Creator", "Date", "Format", "Type"]), "png": {"Software": None}}
Columns = Sequence[tuple[str, Iterable[str]]]


class Download(NamedTuple):
    """A whole table as a file inside the page."""

    name: str
    table: pd.DataFrame

    @property
    def address(self) -> str:
        """The file as a data URI."""
        return _address("text/csv", self.table.to_csv(index=False, lineterminator="\n").encode())


class Table(NamedTuple):
    """A table, as columns with their titles: the first ``n_labels`` hold words and the others numbers."""

    caption: str
    columns: Columns
    n_labels: int = 1
    download: Download | None = None

    @property
    def rows(self) -> Iterator[tuple[str, ...]]:
        """The cells of each row."""
        return zip(*(values for _, values in self.columns), strict=True)


class Picture(NamedTuple):
    """A picture, what it shows in words for those who cannot see it, and its caption."""

    address: str
    size: tuple[str, str]
    """Width and height in pixels of CSS."""
    alt: str
    caption: str


def _address(media_type: str, content: bytes) -> str:
    """Return content as an address that loads nothing."""
    return f"data:{media_type};base64,{b64encode(content).decode()}"


def draw_picture(
    draw: Callable[[Any], object],
    alt: str,
    caption: str,
    *,
    size: tuple[float, float] = (5.8, 3.8),
    panels: int | None = None,
    file_format: Literal["svg", "png"] = "svg",
) -> Picture:
    """Return what ``draw`` puts on axes of this size in inches, or on several ``panels``, two beside each other."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    n = panels or 1
    columns, rows = min(n, 2), -(-n // 2)
    inches = (size[0] * columns, size[1] * rows)
    with style.context(["default", SETTINGS]):
        figure = Figure(inches, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for empty in axes[n:]:
            empty.remove()
        draw(axes[0] if panels is None else axes[:n])
        file = BytesIO()
        figure.savefig(file, format=file_format, dpi=RESOLUTION, metadata=NO_METADATA[file_format])
    width, height = (f"{CSS_INCH * side:.0f}" for side in inches)
    return Picture(_address(MEDIA_TYPES[file_format], file.getvalue()), (width, height), alt, caption)
