"""The section on how much of expression the representations preserve."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

import semiclip.pl as pl
from semiclip._report._format import decimals
from semiclip._report._parts import Columns, Download, Table, draw_picture
from semiclip.errors import Empty, MissingColumn, WrongType
from semiclip.pl._scores import BASELINES
from semiclip.pl._style import OKABE_ITO

SCORES = {
    "structural_integrity": "Structural integrity",
    "spearman_gene": "Spearman per gene",
    "spearman_sample": "Spearman per sample",
    "preservation": "Score",
}


def show_preservation(table: pd.DataFrame, names: Sequence[str]) -> dict[str, Any]:
    """Return how much of expression representations preserve; ``names`` have the colours of the other pictures."""
    maker = "pass what scl.tl.preservation returns"
    if not isinstance(table, pd.DataFrame):
        raise WrongType("preservation", type(table), "a DataFrame", maker)
    if absent := [name for name in ("metric", "representation", "key", "value") if name not in table]:
        raise MissingColumn(absent, table.columns, "preservation", way_out=maker)
    if table.empty:
        raise Empty("rows in preservation", maker)
    keys = list(table["key"].unique())
    key = "unseen perturbations" if "unseen perturbations" in keys else str(keys[0])
    seeds = f", means over {table['seed'].nunique()} seeds" if "seed" in table else ""
    coloured = [name for name in dict.fromkeys([*names, *table["representation"].unique()]) if name not in BASELINES]
    palette = dict(zip(coloured, OKABE_ITO, strict=False)) if len(coloured) <= len(OKABE_ITO) else None

    values = table.pivot_table("value", ["representation", "key"], "metric", sort=False, dropna=False, observed=True)
    values = values.reindex(columns=list(SCORES)).dropna(how="all").dropna(axis=1, how="all").rename(columns=SCORES)
    columns: Columns = [
        ("Representation", values.index.get_level_values("representation")),
        ("Perturbations", values.index.get_level_values("key").str.removesuffix(" perturbations")),
        *((str(name), [decimals(value, 1 if name == "Score" else 3) for value in values[name]]) for name in values),
    ]
    scores = "; ".join(f"{name}: {decimals(score, 1)}" for name, score in values["Score"].xs(key, level="key").items())
    picture = draw_picture(
        lambda ax: pl.preservation(table, key=key, ax=ax, palette=palette),
        f"Bars of how much expression is preserved, on {key}. Scores: {scores}.",
        f"Preservation on {key}{seeds}.",
    )
    shown = Table(f"Preservation of expression{seeds}", columns, 2, Download("preservation.csv", table))
    return {"picture": picture, "table": shown}
