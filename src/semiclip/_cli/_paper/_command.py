"""``semiclip paper``: runs what is missing, and writes tables, figures and a page."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from semiclip._cli._files import check_there, write_text
from semiclip._cli._paper._checks import check_material
from semiclip._cli._paper._material import read_material
from semiclip._cli._paper._page import render
from semiclip._cli._paper._parts import PARTS
from semiclip._cli._paper._perform import quiet
from semiclip._cli._paper._plan import read_plan
from semiclip._cli._paper._store import collect, run_all
from semiclip._cli._record import RESOLVED, format_record, list_versions
from semiclip._cli._toml import COMMAND, VERSIONS
from semiclip._csv import format_csv
from semiclip._storage import write_file
from semiclip.errors import FileExists

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from semiclip._cli._paper._plan import Run
    from semiclip._cli._paper._section import Section
    from semiclip._cli._settings import Settings

PAGE, SCORES = "paper.html", "runs.csv"


def make_paper(settings: Settings, only: Sequence[str], n_jobs: int, *, quick: bool, overwrite: bool) -> None:
    """Make the tables and figures that are asked for; results that are there are not made again."""
    folder = settings.need("output.folder")
    gene_sets = settings.evaluation.gene_sets
    check_there(gene_sets, settings.name_origin("evaluation.gene_sets"))
    plan = read_plan(settings, quick=quick)
    command = {"name": "paper", "quick": quick}
    if not overwrite:
        _check_folder(folder, settings.name_origin("output.folder"), command)
    with quiet():
        check_material(plan, read_material(plan, plan.seeds[0]))
    names = list(only) or list(PARTS)
    wanted: dict[Run, set[str]] = {}
    for name in names:
        for run, measures in PARTS[name].list_runs(plan).items():
            wanted[run] = wanted.get(run, set()) | measures
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / RESOLVED, format_record({COMMAND: command, **settings.tables}))
    results = run_all(plan, {run: sorted(measures) for run, measures in wanted.items()}, folder, n_jobs)
    write_text(folder / SCORES, format_csv(collect(results)))
    with quiet():
        sections = [PARTS[name].make(plan, results) for name in names]
        for section in sections:
            _write_section(section, folder)
        write_text(folder / PAGE, render(plan, sections, results, list_versions()))
    print(f"written to {folder}: {PAGE}, {SCORES}, {', '.join(names)}")


def _check_folder(folder: Path, origin: str, command: dict[str, Any]) -> None:
    """Refuse a folder of others, or of results that would not go together with new ones."""
    what, way_out = (
        f"{folder} ({origin})",
        "pass --overwrite to replace its tables and figures, or choose another folder",
    )
    record = folder / RESOLVED
    if not record.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExists(what, way_out)
        return
    before = tomllib.loads(record.read_text(encoding="utf-8"))
    version = before.get(VERSIONS, {}).get("semiclip")
    if version != list_versions()["semiclip"]:
        raise FileExists(f"{what}, made with semiclip {version},", way_out)
    if before.get(COMMAND) != command:
        raise FileExists(f"{what}, made {'without' if command['quick'] else 'with'} --quick,", way_out)


def _write_section(section: Section, folder: Path) -> None:
    """Write the data of a table or figure as CSV, and what is printed or drawn of it."""
    if len(section.data.columns):
        write_text(folder / f"{section.name}.csv", format_csv(section.data))
    if section.grid is not None:
        write_text(folder / f"{section.name}.md", section.grid.markdown)
        write_text(folder / f"{section.name}.tex", section.grid.latex)
    if section.draw is not None:
        write_file(folder / f"{section.name}.png", section.paint())
