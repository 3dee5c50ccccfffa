"""Which schedule reaches the recall of a long training in the least time? Epochs × mini-batches × recipes × seeds.

Each schedule is trained on the compounds of a regime of `semiclip.datasets.REGIMES`, and judged on its unseen knockouts
in new batches, both after TVN of the embedding and after centring alone, as `recipe_grid.py` does. Most studies have 3
mini-batches of 1,024 an epoch; `keys_100` has one of 400, and `keys_3000` (1,000 compounds of `private_interacting`,
which is no regime of the package) has 11.

* `whole`: 10 to 150 epochs of the cosine, and 25 from a rate of 0.3; in three regimes also mini-batches of 256, the
  epoch of 150 that is best on a tenth of the compounds, held out (`best`, by retrieval), and a training of at most 150
  epochs that stops where the same has not improved for 10 epochs (`stop`).
* `shared`: 1 to 25 epochs.

Seconds are those of one thread in training, setup and embedding left out: of its CPU, since a busy machine stretches
the clock, and by the clock. Each schedule is compared with 150 epochs of `whole` and 10 of `shared`, seed by seed: mean
difference of recall, its standard error and 95 % interval (Student's t over seeds).

Prints one JSON line per figure, and keeps every run, from which a second call goes on, and a picture of all runs kept.
"""

from __future__ import annotations

import argparse
import io
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _regimes import EMBEDDING, TRAINING
from _runs import make_runs, read_rows
from _simulated import KEYS, recall, report, simulate
from lightning import Callback

import semiclip as scl

RESULTS = Path(__file__).parent / "results"
REFERENCE = {"whole": 150, "shared": 10}  # epochs that others are compared with
COLUMNS = ("recipe", "epochs", "batch_size", "lr", "pea", "select")
RECALLS = {"recall": "after TVN", "recall_center": "after centring"}


def schedule(recipe: str, epochs: int, batch_size: int = 1024, **others: Any) -> dict[str, Any]:
    """Return a schedule, with the recipe's own rate, PEA and last epoch unless others are named."""
    return dict(zip(COLUMNS, (recipe, epochs, batch_size, None, True, "last"), strict=True)) | others


WHOLE = [*(schedule("whole", n) for n in (10, 25, 50, 150)), schedule("whole", 25, lr=0.3)]
SHARED = [schedule("shared", n) for n in (1, 3, 5, 10, 25)]
OTHERS = [schedule("whole", 25, 256), *(schedule("whole", 150, select=name) for name in ("best", "stop"))]
# seeds and schedules of each regime
STUDIES: dict[str, tuple[int, list[dict[str, Any]]]] = {
    **dict.fromkeys(("medium", "private_images", "interacting"), (3, WHOLE + SHARED + OTHERS)),
    "keys_100": (3, WHOLE + SHARED),
    "keys_3000": (2, [schedule("whole", 14), *WHOLE[1:], *(schedule("shared", n) for n in (3, 10))]),
}
# regimes that the package does not have
CHANGES: dict[str, tuple[str, dict[str, Any]]] = {"keys_3000": ("private_interacting", {"n_compounds": 1000})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regimes", nargs="+", default=list(STUDIES), choices=list(STUDIES), metavar="REGIME")
    parser.add_argument("--seeds", type=int, default=3, help="at most (%(default)s; 2 of keys_3000)")
    parser.add_argument("--epochs", nargs="+", type=int, default=[], help="schedules of so many epochs alone")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="keys_100 alone, 2 seeds")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    if args.quick:
        args.regimes, args.seeds = ["keys_100"], 2
    jobs = [
        {"regime": regime, "seed": seed, **setting}
        for seed in range(args.seeds)
        for regime in args.regimes
        if seed < STUDIES[regime][0]
        for setting in STUDIES[regime][1]
        if not args.epochs or setting["epochs"] in args.epochs
    ]
    path = args.out / f"time_to_recall{'_quick' if args.quick else ''}.jsonl"
    make_runs(jobs, judge, path, args.jobs)
    runs = pd.DataFrame(read_rows(path))  # also those of earlier calls
    summarise(runs)
    draw(runs, path.with_suffix(".png"))


class Stopwatch(Callback):
    """Measures a training, of which the process may have made another one first."""

    warm = False

    def __init__(self) -> None:
        self.seen: dict[str, float] = {}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start."""
        self.started = time.perf_counter(), time.process_time()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop."""
        wall, cpu = self.started
        self.seen = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
        self.seen["steps"] = trainer.global_step


def judge(job: dict[str, Any]) -> dict[str, Any]:
    """Train a schedule, embed the knockouts of its study, and recall their relationships."""
    regime, changes = CHANGES.get(job["regime"], (job["regime"], {}))
    study = simulate(regime, job["seed"], **changes)
    knockouts = study.knockouts["rna"]
    watch = Stopwatch()
    with redirect_stdout(io.StringIO()):  # scvi-tools prints what it raises
        if not Stopwatch.warm:  # what the first training of a process loads is no part of it
            train(study, {**job, "epochs": 1}, Stopwatch())
            Stopwatch.warm = True
        model = train(study, job, watch)
    scl.tl.embed(knockouts, model, key_added=EMBEDDING)
    recalls = recall(knockouts, EMBEDDING, study.relationships)
    return {**recalls, **watch.seen, "n_rows": len(model.train_indices)}


