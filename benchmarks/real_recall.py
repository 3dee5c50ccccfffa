"""Known-relationship recall of real expression: 189 genes overexpressed in U2OS, before any distillation.

Raw values, 40 principal components and both after TVN, for all genes and for those of reproducible constructs; with
95 % intervals, and chance measured by 1,000 exchanges of the gene labels. Every count is made once
more by a loop over labels.

Prints one JSON line per figure.
"""

from __future__ import annotations

import json

import pandas as pd
from _naive_recall import naive_recall, published_tables

import semiclip as scl

KEYS = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
COLUMNS = [
    "key",
    "value",
    "ci_low",
    "ci_high",
    "n_pairs",
    "n_recalled",
    "chance",
    "chance_mean",
    "chance_sd",
    "p_value",
]


def main() -> None:
    adata, tables = scl.datasets.u2os_orfs(rng=0), published_tables()
    scl.pp.encode(adata, encoder="pca", n_components=40, normalize=False, rng=0)
    control = adata.obs["perturbation"] == "control"
    genes = {"all": adata, "reproducible": adata[control | adata.obs["reproducible"]].copy()}
    for name, part in genes.items():
        for method in (None, "center", "tvn"):
            for rep in ("X", "X_pca"):
                measure(part, tables, {"genes": name, "representation": rep, "method": method or "none"})


def measure(adata, tables: pd.DataFrame, what: dict[str, str]) -> None:
    rep, method = what["representation"], None if what["method"] == "none" else what["method"]
    table = scl.tl.recall(
        adata, use_rep=rep, method=method, n_permutations=1_000, rng=0, **KEYS
    ).set_index("key", drop=False)  # fmt: skip
    corrected = adata.copy()
    if method:
        scl.pp.pea_correct(corrected, use_rep=rep, method=method, key_added="corrected", **KEYS)
    else:
        corrected.obsm["corrected"] = corrected.X if rep == "X" else corrected.obsm[rep]
    rows = pd.DataFrame(corrected.obsm["corrected"].astype(float)).groupby(corrected.obs["perturbation"].to_numpy())
    means = rows.mean().drop("control")
    naive = naive_recall(means.to_numpy(), means.index.to_numpy(), tables)
    same = bool((table.loc[naive.index, ["n_pairs", "n_recalled"]] == naive[["n_pairs", "n_recalled"]]).all(axis=None))
    size = {
        "n_genes": int(table["n_genes"].iloc[0]),
        "rank": int(table["rank"].iloc[0]),
        "same_counts_as_the_loop": same,
    }
    for row in table[COLUMNS].round(4).to_dict("records"):
        print(json.dumps({"figure": "recall_u2os", **what, **row, **size}), flush=True)


if __name__ == "__main__":
    main()
