"""Correcting and embedding many rows: rows per second, and memory above the data and the result.

A model is trained for a moment on few rows; then rows like them (256 dimensions, one batch for 10,000 of them) are
corrected by `pp.pea_correct` and embedded in 768 dimensions by `tl.embed`.

Prints one JSON line per figure.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from typing import Any

from train_throughput import memory, peak, study

import semiclip as scl

KEYS: dict[str, Any] = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="(%(default)s)")
    parser.add_argument("--quick", action="store_true", help="50,000 rows")
    args = parser.parse_args()
    n = 50_000 if args.quick else args.rows
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    model = scl.tl.semiclip(
        study(4_000), student_rep="X_rep", teacher_rep="X_rep", pair_on="perturbation", **KEYS,
        recipe="whole", max_epochs=1, rng=0, model_kwargs={"n_hidden": (512, 1024)}, enable_progress_bar=False,
    )  # fmt: skip
    rna = study(n)["rna"]
    columns = {"use_rep": "X_rep", **KEYS}
    timed("pp.pea_correct", rna, lambda: scl.pp.pea_correct(rna, **columns, key_added="corrected"))
    timed(
        "pp.pea_correct(stochastic=True)",
        rna,
        lambda: scl.pp.pea_correct(rna, **columns, key_added="view", stochastic=True, rng=0),
    )
    timed("tl.embed", rna, lambda: scl.tl.embed(rna, model, key_added="embedded"))


def timed(call: str, adata: Any, work: Any) -> None:
    before, held = set(adata.obsm), memory()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    result = sum(adata.obsm[key].nbytes for key in set(adata.obsm) - before)
    figures = {"n_rows": adata.n_obs, "seconds": round(seconds, 1), "rows_per_s": round(adata.n_obs / seconds)}
    above = round((peak() - held - result) / 1e9, 2)
    print(json.dumps({"figure": "inference", "call": call, **figures, "peak_gb_above_result": above}), flush=True)
    for key in set(adata.obsm) - before:
        del adata.obsm[key]


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(mudata|lightning|torch|anndata|scvi)\b")
        main()
