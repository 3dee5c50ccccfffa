"""What happens with the paper's settings on small data: `scl.tl.distill(..., recipe="paper")` on the medium simulation.

Every objective is trained with the settings that the paper made for 130,000 profiles, with PEA and without, on 900 keys
and 64 principal components; those whose adapter of the teacher hardly learns are trained without that adapter, too. Of
each run there is how the loss went, how far the weights of the adapters went from where distillation started (`moved`,
as a share of their norm), and the recall of unseen knockouts in new batches after TVN (`recall`) and after centring
alone (`recall_center`): of the embedding, of the embedding where distillation started (`..._start`, for objectives with
labels after their pretraining), and of the components without a model (`..._pca`). `student_cosine` is the mean cosine
of the embedded training data and `teacher_cosine` that of the images as the adapter of the teacher shows them: 1 if all
are alike.

Prints one JSON line per run, and keeps them; a second call goes on from there.
"""

from __future__ import annotations

import argparse
import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from _runs import make_runs
from _simulated import KEYS, recall, report, simulate
from lightning import Callback
from sklearn.preprocessing import normalize

import semiclip as scl
from semiclip._cli._paper._perform import FAILURES
from semiclip.objectives import PAPER

if TYPE_CHECKING:
    from collections.abc import Mapping

RESULTS = Path(__file__).parent / "results"
ALIKE = 0.99  # mean cosine of rows that are nearly the same
NEAR = 0.01  # weights that moved by less of their norm stayed where they were
SLOW_TEACHERS = ("siglip", "vicreg", "dcca")  # whose adapter learns at 1e-8 and starts from random weights
SETTLED = 0.05  # of all that the loss fell, what it falls in the last tenth of the epochs if it no longer changes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", nargs="+", default=list(PAPER), choices=list(PAPER), metavar="OBJECTIVE")
    parser.add_argument("--seeds", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="processes of one thread each (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="two epochs")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    args = parser.parse_args()
    jobs = [
        {"objective": objective, "pea": pea, "teacher_adapter": adapter, "seed": seed}
        | ({"max_epochs": 2} if args.quick else {})
        for seed in range(args.seeds)
        for objective in args.objectives
        for adapter in (["paper", "none"] if objective in SLOW_TEACHERS else ["paper"])
        for pea in (True, False)
    ]
    runs = make_runs(jobs, train, args.out / f"paper_presets{'_quick' if args.quick else ''}.jsonl", args.jobs)
    for _, run in runs.iterrows():
        report("paper_preset", **run.dropna())


class Start(Callback):
    """Keeps the weights that distillation starts from."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.weights = {name: value.clone() for name, value in pl_module.module.state_dict().items()}


def train(job: dict[str, Any]) -> dict[str, Any]:
    """Distil as the paper does, and say what became of it."""
    study = simulate("medium", job["seed"])
    mdata, unseen, relationships = study.mdata, study.knockouts["rna"], study.relationships
    start = Start()
    model_kwargs = {"teacher_adapter": False} if job["teacher_adapter"] == "none" else {}
    columns = {"student_rep": "X_pca", "teacher_rep": "X_image", "pair_on": ["perturbation", "dose"], **KEYS}
    options = {"accelerator": "cpu", "enable_progress_bar": False, "callbacks": [start]}
    base = {f"{name}_pca": value for name, value in recall(unseen, "X_pca", relationships).items()}
    try:
        with redirect_stdout(io.StringIO()):  # scvi-tools prints what it raises
            model = scl.tl.distill(
                mdata, objective=job["objective"], recipe="paper", **columns, **options, pea=job["pea"],
                max_epochs=job.get("max_epochs"), model_kwargs=model_kwargs, rng=job["seed"], key_added="X_taught",
            )  # fmt: skip
    except tuple(FAILURES) as error:
        return {**base, "outcome": FAILURES[type(error)], "epoch": getattr(error, "epoch", None)}
    losses = model.history["train_loss"].to_numpy(float).ravel()
    end = {name: value.clone() for name, value in model.module.state_dict().items()}
    moved = {side: movement(start.weights, end, name) for side, name in ADAPTERS.items()}
    recalls = {"student_cosine": mean_cosine(mdata["rna"].obsm["X_taught"])}
    for suffix, weights in (("_start", start.weights), ("", end)):
        model.module.load_state_dict(weights)
        scl.tl.embed(unseen, model, key_added="X_taught")
        recalls |= {f"{name}{suffix}": value for name, value in recall(unseen, "X_taught", relationships).items()}
    if model.module.objective.spec.same_space:
        scl.tl.embed_teacher(mdata, model, key_added="X_adapted")
        recalls["teacher_cosine"] = mean_cosine(mdata["image"].obsm["X_adapted"])
    found = model.history.get("validation_mean_rank_percentile")
    return {
        **base, **recalls, "outcome": outcome(losses, moved["moved"], recalls["student_cosine"]), **moved,
        "loss_first": losses[0], "loss_least": losses.min(), "loss_last": losses[-1], "n_epochs": len(losses),
        "batch_size": min(model.train_params_["batch_size"], len(model.train_indices)),
        "n_steps": len(losses) * max(1, len(model.train_indices) // model.train_params_["batch_size"]),
        "validation_rank": None if found is None else float(found.iloc[-1, 0]),
    }  # fmt: skip


ADAPTERS = {"moved": "adapter.", "teacher_moved": "teacher_adapter."}


def movement(start: Mapping[str, torch.Tensor], end: Mapping[str, torch.Tensor], prefix: str) -> float | None:
    """Return how far the weights of a part went, as a share of their norm; none if there is no such part."""
    names = [name for name in start if name.startswith(prefix)]
    if not names:
        return None
    before, after = (torch.cat([weights[name].double().ravel() for name in names]) for weights in (start, end))
    return float(torch.linalg.vector_norm(after - before) / torch.linalg.vector_norm(before))


def mean_cosine(rows: np.ndarray) -> float:
    """Return the mean cosine of all pairs of rows, also of each row with itself: 1 if they are all alike."""
    return float(np.square(normalize(rows.astype(float)).mean(axis=0)).sum())


def outcome(losses: np.ndarray, moved: float, student_cosine: float) -> str:
    """Say in a word what became of a training that ended."""
    if moved < NEAR:
        return "stays at its start"
    if student_cosine > ALIKE:
        return "collapsed"
    fell, late = losses[0] - losses[-1], losses[-max(2, len(losses) // 10) :]
    if fell <= 0:
        return "loss rises"
    return "converges" if abs(late[0] - late[-1]) <= SETTLED * fell else "still falls"


if __name__ == "__main__":
    main()
