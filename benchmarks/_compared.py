"""One run of the comparison of methods: distil, embed what was not seen, and judge it."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from _methods import RAW
from _simulated import ENCODERS, KEYS, encoded, encoded_by

import semiclip as scl
from semiclip.errors import Diverged, NoVariation
from semiclip.objectives import OBJECTIVES

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

EMBEDDING = "X_embedded"
# training left the finite numbers, or all that was embedded is the same; any other error is a fault
FAILURES: dict[type[Exception], str] = {Diverged: "diverged", NoVariation: "collapsed"}
# TVN weighs every dimension of an embedding alike, also those that hold noise; centring leaves them as they are
RECALLS = {"recall": "tvn", "recall_center": "center"}
N_COMPONENTS_U2OS = 40
DATA: dict[str, dict[str, Any]] = {
    "easy": {"difficulty": "easy"},
    "medium": {"difficulty": "medium"},
    "hard": {"difficulty": "hard"},
    "pathways60": {"difficulty": "medium", "n_pathways": 60},  # no method's number of dimensions by default
}


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Distil, embed what was not seen, and judge it; a method that fails has no figures."""
    try:
        unseen = embedded(job)
        recalls = recalled(job, unseen)
    except tuple(FAILURES) as error:
        return failed(error)
    preservation = preserved(unseen, EMBEDDING, job["seed"], normalize=job["data"] != "u2os")
    return {**recalls, "preservation": preservation, "failure": ""}


def recall_alone(job: dict[str, Any]) -> dict[str, Any]:
    """Do the same without the decoder of preservation, to search settings."""
    try:
        return {**recalled(job, embedded(job)), "failure": ""}
    except tuple(FAILURES) as error:
        return failed(error)


def failed(error: Exception) -> dict[str, Any]:
    """Return no figures, and how the method failed."""
    return {**dict.fromkeys((*RECALLS, "preservation"), np.nan), "failure": FAILURES[type(error)]}


def embedded(job: dict[str, Any]) -> AnnData:
    """Distil, and embed what was not seen."""
    mdata, unseen, _ = study(job["data"], job["seed"])
    setting: dict[str, Any] = dict(job["setting"])
    if job["method"] in OBJECTIVES:
        setting["pea"] = job["pea"]  # without it, the setting says whether the student is corrected
    with redirect_stdout(io.StringIO()):  # scvi-tools prints what it raises
        model = scl.tl.distill(
            mdata, objective="unimodal" if job["method"] == RAW else job["method"], student_rep="X_pca",
            teacher_rep="X_image", rng=job["seed"], key_added=EMBEDDING, accelerator="cpu",
            enable_progress_bar=False, **pairing(job["data"]), **setting,
        )  # fmt: skip
    # the compounds of U2OS have no controls, what was overexpressed in it has
    scl.tl.embed(unseen, model, key_added=EMBEDDING, control=KEYS["control"], batch_key=KEYS["batch_key"])
    return unseen


def recalled(job: dict[str, Any], unseen: AnnData) -> dict[str, float]:
    """Return the mean recall of known relationships, by each correction of the embedding that is judged."""
    return recalls_of(unseen, EMBEDDING, study(job["data"], job["seed"])[2])


def recalls_of(unseen: AnnData, use_rep: str, relationships: pd.DataFrame) -> dict[str, float]:
    """Return the mean recall by each correction of an embedding."""
    return {name: mean_recall(unseen, use_rep, relationships, method) for name, method in RECALLS.items()}


def mean_recall(unseen: AnnData, use_rep: str, relationships: pd.DataFrame, method: str = "tvn") -> float:
    """Return the mean recall of an embedding that is corrected in this way before."""
    table = scl.tl.recall(unseen, use_rep=use_rep, **KEYS, relationships=relationships, n_permutations=0, method=method)
    return float(table.loc[table["key"] == "mean", "value"].iloc[0])


def preserved(unseen: AnnData, use_rep: str, seed: int, *, normalize: bool = True) -> float:
    """Return how much of expression a small decoder gets back of perturbations that it has not seen."""
    table = scl.tl.preservation(
        unseen, use_rep=use_rep, **KEYS, baselines=(), max_epochs=60, batch_size=64, lr=1e-3, rng=seed,
        normalize=normalize, device="cpu", progress_bar=False,
    )  # fmt: skip
    score = (table["metric"] == "preservation") & (table["key"] == "unseen perturbations")
    return float(table.loc[score, "value"].iloc[0])


@lru_cache(maxsize=2)
def study(data: str, seed: int) -> tuple[Any, Any, pd.DataFrame]:
    """Return what is distilled from, what is judged, and what is known of it."""
    if data != "u2os":
        simulated = encoded(seed, **DATA[data])
        return simulated.mdata, simulated.knockouts["rna"], simulated.relationships
    compounds, orfs = scl.datasets.u2os_compounds(), scl.datasets.u2os_orfs(rng=0)
    encoder = scl.pp.encode(compounds["rna"], encoder="pca", n_components=N_COMPONENTS_U2OS, normalize=False, rng=seed)
    scl.pp.encode(orfs, encoder=encoder)
    return compounds, orfs, scl.datasets.relationships()


@lru_cache(maxsize=1)
def study_by(data: str, seed: int, encoder: str) -> tuple[scl.datasets.Study, Any]:
    """Return a simulated study and its encoder: one that embeds it, or a perceptron that has only read it."""
    if encoder in ENCODERS:
        return encoded_by(encoder, seed, **DATA[data])
    study = encoded(seed, **DATA[data])
    return study, scl.encoders.MLPEncoder().fit(study.mdata["rna"])


def pairing(data: str) -> dict[str, Any]:
    if data != "u2os":
        return {"pair_on": ["perturbation", "dose"], **KEYS}
    return {"pair_on": "perturbation", "perturbation_key": "perturbation", "control": None}
