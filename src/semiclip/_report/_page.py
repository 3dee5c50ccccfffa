"""Turns sections into a page; every text passes :func:`html.escape` here and nowhere else."""

from __future__ import annotations

from base64 import b64encode
from functools import singledispatch
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from semiclip._report._parts import Download, Facts, Heading, Link, Note, Part, Picture, Points, Section, Table, Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

INCH = 96  # pixels of CSS


def page(title: str, lead: str, sections: Sequence[Section], *, generator: str) -> str:
    """Return the page as a document that loads nothing."""
    folder = files("semiclip._report")
    template, style = (folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "page.css"))
    contents = (f'<li><a href="#{section.key}">{escape(section.title)}</a></li>' for section in sections)
    return Template(template).substitute(
        title=escape(title),
        lead=escape(lead),
        generator=escape(generator),
        style=style,
        contents="\n".join(contents),
        body="\n".join(map(_section, sections)),
    )


def _section(section: Section) -> str:
    parts = "\n".join(map(_html, section.parts))
    label = f"title-{section.key}"
    return (
        f'<section id="{section.key}" aria-labelledby="{label}">\n<h2 id="{label}">{escape(section.title)}</h2>\n'
        f"{parts}\n</section>"
    )


@singledispatch
def _html(part: Part) -> str:
    msg = f"no {type(part).__name__} on a page"
    raise TypeError(msg)


@_html.register
def _(part: Text) -> str:
    return f"<p>{escape(part.text)}</p>"


@_html.register
def _(part: Note) -> str:
    return f'<p class="note">{escape(part.text)}</p>'


@_html.register
def _(part: Heading) -> str:
    return f"<h3>{escape(part.text)}</h3>"


@_html.register
def _(part: Points) -> str:
    points = (f"<li><strong>{escape(start)}</strong> {escape(rest)}</li>" for start, rest in part.points)
    return f"<ul>\n{_lines(points)}\n</ul>"


@_html.register
def _(part: Facts) -> str:
    facts = (f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in part.facts)
    return f"<dl>\n{_lines(facts)}\n</dl>"


@_html.register
def _(part: Link) -> str:
    return f'<p>{escape(part.text)} <a href="{escape(part.href)}" rel="noreferrer">{escape(part.label)}</a></p>'


@_html.register
def _(part: Download) -> str:
    data = _data("text/csv", part.table.to_csv(index=False, lineterminator="\n").encode())
    rows = f"{len(part.table):,} row{'s' * (len(part.table) != 1)}"
    return (
        f'<p class="download"><a download="{escape(part.name)}" href="{data}">{escape(part.name)}</a> '
        f"({rows}, inside this page)</p>"
    )


@_html.register
def _(part: Table) -> str:
    head = "".join(f'<th scope="col"{_number(i, part)}>{escape(name)}</th>' for i, (name, _) in enumerate(part.columns))
    rows = (_row(row, part) for row in zip(*(values for _, values in part.columns), strict=True))
    table = (
        f"<table>\n<caption>{escape(part.caption)}</caption>\n<thead><tr>{head}</tr></thead>\n"
        f"<tbody>\n{_lines(rows)}\n</tbody>\n</table>"
    )
    # a wide table scrolls inside its box, with the keyboard too
    box = f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(part.caption)}">\n{table}\n</div>'
    return box if part.download is None else f"{box}\n{_html(part.download)}"


@_html.register
def _(part: Picture) -> str:
    kind, content, (width, height) = part.drawing
    size = f'width="{width * INCH:.0f}" height="{height * INCH:.0f}"'
    image = f'<img src="{_data(kind, content)}" alt="{escape(part.alt)}" {size}>'
    return f"<figure>\n{image}\n<figcaption>{escape(part.caption)}</figcaption>\n</figure>"


def _row(row: Sequence[str], table: Table) -> str:
    first, *rest = row
    cells = "".join(f"<td{_number(i, table)}>{escape(cell)}</td>" for i, cell in enumerate(rest, 1))
    return f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'


def _number(column: int, table: Table) -> str:
    return ' class="number"' if column >= table.n_labels else ""


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)
