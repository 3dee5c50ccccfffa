"""Recall after TVN and after centring, as tables, CSV and text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

import semiclip as scl
from semiclip._csv import format_csv
from semiclip._messages import warn_without_repeats

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    from semiclip.correction import Method

# TVN of the embedding is what the paper judges by; it weighs all directions alike, which centring leaves as they are
JUDGED: dict[Method, str] = {"tvn": "after TVN", "center": "after centring"}


def judge(adata: AnnData, use_rep: Sequence[str], **arguments: Any) -> dict[Method, pd.DataFrame]:
    """Return :func:`semiclip.tl.recall` after each correction."""
    with warn_without_repeats():
        return {method: scl.tl.recall(adata, use_rep=use_rep, **arguments, method=method) for method in JUDGED}


def format_tables(tables: Mapping[Method, pd.DataFrame]) -> str:
    """Return the tables as one CSV, with a column for the correction."""
    return format_csv(pd.concat(tables, names=["correction", None]).reset_index("correction"))


def show_recall(tables: Mapping[Method, pd.DataFrame], title: str, names: Mapping[str, str]) -> None:
    """Print the mean over databases of each representation, beside chance if it was measured."""
    means = [table[table["key"] == "mean"].set_index("representation") for table in tables.values()]
    print(f"\n      {title}: recall at 5 %/95 % of {int(means[0]['n_pairs'].iloc[0]):,} annotated pairs")
    print(f"      {'':<26}" + "".join(f"{title:<18}" for title in JUDGED.values()))
    if "chance_mean" in means[0]:
        chance = [f"{mean['chance_mean'].iloc[0]:.3f} ± {mean['chance_sd'].iloc[0]:.3f}" for mean in means]
        print(f"      {'random (labels permuted)':<26}" + "".join(f"{cell:<18}" for cell in chance))
    for name in means[0].index:
        cells = [f"{mean.loc[name, 'value']:.3f} ± {mean.loc[name, 'error']:.3f}" for mean in means]
        print(f"      {names.get(name, name):<26}" + "".join(f"{cell:<18}" for cell in cells))
    print()
