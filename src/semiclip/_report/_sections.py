"""The sections of the page, a function each: what it shows, ready for the templates."""

import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

import semiclip.pl as pl
import semiclip.tl as tl
from semiclip._report._parts import Download, Table, count, decimals, illustrate, interval, listed, p_value, share
from semiclip._report._request import SUMMARIES, THRESHOLDS, Request, Results
from semiclip.errors import some
from semiclip.pl._scores import BASELINES
from semiclip.pl._style import pick_colours
from semiclip.pl._tables import check_table

UNSEEN = "unseen perturbations"
SCORES = {
    "structural_integrity": "Structural integrity",
    "spearman_gene": "Spearman per gene",
    "spearman_sample": "Spearman per sample",
    "preservation": "Score",
}
N_PAIRS = 20  # shown; all are in the file below the table
N_NETWORK = 100
N_SETS = 10
N_REGIONS = 63  # combinations of six representations
LEVEL = 0.05
PACKAGES = ["semiclip", "anndata", "numpy", "pandas", "scipy", "scikit-learn", "scvi-tools", "torch", "matplotlib"]
LONGEST = 200  # letters of a value


def summarise(request: Request, results: Results) -> dict[str, Any]:
    """Return the rows to judge each representation by: of the mean and the union, or of the only database."""
    table = results.main
    keys = [key for key in SUMMARIES if (table["key"] == key).any()] or list(table["key"].unique())
    kept = table[table["key"].isin(keys)]
    rows = {name: part.to_dict("records") for name, part in kept.groupby("representation", sort=False)}
    columns = _write_recall(kept, "Over the databases" if len(keys) > 1 else "Database")
    columns = [column for column in columns if column[0] not in ("Recalled", "Pairs", "± 2 sd")]
    return {
        "verdicts": [(name, rows[name][0], rows[name][1] if len(keys) > 1 else None) for name in request.names],
        "table": Table("Recall of known relationships at the thresholds 5% and 95%", columns, 2),
    }


def _write_recall(table: pd.DataFrame, keys: str) -> list[tuple[str, Any]]:
    """Write the columns of a table of recall, with this title of its keys."""
    return [
        ("Representation", table["representation"]),
        (keys, table["key"]),
        ("Recall", table["value"].map(share)),
        ("95% interval", map(interval, table["ci_low"], table["ci_high"])),
        ("Recalled", table["n_recalled"].map(count)),
        ("Pairs", table["n_pairs"].map(count)),
        ("Chance", table["chance_mean"].map(share)),
        ("± 2 sd", (2 * table["chance_sd"]).map(share)),
        ("p", table["p_value"].map(p_value)),
    ]