def train(study: scl.datasets.Study, job: dict[str, Any], watch: Stopwatch) -> Any:
    """Train a schedule on the compounds of a study."""
    options: dict[str, Any] = {
        "student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"], **KEYS, **TRAINING,
        "rng": job["seed"], "key_added": EMBEDDING, "enable_progress_bar": False, "callbacks": [watch],
        "pea": job["pea"], "batch_size": job["batch_size"], "recipe": job["recipe"], "max_epochs": job["epochs"],
    }  # fmt: skip
    if job["lr"] is not None:
        options["plan_kwargs"] = {"lr": job["lr"]}
    if job["select"] != "last":
        options |= {"monitor": "validation_mean_rank_percentile", "train_size": 0.9}
        stop = {"early_stopping": True, "early_stopping_patience": 10}
        options |= stop if job["select"] == "stop" else {"select": "best"}
    return scl.tl.semiclip(study.mdata, **options)


def compare(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the difference of each schedule from the long one of its regime and recipe, paired by seed."""
    from scipy.stats import t

    rows = []
    runs = runs.assign(lr=runs["lr"].astype(float).fillna(0.0))  # of the recipe
    for (regime, recipe), part in runs.groupby(["regime", "recipe"], sort=False):
        long = part[is_plain(part) & (part["epochs"] == REFERENCE[recipe])].set_index("seed")
        for setting, table in part.groupby(list(COLUMNS), sort=False):
            table = table.set_index("seed")
            row = {"regime": regime, **dict(zip(COLUMNS, setting, strict=True)), "n_seeds": len(table)}
            row |= table[["steps", "cpu_seconds", "seconds", *RECALLS]].mean().to_dict()
            row["share_of_time"] = (table["cpu_seconds"] / long["cpu_seconds"]).mean()
            for name in RECALLS:
                difference = (table[name] - long[name]).dropna()
                n = len(difference)
                error = difference.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
                row |= {f"{name}_gain": difference.mean(), f"{name}_error": error}
                row[f"{name}_half_interval"] = error * t.ppf(0.975, n - 1) if n > 1 else np.nan
            rows.append(row)
    return pd.DataFrame(rows)


def is_plain(runs: pd.DataFrame) -> pd.Series:
    """Tell schedules that differ from the recipe in their epochs alone."""
    has_rate = runs["lr"].astype(float).fillna(0.0) > 0
    return (runs["batch_size"] == 1024) & runs["pea"] & (runs["select"] == "last") & ~has_rate


def summarise(runs: pd.DataFrame) -> None:
    """Report means by regime and schedule, and differences from the longest schedule."""
    for row in compare(runs).to_dict("records"):
        report("schedule", **{name: value for name, value in row.items() if not pd.isna(value)})


def draw(runs: pd.DataFrame, path: Path) -> None:
    """Draw recall by the number of epochs, a panel for each regime: means and standard deviations over seeds."""
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    from semiclip.pl._style import COLOURS

    plain = runs[is_plain(runs)]
    regimes = [name for name in STUDIES if name in set(plain["regime"])]
    figure, axes = plt.subplots(1, len(regimes), figsize=(3 * len(regimes), 3.6), sharey=True, layout="constrained")
    axes = np.atleast_1d(axes)
    for ax, regime in zip(axes, regimes, strict=True):
        part = plain[plain["regime"] == regime]
        looks = [(recipe, name) for recipe in REFERENCE for name in RECALLS]
        for colour, (recipe, name) in zip(COLOURS, looks, strict=False):
            table = part[part["recipe"] == recipe].groupby("epochs")[name].agg(["mean", "std"])
            ax.errorbar(
                table.index, table["mean"], table["std"].fillna(0), color=colour, marker="o", markersize=4, capsize=2,
                linewidth=1.2, label=f'"{recipe}", {RECALLS[name]}',
            )  # fmt: skip
        cost = part[part["recipe"] == "whole"].eval("cpu_seconds / epochs").mean()
        ax.set_title(regime if pd.isna(cost) else f'{regime}\n{cost:.2g} CPU s an epoch of "whole"', fontsize=9)
        ax.set(
            xscale="log",
            xlabel="epochs",
            xlim=(0.8, 200),
            xticks=(1, 3, 10, 25, 50, 150),
            xticklabels=(1, 3, 10, 25, 50, 150),
        )
        ax.minorticks_off()
        ax.axhline(0.1, color="0.6", linewidth=0.8, linestyle=":")
    axes[0].set_ylabel("Recall of unseen knockouts")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=200)
    plt.close(figure)


if __name__ == "__main__":
    main()
