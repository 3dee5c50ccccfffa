"""What a page is made of: plain text, tables and pictures, which only :mod:`_page` turns into HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd

    Columns = list[tuple[str, Iterable[str]]]


class Text(NamedTuple):
    """A paragraph."""

    text: str


class Note(NamedTuple):
    """A paragraph that warns of a wrong conclusion."""

    text: str


class Heading(NamedTuple):
    """The title of a part of a section."""

    text: str


class Points(NamedTuple):
    """A list of points, each with the words that it starts with and what it says about them."""

    points: Sequence[tuple[str, str]]


class Facts(NamedTuple):
    """Names and what they stand for."""

    facts: Sequence[tuple[str, str]]


class Link(NamedTuple):
    """A paragraph that ends with a link."""

    text: str
    label: str
    href: str


class Download(NamedTuple):
    """A whole table as a file inside the page."""

    name: str
    table: pd.DataFrame


class Table(NamedTuple):
    """A table, as columns with their titles, of which the first ``n_labels`` hold words and the others numbers."""

    caption: str
    columns: Columns
    n_labels: int = 1
    download: Download | None = None


class Drawing(NamedTuple):
    """An image file."""

    kind: str
    """Media type."""
    content: bytes
    size: tuple[float, float]
    """Width and height in inches."""


class Picture(NamedTuple):
    """A picture, what it shows in words for those who cannot see it, and its caption."""

    drawing: Drawing
    alt: str
    caption: str


Part = Text | Note | Heading | Points | Facts | Link | Download | Table | Picture


class Section(NamedTuple):
    """A part of the page with a name of its own in its address."""

    key: str
    title: str
    parts: Sequence[Part]