def show_recall(request: Request, results: Results) -> dict[str, Any]:
    """Return recall of each database."""
    table = results.main
    return illustrate(
        Table("Recall by database", _write_recall(table, "Database"), 2, Download("recall", results.recall)),
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
    columns: list[Any] = [("Representation", cuts["representation"])]
    for title, column in (("Recalled below", "cut_low"), ("Recalled above", "cut_high")):
        columns.append((title, [decimals(cut, 3) for cut in cuts[column]]))
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
    palette = pick_colours(coloured)

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


def show_shared(request: Request, results: Results) -> dict[str, Any] | None:
    """Return which pairs the representations share, if there are several and they recall any."""
    if results.overlap is None or (held := results.overlap[results.overlap["n_pairs"] > 0]).empty:
        return None
    n_more = max(0, len(held) - N_REGIONS)
    held = held.nlargest(N_REGIONS, "n_pairs", keep="first").sort_index() if n_more else held
    columns = [(name, held[name].map({True: "yes", False: "no"})) for name in request.names]
    columns += [("Pairs", held["n_pairs"].map(count)), ("Genes", held["n_genes"].map(count))]
    more = f", in the largest combinations; {n_more:,} more are in the file below" if n_more else ""
    caption, file = f"Pairs recalled by just these representations{more}", Download("overlap", results.overlap)
    told = "; ".join(
        f"{count(n, 'pair')} by {listed([name for name, has in zip(request.names, inside, strict=True) if has])} alone"
        for inside, n in zip(held[request.names].to_numpy(), held["n_pairs"], strict=True)
    )
    return illustrate(
        Table(caption, columns, len(request.names), file),
        lambda ax: pl.venn(results.sets[["gene_a", "gene_b", "databases", *request.names]], ax=ax),
        f"Overlap of the recalled pairs. {told}",
        "Annotated pairs of all databases, each counted once, by the representations that recall them.",
        n_told=0,
        size=(5.2, 4.0) if len(request.names) < 4 else (5.8, max(4.0, 2.2 + 0.32 * len(request.names))),
    )


def show_compared(request: Request, results: Results) -> dict[str, Any] | None:
    """Return what the representations gain and lose, if there are several."""
    if (table := results.gains_losses) is None:
        return None
    by_chance = (table["total"] * table["base_total"] / len(results.sets)).map(decimals)
    counts = {"Preserved": "preserved", "Gains": "gains", "Losses": "losses", "Recalled": "total"}
    columns = [(title, table[column].map(count)) for title, column in counts.items()]
    columns = [("Representation", table["representation"]), columns[0], ("By chance", by_chance), *columns[1:]]
    columns.append((f"By {request.base}", table["base_total"].map(count)))
    return illustrate(
        Table("Gains and losses", columns, 1, Download("gains_losses", table)),
        lambda ax: pl.gains_losses(table, ax=ax),
        "Bars of preserved, gained and lost pairs",
        f"Pairs recalled by each representation, compared with {request.base}.",
        n_told=4,
        size=(5.8, 1.6 + 0.45 * len(table)),
    )


def show_region(request: Request, results: Results, name: str) -> dict[str, Any]:
    """Name the pairs of a region, those in most databases first, and draw them."""
    columns, region = ["gene_a", "gene_b", "databases"], request.regions[name]
    pairs = tl.region(results.sets, **region)[columns]
    shown: dict[str, Any] = {"name": name, "title": f"Pairs recalled by {name}", "table": None, "lost": None}
    file = f"recalled_{name}"
    if request.others:
        shown["title"], file = f"Pairs gained by {name} over {request.base}", f"gained_{name}"
        lost = tl.region(results.sets, inside=request.base, outside=name)[columns]
        shown["lost"] = None if lost.empty else Download(f"lost_{name}", lost)
    if pairs.empty:
        return shown
    order = pairs["databases"].str.count(";").sort_values(ascending=False, kind="stable").index
    pairs = pairs.loc[order].reset_index(drop=True)
    top, rest = pairs.head(N_PAIRS), len(pairs) - N_PAIRS
    more = f"; {rest:,} more are in the file below" if rest > 0 else ""
    caption = f"{count(len(pairs), 'pair')}, those in most databases first{more}"
    cells = [("Gene", top["gene_a"]), ("Gene", top["gene_b"]), ("Databases", top["databases"].str.replace(";", ", "))]
    databases, sets = {name for names in results.sets["databases"].unique() for name in names.split(";")}, results.sets
    options: dict[str, Any] = {"max_pairs": N_NETWORK, "rng": request.seed, **region}
    return shown | illustrate(
        Table(caption, cells, 3, Download(file, pairs)),
        lambda ax: pl.relationship_network(sets, **options, ax=ax),
        f"Network of genes. {shown['title']}; the table below lists them",
        f"{shown['title']}, by database{'; grey where several have it' if len(databases) > 1 else ''}.",
        n_told=0,
        size=(5.8, 5.4),
        file_format="png",  # shapes of letters with halos would take several times the bytes of pixels
    )


def show_gene_sets(name: str, table: pd.DataFrame) -> dict[str, Any]:
    """Return the gene sets of the pairs of one representation."""
    n_low = int((table["p_adjusted"] <= LEVEL).sum())
    shown = {"name": name, "n_tested": len(table), "n_low": n_low, "table": None}
    hit = table[table["n_overlap"] > 0]
    if hit.empty:
        return shown
    top = hit.head(N_SETS)
    columns = [
        ("Gene set", top["gene_set"]),
        ("Genes", [f"{count(n)} of {count(of)}" for n, of in zip(top["n_overlap"], top["n_set"], strict=True)]),
        ("Expected", top["expected"].map(decimals)),
        ("Fold", top["fold"].map(decimals)),
        ("p", top["p_value"].map(p_value)),
        ("Adjusted p", top["p_adjusted"].map(p_value)),
    ]
    caption, file = "Gene sets of the smallest p that have a gene of these pairs", Download(f"enrichment_{name}", table)
    return shown | illustrate(
        Table(caption, columns, 1, file),
        lambda ax: pl.enrichment(hit, n_top=N_SETS, ax=ax),
        "Gene sets by their adjusted p",
        "Dots: −log₁₀ of the adjusted p; numbers: genes of these pairs in the set / its genes in the background.",
        size=(5.8, 1.3 + 0.34 * len(top)),
    )


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
    columns = [
        ("Representation", request.names),
        ("Dimensions", [count((adata.X if name == "X" else adata.obsm[name]).shape[1]) for name in request.names]),
        ("Kept by the correction", [count(ranks[name]) for name in request.names]),
    ]
    return {"facts": facts, "table": Table("Representations", columns)}


def describe_method(request: Request, made: datetime) -> dict[str, Any]:
    """Return the arguments and versions that the page was computed with."""
    parameters = [
        ("use_rep", ", ".join(request.names)),
        ("base", request.base),
        *((name, _write(value)) for name, value in request.parameters.items()),
        *request.sources.items(),
        ("thresholds", ", ".join(f"({low:g}, {high:g})" for low, high in THRESHOLDS)),
        ("n_permutations", f"{request.n_permutations:,} exchanges of the gene labels"),
        ("rng", str(request.seed)),
    ]
    versions = [
        ("Made", made.strftime("%Y-%m-%d %H:%M UTC")),
        ("Python", f"{platform.python_version()} on {platform.system()} ({platform.machine()})"),
        *((name, version(name)) for name in PACKAGES),
    ]
    entries = request.adata.uns.get("semiclip")  # what earlier steps left in the data
    recorded = [
        (str(key), name, _write(value))
        for key, entry in (entries.items() if isinstance(entries, Mapping) else ())
        for name, value in _flatten(entry.get("params") if isinstance(entry, Mapping) else None)
    ]
    columns = zip(("Result", "Parameter", "Value"), zip(*recorded, strict=True), strict=False)
    table = Table("Parameters that adata.uns['semiclip'] records", columns, 3) if recorded else None
    return {"parameters": parameters, "versions": versions, "recorded": table}


def _flatten(params: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """List parameters, those of a mapping within by names with a dot; what is no mapping has none."""
    for name, value in params.items() if isinstance(params, Mapping) else ():
        yield from _flatten(value, f"{before}{name}.") if isinstance(value, Mapping) else [(f"{before}{name}", value)]


def _write(value: Any) -> str:
    """Write a value in a line."""
    value = value.tolist() if hasattr(value, "tolist") else value  # an array, into which a file turns a list
    if isinstance(value, list | tuple | set):
        return some(value, 10) or "none"
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
