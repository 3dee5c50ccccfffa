"""Every method, raw, with TVN and with PEA, on the same data: the paper's Table 1 and Figure 2a, on simulations.

Each is trained on the compounds of a simulated study by `scl.tl.distill` and judged on its unseen knockouts in new
batches: recall of known relationships after TVN of the embedding (`recall`) and after centring alone
(`recall_center`), and how much of expression a decoder gets back (`scl.tl.preservation`). A seed is a study, its
encoder and the weights that training starts from; all compounds train. The baselines of `semiclip.baselines` are there
too. Matrix products of training are in bfloat16 where the CPU has them (`matmul_precision="medium"`).

An objective has three arms. Its student is as it comes from the encoder ("raw", the paper's base), corrected by TVN in
training and later (no suffix), or corrected by PEA in training and by TVN later ("+ PEA"). What PEA gains is stated
against both others.

Settings are the paper's, or with `--tuned` those that recall best after TVN in a grid of eight, searched for each
method and arm by itself on other simulated studies, whose seeds the table never uses: of compounds, such as those that
a validation split would hold out, no relationships are known.

`pathways60` is the medium simulation with 60 pathways instead of 30, which is how many dimensions DCCA and CCA keep by
default. `u2os` is real: distilled from 162 compounds, judged on overexpressed genes, with the settings of the medium
simulation. The paper trains on 130,000 profiles, where 10 epochs are 1,270 steps; here they are 30, so that its
settings say little.

Prints one JSON line per figure, and keeps every single run, from which a second call goes on, a CSV and two pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _compared import DATA, RECALLS, recall_alone, train
from _methods import ARMS, METHODS, arms, as_in_the_paper, grid
from _simulated import report, run_all

import semiclip as scl
from semiclip.objectives import OBJECTIVES

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).parent / "results"
SEARCHED = 1000  # seed of the first study on which settings are searched
BASE = "semiclip + PEA"
FIGURES = (*RECALLS, "preservation")
# one colour more than the package's own, for eight objectives
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#8C6D31")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="medium", choices=[*DATA, "u2os"], help="(%(default)s)")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="METHOD")
    parser.add_argument("--tuned", action="store_true", help="settings from the grid search, not the paper's")
    parser.add_argument("--seeds", type=int, default=15, help="(%(default)s)")
    parser.add_argument("--searches", type=int, default=2, help="studies that settings are searched on (%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 seeds, the paper's settings with 10 epochs at most")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    if args.quick:
        args.seeds = 2
    settings = "quick" if args.quick else "tuned" if args.tuned else "paper"
    chosen = search(args) if args.tuned else {}
    jobs = [
        job(args.data, method, seed, setting_of(method, arm, chosen, quick=args.quick), arm)
        for seed in range(args.seeds)
        for method in args.methods
        for arm in arms(method)
    ]
    name = f"compare_methods_{args.data}_{settings}"
    runs = judged(run_all(jobs, train, args.out / f"{name}.jsonl", args.jobs))
    table = runs.drop(columns="setting").assign(settings=settings, setting=[str(each["setting"]) for each in jobs])
    table.to_csv(args.out / f"{name}.csv", index=False)
    summarise(table)
    draw(table, args.out / name)


def job(data: str, method: str, seed: int, setting: dict[str, Any], arm: str) -> dict[str, Any]:
    return {"data": data, "method": method, "pea": arm == "pea", "seed": seed, "setting": setting}


def setting_of(method: str, arm: str, chosen: dict[str, dict[str, Any]], *, quick: bool) -> dict[str, Any]:
    if chosen:
        return chosen[label(method, arm)]
    setting = as_in_the_paper(method, arm)
    return {**setting, "max_epochs": min(10, setting["max_epochs"])} if quick and "max_epochs" in setting else setting


def search(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Try each grid on studies of their own and return what recalls most; what fails recalls nothing."""
    data = "medium" if args.data == "u2os" else args.data
    jobs = [
        job(data, method, SEARCHED + seed, setting, arm)
        for seed in range(args.searches)
        for method in args.methods
        for arm in arms(method)
        for setting in grid(method, arm)
    ]
    runs = judged(run_all(jobs, recall_alone, args.out / f"compare_methods_{data}_search.jsonl", args.jobs))
    runs = runs.assign(number=[str(each["setting"]) for each in jobs])
    recalled = runs.fillna({"recall": 0.0}).groupby(["name", "number"], sort=False)["recall"].mean()
    best = recalled.groupby("name", sort=False).idxmax()
    settings = {str(each["setting"]): each["setting"] for each in jobs}
    for name, (_, number) in best.items():
        report("searched", data=data, name=name, setting=settings[number], recall=recalled[name, number])
    return {name: settings[number] for name, (_, number) in best.items()}


