"""The section on the gene sets that the pairs of a region belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semiclip._checks import some
from semiclip._report._format import count, decimals, file_name, p_value
from semiclip._report._parts import Download, Heading, Picture, Section, Table, Text
from semiclip._report._pictures import drawn

if TYPE_CHECKING:
    import pandas as pd

    from semiclip._report._findings import Asked, Findings
    from semiclip._report._parts import Columns, Part

N_TOP = 10
LEVEL = 0.05


def enrichment(asked: Asked, found: Findings) -> Section:
    """Gene sets of the genes in those pairs."""
    title = "Enriched gene sets"
    if asked.gene_sets is None:
        text = (
            "Not computed. Pass gene_sets='hallmark', 'reactome', the path of a GMT file or a mapping of names to "
            "genes to learn which gene sets are over-represented."
        )
        return Section("enrichment", title, [Text(text)])
    of = f"the pairs gained over {asked.base}" if asked.others else "the recalled pairs"
    against = "all recalled pairs" if asked.others else "all annotated pairs in the map"
    parts: list[Part] = [
        Text(
            f"Hypergeometric test of the genes in {of}, against the genes in {against}; p is adjusted over the gene "
            "sets after Benjamini and Hochberg."
        )
    ]
    for name, table in found.enrichment.items():
        parts += [Heading(name), *_gene_sets(name, table)]
    return Section("enrichment", title, parts)


def _gene_sets(name: str, table: pd.DataFrame) -> list[Part]:
    from semiclip import pl

    if table.empty:
        return [Text("There is no such pair, so there is nothing to test.")]
    n_low = int((table["p_adjusted"] <= LEVEL).sum())
    low = f"{n_low:,}" if n_low else "None"
    have = "has" if n_low < 2 else "have"
    told = f"{low} of {count(len(table), 'gene set')} tested {have} an adjusted p of at most {LEVEL:g}."
    hit = table[table["n_overlap"] > 0]
    if hit.empty:
        return [Text(f"{told} None has a gene of these pairs.")]
    top = hit.head(N_TOP)
    shown: Columns = [
        ("Gene set", top["gene_set"]),
        ("Genes", [f"{n:,} of {of:,}" for n, of in zip(top["n_overlap"], top["n_set"], strict=True)]),
        ("Expected", [decimals(value, 1) for value in top["expected"]]),
        ("Fold", [decimals(value, 1) for value in top["fold"]]),
        ("p", top["p_value"].map(p_value)),
        ("Adjusted p", top["p_adjusted"].map(p_value)),
    ]
    return [
        Text(told),
        Picture(
            drawn(lambda ax: pl.enrichment(hit, n_top=N_TOP, ax=ax), size=(5.8, 1.3 + 0.34 * len(top))),
            f"Gene sets by their adjusted p. The first: {some(top['gene_set'], 3)}.",
            "Dots: −log₁₀ of the adjusted p; numbers: genes of these pairs in the set / its genes in the background.",
        ),
        Table(
            "Gene sets of the smallest p that have a gene of these pairs",
            shown,
            1,
            Download(f"enrichment_{file_name(name)}.csv", table),
        ),
    ]
