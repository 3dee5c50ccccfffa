"""Computes everything that the page shows, cheap things first, so that a mistake shows before the long work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from anndata import AnnData

THRESHOLDS = [(0.05, 0.95), (0.1, 0.9), (0.15, 0.85), (0.2, 0.8), (0.25, 0.75)]
SUMMARIES = ("mean", "union")


class Asked(NamedTuple):
    """What was asked for, after it was checked."""

    adata: AnnData
    names: list[str]
    """Representations."""
    base: str
    """The one that gains and losses are counted from."""
    how: dict[str, Any]
    """Arguments that every function that makes a map takes."""
    gene_sets: Mapping[str, Sequence[str]] | None
    sources: dict[str, str]
    """What relationships and gene sets are, in words."""
    n_permutations: int
    seed: int

    @property
    def others(self) -> list[str]:
        """Representations beside the base."""
        return [name for name in self.names if name != self.base]

    @property
    def regions(self) -> dict[str, dict[str, Any]]:
        """Regions of pairs to look at, by representation: what it recalls beyond the base, or at all if it is alone."""
        if not self.others:
            return {self.base: {"inside": self.base, "outside": ()}}
        return {name: {"inside": name, "outside": self.base} for name in self.others}


class Findings(NamedTuple):
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


def computed(asked: Asked, say: Callable[[str], object]) -> Findings:
    """Call the functions one after the other, and ``say`` what is done next."""
    from semiclip import tl

    how = {"use_rep": asked.names, **asked.how}
    say("recalled pairs")
    sets = tl.relationship_sets(asked.adata, **how, thresholds=THRESHOLDS[0])
    overlap = tl.overlap(sets) if asked.others else None
    gains_losses = tl.gains_losses(sets, base=asked.base) if asked.others else None

    say("gene sets")
    enrichment = {}
    if asked.gene_sets is not None:
        # the pairs of a representation alone are all that is recalled, so they are compared with all of the map
        how_enriched: dict[str, Any] = {
            "gene_sets": asked.gene_sets,
            "background": "recalled" if asked.others else "map",
        }
        enrichment = {name: tl.enrich(sets, **region, **how_enriched) for name, region in asked.regions.items()}

    say("cosines")
    similarity = tl.similarity(asked.adata, **how, thresholds=THRESHOLDS[0])

    say("recall")
    recall = tl.recall(asked.adata, **how, thresholds=THRESHOLDS, n_permutations=asked.n_permutations, rng=asked.seed)
    return Findings(sets, overlap, gains_losses, enrichment, similarity, recall)
