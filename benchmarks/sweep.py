"""How recall depends on the settings of training, one at a time (as in the paper's Figure 3).

Learning rate, optimiser, temperature, mini-batch size and epochs are changed while all others stay at the package's
defaults, with PEA, on simulations of several sizes and difficulties. Known relationships are recalled on unseen
knockouts in new batches.

Prints one JSON line per figure, and keeps every single result, from which a second call goes on, and pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from _simulated import encoded, recalls, report, run_all

STUDIES: dict[str, dict[str, Any]] = {
    "medium": {"difficulty": "medium"},
    "hard": {"difficulty": "hard"},
    "small": {"difficulty": "medium", "n_compounds": 120},
}
DEFAULT: dict[str, Any] = {"lr": 0.1, "temperature": 0.1, "batch_size": 1024, "max_epochs": 150}
GRID: dict[str, list[Any]] = {
    "lr": [0.001, 0.003, 0.01, 0.03, 0.1, 0.3],
    "adamw_lr": [0.0001, 0.0003, 0.001, 0.003],
    "temperature": [0.03, 0.1, 0.3, 1.0],
    "batch_size": [128, 256, 512, 1024, 2048],
    "max_epochs": [25, 50, 100, 150, 300],
}
QUICK: dict[str, list[Any]] = {"lr": [0.03, 0.1], "temperature": [0.1, 0.3], "max_epochs": [5, 10]}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="(%(default)s)")
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=list(STUDIES), help="(all)")
    parser.add_argument("--parameters", nargs="+", default=list(GRID), choices=list(GRID), help="(all)")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="few settings of one study, one seed")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    grid = {name: settings for name, settings in GRID.items() if name in args.parameters}
    if args.quick:
        args.seeds, args.studies, grid = 1, ["small"], QUICK
    jobs = [
        {"study": study, "parameter": parameter, "setting": setting, "seed": seed}
        for study in args.studies
        for parameter, settings in grid.items()
        for setting in settings
        for seed in range(args.seeds)
    ]
    suffix = "_quick" if args.quick else ""
    table = run_all(jobs, train, args.out / f"sweep{suffix}.jsonl", args.jobs)
    for (study, parameter, setting), part in table.groupby(["study", "parameter", "setting"], sort=False):
        recall = part["recall"]
        report("sweep", study=study, parameter=parameter, setting=setting, mean=recall.mean(),
               sd=recall.std(ddof=1) if len(recall) > 1 else 0.0, n_seeds=len(recall))  # fmt: skip
    for study, part in table.groupby("study"):
        draw(part, args.out / f"sweep_{study}{suffix}.png")


def train(job: dict[str, Any]) -> dict[str, Any]:
    settings = dict(DEFAULT)
    optimizer = "sgd"
    if job["parameter"] == "adamw_lr":
        settings["lr"], optimizer = job["setting"], "adamw"
    else:
        settings[job["parameter"]] = job["setting"]
    return recalls(
        encoded(job["seed"], **STUDIES[job["study"]]),
        job["seed"],
        max_epochs=settings["max_epochs"],
        batch_size=settings["batch_size"],
        plan_kwargs={"lr": settings["lr"], "optimizer": optimizer},
        model_kwargs={"temperature": settings["temperature"]},
    )


def draw(table: Any, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import semiclip as scl

    scl.pl.sweep(table, default=DEFAULT, chance=0.1)[0].figure.savefig(path, dpi=200)


if __name__ == "__main__":
    main()
