"""A simulated study, trained and judged: what the benchmarks of augmentation and of settings share."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

import semiclip as scl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

KEYS: dict[str, Any] = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
ENCODERS: dict[str, dict[str, Any]] = {
    "pca": {"n_components": 64},
    "scvi": {"n_latent": 64, "max_epochs": 60, "train_kwargs": QUIET},
}


def encoded(seed: int, **simulation: Any) -> scl.datasets.Study:
    """Simulate a study and encode its counts by the principal components of the compounds."""
    return encoded_by("pca", seed, **simulation)[0]


def encoded_by(name: str, seed: int, **simulation: Any) -> tuple[scl.datasets.Study, Any]:
    """Simulate a study and encode its counts by an encoder fitted on the compounds, which is returned too."""
    study = scl.datasets.simulate(rng=seed, **simulation)
    encoder = scl.pp.encode(study.mdata["rna"], encoder=name, rng=seed, **ENCODERS[name])
    scl.pp.encode(study.knockouts["rna"], encoder=encoder)
    return study, encoder


def recalls(study: scl.datasets.Study, seed: int, **training: Any) -> dict[str, float]:
    """Train on the compounds, embed the knockouts, and recall their relationships before and after."""
    model = scl.tl.semiclip(
        study.mdata, student_rep="X_pca", teacher_rep="X_image", pair_on=["perturbation", "dose"], **KEYS, rng=seed,
        recipe="whole", accelerator="cpu", enable_progress_bar=False, **training,
    )  # fmt: skip
    knockouts = study.knockouts["rna"]
    scl.tl.embed(knockouts, model)
    table = scl.tl.recall(
        knockouts, use_rep=["X_pca", "X_semiclip"], **KEYS, relationships=study.relationships, n_permutations=0
    )
    mean = table[table["key"] == "mean"].set_index("representation")["value"]
    return {"recall": float(mean["X_semiclip"]), "unimodal": float(mean["X_pca"])}


def run_all(
    jobs: Sequence[dict[str, Any]], work: Callable[[dict[str, Any]], dict[str, Any]], out: Path, n_processes: int
) -> pd.DataFrame:
    """Add the result of each job to a file as soon as it is there, so that a second call goes on from it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    done = {name_of(row, jobs[0]): row for row in read_rows(out)}
    left = [job for job in jobs if name_of(job, job) not in done]
    with out.open("a") as lines:
        for row in in_parallel(left, work, n_processes):
            lines.write(json.dumps(row) + "\n")
            lines.flush()
            done[name_of(row, jobs[0])] = row
    return pd.DataFrame([done[name_of(job, job)] for job in jobs])


def read_rows(out: Path) -> list[dict[str, Any]]:
    """Read the results of a file that need not exist, and cut off a last line that was not written to its end."""
    out.touch()
    written = out.read_bytes()
    whole = written[: written.rfind(b"\n") + 1]
    if len(whole) < len(written):
        with out.open("r+b") as file:
            file.truncate(len(whole))
    return [json.loads(line) for line in whole.splitlines()]


def in_parallel(
    jobs: Sequence[dict[str, Any]], work: Callable[[dict[str, Any]], dict[str, Any]], n_processes: int
) -> Iterator[dict[str, Any]]:
    """Give each job with its result as soon as it is there, and show how far it is."""
    from joblib import Parallel, delayed
    from tqdm import tqdm

    results = Parallel(n_jobs=n_processes, return_as="generator_unordered")(delayed(_named)(work, job) for job in jobs)
    return iter(tqdm(results, total=len(jobs), file=sys.stderr))


def name_of(row: dict[str, Any], job: dict[str, Any]) -> str:
    """What tells a job from the others."""
    return json.dumps([row.get(name) for name in job])


def _named(work: Callable[[dict[str, Any]], dict[str, Any]], job: dict[str, Any]) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(mudata|lightning|torch|anndata|scvi)\b")
        quiet()
        return {**job, **work(job)}


def quiet() -> None:
    """Leave only what a benchmark reports."""
    import lightning.pytorch  # noqa: F401  # sets its logger's level when it is imported

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # figures then do not depend on the number of cores


def report(figure: str, **values: Any) -> None:
    """Print one JSON line."""
    rounded = {name: round(float(value), 5) if isinstance(value, float) else value for name, value in values.items()}
    print(json.dumps({"figure": figure, **rounded}, default=lambda value: np.asarray(value).tolist()), flush=True)
