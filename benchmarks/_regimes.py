"""One run of the grid of recipes: train an arm on a regime of simulation, embed its knockouts, and judge."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from _simulated import KEYS, RECALLS, preserve, recall, simulate

import semiclip as scl
from semiclip.errors import Diverged, NoVariation

TRAINING: dict[str, Any] = {"train_size": 1.0, "matmul_precision": "medium", "accelerator": "cpu"}
EMBEDDING = "X_embedded"


def judge(job: dict[str, Any]) -> dict[str, Any]:
    """Return the recalls of an arm, how it was weighed and, on medium, its preservation."""
    result = judge_recall(job)
    if job["regime"] == "medium" and not result["failure"]:
        knockouts = simulate(job["regime"], job["seed"]).knockouts["rna"]
        result["preservation"] = preserve(knockouts, EMBEDDING, job["seed"])
    return result


def judge_recall(job: dict[str, Any]) -> dict[str, Any]:
    """Train an arm, embed the knockouts of its study, and recall their relationships."""
    study = simulate(job["regime"], job["seed"])
    try:
        with redirect_stdout(io.StringIO()):  # scvi-tools prints what it raises
            model = train(study, job["arm"], job["seed"], dict(job["setting"]))
    except (Diverged, NoVariation) as error:
        return {**dict.fromkeys(RECALLS, np.nan), "failure": type(error).__name__}
    knockouts = study.knockouts["rna"]
    scl.tl.embed(knockouts, model, key_added=EMBEDDING)
    recalls = recall(knockouts, EMBEDDING, study.relationships)
    weight = model.train_params_.get("distilled_weight", np.nan)
    return {**recalls, "failure": "", "n_dimensions": knockouts.obsm[EMBEDDING].shape[1], "weight": weight}


def train(study: scl.datasets.Study, arm: str, seed: int, setting: dict[str, Any]) -> Any:
    """Train an arm on the compounds of a study."""
    common: dict[str, Any] = {
        "student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"], **KEYS, **TRAINING,
        "rng": seed, "key_added": EMBEDDING, "enable_progress_bar": False,
    }  # fmt: skip
    if arm == "whole":
        common["max_epochs"] = 150  # three times the default, which time_to_recall.py compares with this
    if arm in ("shared", "whole", "paper"):
        return scl.tl.semiclip(study.mdata, recipe=arm, **common)
    if arm == "DCCA + PEA":
        common |= {"pea": True, "max_epochs": 60, "plan_kwargs": {"lr": setting.pop("lr")}}
    objective = {"DCCA + PEA": "dcca", "CCA": "cca"}.get(arm, arm)
    return scl.tl.distill(study.mdata, objective=objective, model_kwargs=setting, **common)
