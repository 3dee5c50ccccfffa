"""One run of the grid of recipes: train an arm on a regime of simulation, embed its knockouts, and judge."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from functools import lru_cache
from typing import Any

import numpy as np
from _compared import preserved
from _simulated import KEYS, encoded

import semiclip as scl
from semiclip.datasets import REGIMES
from semiclip.errors import Diverged, NoVariation

TRAINING: dict[str, Any] = {"train_size": 1.0, "matmul_precision": "medium", "accelerator": "cpu"}


def judge(job: dict[str, Any]) -> dict[str, Any]:
    """Return the recalls of an arm, how it was weighed and, on medium, its preservation."""
    result = recall(job)
    if job["regime"] == "medium" and not result["failure"]:
        knockouts = study(job["regime"], job["seed"]).knockouts["rna"]
        result["preservation"] = preserved(knockouts, "X_embedded", job["seed"])
    return result


def recall(job: dict[str, Any]) -> dict[str, Any]:
    """Train an arm, embed the knockouts of its study, and recall their relationships."""
    data = study(job["regime"], job["seed"])
    try:
        with redirect_stdout(io.StringIO()):  # scvi-tools prints what it raises
            model = train(data, job["arm"], job["seed"], dict(job["setting"]))
    except (Diverged, NoVariation) as error:
        return {"recall": np.nan, "recall_center": np.nan, "failure": type(error).__name__}
    knockouts = data.knockouts["rna"]
    scl.tl.embed(knockouts, model, key_added="X_embedded")
    recalls = {}
    for name, method in {"recall": "tvn", "recall_center": "center"}.items():
        table = scl.tl.recall(
            knockouts, use_rep="X_embedded", **KEYS, relationships=data.relationships, n_permutations=0, method=method
        )
        recalls[name] = float(table.set_index("key").loc["mean", "value"])
    weight = model.train_params_.get("distilled_weight", np.nan)
    return {**recalls, "failure": "", "n_dimensions": knockouts.obsm["X_embedded"].shape[1], "weight": weight}


def train(data: scl.datasets.Study, arm: str, seed: int, setting: dict[str, Any]) -> Any:
    """Train an arm on the compounds of a study."""
    common: dict[str, Any] = {
        "student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"], **KEYS, **TRAINING,
        "rng": seed, "key_added": "X_embedded", "enable_progress_bar": False,
    }  # fmt: skip
    if arm in ("shared", "whole", "paper"):
        return scl.tl.semiclip(data.mdata, recipe=arm, **common)
    if arm == "DCCA + PEA":
        common |= {"pea": True, "max_epochs": 60, "plan_kwargs": {"lr": setting.pop("lr")}}
    objective = {"DCCA + PEA": "dcca", "CCA": "cca"}.get(arm, arm)
    return scl.tl.distill(data.mdata, objective=objective, model_kwargs=setting, **common)


@lru_cache(maxsize=1)
def study(regime: str, seed: int) -> scl.datasets.Study:
    """Return a study of a regime, with principal components."""
    return encoded(seed, **REGIMES[regime])
