"""A simulated study, and how benchmarks judge an embedding of its knockouts."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

import semiclip as scl
from semiclip.datasets import REGIMES

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

KEYS: dict[str, Any] = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
# TVN weighs every dimension of an embedding alike, also those that hold noise; centring leaves them as they are
RECALLS = {"recall": "tvn", "recall_center": "center"}


@lru_cache(maxsize=1)  # jobs come study by study
def simulate(regime: str, seed: int, **changes: Any) -> scl.datasets.Study:
    """Return a study of a regime, with its counts encoded by the principal components of the compounds."""
    study = scl.datasets.simulate(rng=seed, **REGIMES[regime] | changes)
    encoder = scl.pp.encode(study.mdata["rna"], encoder="pca", n_components=64, rng=seed)
    scl.pp.encode(study.knockouts["rna"], encoder=encoder)
    return study


def recall(unseen: AnnData, use_rep: str, relationships: pd.DataFrame) -> dict[str, float]:
    """Return the mean recall of known relationships, by each correction of an embedding."""
    recalls = {}
    for name, method in RECALLS.items():
        table = scl.tl.recall(
            unseen, use_rep=use_rep, **KEYS, relationships=relationships, n_permutations=0, method=method
        )
        recalls[name] = float(table.set_index("key").loc["mean", "value"])
    return recalls


def preserve(unseen: AnnData, use_rep: str, seed: int) -> float:
    """Return how much of expression a small decoder gets back of perturbations that it has not seen."""
    table = scl.tl.preservation(
        unseen, use_rep=use_rep, **KEYS, baselines=(), max_epochs=60, batch_size=64, lr=1e-3, rng=seed,
        device="cpu", progress_bar=False,
    )  # fmt: skip
    score = (table["metric"] == "preservation") & (table["key"] == "unseen perturbations")
    return float(table.loc[score, "value"].iloc[0])


def report(figure: str, **values: Any) -> None:
    """Print one JSON line."""
    rounded = {name: round(float(value), 5) if isinstance(value, float) else value for name, value in values.items()}
    print(json.dumps({"figure": figure, **rounded}, default=lambda value: np.asarray(value).tolist()), flush=True)
