"""Sections on which pairs the representations recall, share, gain and lose, and on the gene sets of these pairs."""

from typing import Any

import pandas as pd

import semiclip.pl as pl
import semiclip.tl as tl
from semiclip._report._format import count, decimals, file_name, listed, p_value
from semiclip._report._parts import Columns, Download, Picture, Table, draw_picture
from semiclip._report._request import Request, Results
from semiclip.errors import some
from semiclip.pl._style import OKABE_ITO

N_PAIRS = 20  # shown; all are in the file below the table
N_NETWORK = 100
N_SETS = 10
LEVEL = 0.05


def show_overlap(request: Request, results: Results) -> dict[str, Any]:
    """Return which pairs the representations share, gain and lose."""
    sets = results.sets
    return {
        "shared": None if results.overlap is None else _show_shared(request, sets, results.overlap),
        "compared": None if results.gains_losses is None else _show_compared(request, sets, results.gains_losses),
        "regions": [_show_region(request, sets, name) for name in request.regions],
    }


def _show_shared(request: Request, sets: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any] | None:
    held, names = table[table["n_pairs"] > 0], request.names
    if held.empty:
        return None
    columns: Columns = [
        *((name, held[name].map({True: "yes", False: "no"})) for name in names),
        ("Pairs", held["n_pairs"].map(count)),
        ("Genes", held["n_genes"].map(count)),
    ]
    values = "; ".join(
        f"{count(n, 'pair')} by {listed([name for name, has in zip(names, inside, strict=True) if has])} alone"
        for inside, n in zip(held[names].to_numpy(), held["n_pairs"], strict=True)
    )
    picture = draw_picture(
        lambda ax: pl.venn(sets[["gene_a", "gene_b", "databases", *names]], ax=ax),
        f"Overlap of the recalled pairs. {values}.",
        "Annotated pairs of all databases, each counted once, by the representations that recall them.",
        size=(5.2, 4.0) if len(names) < 4 else (5.8, 4.0),
    )
    caption = "Pairs recalled by just these representations"
    return {"picture": picture, "table": Table(caption, columns, len(names), Download("overlap.csv", table))}


def _show_compared(request: Request, sets: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    by_chance = table["total"] * table["base_total"] / len(sets)
    counts = {name: table[name].map(count) for name in ("preserved", "gains", "losses", "total", "base_total")}
    columns: Columns = [
        ("Representation", table["representation"]),
        ("Preserved", counts["preserved"]),
        ("By chance", [decimals(value, 1) for value in by_chance]),
        ("Gains", counts["gains"]),
        ("Losses", counts["losses"]),
        ("Recalled", counts["total"]),
        (f"By {request.base}", counts["base_total"]),
    ]
    parts = zip(table["representation"], counts["preserved"], counts["gains"], counts["losses"], strict=True)
    values = "; ".join("{}: {} preserved, {} gained, {} lost".format(*part) for part in parts)
    picture = draw_picture(
        lambda ax: pl.gains_losses(table, ax=ax),
        f"Bars of preserved, gained and lost pairs. {values}.",
        f"Pairs recalled by each representation, compared with {request.base}.",
        size=(5.8, 1.6 + 0.45 * len(table)),
    )
    return {"picture": picture, "table": Table("Gains and losses", columns, 1, Download("gains_losses.csv", table))}


def _show_region(request: Request, sets: pd.DataFrame, name: str) -> dict[str, Any]:
    """Name the pairs of a region, those in most databases first, and draw them."""
    columns, base, region = ["gene_a", "gene_b", "databases"], request.base, request.regions[name]
    pairs = tl.region(sets, **region)[columns]
    title, file, lost = f"Pairs recalled by {name}", f"recalled_{file_name(name)}.csv", pairs[:0]
    if request.others:
        title, file = f"Pairs gained by {name} over {base}", f"gained_{file_name(name)}.csv"
        lost = tl.region(sets, inside=base, outside=name)[columns]
    shown = {} if pairs.empty else {"picture": _draw_network(request, sets, region, title), "table": _name(pairs, file)}
    download = Download(f"lost_{file_name(name)}.csv", lost) if len(lost) else None
    return {"name": name, "title": title, "table": None, "lost": download, **shown}


def _name(pairs: pd.DataFrame, file: str) -> Table:
    order = pairs["databases"].str.count(";").sort_values(ascending=False, kind="stable").index
    pairs = pairs.loc[order].reset_index(drop=True)
    top, rest = pairs.head(N_PAIRS), len(pairs) - N_PAIRS
    columns: Columns = [
        ("Gene", top["gene_a"]),
        ("Gene", top["gene_b"]),
        ("Databases", top["databases"].str.replace(";", ", ")),
    ]
    caption = f"{count(len(pairs), 'pair')}, those in most databases first"
    more = f"; {rest:,} more are in the file below" if rest > 0 else ""
    return Table(caption + more, columns, 3, Download(file, pairs))


def _draw_network(request: Request, sets: pd.DataFrame, region: dict[str, Any], title: str) -> Picture:
    databases = {name for names in sets["databases"].unique() for name in names.split(";")}
    if len(databases) > len(OKABE_ITO):  # more than there are colours
        sets = sets.assign(databases="annotated")
    options: dict[str, Any] = {"max_pairs": N_NETWORK, "rng": request.seed, **region}
    return draw_picture(
        lambda ax: pl.relationship_network(sets, **options, ax=ax),
        f"Network of genes. {title}; the table below lists them.",
        f"{title}, by database{'; grey where several have it' if len(databases) > 1 else ''}.",
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
    columns: Columns = [
        ("Gene set", top["gene_set"]),
        ("Genes", [f"{count(n)} of {count(of)}" for n, of in zip(top["n_overlap"], top["n_set"], strict=True)]),
        ("Expected", [decimals(value, 1) for value in top["expected"]]),
        ("Fold", [decimals(value, 1) for value in top["fold"]]),
        ("p", top["p_value"].map(p_value)),
        ("Adjusted p", top["p_adjusted"].map(p_value)),
    ]
    picture = draw_picture(
        lambda ax: pl.enrichment(hit, n_top=N_SETS, ax=ax),
        f"Gene sets by their adjusted p. The first: {some(top['gene_set'], 3)}.",
        "Dots: −log₁₀ of the adjusted p; numbers: genes of these pairs in the set / its genes in the background.",
        size=(5.8, 1.3 + 0.34 * len(top)),
    )
    caption = "Gene sets of the smallest p that have a gene of these pairs"
    return shown | {
        "picture": picture,
        "table": Table(caption, columns, 1, Download(f"enrichment_{file_name(name)}.csv", table)),
    }
