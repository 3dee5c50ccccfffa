"""Recall, the null of overlaps and preservation of many genes: seconds, and memory above the data.

Maps are random, with one row per gene, 1,000 controls and 143,252 annotated pairs, as many as the published files have.
Each size runs in a process of its own, so that its peak memory is its own.

Prints one JSON line per figure and keeps them in a table, those of another version of the code too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from train_throughput import memory, peak

import semiclip as scl

CASES: list[dict[str, Any]] = [
    *({"call": "tl.recall", "n_genes": n, "d": 768, "n_permutations": 2} for n in (5_000, 20_000)),
    {"call": "tl.recall", "n_genes": 20_000, "d": 768, "n_permutations": 1_000},
    *({"call": "tl.null_overlap", "n_genes": n, "d": 768, "n_permutations": 2} for n in (5_000, 20_000)),
    *({"call": "metrics.preservation", "n_genes": n, "n_rows": 3_000} for n in (5_000, 20_000)),
    {"call": "tl.preservation", "n_genes": 5_000, "n_rows": 3_000, "d": 64},
    {"call": "tl.recall", "n_genes": 100_000, "d": 64, "n_permutations": 2},
]
N_PAIRS, N_CONTROLS = 143_252, 1_000
KEYS = ["call", "n_genes", "n_rows", "d", "n_permutations", "version"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", default="this", help="name of this code in the table (%(default)s)")
    parser.add_argument("--cases", nargs="+", type=int, default=list(range(len(CASES))), help="(all)")
    parser.add_argument("--quick", action="store_true", help="the cases of 5,000 genes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="folder of the results")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(measure(**CASES[args.one])), flush=True)
        return
    path = args.out / f"memory{'_quick' if args.quick else ''}.csv"
    for i in args.cases:
        if args.quick and CASES[i]["n_genes"] > 5_000:
            continue
        command = [sys.executable, __file__, "--one", str(i)]
        figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
        print(json.dumps({"figure": "memory", **CASES[i], "version": args.version, **figures}), flush=True)
        kept = pd.read_csv(path).to_dict("records") if path.exists() else []
        table = pd.DataFrame([*kept, {**dict.fromkeys(KEYS), **CASES[i], "version": args.version, **figures}])
        whole = ["n_rows", "d", "n_permutations"]
        table[whole] = table[whole].astype("Int64")
        table.drop_duplicates(KEYS, keep="last").sort_values(KEYS).to_csv(path, index=False)


def measure(call: str, n_genes: int, **sizes: int) -> dict[str, float]:
    work = {"tl.recall": recall, "tl.null_overlap": null_overlap, "metrics.preservation": preservation}
    run = work.get(call, train_and_preserve)(n_genes, **sizes)
    held, started = memory(), time.perf_counter()
    run()
    seconds = time.perf_counter() - started
    return {"seconds": round(seconds, 1), "peak_gb_above_data": round((peak() - held) / 1e9, 2)}


def recall(n_genes: int, d: int, n_permutations: int) -> Any:
    adata, options = random_map(n_genes, d, n_permutations)
    return lambda: scl.tl.recall(adata, **options)


def null_overlap(n_genes: int, d: int, n_permutations: int) -> Any:
    adata, options = random_map(n_genes, d, n_permutations)
    return lambda: scl.tl.null_overlap(adata, references="X_rep", progress_bar=False, **options)


def random_map(n_genes: int, d: int, n_permutations: int) -> tuple[AnnData, dict[str, Any]]:
    rng = np.random.default_rng(0)
    genes = np.array([f"GENE{i:06}" for i in range(n_genes)])
    labels = np.append(genes, np.repeat("control", N_CONTROLS))
    adata = AnnData(obs=pd.DataFrame({"gene": labels}, index=[f"row{i}" for i in range(len(labels))]))
    adata.obsm["X_rep"] = rng.standard_normal((len(labels), d), dtype=np.float32)
    pairs = pd.DataFrame({name: rng.choice(genes, N_PAIRS) for name in ("gene_a", "gene_b")})
    options = {"use_rep": "X_rep", "perturbation_key": "gene", "control": "control", "method": "center"}
    return adata, {**options, "relationships": pairs, "n_permutations": n_permutations, "rng": 0}


def preservation(n_genes: int, n_rows: int) -> Any:
    rng = np.random.default_rng(0)
    predictions, targets = (rng.standard_normal((n_rows, n_genes), dtype=np.float32) for _ in range(2))
    batch, control = np.arange(n_rows) % 10, rng.random(n_rows) < 0.2
    return lambda: scl.metrics.preservation(predictions, targets, batch, control)


def train_and_preserve(n_genes: int, n_rows: int, d: int) -> Any:
    rng = np.random.default_rng(0)
    gene = rng.choice([f"GENE{i:03}" for i in range(100)] + ["control"] * 20, n_rows)
    obs = pd.DataFrame({"gene": gene, "batch": np.arange(n_rows) % 10}, index=[f"row{i}" for i in range(n_rows)])
    adata = AnnData(rng.poisson(1.0, (n_rows, n_genes)).astype(np.float32), obs=obs.astype({"batch": str}))
    adata.obsm["X_rep"] = rng.standard_normal((n_rows, d), dtype=np.float32)
    options = {"use_rep": "X_rep", "perturbation_key": "gene", "control": "control", "batch_key": "batch"}
    return lambda: scl.tl.preservation(
        adata, **options, max_epochs=1, baselines=[], device="cpu", rng=0, progress_bar=False
    )


if __name__ == "__main__":
    main()
