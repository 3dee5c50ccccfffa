"""Distillation on 162 real U2OS compounds, and what it does to real U2OS overexpression wells.

Held-out compounds: the mean rank percentile (0 best, 0.5 chance) of a compound's own morphology among those of all
held-out compounds, by cosine, for Semi-Clipped, ridge regression and CCA over repeated splits. What Semi-Clipped needs
to choose (width of the principal components, adapter, epochs, temperature) is chosen on inner splits of the training
compounds; ridge chooses its penalty by leave-one-out on the same, and CCA is not tuned. Held-out compounds have no
controls, so Semi-Clipped centres them on each other, the others on the training compounds.

Prints one JSON line per figure, and the recall tables to the standard error.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from itertools import product
from typing import TYPE_CHECKING, Any

import lightning.pytorch  # noqa: F401  # sets its logger's level when it is imported
import numpy as np
from sklearn.cross_decomposition import CCA
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import ShuffleSplit
from tqdm import tqdm

import semiclip as scl

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

GRID = {"n_components": (10, 20, 40), "n_hidden": ((), (64,)), "max_epochs": (50, 150), "temperature": (0.1, 0.3)}
N_HELD_OUT, N_INNER = 40, 30
ORF_KEYS: dict[str, Any] = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--splits", type=int, default=10, help="outer splits (%(default)s)")
    parser.add_argument("--inner", type=int, default=2, help="inner splits of each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 outer splits with 1 inner split")
    args = parser.parse_args()
    if args.quick:
        args.splits, args.inner = 2, 1
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    compounds, orfs = scl.datasets.u2os_compounds(), scl.datasets.u2os_orfs(rng=0)
    held_out(compounds, args.splits, args.inner)
    overexpression(compounds, orfs, args.inner)


def held_out(compounds: MuData, n_splits: int, n_inner: int) -> None:
    """Judge on compounds that no choice has seen."""
    scores: dict[str, list[float]] = {"semiclip": [], "ridge": [], "cca": []}
    splits = ShuffleSplit(n_splits, test_size=N_HELD_OUT, random_state=0).split(np.arange(compounds.n_obs))
    for train, test in tqdm(splits, total=n_splits, desc="held-out compounds"):
        choice = choose(compounds, train, n_inner)
        scores["semiclip"].append(semiclip_rank(compounds, train, test, **choice))
        expression, morphology = (np.asarray(compounds[name].X) for name in ("rna", "image"))
        x, y = expression - expression[train].mean(axis=0), morphology - morphology[train].mean(axis=0)
        scores["ridge"].append(rank(RidgeCV(np.logspace(1, 6, 11)).fit(x[train], y[train]).predict(x[test]), y[test]))
        x, y = (PCA(20, random_state=0).fit(values[train]).transform(values) for values in (x, y))
        canonical = CCA(n_components=5, max_iter=2000).fit(x[train], y[train])
        scores["cca"].append(rank(*canonical.transform(x[test], y[test])))
    for method, values in scores.items():
        report("held_out_mean_rank_percentile", method=method, value=np.mean(values), sd=np.std(values, ddof=1),
               chance=0.5, n_splits=n_splits, n_held_out=N_HELD_OUT)  # fmt: skip


def choose(compounds: MuData, train: np.ndarray, n_inner: int) -> dict[str, Any]:
    """Pick the setting that ranks best on inner splits of the training compounds."""
    settings = [dict(zip(GRID, values, strict=True)) for values in product(*GRID.values())]
    splits = list(ShuffleSplit(n_inner, test_size=N_INNER, random_state=1).split(train))
    means = [
        np.mean([semiclip_rank(compounds, train[fit], train[judge], **setting) for fit, judge in splits])
        for setting in settings
    ]
    return settings[int(np.argmin(means))]


def semiclip_rank(compounds: MuData, train: np.ndarray, test: np.ndarray, **setting: Any) -> float:
    """Train on some compounds and rank others."""
    model, encoder = distil(compounds, train, **setting)
    query = compounds["rna"][test].copy()
    scl.pp.encode(query, encoder=encoder)
    morphology = np.asarray(compounds["image"].X)
    return rank(model.get_latent_representation(query), morphology[test] - morphology[train].mean(axis=0))


def distil(
    compounds: MuData,
    rows: np.ndarray,
    *,
    n_components: int,
    n_hidden: Any = "auto",
    temperature: float = 0.1,
    correction: str = "center",
    lr: float = 0.03,
    **training: Any,
) -> tuple[scl.model.SemiClip, scl.encoders.PCAEncoder]:
    """Fit encoder and adapter on these rows alone."""
    part = compounds[rows].copy()
    encoder = scl.pp.encode(part["rna"], encoder="pca", n_components=n_components, normalize=False, rng=0)
    model = scl.tl.semiclip(
        part,
        student_rep="X_pca",
        teacher_rep="X_image",
        pair_on="perturbation",
        perturbation_key="perturbation",
        control=None,
        recipe="whole",
        train_size=1.0,
        rng=0,
        model_kwargs={
            "n_hidden": n_hidden,
            "temperature": temperature,
            "student_correction": correction,
            "teacher_correction": correction,
        },
        plan_kwargs={"lr": lr},
        accelerator="cpu",
        enable_progress_bar=False,
        **training,
    )
    return model, encoder


def overexpression(compounds: MuData, orfs: AnnData, n_inner: int) -> None:
    """Distil from all compounds and measure recall on the overexpression wells."""
    everything = np.arange(compounds.n_obs)
    choice = choose(compounds, everything, n_inner)
    report("chosen_on_inner_splits", **choice)
    model, encoder = distil(compounds, everything, **choice)
    scl.pp.encode(orfs, encoder=encoder)
    scl.tl.embed(orfs, model, control="control", batch_key="batch")
    reproducible = orfs[orfs.obs["reproducible"] | (orfs.obs["perturbation"] == "control")].copy()
    relationships = scl.datasets.relationships()
    for genes, wells in {"all": orfs, "reproducible": reproducible}.items():
        for method in ("center", "tvn"):
            table = scl.tl.recall(
                wells, use_rep=["X_pca", "X_semiclip"], **ORF_KEYS, method=method, relationships=relationships,
                n_permutations=500, rng=0,
            )  # fmt: skip
            readable = table.pivot(index="key", columns="representation", values=["value", "error"]).round(3)
            print(f"\n{genes} genes, {method}\n{readable.to_string()}", file=sys.stderr)
            for row in table.to_dict("records"):
                kept = ("representation", "key", "value", "error", "n_pairs", "n_recalled", "chance_mean", "chance_sd")
                report("relationship_recall", genes=genes, method=method, **{name: row[name] for name in kept})


def rank(query: np.ndarray, candidates: np.ndarray) -> float:
    return scl.metrics.retrieval(query, candidates, np.arange(len(query)))["mean_rank_percentile"]


def report(figure: str, **values: Any) -> None:
    rounded = {name: round(float(value), 4) if isinstance(value, float) else value for name, value in values.items()}
    print(json.dumps({"figure": figure, **rounded}, default=int), flush=True)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(mudata|lightning|torch|anndata)\b")
        main()
