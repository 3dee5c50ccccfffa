"""Sections on the data and on the recall of known relationships, with the summary."""

from typing import Any

import numpy as np

import semiclip.pl as pl
from semiclip._report._format import count, decimals, interval, p_value, share
from semiclip._report._parts import Columns, Download, Table, draw_picture
from semiclip._report._request import SUMMARIES, THRESHOLDS, Request, Results


def summarise(request: Request, results: Results) -> dict[str, Any]:
    """Return the rows to judge each representation by: of the mean and the union, or of the only database."""
    table = results.main
    keys = [key for key in SUMMARIES if (table["key"] == key).any()] or list(table["key"].unique())
    kept = table[table["key"].isin(keys)]
    rows = {name: part.to_dict("records") for name, part in kept.groupby("representation", sort=False)}
    compared: list[tuple[Any, ...]] = []
    if results.gains_losses is not None:
        counts = results.gains_losses.set_index("representation")[["gains", "losses", "preserved"]]
        compared = list(counts.itertuples(name=None))
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
        "compared": compared,
    }


def describe_data(request: Request, results: Results) -> dict[str, Any]:
    """Count what went in."""
    adata, design = request.adata, request.design
    is_control = design.controls(adata)
    n_rows = design.perturbations(adata)[~is_control].value_counts()
    n_rows = n_rows[n_rows > 0]  # categories without a row
    codes, batches = design.batches(adata)
    n_controls = np.bincount(codes[is_control], minlength=len(batches))
    union = results.recall[results.recall["key"] == "union"].iloc[0]
    of_rows = f"{count(n_rows.max(), 'observation')} each"
    if n_rows.min() < n_rows.max():
        of_rows = f"{n_rows.min():,} to {of_rows} (median {n_rows.median():g})"
    in_batches = f"{len(batches):,}" if design.batch_key is not None else "none named; all observations are one batch"
    controls = "none; all observations are the reference of the correction"
    if is_control.any():
        controls = f"at least {n_controls.min():,}, median {np.median(n_controls):g}"
    facts = [
        ("Observations", f"{adata.n_obs:,}, of which {is_control.sum():,} controls"),
        ("Perturbations", f"{len(n_rows):,}, with {of_rows}"),
        ("Batches", in_batches),
        ("Controls per batch", controls),
        ("Perturbations with an annotated pair", f"{union['n_annotated']:,} of {union['n_genes']:,}"),
        ("Annotated pairs", f"{union['n_pairs']:,} with both genes in the map, each counted once"),
    ]
    ranks = results.main.drop_duplicates("representation").set_index("representation")["rank"]
    width = [adata.X.shape[1] if name == "X" else adata.obsm[name].shape[1] for name in request.names]
    columns: Columns = [
        ("Representation", request.names),
        ("Dimensions", [count(n) for n in width]),
        ("Kept by the correction", [count(ranks[name]) for name in request.names]),
    ]
    return {"facts": facts, "table": Table("Representations", columns)}


def show_recall(request: Request, results: Results) -> dict[str, Any]:
    """Return recall of each database."""
    table = results.main
    columns: Columns = [
        ("Representation", table["representation"]),
        ("Database", table["key"]),
        ("Recall", table["value"].map(share)),
        ("95% interval", map(interval, table["ci_low"], table["ci_high"])),
        ("Recalled", table["n_recalled"].map(count)),
        ("Pairs", table["n_pairs"].map(count)),
        ("Chance", table["chance_mean"].map(share)),
        ("± 2 sd", (2 * table["chance_sd"]).map(share)),
        ("p", table["p_value"].map(p_value)),
    ]
    values = "; ".join(
        f"{name}: " + ", ".join(f"{key} {share(value)}" for key, value in zip(part["key"], part["value"], strict=True))
        for name, part in table.groupby("representation", sort=False)
    )
    picture = draw_picture(
        lambda ax: pl.recall(table, ax=ax),
        f"Bars of recall by database. {values}.",
        "Bars: recall, with 95% intervals. Dashed line: 10%, what a map that knows nothing recalls. Grey bands: "
        f"mean ± 2 standard deviations over {request.n_permutations:,} exchanges of the gene labels.",
    )
    shown = Table("Recall by database", columns, 2, Download("recall.csv", results.recall))
    return {"picture": picture, "table": shown, "absent": list(table.loc[table["n_pairs"] == 0, "key"].unique())}


def show_curve(results: Results) -> dict[str, Any]:
    """Return recall over the thresholds."""
    table = results.recall[results.recall["key"] == "mean"]
    tails = [f"{100 * (low + 1 - high):g}%" for low, high in THRESHOLDS]
    rows = table.groupby("representation", sort=False)["value"].agg(list).map(lambda values: list(map(share, values)))
    columns: Columns = [
        ("Share of all pairs in the tails", rows.index),
        *zip(tails, zip(*rows, strict=True), strict=True),
    ]
    values = "; ".join(f"{name}: {', '.join(shares)}" for name, shares in rows.items())
    picture = draw_picture(
        lambda ax: pl.recall_curve(results.recall, ax=ax),
        f"Curves of mean recall where {', '.join(tails)} of all pairs are in the tails. {values}.",
        "Mean recall over the databases with 95% intervals, by the share of all pairs in the tails. Dashed: chance.",
        size=(5.2, 3.8),
    )
    return {"picture": picture, "table": Table("Mean recall by the share of all pairs in the two tails", columns)}


def show_cosines(request: Request, results: Results) -> dict[str, Any]:
    """Return how the cosines of annotated pairs lie among all."""
    table = results.similarity
    cuts = table.drop_duplicates("representation")
    below, above = ([decimals(cut, 3) for cut in cuts[name]] for name in ("cut_low", "cut_high"))
    columns: Columns = [
        ("Representation", cuts["representation"]),
        ("Recalled below", below),
        ("Recalled above", above),
    ]
    values = "; ".join(
        f"{name}: recalled below {low} and above {high}"
        for name, low, high in zip(cuts["representation"], below, above, strict=True)
    )
    picture = draw_picture(
        lambda axes: pl.similarity(table, ax=axes),
        f"Histograms of the cosines of all pairs and of the annotated pairs. {values}.",
        "Grey: all pairs of perturbations. Line: annotated pairs. Shaded: the tails, where a pair is recalled.",
        size=(3.0, 2.7),
        panels=len(request.names),
    )
    shown = Table("Cosines beyond which a pair is recalled", columns, 1, Download("similarity.csv", table))
    return {"picture": picture, "table": shown}
