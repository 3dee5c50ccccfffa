"""Which encoder, and is it trained: the paper's Figure 1, on simulations.

Semi-Clipped, without augmentation, on an encoder that stays frozen (principal components, scVI), that is fine-tuned
through the adapter, or that starts from scratch (an scVI-like perceptron); each with the student's adapter alone, and
with an adapter of the teacher as well. The loss is the same in all. An embedding is corrected on controls, what an
encoder reads is not. A seed is a study, its encoder and the weights that training starts from; what is judged is the
recall of unseen knockouts in new batches.

scGPT is left out: its vocabulary has none of the simulated genes.

Prints one JSON line per figure, and keeps every single run, from which a second call goes on, a CSV and a picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _compared import DATA, mean_recall, study_by
from _simulated import KEYS, QUIET, report, run_all

import semiclip as scl

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).parent / "results"
PAIR_ON = ["perturbation", "dose"]
CHOICES = ("pca frozen", "pca fine-tuned", "scvi frozen", "scvi fine-tuned", "mlp from scratch")
BASE = "scvi frozen, student's adapter"
# the student's default, the teacher's of the CLIP objective; what was fitted before is changed more slowly
RATES: dict[str, dict[str, float]] = {
    "frozen": {},
    "fine-tuned": {"encoder": 0.01},
    "from scratch": {"encoder": 0.1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="medium", choices=[*DATA], help="(%(default)s)")
    parser.add_argument("--choices", nargs="+", default=list(CHOICES), choices=CHOICES, metavar="CHOICE")
    parser.add_argument("--seeds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--epochs", type=int, default=60, help="(%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 20 epochs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.epochs = 2, 20
    jobs = [
        {"data": args.data, "choice": choice, "teacher_adapter": teacher, "seed": seed, "epochs": args.epochs}
        for seed in range(args.seeds)
        for choice in args.choices
        for teacher in (False, True)
    ]
    name = f"training_choices_{args.data}{'_quick' if args.quick else ''}"
    table = run_all(jobs, train, args.out / f"{name}.jsonl", args.jobs)
    adapters = table["teacher_adapter"].map({False: "student's adapter", True: "both adapters"})
    table = table.assign(adapters=adapters, name=table["choice"] + ", " + adapters)
    table.to_csv(args.out / f"{name}.csv", index=False)
    for row in scl.tl.compare(table, base=BASE, by="name", value="recall").to_dict("records"):
        report("recall by encoder", data=args.data, **row)
    draw(table, args.out / name)


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Encode or lay out expression, train, and judge."""
    encoder, how = job["choice"].split(" ", 1)
    study, fitted = study_by(job["data"], job["seed"], encoder)
    rna, unseen = study.mdata["rna"], study.knockouts["rna"]
    model_kwargs: dict[str, Any] = {"teacher_adapter": job["teacher_adapter"]}
    rep, rates = f"X_{encoder}", {"student": 0.1, **RATES[how]}
    if how != "frozen":
        rep, model_kwargs["encoder"] = "X_expression", fitted
        for each in (rna, unseen):
            scl.pp.expression(each, encoder=fitted)
    if job["teacher_adapter"]:
        rates["teacher"] = 1e-4
    model = scl.tl.semiclip(
        study.mdata, student_rep=rep, teacher_rep="X_image", pair_on=PAIR_ON, **KEYS, rng=job["seed"], pea=False,
        model_kwargs=model_kwargs, max_epochs=job["epochs"], train_size=1.0,
        matmul_precision="medium", plan_kwargs={"lr": rates}, **QUIET,
    )  # fmt: skip
    scl.tl.embed(unseen, model)
    return {"recall": mean_recall(unseen, "X_semiclip", study.relationships)}


def draw(table: pd.DataFrame, stem: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    ax = scl.pl.ablation(table, rung="choice", method="adapters", chance=0.1)
    ax.figure.savefig(f"{stem}.png", dpi=200)


if __name__ == "__main__":
    main()
