"""PEA beside other augmentations of transcriptomics: the paper's Figure 2b, on simulations.

Semi-Clipped is trained on the compounds of a simulated study without augmentation, with each augmentation of
`semiclip.augment`, with all of them ("combined": each time a sample is one of these or as it was measured, all equally
likely), and with each of these rungs under PEA. What it is judged by are unseen knockouts in new batches: recall of
known relationships, and how much of expression a decoder gets back. A seed is a study, its encoder, the views of each
augmentation and the weights that training starts from; all compounds train, and no figure chooses when to stop.

The encoder is that of the other benchmarks, principal components, or scVI as in the paper (`--encoder scvi`). The rate
of training is the one that `compare_methods.py --tuned` found for Semi-Clipped on medium studies of its own, the same
with PEA as without. Views are made first, once per study, and kept in a folder (`--cache`), as they take longer than
training.

Prints one JSON line per figure, and keeps every single run, from which a second call goes on, a CSV and a picture.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _compared import DATA, mean_recall, preserved, study_by
from _simulated import KEYS, QUIET, in_parallel, report, run_all

import semiclip as scl
from semiclip.augment import AUGMENTATIONS

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).parent / "results"
PAIR_ON = ["perturbation", "dose"]
N_VIEWS = 4
RUNGS: dict[str, list[str]] = {"none": [], **{kind: [kind] for kind in AUGMENTATIONS}, "combined": [*AUGMENTATIONS]}
FIGURES = ("recall", "preservation")
# the defaults of each augmentation, but fewer epochs of those that are trained: a study has 4,000 samples
EPOCHS: dict[str, dict[str, Any]] = {"scvi": {"max_epochs": 60}, "mdwgan_gp": {"n_epochs": 200, "patience": 20}}
QUICK: dict[str, dict[str, Any]] = {"scvi": {"max_epochs": 10}, "mdwgan_gp": {"n_epochs": 10}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["medium", "hard"], choices=[*DATA], help="(%(default)s)")
    parser.add_argument("--rungs", nargs="+", default=list(RUNGS), choices=RUNGS, metavar="RUNG", help="beside none")
    parser.add_argument("--encoder", default="pca", choices=["pca", "scvi"], help="(%(default)s)")
    parser.add_argument("--seeds", type=int, default=6, help="(%(default)s; Figure 2b has 5, too few for any p < 0.05)")
    parser.add_argument("--epochs", type=int, default=60, help="(%(default)s)")
    parser.add_argument("--lr", type=float, default=1.0, help="learning rate (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 seeds of medium, fewer epochs of everything")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "semiclip_flat_views", help="(%(default)s)"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    if args.quick:
        args.data, args.seeds, args.epochs = ["medium"], 2, 20
    args.rungs = [*dict.fromkeys(["none", *args.rungs])]
    studies = [
        {"data": data, "seed": seed, "encoder": args.encoder, "quick": args.quick}
        for data in args.data
        for seed in range(args.seeds)
    ]
    kinds = [kind for kind in AUGMENTATIONS if any(kind in RUNGS[rung] for rung in args.rungs)]
    needed = [{**study, "kind": kind} for study in studies for kind in kinds]
    for _ in in_parallel(needed, partial(make_views, cache=args.cache), args.jobs):
        pass
    jobs = [
        {**study, "rung": rung, "pea": pea, "epochs": args.epochs, "lr": args.lr}
        for study in studies
        for rung in args.rungs
        for pea in (False, True)
    ]
    name = f"compare_augmentations_{args.encoder}{'_quick' if args.quick else ''}"
    table = run_all(jobs, partial(train, cache=args.cache), args.out / f"{name}.jsonl", args.jobs)
    table = table.assign(
        name=[f"{rung} + PEA" if pea else rung for rung, pea in zip(table["rung"], table["pea"], strict=True)]
    )
    table.to_csv(args.out / f"{name}.csv", index=False)
    for data, runs in table.groupby("data", sort=False):
        summarise(str(data), runs)
    draw(table, args.out / name)


def train(job: dict[str, Any], cache: Path) -> dict[str, Any]:
    """Train with the views of a rung, and judge."""
    study, _ = study_by(job["data"], job["seed"], job["encoder"])
    for kind in RUNGS[job["rung"]]:
        study.mdata["rna"].obsm[kind] = np.load(cache / kept(job, kind), allow_pickle=False)
    model = scl.tl.semiclip(
        study.mdata, student_rep=f"X_{job['encoder']}", teacher_rep="X_image", pair_on=PAIR_ON, **KEYS,
        rng=job["seed"], recipe="whole", pea=job["pea"], views=RUNGS[job["rung"]] or None, max_epochs=job["epochs"],
        train_size=1.0, matmul_precision="medium", plan_kwargs={"lr": {"student": job["lr"]}}, **QUIET,
    )  # fmt: skip
    unseen = study.knockouts["rna"]
    scl.tl.embed(unseen, model)
    recall = mean_recall(unseen, "X_semiclip", study.relationships)
    return {"recall": recall, "preservation": preserved(unseen, "X_semiclip", job["seed"])}


def make_views(job: dict[str, Any], cache: Path) -> dict[str, Any]:
    """Make the views of one augmentation of a study, unless the folder has them."""
    path = cache / kept(job, job["kind"])
    if path.exists():
        return {}
    study, encoder = study_by(job["data"], job["seed"], job["encoder"])
    rna, settings = study.mdata["rna"], settings_of(job, job["kind"])
    if job["kind"] == "scvi":
        settings = {**settings, "train_kwargs": QUIET}
    scl.pp.augment(
        rna, job["kind"], encoder=encoder, pair_on=PAIR_ON, **KEYS, n_views=N_VIEWS, key_added=job["kind"],
        rng=job["seed"], progress_bar=False, **settings,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npy", delete=False) as part:
        np.save(part, rna.obsm[job["kind"]], allow_pickle=False)
    Path(part.name).replace(path)  # so that what was broken off is never taken for whole
    return {}


def settings_of(job: dict[str, Any], kind: str) -> dict[str, Any]:
    return (QUICK if job["quick"] else EPOCHS).get(kind, {})


def kept(job: dict[str, Any], kind: str) -> str:
    """Name the file of the views of one augmentation after all that they depend on."""
    settings = "-".join(str(value) for value in settings_of(job, kind).values())
    return f"{job['data']}_{job['seed']}_{job['encoder']}_{kind}{settings}.npy"


def summarise(data: str, runs: pd.DataFrame) -> None:
    for name, group in runs.groupby("name", sort=False):
        settings = {setting: group[setting].iloc[0] for setting in ("encoder", "epochs", "lr")}
        report("runs", data=data, name=name, n_seeds=len(group), **settings)
    for base in ("none", "none + PEA"):
        for figure in FIGURES:
            for row in scl.tl.compare(runs, base=base, by="name", value=figure).to_dict("records"):
                report(f"{figure} against {base}", data=data, **row)


def draw(table: pd.DataFrame, stem: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    for data, runs in table.groupby("data", sort=False):
        fig, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
        for ax, figure in zip(axes, FIGURES, strict=True):
            shown = runs.assign(augmentation=np.where(runs["pea"], "with PEA", "without PEA"))
            scl.pl.ablation(shown, value=figure, method="augmentation", base="none", ax=ax)
        fig.savefig(f"{stem}_{data}.png", dpi=200)
        plt.close(fig)


if __name__ == "__main__":
    main()
