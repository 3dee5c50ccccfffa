"""Sections on which pairs the representations recall, share, gain and lose, and on the gene sets of these pairs."""

from typing import Any

import pandas as pd

import semiclip.pl as pl
import semiclip.tl as tl
from semiclip._report._parts import Download, Table, count, decimals, illustrate, listed, p_value
from semiclip._report._request import Request, Results
from semiclip.pl._style import OKABE_ITO

N_PAIRS = 20  # shown; all are in the file below the table
N_NETWORK = 100
N_SETS = 10
LEVEL = 0.05


def show_shared(request: Request, results: Results) -> dict[str, Any] | None:
    """Return which pairs the representations share, if there are several and they recall any."""
    if results.overlap is None or (held := results.overlap[results.overlap["n_pairs"] > 0]).empty:
        return None
    columns = [(name, held[name].map({True: "yes", False: "no"})) for name in request.names]
    columns += [("Pairs", held["n_pairs"].map(count)), ("Genes", held["n_genes"].map(count))]
    caption, file = "Pairs recalled by just these representations", Download("overlap", results.overlap)
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
        size=(5.2, 4.0) if len(request.names) < 4 else (5.8, 4.0),
    )


def show_compared(request: Request, results: Results) -> dict[str, Any] | None:
    """Return what the representations gain and lose, if there are several."""
    if (table := results.gains_losses) is None:
        return None
    by_chance = table["total"] * table["base_total"] / len(results.sets)
    columns = [
        ("Representation", table["representation"]),
        ("Preserved", table["preserved"].map(count)),
        ("By chance", by_chance.map(decimals)),
        ("Gains", table["gains"].map(count)),
        ("Losses", table["losses"].map(count)),
        ("Recalled", table["total"].map(count)),
        (f"By {request.base}", table["base_total"].map(count)),
    ]
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
    if len(databases) > len(OKABE_ITO):  # more than there are colours
        sets = sets.assign(databases="annotated")
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
