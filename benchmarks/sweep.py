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

import pandas as pd
from _simulated import encoded, recalls, report, run_all

STUDIES: dict[str, dict[str, Any]] = {
    "medium": {"difficulty": "medium"},
    "hard": {"difficulty": "hard"},
    "small": {"difficulty": "medium", "n_compounds": 100},
}
DEFAULT: dict[str, Any] = {"lr": 0.1, "optimizer": "sgd", "temperature": 0.1, "batch_size": 1024, "max_epochs": 150}
GRID: dict[str, list[Any]] = {
    "lr": [0.001, 0.003, 0.01, 0.03, 0.1, 0.3],
    "lr of AdamW": [0.0003, 0.001, 0.003],
    "temperature": [0.03, 0.1, 0.3],
    "batch_size": [256, 512, 1024, 2048],
    "max_epochs": [25, 50, 150, 300],
}
QUICK: dict[str, list[Any]] = {"lr": [0.03, 0.1], "temperature": [0.1, 0.3], "max_epochs": [5, 10]}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=list(STUDIES), help="(all)")
    parser.add_argument("--parameters", nargs="+", default=list(GRID), choices=list(GRID), help="(all)")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="few settings of one study, one seed")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    grid = {name: settings for name, settings in GRID.items() if name in args.parameters}
    if args.quick:
        args.seeds, args.studies, grid = 1, ["small"], QUICK
    cells = [
        {"study": study, "parameter": parameter, "setting": setting, "seed": seed}
        for study in args.studies
        for parameter, settings in grid.items()
        for setting in settings
        for seed in range(args.seeds)
    ]
    jobs = [settings_of(cell) for cell in cells]
    distinct = list({str(job): job for job in jobs}.values())  # the defaults are a setting of every parameter
    suffix = "_quick" if args.quick else ""
    results = run_all(distinct, train, args.out / f"sweep{suffix}.jsonl", args.jobs)
    recall = dict(zip(map(str, distinct), results["recall"], strict=True))
    table = pd.DataFrame(cells).assign(recall=[recall[str(job)] for job in jobs])
    table.to_csv(args.out / f"sweep{suffix}.csv", index=False)
    for (study, parameter, setting), part in table.groupby(["study", "parameter", "setting"], sort=False):
        values = part["recall"]
        report("sweep", study=study, parameter=parameter, setting=setting, mean=values.mean(),
               sd=values.std(ddof=1) if len(values) > 1 else 0.0, n_seeds=len(values))  # fmt: skip
    for study, part in table.groupby("study"):
        draw(part, args.out / f"sweep_{study}{suffix}.png")


def settings_of(cell: dict[str, Any]) -> dict[str, Any]:
    """All settings of a run; only one differs from the defaults."""
    parameter, changed = cell["parameter"], {cell["parameter"]: cell["setting"]}
    if parameter == "lr of AdamW":
        changed = {"lr": cell["setting"], "optimizer": "adamw"}
    return {"study": cell["study"], "seed": cell["seed"], **DEFAULT, **changed}


def train(job: dict[str, Any]) -> dict[str, Any]:
    return recalls(
        encoded(job["seed"], **STUDIES[job["study"]]),
        job["seed"],
        max_epochs=job["max_epochs"],
        batch_size=job["batch_size"],
        plan_kwargs={"lr": job["lr"], "optimizer": job["optimizer"]},
        model_kwargs={"temperature": job["temperature"]},
    )


def draw(table: Any, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import semiclip as scl

    scl.pl.sweep(table, default=DEFAULT, chance=0.1)[0].figure.savefig(path, dpi=200)


if __name__ == "__main__":
    main()
