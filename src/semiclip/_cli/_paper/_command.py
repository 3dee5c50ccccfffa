"""``semiclip paper``: runs what is missing, and writes tables, figures and a page."""

from __future__ import annotations

import tomllib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from semiclip._cli._files import check_there, write_text
from semiclip._cli._origins import locate
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
from semiclip.datasets import gene_sets as read_gene_sets
from semiclip.errors import FileExists

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
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
    if "table3" in names and gene_sets is not None:  # a file that cannot be read is found now, not in the end
        with locate({}, settings.name_origin("evaluation.gene_sets")):
            read_gene_sets(gene_sets)
    with _keep_folder(folder):
        write_text(folder / RESOLVED, format_record({COMMAND: command, **settings.tables}))
        results = run_all(plan, {run: sorted(measures) for run, measures in wanted.items()}, folder, n_jobs)
        with quiet():
            sections = [PARTS[name].make(plan, results) for name in names]
            contents = [file for section in sections for file in _list_files(section)]
            contents.append((PAGE, render(plan, sections, results, list_versions()).encode()))
    for name, content in [(SCORES, format_csv(collect(results)).encode()), *contents]:
        write_file(folder / name, content)
    print(f"written to {folder}: {PAGE}, {SCORES}, {', '.join(names)}")


@contextmanager
def _keep_folder(folder: Path) -> Iterator[None]:
    """Leave a folder as it was if nothing comes of a call, but for the runs that were made."""
    record = folder / RESOLVED
    before = record.read_bytes() if record.is_file() else None
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if before is not None:  # it tells of the tables that are still there
            write_file(record, before)
        elif not any(path.is_file() for path in folder.rglob("*") if path != record):
            record.unlink(missing_ok=True)
            for path in (*folder.iterdir(), folder):
                path.rmdir()
        raise


def _check_folder(folder: Path, origin: str, command: dict[str, Any]) -> None:
    """Refuse a folder of others, or of results that would not go together with new ones."""
    what = f"{folder} ({origin})"
    way_out = "pass --overwrite to replace its tables and figures, or choose another folder"
    record = folder / RESOLVED
    if not record.is_file():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise FileExists(what, way_out)
        return
    try:
        before = tomllib.loads(record.read_text(encoding="utf-8"))
    except ValueError:
        raise FileExists(what, way_out) from None
    if not isinstance(before.get(COMMAND), dict) or before[COMMAND].get("name") != command["name"]:
        raise FileExists(what, way_out)
    version = before.get(VERSIONS, {}).get("semiclip")
    if version != list_versions()["semiclip"]:
        raise FileExists(f"{what}, made with semiclip {version},", way_out)
    if before.get(COMMAND) != command:
        raise FileExists(f"{what}, made {'without' if command['quick'] else 'with'} --quick,", way_out)


def _list_files(section: Section) -> Iterator[tuple[str, bytes]]:
    """Yield the data of a table or figure as CSV, and what is printed or drawn of it."""
    if len(section.data.columns):
        yield f"{section.name}.csv", format_csv(section.data).encode()
    if section.grid is not None:
        note = f" {section.note}." if section.note else ""  # the files stand alone, without the page
        grid = section.grid._replace(caption=section.grid.caption + note.replace("..", "."))
        yield f"{section.name}.md", grid.markdown.encode()
        yield f"{section.name}.tex", grid.latex.encode()
    if section.draw is not None:
        yield f"{section.name}.png", section.paint()
