"""Which schedule does `recipe="whole"` need on real data, and does a high rate harm small data? 25 or 50 epochs.

`time_to_recall.py` asks this of simulations of 100 to 3,000 keys. Here 25 and 50 epochs from rates of 0.1 and 0.3 train
the same model on the same split or seed:

* `u2os`: 162 real compounds, of which 40 are held out (`real_u2os.py`, 20 components). Retrieval is the mean rank
  percentile of their own morphology.
* `genes`: 585 real genes (`real_genes.py`), recall of the unseen ones and retrieval of held-out images.
* `small`: simulations of 20 and 60 keys and of 60 with much noise, in mini-batches of 32; with PEA and without.

Each schedule is compared with 50 epochs at 0.1, split by split or seed by seed: mean difference and 95 % interval
(Student's t). Splits of the same data overlap, so intervals of real data are a little too short. A negative difference
of retrieval is a gain.

Prints one JSON line per figure, and keeps every run, from which a second call goes on.

    python benchmarks/whole_schedules.py --parts genes u2os --splits 4 --schedules 2
    python benchmarks/whole_schedules.py --parts small --splits 2 --schedules 2
"""

from __future__ import annotations

import argparse
import io
from contextlib import redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import real_genes
import real_u2os
from _regimes import EMBEDDING, TRAINING
from _runs import make_runs, read_rows
from _simulated import KEYS, recall, report, simulate
from sklearn.model_selection import ShuffleSplit
from time_to_recall import Stopwatch

import semiclip as scl
from semiclip.correction import correct
from semiclip.errors import Diverged, NoVariation

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("part", "study", "correction", "pea", "adapter", "epochs", "lr", "split")
ARM = [name for name in COLUMNS if name not in ("epochs", "lr", "split")]
SCHEDULES = [(50, 0.1), (25, 0.3), (25, 0.1), (50, 0.3)]
ADAPTERS: dict[str, dict[str, Any]] = {"default": {}, "512, 1024": {"n_hidden": (512, 1024)}}
MEASURES = ("retrieval", "recall", "recall_center", "recall_large", "recall_union")
NOISY = {"difficulty": "hard", "image_private": 2.0, "image_state": 3.0, "expression_private": 2.0}
SMALL: dict[str, dict[str, Any]] = {
    "20 keys": {"n_compounds": 20, "doses": (1.0,)},
    "60 keys": {"n_compounds": 20},
    "60 noisy keys": {"n_compounds": 20, **NOISY},
}


