"""The section on how much of expression the representations preserve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from semiclip._report._format import decimals
from semiclip._report._parts import Download, Picture, Section, Table, Text
from semiclip._report._pictures import drawn

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from semiclip._report._parts import Columns, Part

SCORES = {
    "structural_integrity": "Structural integrity",
    "spearman_gene": "Spearman per gene",
    "spearman_sample": "Spearman per sample",
    "preservation": "Score",
}


def preservation(table: pd.DataFrame, names: Sequence[str]) -> Section:
    """How much of expression representations preserve, which was measured before; ``names`` have their colours."""
    from semiclip import pl
    from semiclip.pl._preservation import BASELINES, COLUMNS
    from semiclip.pl._style import OKABE_ITO
    from semiclip.pl._tables import filled

    table = filled(table, COLUMNS, "scl.tl.preservation")
    keys = list(table["key"].unique())
    key = "unseen perturbations" if "unseen perturbations" in keys else str(keys[0])
    seeds = f", means over {table['seed'].nunique()} seeds" if "seed" in table else ""
    all_names = dict.fromkeys([*names, *table["representation"].unique()])
    coloured = [name for name in all_names if name not in BASELINES]
    palette = dict(zip(coloured, OKABE_ITO, strict=False)) if len(coloured) <= len(OKABE_ITO) else None
    drawing = drawn(lambda ax: pl.preservation(table, key=key, ax=ax, palette=palette), size=(5.8, 3.8))

    values = table.pivot_table("value", ["representation", "key"], "metric", sort=False, dropna=False, observed=True)
    values = values.reindex(columns=list(SCORES)).dropna(how="all").dropna(axis=1, how="all").rename(columns=SCORES)
    test = values.index.get_level_values("key").str.removesuffix(" perturbations")
    shown: Columns = [("Representation", values.index.get_level_values("representation")), ("Perturbations", test)]
    shown += [(str(name), [decimals(value, 1 if name == "Score" else 3) for value in values[name]]) for name in values]
    scores = values["Score"].xs(key, level="key")
    told = "; ".join(f"{name}: {decimals(score, 1)}" for name, score in scores.items())
    parts: list[Part] = [
        Text(
            "A decoder learns to predict expression from the representation on some of the batches and perturbations "
            "and is judged on new batches. The score is the mean of structural integrity and the Spearman correlation "
            "per gene, times 100; a decoder that always answers the same scores 25."
        ),
        Picture(
            drawing,
            f"Bars of how much expression is preserved, on {key}. Scores: {told}.",
            f"Preservation on {key}{seeds}.",
        ),
        Table(f"Preservation of expression{seeds}", shown, 2, Download("preservation.csv", table)),
    ]
    return Section("preservation", "Preservation of expression", parts)
