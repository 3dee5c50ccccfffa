"""The main job from end to end: two modalities in, a distilled embedding, its recall and its pictures out."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

import semiclip as scl
from semiclip._csv import format_csv
from semiclip._mudata import make_mudata, silence_mudata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from semiclip.correction import Method

Made = tuple[Any, dict[str, Any], dict[str, Any], Any]  # model, MuData by file name, unseen samples, relationships
KEYS: dict[str, Any] = {"perturbation_key": "perturbation", "control": "control", "batch_key": "batch"}
N_PERMUTATIONS = 200
# TVN of the embedding is what the paper judges by; it weighs all directions alike, which centring leaves as they are
JUDGED: dict[Method, str] = {"tvn": "after TVN", "center": "after centring"}
NAMES = {"X_pca": "Expression (PCA)", "X_scvi": "Expression (scVI)", "X_semiclip": "Semi-Clipped", "X_image": "Images"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration; returns the exit status."""
    parser = argparse.ArgumentParser(
        "python -m semiclip",
        description="Distil images into expression, embed perturbations that the model has never seen, and measure "
        "how many known gene relationships the embedding recalls.",
    )
    parser.add_argument("--out", type=Path, default=Path("semiclip_demo"), help="folder for the results (%(default)s)")
    parser.add_argument("--encoder", choices=["pca", "scvi"], default="pca", help="of the expression (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of simulation, encoder and training (%(default)s)")
    recipes = ["shared", "whole", "paper"]
    parser.add_argument("--recipe", choices=recipes, default="shared", help="of scl.tl.semiclip (%(default)s)")
    parser.add_argument("--epochs", type=int, help="training epochs (those of the recipe)")
    real = "train on real U2OS compounds and embed real overexpression wells instead"
    parser.add_argument("--real", action="store_true", help=real)
    args = parser.parse_args(argv)
    if args.real and args.encoder == "scvi":
        parser.error("the real data are L1000 z-scores, not counts: scVI cannot encode them, use --encoder pca")
    if args.epochs is not None and args.epochs < 1:
        parser.error("--epochs must be at least 1")
    import lightning.pytorch  # noqa: F401  # sets its logger's level when it is imported

    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    args.out.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        # what lightning 2.6 remarks about a newer torch helps nobody here
        warnings.filterwarnings("ignore", message=".*LeafSpec.*is deprecated")
        try:
            _finish(args, *(_real if args.real else _simulated)(args))
        except OSError as error:  # such as data that cannot be downloaded
            parser.exit(1, f"{error}\n")
    print(f"written to {args.out.resolve()}: {', '.join(sorted(path.name for path in args.out.iterdir()))}")
    return 0


def _simulated(args: argparse.Namespace) -> Made:
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


def _real(args: argparse.Namespace) -> Made:
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


def _finish(args: argparse.Namespace, model: Any, data: dict[str, Any], unseen: dict[str, Any], pairs: Any) -> None:
    """Recall relationships in unseen samples (file name: title, samples); pictures and report show the last samples."""
    databases = " (CORUM, HuMAP, Reactome, SIGNOR, StringDB)" if args.real else ""
    _say(5, f"recall known relationships{databases}")
    columns: dict[str, Any] = {**KEYS, "relationships": pairs}
    reps = [f"X_{args.encoder}", "X_semiclip"]
    for name, (title, adata) in unseen.items():
        settings: dict[str, Any] = {"n_permutations": N_PERMUTATIONS, "rng": args.seed}
        tables = {method: scl.tl.recall(adata, use_rep=reps, **columns, **settings, method=method) for method in JUDGED}
        table = tables["tvn"]
        _show(tables, title)
        text = format_csv(pd.concat(tables, names=["correction", None]).reset_index("correction"))
        (args.out / f"{name}.csv").write_text(text, encoding="utf-8", newline="\n")

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


def _show(tables: dict[Method, pd.DataFrame], title: str) -> None:
    means = [table[table["key"] == "mean"].set_index("representation") for table in tables.values()]
    print(f"\n      {title}: recall at 5 %/95 % of {int(means[0]['n_pairs'].iloc[0]):,} annotated pairs")
    print(f"      {'':<26}" + "".join(f"{title:<18}" for title in JUDGED.values()))
    chance = [f"{mean['chance_mean'].iloc[0]:.3f} ± {mean['chance_sd'].iloc[0]:.3f}" for mean in means]
    print(f"      {'random (labels permuted)':<26}" + "".join(f"{cell:<18}" for cell in chance))
    for name in means[0].index:
        label = "Semi-Clipped" if name == "X_semiclip" else f"unimodal ({name})"
        cells = [f"{mean.loc[name, 'value']:.3f} ± {mean.loc[name, 'error']:.3f}" for mean in means]
        print(f"      {label:<26}" + "".join(f"{cell:<18}" for cell in cells))
    print()


def _say(step: int, what: str) -> None:
    print(f"[{step}/6] {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
