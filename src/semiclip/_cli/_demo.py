"""The main job from end to end: two modalities in, a distilled embedding, its recall and its pictures out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import semiclip as scl
from semiclip._cli._judge import format_tables, judge, show_recall
from semiclip._mudata import make_mudata, silence_mudata

if TYPE_CHECKING:
    from pathlib import Path

Made = tuple[Any, dict[str, Any], dict[str, Any], Any]  # model, MuData by file name, unseen samples, relationships
KEYS: dict[str, Any] = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
N_PERMUTATIONS = 200
NAMES = {"X_pca": "Expression (PCA)", "X_scvi": "Expression (scVI)", "X_semiclip": "Semi-Clipped", "X_image": "Images"}


class Arguments(NamedTuple):
    """What the demonstration was asked for."""

    out: Path
    encoder: str
    seed: int
    recipe: str
    epochs: int | None
    real: bool


def demonstrate(args: Arguments) -> None:
    """Run the demonstration on simulated or real data."""
    args.out.mkdir(parents=True, exist_ok=True)
    _finish(args, *(_real if args.real else _simulated)(args))
    print(f"written to {args.out.resolve()}: {', '.join(sorted(path.name for path in args.out.iterdir()))}")


def _simulated(args: Arguments) -> Made:
    _say(1, "simulate compounds × doses for training, and gene knockouts in new batches")
    study = scl.datasets.simulate(rng=args.seed)
    rna, knockouts = study.mdata["rna"], study.knockouts["rna"]
    pair_on = ["perturbation", "dose"]
    report = scl.pp.pair(study.mdata, pair_on=pair_on, perturbation_key="perturbation", control="control")
    samples = f"{rna.n_obs:,} expression and {study.mdata['image'].n_obs:,} image samples"
    shared = report.attrs["summary"]["shared_keys"]
    print(f"      {samples} share {shared:,} keys; {knockouts.n_obs:,} knockout samples")

    _say(2, f"encode the counts ({args.encoder})")
    settings: dict[str, Any] = {"n_components": 64}
    if args.encoder == "scvi":
        settings = {"n_latent": 64, "batch_key": "batch", "max_epochs": 80, "train_kwargs": {"batch_size": 512}}
    encoder = scl.pp.encode(rna, encoder=args.encoder, rng=args.seed, **settings)
    scl.pp.encode(knockouts, encoder=encoder)

    _say(3, "train the adapter: expression corrected on random controls (PEA), images on all of theirs (TVN)")
    reps: dict[str, Any] = {"student_rep": f"X_{args.encoder}", "teacher_rep": "X_image"}
    training: dict[str, Any] = {"recipe": args.recipe, "max_epochs": args.epochs, "rng": args.seed}
    model = scl.tl.semiclip(study.mdata, **reps, pair_on=pair_on, **KEYS, **training)

    _say(4, "embed the unseen knockouts, from expression alone")
    scl.tl.embed(knockouts, model)
    data = {"compounds": study.mdata, "knockouts": study.knockouts}
    return model, data, {"recall": ("unseen knockouts", knockouts)}, study.relationships


def _real(args: Arguments) -> Made:
    _say(1, "load 162 real compounds (expression, morphology) and 1,092 overexpression wells, all U2OS")
    compounds, orfs = scl.datasets.u2os_compounds(), scl.datasets.u2os_orfs(rng=0)

    _say(2, "encode the expression (pca)")
    encoder = scl.pp.encode(compounds["rna"], encoder="pca", n_components=10, normalize=False, rng=args.seed)
    scl.pp.encode(orfs, encoder=encoder)

    _say(3, "train the adapter (the compounds have no controls, so both sides are centred on all of them)")
    columns: dict[str, Any] = {"pair_on": "perturbation", "perturbation_key": "perturbation", "control": None}
    reps: dict[str, Any] = {"student_rep": "X_pca", "teacher_rep": "X_image"}
    corrections = {"student_correction": "center", "teacher_correction": "center"}
    training: dict[str, Any] = {"recipe": args.recipe, "max_epochs": args.epochs, "rng": args.seed, "train_size": 0.75}
    model = scl.tl.semiclip(compounds, **reps, **columns, **training, model_kwargs=corrections)
    rank = model.history["validation_mean_rank_percentile"].iloc[-1, 0]
    print(f"      held-out compounds find their own morphology at mean rank percentile {rank:.2f} (chance 0.50)")

    _say(4, "embed the overexpression wells with their plates' controls")
    scl.tl.embed(orfs, model, control="control", batch_key="batch")
    kept = orfs[orfs.obs["reproducible"] | (orfs.obs["perturbation"] == "control")].copy()
    unseen = {
        "recall": ("all overexpressed genes", orfs),
        "recall_reproducible": ("genes of reproducible constructs", kept),
    }
    return model, {"compounds": compounds, "orfs": make_mudata(rna=orfs)}, unseen, scl.datasets.relationships()


def _finish(args: Arguments, model: Any, data: dict[str, Any], unseen: dict[str, Any], pairs: Any) -> None:
    """Recall relationships in unseen samples (file name: title, samples); pictures and report show the last samples."""
    databases = " (CORUM, HuMAP, Reactome, SIGNOR, StringDB)" if args.real else ""
    _say(5, f"recall known relationships{databases}")
    columns: dict[str, Any] = {**KEYS, "relationships": pairs}
    reps = [f"X_{args.encoder}", "X_semiclip"]
    for name, (title, adata) in unseen.items():
        settings: dict[str, Any] = {"n_permutations": N_PERMUTATIONS, "rng": args.seed}
        tables = judge(adata, reps, **columns, **settings)
        table = tables["tvn"]
        show_recall(tables, title, {reps[0]: f"unimodal ({reps[0]})", "X_semiclip": "Semi-Clipped"})
        (args.out / f"{name}.csv").write_text(format_tables(tables), encoding="utf-8", newline="\n")

    _say(6, "draw and write")
    sets = scl.tl.relationship_sets(adata, use_rep=reps, **columns)
    if not args.real:
        images = data["knockouts"]["image"]
        sets["X_image"] = scl.tl.relationship_sets(images, use_rep="X_image", **columns)["X_image"].to_numpy()
    pictures = {
        "history": scl.pl.history(model)[0],
        "recall": scl.pl.recall(table.replace({"representation": NAMES})),
        "venn": scl.pl.venn(sets.rename(columns=NAMES)),
    }
    for name, ax in pictures.items():
        ax.figure.savefig(args.out / f"{name}.png", dpi=200)
    settings = {"rng": args.seed, "overwrite": True, "progress_bar": False}
    scl.report(adata, args.out / "report.html", use_rep=reps, **columns, **settings)
    model.save(str(args.out / "model"), overwrite=True)
    for name, mdata in data.items():
        with silence_mudata():
            mdata.write(args.out / f"{name}.h5mu")


def _say(step: int, what: str) -> None:
    print(f"[{step}/6] {what}", flush=True)
