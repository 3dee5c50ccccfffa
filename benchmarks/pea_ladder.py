"""What each part of PEA adds: the ladder of the paper's Table 2, on simulations.

The rungs are those of `semiclip.correction.LADDER`, each trained with the package's defaults on the same seeds. For
orientation there is also training without augmentation on the correction of inference (`tvn without augmentation`).
Known relationships are recalled on unseen knockouts in new batches. Gains and p-values (paired Wilcoxon signed-rank
test over seeds) are those over the base and over the rung before.

Prints one JSON line per figure, and keeps every single result, from which a second call goes on, and a picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from _simulated import encoded, recalls, report, run_all

from semiclip.correction import LADDER

BESIDE = {"tvn without augmentation": {"student_correction": "tvn", "pea": False}}
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=15, help="(%(default)s)")
    parser.add_argument("--difficulty", default="medium", choices=["easy", "medium", "hard"], help="(%(default)s)")
    parser.add_argument("--epochs", type=int, default=150, help="(%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 20 epochs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.epochs = 2, 20
    jobs = [
        {"difficulty": args.difficulty, "epochs": args.epochs, "rung": rung, "seed": seed}
        for seed in range(args.seeds)
        for rung in [*LADDER, *BESIDE]
    ]
    name = f"pea_ladder_{args.difficulty}" + ("_quick" if args.quick else "")
    table = run_all(jobs, train, args.out / f"{name}.jsonl", args.jobs)
    summarise(table)
    draw(table[table["rung"].isin(LADDER)], args.out / f"{name}.png")


def train(job: dict[str, Any]) -> dict[str, Any]:
    rung = {**LADDER, **BESIDE}[job["rung"]]
    return recalls(
        encoded(job["seed"], difficulty=job["difficulty"]),
        job["seed"],
        max_epochs=job["epochs"],
        pea=rung["pea"],
        model_kwargs={"student_correction": rung["student_correction"]},
    )


def summarise(table: Any) -> None:
    from scipy.stats import wilcoxon

    wide = table.pivot(index="seed", columns="rung", values="recall")
    unimodal = table.groupby("seed")["unimodal"].first()
    report("unimodal", mean=unimodal.mean(), sd=unimodal.std(ddof=1), n_seeds=len(unimodal))
    before = None
    for rung in [*LADDER, *BESIDE]:
        values: dict[str, Any] = {"mean": wide[rung].mean(), "sd": wide[rung].std(ddof=1)}
        for name, other in (("base", "base"), ("previous", before)):
            if other is None or other == rung or (name == "previous" and rung in BESIDE):
                continue
            difference = (wide[rung] - wide[other]).round(9)
            values[f"gain_over_{name}"] = difference.mean()
            values[f"p_over_{name}"] = float(wilcoxon(difference).pvalue) if difference.any() else 1.0
        report("ladder", rung=rung, n_seeds=len(wide), **values)
        before = rung


def draw(table: Any, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import semiclip as scl

    scl.pl.ablation(table, baseline="unimodal", chance=0.1).figure.savefig(path, dpi=200)


if __name__ == "__main__":
    main()
