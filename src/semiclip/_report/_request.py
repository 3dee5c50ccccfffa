"""Computes everything that the page shows, cheap things first, so that a mistake shows before the long work."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd
from anndata import AnnData

import semiclip.tl as tl
from semiclip._design import Design

THRESHOLDS = [(0.05, 0.95), (0.1, 0.9), (0.15, 0.85), (0.2, 0.8), (0.25, 0.75)]
SUMMARIES = ("mean", "union")


class Request(NamedTuple):
    """What the page is to show, after it was checked."""

    adata: AnnData
    names: list[str]  # of representations
    base: str  # the representation that gains and losses are counted from
    design: Design
    parameters: dict[str, Any]  # columns and correction, by the names of arguments
    relationships: pd.DataFrame
    gene_sets: Mapping[str, Iterable[str]] | None
    sources: dict[str, str]  # what relationships and gene sets are, in words
    n_permutations: int
    seed: int

    @property
    def others(self) -> list[str]:
        """Representations beside the base."""
        return [name for name in self.names if name != self.base]

    @property
    def regions(self) -> dict[str, dict[str, Any]]:
        """Pairs to look at, by representation: what it recalls beyond the base, or at all if it is alone."""
        if not self.others:
            return {self.base: {"inside": self.base, "outside": ()}}
        return {name: {"inside": name, "outside": self.base} for name in self.others}


class Results(NamedTuple):
    """The tables that the functions of ``tl`` return; without a second representation nothing overlaps."""

    sets: pd.DataFrame
    overlap: pd.DataFrame | None
    gains_losses: pd.DataFrame | None
    enrichment: dict[str, pd.DataFrame]
    similarity: pd.DataFrame
    recall: pd.DataFrame

    @property
    def main(self) -> pd.DataFrame:
        """Recall at the first thresholds, those of the paper."""
        low, high = THRESHOLDS[0]
        table = self.recall[(self.recall["threshold_low"] == low) & (self.recall["threshold_high"] == high)]
        # mean and union of a single database are itself
        return table[~table["key"].isin(SUMMARIES)] if table["key"].nunique() == 1 + len(SUMMARIES) else table


def compute(request: Request, say: Callable[[str], object]) -> Results:
    """Call the functions one after the other, and ``say`` what is done next."""
    arguments: dict[str, Any] = {"use_rep": request.names, "relationships": request.relationships, **request.parameters}
    arguments["unlabelled"] = request.design.unlabelled
    several = bool(request.others)
    say("recalled pairs")
    sets = tl.relationship_sets(request.adata, **arguments, thresholds=THRESHOLDS[0])
    overlap = tl.overlap(sets) if several else None
    gains_losses = tl.gains_losses(sets, base=request.base) if several else None
    say("gene sets")
    enrichment = {}
    if request.gene_sets is not None:
        # the pairs of a representation alone are all that is recalled, so they are compared with all of the map
        test: dict[str, Any] = {"gene_sets": request.gene_sets, "background": "recalled" if several else "map"}
        enrichment = {name: tl.enrich(sets, **region, **test) for name, region in request.regions.items()}
    say("cosines")
    similarity = tl.similarity(request.adata, **arguments, thresholds=THRESHOLDS[0])
    say("recall")
    arguments |= {"n_permutations": request.n_permutations, "rng": request.seed}
    recall = tl.recall(request.adata, **arguments, thresholds=THRESHOLDS, progress_bar=False)  # the report has a bar
    return Results(sets, overlap, gains_losses, enrichment, similarity, recall)
