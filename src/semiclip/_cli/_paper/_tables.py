"""Tables 1 to 3."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pandas as pd

import semiclip as scl
from semiclip._cli._paper import _published as published
from semiclip._cli._paper._grid import NONE, Cell, Grid, place, write_mean
from semiclip._cli._paper._material import read_gene_sets
from semiclip._cli._paper._perform import PRESERVATION, RECALL, SETS
from semiclip._cli._paper._plan import IMG, TX, Run
from semiclip._cli._paper._scores import (
    CORRECTED,
    METRICS,
    TITLES,
    arms,
    baselines,
    list_failed,
    list_runs,
    name_failures,
    read_scores,
    summarise,
)
from semiclip._cli._paper._section import Section
from semiclip.correction import LADDER
from semiclip.tl._sets import NOT_SETS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from semiclip._cli._paper._perform import Result
    from semiclip._cli._paper._plan import Plan
    from semiclip._cli._paper._store import Results

Wanted = dict[Run, set[str]]
CELL = ["name", "dataset", "metric"]  # of Table 1
N_GENE_SETS = 5  # of each region; all are in the file
LEVEL = 0.05


def list_table1(plan: Plan) -> Wanted:
    """Return the runs of Table 1."""
    return {run: {RECALL, PRESERVATION} for _, run in [*baselines(plan), *arms(plan, plan.in_tables, with_pea=True)]}


def make_table1(plan: Plan, results: Results) -> Section:
    """Return what each method preserves and recalls with and without PEA, on every unseen set."""
    scores = read_scores(plan, results, [*baselines(plan), *arms(plan, plan.in_tables, with_pea=True)])
    summary = _compare_arms(scores, summarise(scores, CELL))
    measured = set(zip(summary["dataset"], summary["metric"], strict=True))
    columns = [column for column in product(plan.sets, METRICS) if column in measured]
    names = list(dict.fromkeys(scores["name"]))
    summary = list_failed(summary, [(name, *column) for name, column in product(names, columns)], CELL)
    by_cell: dict[Any, Any] = {(row.name, row.dataset, row.metric): row for row in summary.itertuples(index=False)}
    cells: dict[str, list[Cell]] = {name: [] for name in names}
    for column in columns:
        rows = [by_cell[name, *column] for name in names]
        for name, row, rank in zip(names, rows, place([row.mean for row in rows]), strict=True):
            cells[name].append(Cell(write_mean(row.mean, row.sd), rank, _point(row.difference)))
    groups = [(name, n) for name in plan.sets if (n := sum(column[0] == name for column in columns))]
    caption = (
        f"Mean ± standard deviation over {len(plan.seeds)} seeds, in percent. Arrows: change by PEA. "
        f"Best in bold, second underlined. Recall after {CORRECTED[plan.correction]} of the embedding."
    )
    grid = Grid(caption, groups, [TITLES[metric] for _, metric in columns], list(cells.items()), "Method")
    title = "What each method preserves and recalls, with and without PEA"
    note = name_failures(scores)
    return Section("table1", "Table 1", title, summary, grid, published=_quote_table1(plan), note=note)


def _point(difference: float) -> str:
    """Return the arrow of a change."""
    return "up" if difference > 0 else "down" if difference < 0 else ""


def _compare_arms(scores: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Add to each arm with PEA how it differs from that without, over the seeds that have both."""
    compared = []
    for name in dict.fromkeys(scores["name"]):
        base = name.removesuffix(" + PEA")
        both = scores[scores["name"].isin([name, base])].dropna(subset="value")
        both = both[both.groupby(["dataset", "metric", "seed"])["name"].transform("size") == 2]
        if base != name and not both.empty:
            table = scl.tl.compare(both, base=base, by="name", within=["dataset", "metric"])
            compared.append(table[table["name"] == name].assign(base=base))
    kept = ["name", "dataset", "metric", "base", "difference", "p_value", "p_min"]
    table = pd.concat(compared)[kept] if compared else pd.DataFrame(columns=kept)
    return summary.merge(table, on=kept[:3], how="left")


def _quote_table1(plan: Plan) -> Grid | None:
    """Return Table 1 of the paper for the sets that this study names."""
    quoted = {name: one.paper for name, one in plan.settings.unseen.items() if one.paper in published.SETS}
    if not quoted:
        return None
    places = [published.SETS.index(str(paper)) for paper in quoted.values()]
    rows = [
        (name, [Cell(write_mean(*values[2 * i + j])) for i in places for j in range(len(METRICS))])
        for name, values in published.TABLE1.items()
    ]
    groups = [(str(paper), len(METRICS)) for paper in quoted.values()]
    caption = f"Table 1 of the paper, on its own data: {published.SOURCE}."
    return Grid(caption, groups, [TITLES[metric] for _ in places for metric in METRICS], rows, "Method")


def list_table2(plan: Plan) -> Wanted:
    """Return the runs of Table 2."""
    rungs, names = (LADDER if plan.has_controls else ()), _list_augmented(plan)
    return {run: {RECALL} for name in names for rung in rungs for run in list_runs(plan, method=name, rung=rung)}


def _list_augmented(plan: Plan) -> list[str]:
    """Return the methods that can be augmented, since they train an adapter."""
    return [name for name in plan.in_tables if plan.methods[name].is_trained]


