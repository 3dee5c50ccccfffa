"""Recall of known relationships as one would write it first: labels looked up in DataFrames, one pair at a time."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.metrics.pairwise import cosine_similarity


def naive_recall(
    embedding: np.ndarray, genes: np.ndarray, tables: pd.DataFrame, thresholds: tuple[float, float] = (0.05, 0.95)
) -> pd.DataFrame:
    """Count the annotated pairs that lie in the tails, per database: ``n_pairs``, ``n_recalled``, ``value``."""
    cosines = pd.DataFrame(cosine_similarity(embedding).round(12), index=genes, columns=genes)
    null = np.sort(cosines.to_numpy()[np.triu_indices(len(genes), k=1)])
    rows = {}
    for database, table in tables.groupby("database", sort=False):
        seen, values = set(), []
        for _, row in table.iterrows():
            a, b = sorted((row["gene_a"], row["gene_b"]))
            if a != b and (a, b) not in seen and a in cosines.index and b in cosines.index:
                seen.add((a, b))
                values.append(cosines.loc[a, b])
        right = np.searchsorted(null, values, side="right") / null.size
        left = np.searchsorted(null, values, side="left") / null.size
        recalled = int(((right <= thresholds[0]) | (left >= thresholds[1])).sum())
        rows[database] = {"n_pairs": len(values), "n_recalled": recalled, "value": recalled / len(values)}
    return pd.DataFrame.from_dict(rows, orient="index")


def published_tables() -> pd.DataFrame:
    """Return the five files as they are published: many pairs in both orders, some genes with themselves."""
    from semiclip.datasets import fetch

    tables = []
    for database in ("CORUM", "HuMAP", "Reactome", "SIGNOR", "StringDB"):
        table = pd.read_csv(fetch(f"relationships/{database}.txt"), dtype=str, keep_default_na=False)
        tables.append(pd.DataFrame({"database": database, "gene_a": table["entity1"], "gene_b": table["entity2"]}))
    return pd.concat(tables, ignore_index=True)
