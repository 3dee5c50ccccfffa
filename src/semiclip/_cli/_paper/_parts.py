"""The tables and figures by name: which runs each needs, and how it is made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from semiclip._cli._paper import _figures, _overlaps, _tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from semiclip._cli._paper._plan import Plan
    from semiclip._cli._paper._section import Section
    from semiclip._cli._paper._store import Results
    from semiclip._cli._paper._tables import Wanted


class Part(NamedTuple):
    """A table or figure."""

    list_runs: Callable[[Plan], Wanted]
    make: Callable[[Plan, Results], Section]


PARTS: dict[str, Part] = {
    "table1": Part(_tables.list_table1, _tables.make_table1),
    "table2": Part(_tables.list_table2, _tables.make_table2),
    "table3": Part(_tables.list_sets, _tables.make_table3),
    "figure1": Part(_figures.list_figure1, _figures.make_figure1),
    "figure2a": Part(_figures.list_figure2a, _figures.make_figure2a),
    "figure2b": Part(_figures.list_figure2b, _figures.make_figure2b),
    "figure3": Part(_figures.list_figure3, _figures.make_figure3),
    "figure4": Part(_tables.list_sets, _overlaps.make_figure4),
    "figure5": Part(_tables.list_sets, _overlaps.make_figure5),
    "figure6": Part(_overlaps.list_null, _overlaps.make_figure6),
    "figure7": Part(_overlaps.list_null, _overlaps.make_figure7),
}