def make_table2(plan: Plan, results: Results) -> Section:
    """Return what each part of PEA adds to the recall of each method, on the main unseen set."""
    title = f"Recall of known relationships on {plan.main}, as parts of PEA are added"
    names = _list_augmented(plan)
    if not plan.has_controls or not names:
        why = "no method trains an adapter" if plan.has_controls else "the training data have no controls"
        return Section("table2", "Table 2", title, missing=f"Nothing can be augmented: {why}.")
    parts = []
    for name in names:
        named = [(rung, run) for rung in LADDER for run in list_runs(plan, method=name, rung=rung)]
        parts.append(read_scores(plan, results, named, [RECALL]).assign(method=plan.methods[name].label))
    scores = pd.concat(parts, ignore_index=True).rename(columns={"name": "rung"})
    held = scores[scores["dataset"] == plan.main]
    labels, by = [plan.methods[name].label for name in names], ["method", "rung"]
    summary = list_failed(summarise(held, by), product(labels, LADDER), by)
    cells: dict[str, list[Cell]] = {rung: [] for rung in LADDER}
    for label in labels:
        by_rung: dict[Any, Any] = {row.rung: row for row in summary[summary["method"] == label].itertuples(index=False)}
        rows = [by_rung[rung] for rung in LADDER]
        for rung, row, rank in zip(LADDER, rows, place([row.mean for row in rows]), strict=True):
            cells[rung].append(Cell(write_mean(row.mean, row.sd), rank % 2))
    caption = f"Mean ± standard deviation over {len(plan.seeds)} seeds, in percent. Best of each method in bold."
    quoted = None
    if plan.settings.unseen[plan.main].paper in published.SETS:
        quoted_rows = [
            (rung, [Cell(f"{values[i]:.2f}") for values in published.TABLE2.values()]) for i, rung in enumerate(LADDER)
        ]
        caption_of_paper = f"Table 2 of the paper, on HUVEC-KO: {published.SOURCE}."
        quoted = Grid(caption_of_paper, [], list(published.TABLE2), quoted_rows, "Part")
    note = name_failures(scores.assign(name=scores["method"] + ", " + scores["rung"]))
    grid = Grid(caption, [], labels, list(cells.items()), "Part")
    return Section("table2", "Table 2", title, summary, grid, published=quoted, note=note)


def list_sets(plan: Plan) -> Wanted:
    """Return the runs of Table 3 and of Figures 4 and 5: one seed of each method, with PEA if it can be."""
    return {Run(plan.seeds[0], name, plan.list_rungs(name)[-1]): {SETS} for name in plan.in_tables}


def select_sets(result: Result, measure: str, dataset: str) -> pd.DataFrame:
    """Return the sets of recalled pairs of one unseen set; another one may have images."""
    table = result.tables[measure]
    table = table[table["dataset"] == dataset].drop(columns="dataset").dropna(axis=1, how="all")
    return table.astype({name: bool for name in table if name not in NOT_SETS}).reset_index(drop=True)


def make_table3(plan: Plan, results: Results) -> Section:
    """Return the gene sets of what each method alone recalls, and of what it shares with images alone."""
    title = f"Gene sets of relationships that only distillation recalls, on {plan.main}"
    gene_sets = read_gene_sets(plan.settings, plan.seeds[0])
    if gene_sets is None:
        return Section("table3", "Table 3", title, missing="The study names no gene sets (evaluation.gene_sets).")
    tables = []
    for run in list_sets(plan):
        if results[run].failure:
            continue
        sets, label = select_sets(results[run], SETS, plan.main), plan.methods[run.method].label
        for region, inside, outside in _list_regions(label, has_images=IMG in sets):
            try:
                table = scl.tl.enrich(sets, inside=inside, outside=outside, gene_sets=gene_sets, background=label)
            except scl.errors.TooFew:  # no gene set is that large in what the method recalls
                continue
            tables.append(table.assign(method=label, region=region))
    data = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["method", "region", "p_value"])
    shown = data[data["p_value"] < LEVEL].groupby(["method", "region"], sort=False).head(N_GENE_SETS)
    rows = [
        (
            str(row.gene_set),
            [
                Cell(str(row.region)),
                Cell(f"{row.n_overlap} of {row.n_set}"),
                Cell(f"{row.p_value:.2g}"),
                Cell(f"{row.p_adjusted:.2g}"),
            ],
        )
        for row in shown.itertuples()
    ] or [(f"none with p < {LEVEL}", [Cell(NONE)] * 4)]
    caption = (
        f"Over-representation of genes (hypergeometric) against all that the method recalls; p < {LEVEL}, at most "
        f"{N_GENE_SETS} for each region, all in the file; seed {plan.seeds[0]}. Adjusted: Benjamini and Hochberg."
    )
    note = "The genes of an annotated pair mostly share gene sets: raw p-values of genes overstate what is found."
    quoted = None
    if plan.settings.unseen[plan.main].paper in published.SETS:
        n_shared, smallest = published.TABLE3_SHARED
        name, p = published.TABLE3_ONLY
        quoted_rows = [
            (f"Semi-Clipped ∖ (Tx ∪ Img): {name.capitalize()}", [Cell("1"), Cell(f"{p:.4f}")]),
            ("(Semi-Clipped ∩ Img) ∖ Tx", [Cell(f"{n_shared}"), Cell(f"{smallest:.4f}")]),
        ]
        caption_of_paper = f"Table 3 of the paper, in short: {published.SOURCE}."
        quoted = Grid(caption_of_paper, [], ["Pathways", "Smallest p"], quoted_rows, "Source set")
    grid = Grid(caption, [], ["Source set", "Genes", "p", "Adjusted p"], rows, "Gene set")
    return Section("table3", "Table 3", title, data, grid, published=quoted, note=note)


def _list_regions(label: str, *, has_images: bool) -> Iterable[tuple[str, list[str], list[str]]]:
    """Return names of regions, what lies inside them and what outside."""
    if not has_images:
        return [(f"{label} ∖ Tx", [label], [TX])]
    return [(f"{label} ∖ (Tx ∪ Img)", [label], [TX, IMG]), (f"({label} ∩ Img) ∖ Tx", [label, IMG], [TX])]