def label(method: str, arm: str) -> str:
    return method + ({"raw": ", raw", "tvn": "", "pea": " + PEA"}[arm] if method in OBJECTIVES else "")


def arm_of(run: dict[str, Any]) -> str:
    """Return how a run corrected the student, which runs of before say as well."""
    if run["pea"]:
        return "pea"
    return "raw" if "student_correction" in run["setting"].get("model_kwargs", {}) else "tvn"


def judged(runs: pd.DataFrame) -> pd.DataFrame:
    """Add arm and name to runs, and the figures that runs of before do not have, as missing."""
    arm = [arm_of(run) for run in runs.to_dict("records")]
    name = [label(*each) for each in zip(runs["method"], arm, strict=True)]
    missing = {figure: np.nan for figure in FIGURES if figure not in runs}
    return runs.assign(arm=arm, name=name, **missing)


def summarise(table: pd.DataFrame) -> None:
    for name, runs in table.groupby("name", sort=False):
        report(
            "runs", data=runs["data"].iloc[0], settings=runs["settings"].iloc[0], name=name, n_seeds=len(runs),
            n_failed=int(runs["recall"].isna().sum()), setting=runs["setting"].iloc[0],
        )  # fmt: skip
    done = table.dropna(subset="recall")
    bases = dict.fromkeys(done["name"].unique(), BASE)
    augmented = done.loc[done["pea"], "method"].unique()
    by_pea = {arm: {label(method, "pea"): label(method, arm) for method in augmented} for arm in ("raw", "tvn")}
    titles = {f"against {BASE}": bases, "by PEA, against raw": by_pea["raw"], "by PEA, against TVN": by_pea["tvn"]}
    for title, pairs in titles.items():
        for name, base in pairs.items():
            for figure in FIGURES:
                pair = shared(done[done["name"].isin([name, base])].dropna(subset=figure))
                if pair["name"].nunique() < 2:
                    continue
                rows = scl.tl.compare(pair, base=base, by="name", value=figure).to_dict("records")
                report(f"{figure} {title}", **next(row for row in rows if row["name"] == name))


def shared(runs: pd.DataFrame) -> pd.DataFrame:
    """Leave out the seeds with which one of the methods failed, since methods are compared seed by seed."""
    return runs[runs.groupby("seed")["name"].transform("nunique") == runs["name"].nunique()]


def complete(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out methods that failed with any seed, since pictures are of the same seeds for all."""
    return table[~table.groupby("name")["recall"].transform(lambda values: values.isna().any())]


def draw(table: pd.DataFrame, stem: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    whole = complete(table)
    plain = whole[(whole["name"] == whole["method"]) & (whole["method"] != "random")]
    if plain["method"].nunique() > 1:
        figures = [figure for figure in FIGURES if plain[figure].notna().all()]
        long = plain.melt(["data", "method", "seed"], figures, var_name="metric")
        scores = scl.tl.zscores(long, by="method", within=["data", "metric"])
        (ax,) = scl.pl.zscores(scores, by="method", panel="data")
        ax.figure.savefig(f"{stem}_zscores.png", dpi=200)
    all_arms = whole[whole.groupby("method")["arm"].transform("nunique") == len(ARMS)]
    if not all_arms.empty:
        rungs = all_arms.assign(rung=all_arms["arm"].map({"raw": "none", "tvn": "TVN", "pea": "PEA"}))
        ax = scl.pl.ablation(rungs, method="method", chance=0.1, palette=PALETTE)
        ax.figure.savefig(f"{stem}_pea.png", dpi=200)


if __name__ == "__main__":
    main()
