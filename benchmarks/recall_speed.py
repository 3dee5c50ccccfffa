"""Known-relationship recall: seconds and memory, beside a loop that looks labels up in DataFrames.

Both start from the five published files, loaded, with pairs in both orders, and must count the same pairs. Where
efaar_benchmarking is installed, its known_relationship_benchmark, which reads the files itself, is measured too. For
many genes a sort of all cosines stands in for the loop, and tl.null_overlap is measured beside tl.recall. Each size
runs in a process of its own, so that its peak memory is its own.

Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from _naive_recall import naive_recall, published_tables
from memory import random_map as random_screen
from train_throughput import memory, peak

import semiclip as scl
from semiclip.datasets import fetch
from semiclip.metrics import relationship_recall

if TYPE_CHECKING:
    from collections.abc import Callable

TURNS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 permutations, and 5,000 genes for 20,000")
    parser.add_argument("--only", choices=list(PARTS), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only is None:
        for part in PARTS:
            command = [sys.executable, __file__, "--only", part, *(["--quick"] if args.quick else [])]
            subprocess.run(command, check=True)
        return
    figures = PARTS[args.only](quick=args.quick)
    load = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    print(json.dumps({"figure": f"recall_{args.only}", **figures, **load}), flush=True)


def beside_the_loop(*, quick: bool) -> dict:
    tables = published_tables()
    embedding, genes = random_map(2_393, tables)
    seconds = []
    for _ in range(TURNS):
        started = time.perf_counter()
        table = relationship_recall(embedding, genes, tables, n_permutations=0).set_index("key")
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    naive = naive_recall(embedding, genes, tables)
    loop = time.perf_counter() - started
    same = bool((table.loc[naive.index, ["n_pairs", "n_recalled"]] == naive[["n_pairs", "n_recalled"]]).all(axis=None))
    best = min(seconds)
    figures = {"seconds": round(best, 3), "naive_seconds": round(loop, 2), "ratio": round(loop / best, 1)}
    return {**size(embedding, table), **figures, "same_counts": same, **efaar(embedding, genes, table, best)}


def efaar(embedding: np.ndarray, genes: np.ndarray, table: pd.DataFrame, seconds: float) -> dict:
    if not find_spec("efaar_benchmarking"):
        return {}
    from efaar_benchmarking.benchmarking import known_relationship_benchmark
    from sklearn.utils import Bunch

    folder = str(fetch("relationships/CORUM.txt").parent)
    data = Bunch(features=pd.DataFrame(embedding), metadata=pd.DataFrame({"gene": genes}))
    started = time.perf_counter()
    theirs = known_relationship_benchmark(
        data, "gene", list(table.index[:-2]), recall_thr_pairs=[(0.05, 0.95)], benchmark_data_dir=folder
    )
    spent = time.perf_counter() - started
    same = bool(np.array_equal(theirs["recall_0.05_0.95"], table["value"].iloc[:-2]))
    return {"efaar_seconds": round(spent, 2), "efaar_ratio": round(spent / seconds, 1), "efaar_same_recall": same}


def permutations(*, quick: bool) -> dict:
    return permute(2_393, 100 if quick else 1_000)


def large_permutations(*, quick: bool) -> dict:
    return permute(*((5_000, 100) if quick else (20_000, 1_000)))


def permute(n_genes: int, n: int) -> dict:
    tables = published_tables()
    embedding, genes = random_map(n_genes, tables)
    table, figures = measure(lambda: relationship_recall(embedding, genes, tables, n_permutations=n, rng=0))
    return {**size(embedding, table.set_index("key")), "n_permutations": n, **figures}


def large(*, quick: bool) -> dict:
    """Check the counts by sorting all cosines, in a second step whose memory does not count."""
    tables = published_tables()
    embedding, genes = random_map(5_000 if quick else 20_000, tables)
    table, figures = measure(lambda: relationship_recall(embedding, genes, tables, n_permutations=0))
    n_recalled = int(table.set_index("key").loc["union", "n_recalled"])
    started = time.perf_counter()
    same = n_recalled == sorted_count(embedding, genes, tables)
    spent = time.perf_counter() - started
    compared = {"sorting_seconds": round(spent, 2), "ratio": round(spent / figures["seconds"], 1), "same_counts": same}
    return {**size(embedding, table.set_index("key")), **figures, **compared}


def overlap(*, quick: bool) -> dict:
    """Measure tl.null_overlap of two representations beside tl.recall of one and of both, a row per gene."""
    n_genes, n = (5_000, 100) if quick else (20_000, 1_000)
    adata, options = random_screen(n_genes, 768, n)
    adata.obsm["X_other"] = np.random.default_rng(1).standard_normal(adata.obsm["X_rep"].shape, dtype=np.float32)
    quiet = options | {"progress_bar": False}
    scl.tl.recall(adata[-3_000:], **quiet | {"n_permutations": 2})  # what is loaded with the first call
    figures = {"recall": measure(lambda: scl.tl.recall(adata, **quiet))[1]}
    figures["recall_of_both"] = measure(lambda: scl.tl.recall(adata, **quiet | {"use_rep": ["X_rep", "X_other"]}))[1]
    figures["null_overlap"] = measure(lambda: scl.tl.null_overlap(adata, references="X_other", **quiet))[1]
    for name, ratio in (("recall", "to_one"), ("recall_of_both", "to_both")):
        for kind in ("seconds", "cpu_seconds"):
            figures[f"{kind}_{ratio}"] = round(figures["null_overlap"][kind] / figures[name][kind], 2)
    return {"n_genes": n_genes, "d": 768, "n_permutations": n, **figures}


def measure(run: Callable[[], Any]) -> tuple[Any, dict]:
    """Return a result, the seconds that it took and its peak memory above what was held before."""
    held, started, started_cpu = memory(), time.perf_counter(), time.process_time()
    result = run()
    seconds, cpu_seconds, above = time.perf_counter() - started, time.process_time() - started_cpu, peak() - held
    figures = {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2)}
    return result, {**figures, "peak_gb": round(peak() / 1e9, 2), "peak_gb_above_data": round(above / 1e9, 2)}


def sorted_count(embedding: np.ndarray, genes: np.ndarray, tables: pd.DataFrame) -> int:
    """Count the recalled pairs of the union once more, with every cosine computed at once and sorted."""
    order = np.argsort(genes)
    unit = embedding[order].astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    names = genes[order]
    cosines = np.round(unit @ unit.T.copy(), 12)  # the copy keeps BLAS from a routine that fails at this size
    null = np.sort(cosines[np.triu_indices(len(names), k=1)])
    a, b = (tables[name].to_numpy(dtype=names.dtype) for name in ("gene_a", "gene_b"))
    kept = np.isin(a, names) & np.isin(b, names) & (a != b)
    pairs = np.unique(np.sort(np.searchsorted(names, np.column_stack([a[kept], b[kept]])), axis=1), axis=0)
    values = cosines[pairs[:, 0], pairs[:, 1]]
    right = np.searchsorted(null, values, side="right") / null.size
    left = np.searchsorted(null, values, side="left") / null.size
    return int(((right <= 0.05) | (left >= 0.95)).sum())


def random_map(n_genes: int, tables: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Draw an embedding of annotated genes and, where there are not enough, of others."""
    rng = np.random.default_rng(0)
    annotated = np.unique(tables[["gene_a", "gene_b"]].to_numpy(dtype=str))
    others = [f"OTHER{i:05}" for i in range(max(0, n_genes - annotated.size))]
    genes = np.append(rng.choice(annotated, min(n_genes, annotated.size), replace=False), others)
    return rng.normal(size=(n_genes, 768)).astype(np.float32), genes


def size(embedding: np.ndarray, table: pd.DataFrame) -> dict:
    return {"n_genes": len(embedding), "d": embedding.shape[1], "n_annotated_pairs": int(table.loc["union", "n_pairs"])}


PARTS = {
    "map": beside_the_loop,
    "permutations": permutations,
    "large": large,
    "large_permutations": large_permutations,
    "overlap": overlap,
}

if __name__ == "__main__":
    main()
