"""Scores of runs as one table: recall and preservation in percent, a row for each method, arm, unseen set and seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._cli._paper._perform import PRESERVATION, RECALL, UNSEEN
from semiclip._cli._paper._plan import BASE, PEA, RANDOM, UNIMODAL, Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from semiclip._cli._paper._plan import Plan
    from semiclip._cli._paper._store import Results

CORRECTED = {"tvn": "TVN", "center": "centring"}  # of embeddings, before recall
METRICS = (PRESERVATION, RECALL)
TITLES = {PRESERVATION: "Tx preservation", RECALL: "Known relationships"}
SCORES = ["name", "dataset", "metric", "seed", "value", "failure"]


def list_runs(plan: Plan, **fields: Any) -> list[Run]:
    """Return a run for each seed."""
    return [Run(seed=seed, **fields) for seed in plan.seeds]


def name_arm(plan: Plan, run: Run) -> str:
    """Return how a table calls a run: its method, and PEA if it has it."""
    label = plan.methods[run.method].label
    return f"{label} + PEA" if run.rung == PEA else label


def read_scores(
    plan: Plan, results: Results, named: Iterable[tuple[str, Run]], metrics: Sequence[str] = METRICS
) -> pd.DataFrame:
    """Return the scores of runs under these names, with a row for each name, unseen set, metric and seed."""
    rows: list[tuple[Any, ...]] = []
    for name, run in named:
        result = results[run]
        tables = result.tables
        if result.failure:
            rows.append((name, None, None, run.seed, np.nan, result.failure))
        if RECALL in tables and RECALL in metrics:
            table = tables[RECALL]
            mean = table[(table["key"] == "mean") & (table["correction"] == plan.correction)]
            rows += [
                (name, dataset, RECALL, run.seed, 100 * value, "")
                for dataset, value in zip(mean["dataset"], mean["value"], strict=True)
            ]
        if PRESERVATION in tables and PRESERVATION in metrics:
            table = tables[PRESERVATION]
            score = table[(table["metric"] == "preservation") & (table["key"] == UNSEEN)]
            rows += [
                (name, dataset, PRESERVATION, run.seed, value, "")
                for dataset, value in zip(score["dataset"], score["value"], strict=True)
            ]
    return pd.DataFrame(rows, columns=SCORES)


def summarise(scores: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return mean and standard deviation over the seeds of each group, in order of appearance."""
    groups = scores.dropna(subset="value").groupby(list(by), sort=False)["value"]
    return groups.agg(mean="mean", sd="std", n_seeds="count").reset_index()


def list_failed(summary: pd.DataFrame, rows: Iterable[tuple[str, ...]], by: list[str]) -> pd.DataFrame:
    """Return a row for each of these, of no seeds where every seed failed."""
    table = pd.DataFrame(rows, columns=by).merge(summary, how="left", on=by)
    return table.assign(n_seeds=table["n_seeds"].fillna(0).astype(int))


def name_failures(scores: pd.DataFrame) -> str:
    """Say which runs have no figures."""
    failed = scores[scores["failure"] != ""]
    counts = failed.groupby(["name", "failure"], sort=False)["seed"].nunique().reset_index()
    return "; ".join(f"{row.name}: {row.seed} seed(s) {row.failure}" for row in counts.itertuples(index=False))


def baselines(plan: Plan) -> list[tuple[str, Run]]:
    """Return the runs of the baselines, named."""
    return [(plan.methods[name].label, run) for name in (RANDOM, UNIMODAL) for run in list_runs(plan, method=name)]


def arms(plan: Plan, names: Iterable[str], *, with_pea: bool = False) -> list[tuple[str, Run]]:
    """Return the runs of methods, named, without augmentation or also with PEA where a method can have it."""
    return [
        (name_arm(plan, run), run)
        for name in dict.fromkeys(names)
        for rung in (plan.list_rungs(name) if with_pea else [BASE])
        for run in list_runs(plan, method=name, rung=rung)
    ]
