"""The results of runs, a file for each: the next call goes on from those that are there."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pandas as pd

from semiclip._cli._paper._jobs import do_all
from semiclip._cli._paper._perform import Result, make_views, name_views, perform
from semiclip._damage import say_reason
from semiclip.errors import DamagedFile

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from semiclip._cli._paper._plan import Plan, Run

Results = dict["Run", Result]
RUNS, VIEWS = "runs", "views"


def run_all(plan: Plan, wanted: Mapping[Run, Collection[str]], folder: Path, n_jobs: int) -> Results:
    """Make what is missing, and return all results; whoever is interrupted loses the runs of that moment."""
    for name in (RUNS, VIEWS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    views = dict.fromkeys((run.seed, kind) for run in wanted for kind in run.views)
    files = {folder / VIEWS / name_views(plan, seed, kind): (plan, seed, kind) for seed, kind in views}
    do_all(make_views, {path: job for path, job in files.items() if not path.exists()}, n_jobs, "views")
    results, missing = {}, []
    for run, measures in wanted.items():
        result = _read(_locate(plan, run, folder))
        if result is None or not (result.failure or {*measures} <= {*result.tables}):
            missing.append((plan, run, tuple(measures), folder))
        else:
            results[run] = result
    missing.sort(key=lambda job: job[1].seed)  # the data of a seed are read once by each process
    do_all(_complete, {_locate(plan, job[1], folder): job for job in missing}, n_jobs, "runs")
    for _, run, _, _ in missing:
        results[run] = _read(_locate(plan, run, folder))  # type: ignore[assignment]  # it was written just now
    return {run: results[run] for run in wanted}


def collect(results: Results) -> pd.DataFrame:
    """Return the recall and preservation of all runs, a row for each figure."""
    rows: list[dict[Any, Any]] = []
    for run, result in results.items():
        what: dict[str, Any] = {"run": run.title, "method": run.method, "seed": run.seed, "failure": result.failure}
        tables = [table for measure, table in result.tables.items() if measure in ("recall", "preservation")]
        rows += [what | row for table in tables for row in table.to_dict("records")] or [what]
    return pd.DataFrame(rows)


def _complete(plan: Plan, run: Run, measures: tuple[str, ...], folder: Path) -> bytes:
    """Perform a run, and return its file: what it measured now and before."""
    before = _read(_locate(plan, run, folder))
    kept = before.tables if before else {}
    result = perform(plan, run, [measure for measure in measures if measure not in kept], folder / VIEWS)
    tables = {
        name: json.loads(table.to_json(orient="split", double_precision=15))
        for name, table in sorted({**kept, **result.tables}.items())
    }
    contents: dict[str, Any] = {
        "run": run.title,
        "settings": result.settings,
        "failure": result.failure,
        "warnings": sorted({*result.warnings, *(before.warnings if before else [])}),
    }
    contents["tables"] = tables
    return json.dumps(contents, indent=1).encode()


def _locate(plan: Plan, run: Run, folder: Path) -> Path:
    title = re.sub(r"[^\w.+-]+", "_", run.title)
    return folder / RUNS / f"{title}-{plan.digest(run)}.json"


def _read(path: Path) -> Result | None:
    """Return a result that was kept, if there is one."""
    if not path.exists():
        return None
    try:
        contents = json.loads(path.read_bytes())
        tables = {
            name: pd.DataFrame(table["data"], columns=table["columns"]) for name, table in contents["tables"].items()
        }
        return Result(tables, contents["settings"], contents["failure"], contents["warnings"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFile(path, say_reason(error), "delete it, and the run is made again") from error
