"""Sections on recall, on cosines and on preserved expression, with the summary."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

import semiclip.pl as pl
from semiclip._report._parts import Download, Table, decimals, illustrate, interval, p_value, share
from semiclip._report._request import SUMMARIES, THRESHOLDS, Request, Results
from semiclip.pl._scores import BASELINES
from semiclip.pl._style import OKABE_ITO
from semiclip.pl._tables import check_table

UNSEEN = "unseen perturbations"
SCORES = {
    "structural_integrity": "Structural integrity",
    "spearman_gene": "Spearman per gene",
    "spearman_sample": "Spearman per sample",
    "preservation": "Score",
}


def summarise(request: Request, results: Results) -> dict[str, Any]:
    """Return the rows to judge each representation by: of the mean and the union, or of the only database."""
    table = results.main
    keys = [key for key in SUMMARIES if (table["key"] == key).any()] or list(table["key"].unique())
    kept = table[table["key"].isin(keys)]
    rows = {name: part.to_dict("records") for name, part in kept.groupby("representation", sort=False)}
    columns = [
        ("Representation", kept["representation"]),
        ("Over the databases" if len(keys) > 1 else "Database", kept["key"]),
        ("Recall", kept["value"].map(share)),
        ("95% interval", map(interval, kept["ci_low"], kept["ci_high"])),
        ("Chance", kept["chance_mean"].map(share)),
        ("p", kept["p_value"].map(p_value)),
    ]
    return {
        "verdicts": [(name, rows[name][0], rows[name][1] if len(keys) > 1 else None) for name in request.names],
        "table": Table("Recall of known relationships at the thresholds 5% and 95%", columns, 2),
    }


def show_recall(request: Request, results: Results) -> dict[str, Any]:
    """Return recall of each database."""
    table = results.main
    columns = [
        ("Representation", table["representation"]),
        ("Database", table["key"]),
        ("Recall", table["value"].map(share)),
        ("95% interval", map(interval, table["ci_low"], table["ci_high"])),
        ("Recalled", table["n_recalled"].map("{:,}".format)),
        ("Pairs", table["n_pairs"].map("{:,}".format)),
        ("Chance", table["chance_mean"].map(share)),
        ("± 2 sd", (2 * table["chance_sd"]).map(share)),
        ("p", table["p_value"].map(p_value)),
    ]
    return illustrate(
        Table("Recall by database", columns, 2, Download("recall", results.recall)),
        lambda ax: pl.recall(table, ax=ax),
        "Bars of recall by database",
        "Bars: recall, with 95% intervals. Dashed line: 10%, what a map that knows nothing recalls. Grey bands: "
        f"mean ± 2 standard deviations over {request.n_permutations:,} exchanges of the gene labels.",
    ) | {"absent": list(table.loc[table["n_pairs"] == 0, "key"].unique())}


def show_curve(results: Results) -> dict[str, Any]:
    """Return recall over the thresholds."""
    table = results.recall[results.recall["key"] == "mean"]
    tails = [f"{100 * (low + 1 - high):g}%" for low, high in THRESHOLDS]
    rows = table.groupby("representation", sort=False)["value"].agg(list).map(lambda values: list(map(share, values)))
    columns = [("Share of all pairs in the tails", rows.index), *zip(tails, zip(*rows, strict=True), strict=True)]
    return illustrate(
        Table("Mean recall by the share of all pairs in the two tails", columns),
        lambda ax: pl.recall_curve(results.recall, ax=ax),
        "Curves of mean recall by the share of all pairs in the tails",
        "Mean recall over the databases with 95% intervals, by the share of all pairs in the tails. Dashed: chance.",
        n_told=len(tails),
        size=(5.2, 3.8),
    )


def show_cosines(results: Results) -> dict[str, Any]:
    """Return how the cosines of annotated pairs lie among all."""
    table = results.similarity
    cuts = table.drop_duplicates("representation")
    columns = [
        ("Representation", cuts["representation"]),
        ("Recalled below", [decimals(cut, 3) for cut in cuts["cut_low"]]),
        ("Recalled above", [decimals(cut, 3) for cut in cuts["cut_high"]]),
    ]
    return illustrate(
        Table("Cosines beyond which a pair is recalled", columns, 1, Download("similarity", table)),
        lambda axes: pl.similarity(table, ax=axes),
        "Histograms of the cosines of all pairs and of the annotated pairs",
        "Grey: all pairs of perturbations. Line: annotated pairs. Shaded: the tails, where a pair is recalled.",
        n_told=2,
        size=(3.0, 2.7),
        panels=len(cuts),
    )


def show_preservation(table: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """Return how much of expression representations preserve; ``names`` have the colours of the other pictures."""
    check_table(table, ["metric", "representation", "key", "value"], "scl.tl.preservation", name="preservation")
    key = UNSEEN if (table["key"] == UNSEEN).any() else str(table["key"].iloc[0])
    seeds = f", means over {table['seed'].nunique()} seeds" if "seed" in table else ""
    coloured = [name for name in dict.fromkeys([*names, *table["representation"].unique()]) if name not in BASELINES]
    palette = dict(zip(coloured, OKABE_ITO, strict=False)) if len(coloured) <= len(OKABE_ITO) else None

    values = table.pivot_table("value", ["representation", "key"], "metric", sort=False, dropna=False, observed=True)
    values = values.reindex(columns=list(SCORES)).dropna(how="all").dropna(axis=1, how="all").rename(columns=SCORES)
    columns = [
        ("Representation", values.index.get_level_values("representation")),
        ("Perturbations", values.index.get_level_values("key").str.removesuffix(" perturbations")),
        *((str(name), [decimals(value, 1 if name == "Score" else 3) for value in values[name]]) for name in values),
    ]
    return illustrate(
        Table(f"Preservation of expression{seeds}", columns, 2, Download("preservation", table)),
        lambda ax: pl.preservation(table, key=key, ax=ax, palette=palette),
        f"Bars of how much expression is preserved, on {key}",
        f"Preservation on {key}{seeds}.",
        n_told=len(SCORES),
    )
