"""Which encoder, and is it trained: the paper's Figure 1, on simulations.

Semi-Clipped, without augmentation, on an encoder that stays frozen (principal components, scVI), that is fine-tuned
through the adapter, or that starts from scratch (an scVI-like perceptron); each with the student's adapter alone, and
with an adapter of the teacher as well. The loss is the same in all, and so is the input: encoders read expression that
nothing corrects, and the adapter takes what an encoder makes of it, frozen or trained, without correction either
(`student_correction=None`, `pea=False`). Earlier results had TVN between a frozen encoder and the adapter, where a
trained encoder has nothing.

What is judged is the recall of unseen knockouts in new batches, after TVN of the result (`recall`) and after centring
alone (`recall_center`). A seed is a study, its encoder and the weights that training starts from. Rates of training are
for each choice those of four that recall most after TVN on a study of its own, whose seed the table never uses.

scGPT is left out: its vocabulary has none of the simulated genes.

Prints one JSON line per figure, and keeps every single run, from which a second call goes on, a CSV and a picture.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _compared import DATA, FAILURES, RECALLS, failed, recalls_of, study_by
from _simulated import KEYS, QUIET, report, run_all

import semiclip as scl

if TYPE_CHECKING:
    import pandas as pd

RESULTS = Path(__file__).parent / "results"
PAIR_ON = ["perturbation", "dose"]
CHOICES = ("pca frozen", "pca fine-tuned", "scvi frozen", "scvi fine-tuned", "mlp from scratch")
BASE = "scvi frozen"  # the paper's choice, with the student's adapter alone
SEARCHED = 1000  # seed of the study on which rates are searched
STUDENT = (0.1, 0.3, 1.0, 2.0)
TRAINED = {"fine-tuned": (0.01, 0.1), "from scratch": (0.1, 1.0)}  # what was fitted before changes more slowly
INPUT = "uncorrected"  # tells these runs from those of before, whose frozen encoders had TVN
TEACHER = 0.001  # of the student's rate, as in the comparison of methods


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="medium", choices=[*DATA], help="(%(default)s)")
    parser.add_argument(
        "--choices", nargs="+", default=list(CHOICES), choices=CHOICES, metavar="CHOICE", help=f"beside {BASE}"
    )
    parser.add_argument("--seeds", type=int, default=6, help="(%(default)s)")
    parser.add_argument("--epochs", type=int, default=60, help="(%(default)s)")
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="2 seeds, 20 epochs, the first of the rates")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.epochs = 2, 20
    args.choices = [*dict.fromkeys([BASE, *args.choices])]
    name = f"training_choices_{args.data}{'_quick' if args.quick else ''}"
    kinds = [
        {"data": args.data, "choice": choice, "teacher_adapter": teacher, "epochs": args.epochs, "input": INPUT}
        for choice in args.choices
        for teacher in (False, True)
    ]
    searched = args.out / f"{name}_search.jsonl"
    chosen = [grid(kind)[0] for kind in kinds] if args.quick else search(kinds, searched, args.jobs)
    jobs = [
        {**kind, "seed": seed, "lr": lr} for seed in range(args.seeds) for kind, lr in zip(kinds, chosen, strict=True)
    ]
    table = run_all(jobs, train, args.out / f"{name}.jsonl", args.jobs)
    adapters = table["teacher_adapter"].map({False: "student's adapter", True: "both adapters"})
    rates = [str(job["lr"]) for job in jobs]
    table = table.assign(adapters=adapters, name=table["choice"] + ", " + adapters, lr=rates)
    table.to_csv(args.out / f"{name}.csv", index=False)
    diverged = table.groupby("name")["recall"].transform(lambda recalls: recalls.isna().any())
    base = f"{BASE}, student's adapter"
    for figure in RECALLS:
        for row in scl.tl.compare(table[~diverged], base=base, by="name", value=figure).to_dict("records"):
            report(f"{figure} by encoder", data=args.data, **row)
    draw(table[~table["choice"].isin(table.loc[diverged, "choice"])], args.out / name)


def search(kinds: list[dict[str, Any]], out: Path, n_processes: int) -> list[dict[str, float]]:
    """Return the rates of each kind of training that recall most; those with which it diverges recall nothing."""
    jobs = [{**kind, "seed": SEARCHED, "lr": lr} for kind in kinds for lr in grid(kind)]
    recalls = run_all(jobs, train, out, n_processes)["recall"].fillna(0).to_numpy().reshape(len(kinds), -1)
    chosen = [grid(kind)[best] for kind, best in zip(kinds, recalls.argmax(axis=1), strict=True)]
    for kind, lr, recall in zip(kinds, chosen, recalls.max(axis=1), strict=True):
        report("searched", **kind, lr=lr, recall=recall)
    return chosen


def grid(kind: dict[str, Any]) -> list[dict[str, float]]:
    """Return four sets of rates, of the student alone or of it and what else is trained."""
    training = kind["choice"].split(" ", 1)[1]
    rates = (
        [{"student": student, "encoder": encoder} for student, encoder in product(STUDENT[::2], TRAINED[training])]
        if training in TRAINED
        else [{"student": student} for student in STUDENT]
    )
    return [{**lr, "teacher": TEACHER * lr["student"]} for lr in rates] if kind["teacher_adapter"] else rates


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Encode or lay out expression, train, and judge."""
    encoder, training = job["choice"].split(" ", 1)
    study, fitted = study_by(job["data"], job["seed"], encoder)
    rna, unseen = study.mdata["rna"], study.knockouts["rna"]
    model_kwargs: dict[str, Any] = {"teacher_adapter": job["teacher_adapter"], "student_correction": None}
    rep = f"X_{encoder}"
    if training != "frozen":
        rep, model_kwargs["encoder"] = "X_expression", fitted
        for adata in (rna, unseen):
            scl.pp.expression(adata, encoder=fitted)
    try:
        model = scl.tl.semiclip(
            study.mdata, student_rep=rep, teacher_rep="X_image", pair_on=PAIR_ON, **KEYS, rng=job["seed"], pea=False,
            recipe="whole", model_kwargs=model_kwargs, max_epochs=job["epochs"], train_size=1.0,
            matmul_precision="medium", plan_kwargs={"lr": job["lr"]}, **QUIET,
        )  # fmt: skip
        scl.tl.embed(unseen, model)
    except tuple(FAILURES) as error:
        return {name: failed(error)[name] for name in RECALLS}
    return recalls_of(unseen, "X_semiclip", study.relationships)


def draw(table: pd.DataFrame, stem: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    ax = scl.pl.ablation(table, rung="choice", method="adapters", base=BASE, chance=0.1)
    ax.figure.savefig(f"{stem}.png", dpi=200)


if __name__ == "__main__":
    main()
