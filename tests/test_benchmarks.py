"""What benchmarks share: their studies are plans, and their runs go on from what was made."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pandas as pd
import pytest

from semiclip._cli._paper._parts import PARTS
from semiclip._cli._paper._plan import read_plan
from semiclip._cli._toml import read_settings

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
STUDIES = sorted((BENCHMARKS / "studies").glob("*.toml"))


@pytest.mark.parametrize("path", STUDIES, ids=[path.stem for path in STUDIES])
def test_a_study_is_a_plan_for_the_parts_that_it_names(path):
    plan = read_plan(read_settings(path, {}), quick=False)
    command = next(line for line in path.read_text(encoding="utf-8").splitlines() if "semiclip paper" in line)
    assert command.split()[3] == f"benchmarks/studies/{path.name}"
    parts = command.split(" --only ")[1].split()
    runs = {run for name in parts for run in PARTS[name].list_runs(plan)}
    assert {run.seed for run in runs} == set(plan.seeds)


@pytest.fixture
def runs(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("_runs")


def fail_on(jobs):
    """Work that fails on these jobs."""

    def work(job):
        if job in jobs:
            raise ZeroDivisionError
        return {"recall": job["seed"] / 3, "p_value": float("nan")}

    return work


def test_a_benchmark_goes_on_from_any_of_its_results(runs, tmp_path):
    jobs = [{"method": name, "seed": seed} for name in ("ä", "b") for seed in (0, 1)]
    expected = runs.make_runs(jobs, fail_on([]), tmp_path / "whole.jsonl", 1)
    assert expected["recall"].tolist() == [0, 1 / 3, 0, 1 / 3]
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["method"] for line in lines] == ["ä", "ä", "b", "b"]
    for mask in range(2 ** len(jobs)):
        there = [bool(mask >> i & 1) for i in range(len(jobs))]
        out = tmp_path / f"{mask}.jsonl"
        out.write_bytes(b"".join(line for line, kept in zip(lines, there, strict=True) if kept))
        known = [job for job, kept in zip(jobs, there, strict=True) if kept]
        table = runs.make_runs(jobs, fail_on(known), out, 1)  # what is there is not done again
        pd.testing.assert_frame_equal(table, expected)
        assert sorted(out.read_bytes().splitlines(keepends=True)) == sorted(lines)
        assert out.read_bytes().startswith(b"".join(lines[i] for i in range(len(jobs)) if there[i]))


def test_a_benchmark_that_breaks_off_keeps_what_it_has(runs, tmp_path):
    jobs, out = [{"seed": seed} for seed in range(4)], tmp_path / "results.jsonl"
    with pytest.raises(ZeroDivisionError):
        runs.make_runs(jobs, fail_on(jobs[2:]), out, 1)
    assert not out.exists()
    table = runs.make_runs(jobs, fail_on(jobs[:2]), out, 1)
    assert table["recall"].tolist() == [0, 1 / 3, 2 / 3, 1]