def main() -> None:
    """Make the runs that are missing, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS), metavar="PART")
    parser.add_argument("--splits", type=int, default=10, help="of each part at most (%(default)s)")
    parser.add_argument("--schedules", type=int, default=4, help="the first ones alone (%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 splits")
    parser.add_argument("--out", type=Path, default=RESULTS / "whole_schedules.jsonl", help="file of the runs")
    args = parser.parse_args()
    if args.quick:
        args.splits, args.out = 2, args.out.with_stem(f"{args.out.stem}_quick")
    jobs = [
        {**dict.fromkeys(COLUMNS), "part": part, "split": split, **arm, "epochs": epochs, "lr": lr}
        for split in range(args.splits)
        for part in args.parts
        if split < PARTS[part][1]
        for arm in PARTS[part][0]
        for epochs, lr in SCHEDULES[: args.schedules]
    ]
    make_runs(jobs, judge, args.out, args.jobs)
    summarise(pd.DataFrame(read_rows(args.out)))


def judge(job: dict[str, Any]) -> dict[str, Any]:
    """Train a model by a schedule, and judge it; a training that fails has no figures."""
    watch = Stopwatch()
    try:
        with redirect_stdout(io.StringIO()):  # scvi-tools prints what it raises
            figures = PARTS[job["part"]][2](job, {"max_epochs": job["epochs"], "callbacks": [watch]})
    except (Diverged, NoVariation) as error:
        return {"failure": type(error).__name__}
    return {**figures, "failure": "", "cpu_seconds": watch.seen["cpu_seconds"], "steps": watch.seen["steps"]}


# the parts


@lru_cache(maxsize=1)
def read_u2os() -> Any:
    """Return the compounds."""
    scl.settings.verbosity = "error"
    return scl.datasets.u2os_compounds()


def judge_u2os(job: dict[str, Any], training: dict[str, Any]) -> dict[str, float]:
    """Rank the morphology of held-out compounds."""
    compounds = read_u2os()
    splits = ShuffleSplit(10, test_size=real_u2os.N_HELD_OUT, random_state=0).split(np.arange(compounds.n_obs))
    train, test = list(splits)[job["split"]]
    model, encoder = real_u2os.distil(
        compounds, train, n_components=20, correction=job["correction"], lr=job["lr"], **ADAPTERS[job["adapter"]],
        **training,
    )  # fmt: skip
    query, morphology = compounds["rna"][test].copy(), np.asarray(compounds["image"].X)
    scl.pp.encode(query, encoder=encoder)
    images = correct_by(morphology[np.concatenate([train, test])], len(train), job["correction"])
    return {"retrieval": real_u2os.rank(model.get_latent_representation(query), images)}


def correct_by(images: np.ndarray, n_train: int, method: str) -> np.ndarray:
    """Return images that were held out, as a model without controls corrects its teacher."""
    if method == "center":
        return images[n_train:] - images[:n_train].mean(axis=0)
    is_train = np.arange(len(images)) < n_train
    return correct(images, np.zeros(len(images), dtype=int), is_train, ridge=0.5)[n_train:]


def judge_genes(job: dict[str, Any], training: dict[str, Any]) -> dict[str, float]:
    """Recall relationships of unseen genes, and rank the images of those that were held out."""
    task, centred = real_genes.make_task(job["split"], permuted=False), job["correction"] == "center"
    model_kwargs = {**ADAPTERS[job["adapter"]], **(real_genes.CENTRED if centred else {})}
    options = {"plan_kwargs": {"lr": job["lr"]}, "model_kwargs": model_kwargs, **training}
    outcome = real_genes.distil(task, "semiclip", 60 if centred else 200, train_size=1.0, **options)
    known = np.concatenate([task.taught, task.images])
    images = correct_by(known, len(task.taught), job["correction"])
    pairs = real_genes.recalled(task, outcome.unseen)
    shares = real_genes.average(pairs, pairs[["recalled"]].to_numpy(), np.ones((1, len(pairs))))
    return {name: value.item() for name, value in shares.items()} | {
        "retrieval": outcome._replace(candidates=images).rank
    }


def judge_small(job: dict[str, Any], training: dict[str, Any]) -> dict[str, float]:
    """Recall relationships of the knockouts of a small simulation."""
    changes = {"n_knockouts": 80, "n_pathways": 8, "n_genes": 200, "n_batches": 3, **SMALL[job["study"]]}
    study = simulate("medium", job["split"], **changes)
    knockouts = study.knockouts["rna"]
    model = scl.tl.semiclip(
        study.mdata, student_rep="X_pca", teacher_rep="X_image", pair_on=["perturbation", "dose"], recipe="whole",
        **KEYS, **TRAINING, rng=job["split"], key_added=EMBEDDING, enable_progress_bar=False, pea=job["pea"],
        batch_size=32, model_kwargs=ADAPTERS[job["adapter"]], plan_kwargs={"lr": job["lr"]}, **training,
    )  # fmt: skip
    scl.tl.embed(knockouts, model, key_added=EMBEDDING)
    losses = model.history["train_loss"].to_numpy(float).ravel()
    spread = {"loss_first": losses[0], "loss_most": losses.max(), "loss_last": losses[-1]}
    return {**recall(knockouts, EMBEDDING, study.relationships), **spread}


UNPAIRED = [{"correction": correction, "adapter": adapter} for correction in ("tvn", "center") for adapter in ADAPTERS]
PARTS: dict[str, tuple[list[dict[str, Any]], int, Callable[..., dict[str, float]]]] = {
    "u2os": (UNPAIRED, 10, judge_u2os),
    "genes": (UNPAIRED, 10, judge_genes),
    "small": (
        [
            {"study": study, "pea": pea, "adapter": adapter}
            for study in SMALL
            for pea in (True, False)
            for adapter in ADAPTERS
        ],
        5,
        judge_small,
    ),
}


# figures


def summarise(runs: pd.DataFrame) -> None:
    """Report each arm, and the means over arms, of every part."""
    runs = runs.astype(dict.fromkeys(ARM, object))
    runs[ARM] = runs[ARM].where(runs[ARM].notna(), "")
    for values, rows in runs.groupby(ARM, sort=False):
        compare(rows, {name: value for name, value in zip(ARM, values, strict=True) if value != ""})
    for part, rows in runs.groupby("part", sort=False):
        compare(rows, {"part": part, "arms": "all"})


def compare(runs: pd.DataFrame, what: dict[str, Any]) -> None:
    """Report a schedule's means and its differences from the first one, pair by pair, averaged over arms by split."""
    from scipy.stats import t

    by_schedule = dict(iter(runs.groupby(["epochs", "lr"])))
    for schedule in SCHEDULES:
        if schedule not in by_schedule or SCHEDULES[0] not in by_schedule:
            continue
        both = by_schedule[schedule].merge(by_schedule[SCHEDULES[0]], on=[*ARM, "split"], suffixes=("", "_first"))
        figures: dict[str, Any] = {"epochs": schedule[0], "lr": schedule[1], "n_splits": both["split"].nunique()}
        figures |= {"n_runs": len(both), "n_failed": int((both["failure"] != "").sum())}
        figures["share_of_time"] = (both["cpu_seconds"] / both["cpu_seconds_first"]).mean()
        for name in (name for name in MEASURES if name in both and both[name].notna().any()):
            figures[name] = both[name].mean()
            difference = (both[name] - both[f"{name}_first"]).groupby(both["split"]).mean().dropna()
            if schedule != SCHEDULES[0]:
                figures[f"{name}_gain"] = difference.mean()
            if schedule != SCHEDULES[0] and (n := len(difference)) > 1:
                figures[f"{name}_half_interval"] = difference.std(ddof=1) / np.sqrt(n) * t.ppf(0.975, n - 1)
        report("schedule", **what, **figures)


if __name__ == "__main__":
    main()
