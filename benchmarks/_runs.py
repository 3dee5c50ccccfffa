"""Many runs of a benchmark: those whose results a file has are not made again."""

from __future__ import annotations

import hashlib
import json
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from semiclip._cli._paper._jobs import do_all
from semiclip._cli._paper._material import list_warnings
from semiclip._cli._paper._perform import quiet
from semiclip._storage import write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


def make_runs(
    jobs: Sequence[dict[str, Any]], work: Callable[[dict[str, Any]], dict[str, Any]], out: Path, n_processes: int
) -> pd.DataFrame:
    """Return the result of each job, and add to ``out`` those that it lacks.

    Each of them has a file of its own first, beside ``out``, from which an interrupted call goes on.
    """
    rows = {name_of(row, jobs[0]): row for row in read_rows(out)}
    names = [name_of(job, job) for job in jobs]
    missing = {name: job for name, job in zip(names, jobs, strict=True) if name not in rows}
    folder = out.with_suffix(".runs")
    paths = {name: folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.json" for name in missing}
    left = {paths[name]: (job,) for name, job in missing.items() if not paths[name].exists()}
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
    do_all(partial(run, work), left, n_processes, out.stem)
    if missing:
        rows |= {name: json.loads(path.read_bytes()) for name, path in paths.items()}
        write_file(out, "".join(json.dumps(row) + "\n" for row in rows.values()).encode())
    return pd.DataFrame([rows[name] for name in names])


def read_rows(out: Path) -> list[dict[str, Any]]:
    """Read the results of a file that need not exist."""
    return [json.loads(line) for line in out.read_bytes().splitlines()] if out.exists() else []


def name_of(row: dict[str, Any], job: dict[str, Any]) -> str:
    """What tells a job from the others."""
    return json.dumps([row.get(name) for name in job])


def run(work: Callable[[dict[str, Any]], dict[str, Any]], job: dict[str, Any]) -> bytes:
    """Return a job with its result as JSON, and print what the package warned of."""
    with quiet() as told:
        row = {**job, **work(job)}
    for text in list_warnings(told):
        print(f"{job}: {text}", file=sys.stderr)
    return json.dumps(row).encode()
