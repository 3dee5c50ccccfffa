"""One run: train, embed what no model has seen, and judge it."""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

import semiclip as scl
from semiclip._checks import get_modality
from semiclip._cli._judge import JUDGED
from semiclip._cli._origins import blame, locate
from semiclip._cli._paper._material import choose_options, encode, list_warnings, read_material
from semiclip._cli._paper._plan import BASE, FROZEN, IMG, OURS, QUICK_EPOCHS, RANDOM, SCRATCH, TX, UNIMODAL
from semiclip.correction import LADDER
from semiclip.errors import Diverged, NoVariation
from semiclip.tl._recall import NULL_THRESHOLDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from semiclip._cli._paper._material import Material, UnseenSet
    from semiclip._cli._paper._plan import Plan, Run

RECALL, PRESERVATION, SETS, NULL_SETS, NULL = "recall", "preservation", "sets", "null_sets", "null"
EMBEDDING = "X_embedded"
# training left the finite numbers, or everything is embedded alike; any other error is a fault
FAILURES: dict[type[Exception], str] = {Diverged: "diverged", NoVariation: "collapsed"}
UNSEEN = "unseen perturbations"
PLAN = ("lr",)  # parameters of Figure 3 that belong to the training plan; others are of training, or of the model
TRAINING = ("batch_size", "max_epochs")


class Result(NamedTuple):
    """What a run measured: tables by measure, how it was trained, how it failed if it did, and what it warned of."""

    tables: dict[str, pd.DataFrame]
    settings: dict[str, Any]
    failure: str
    warnings: list[str]


def perform(plan: Plan, run: Run, measures: Collection[str], views: Path) -> Result:
    """Train and judge."""
    with quiet() as told:
        material = read_material(plan, run.seed)
        rep = encode(plan, material, run.encoder if run.trained == FROZEN else None, run.seed)
        origin = _name_origin(plan, run)
        try:
            with blame(origin, {}, tuple(FAILURES)) if origin else nullcontext():
                model = _train(plan, run, material, rep, views)
            for name in plan.list_judged(run.encoder):
                _embed(model, material.unseen[name])
            tables = {measure: MEASURE[measure](plan, run, material, rep) for measure in measures}
        except tuple(FAILURES) as error:
            return Result({}, {}, FAILURES[type(error)], list_warnings(told))
    return Result(tables, _read_settings(model), "", list_warnings(told))


def _name_origin(plan: Plan, run: Run) -> str:
    """Return where the arguments of a training stand that are not of a recipe, or "" if it has none."""
    settings, choice = plan.settings, f"{run.encoder} {run.trained}"
    if run.change is not None and settings.sweep:
        return settings.name_origin(f"sweep.{run.change[0]}")
    if run.encoder is not None and choice in settings.choices:
        return settings.name_origin(f"choices.{choice}")
    return settings.name_origin(f"methods.{run.method}") if plan.methods[run.method].arguments else ""


def make_views(plan: Plan, seed: int, kind: str) -> bytes:
    """Return the file of the views of one augmentation."""
    settings = plan.settings
    with quiet():
        material = read_material(plan, seed)
        rep = encode(plan, material, None, seed)
        rna = get_modality(material.mdata, str(settings.student.modality))
        options: dict[str, Any] = {**settings.augmentations.get(kind, {})}
        if plan.quick:
            options |= QUICK_VIEWS.get(kind, {})
        if kind == "scvi":
            options["train_kwargs"] = {"enable_progress_bar": False, **options.get("train_kwargs", {})}
        taken = ("pair_on", "perturbation_key", "control", "batch_key", "split_key")
        pairing = {name: settings.pairing[name] for name in taken}
        with blame(settings.name_origin(f"augmentations.{kind}" if options else "paper.augmentations"), {}):
            scl.pp.augment(
                rna, kind, encoder=material.encoders[rep], **pairing, key_added=kind, rng=seed, progress_bar=False,
                **options,
            )  # fmt: skip
        values = rna.obsm.pop(kind)
        rna.uns["semiclip"].pop(kind, None)  # it would be taken for the record of another seed's views
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()


QUICK_VIEWS: dict[str, dict[str, Any]] = {"scvi": {"max_epochs": 5}, "mdwgan_gp": {"n_epochs": 3}}


def _train(plan: Plan, run: Run, material: Material, rep: str, views: Path) -> Any:
    """Return the trained model."""
    method, settings = plan.methods[run.method], plan.settings
    mdata, rna = material.mdata, get_modality(material.mdata, str(settings.student.modality))
    of_model: dict[str, Any] = {"student_correction": LADDER[run.rung]["student_correction"]}
    if not (method.is_trained or method.objective in (UNIMODAL, RANDOM)):
        of_model = {}  # other baselines are not of the paper, and have no arm without correction
    if not plan.has_controls:  # whitening on all rows takes off what makes them differ
        of_model = {"student_correction": "center", "teacher_correction": "center"}
    if run.trained != FROZEN:
        with locate({}, settings.name_origin("paper.choices")):
            encoder = _fit_encoder(plan, run, material, rep)
        rep = EXPRESSION
        of_model = {"student_correction": None, "encoder": encoder}
    if run.teacher_adapter is not None:
        of_model["teacher_adapter"] = run.teacher_adapter
    chosen = settings.choices.get(f"{run.encoder} {run.trained}", {}) if run.encoder else {}
    arguments = _merge(_merge({"model_kwargs": of_model}, method.arguments), chosen)
    if run.change is not None:
        name, value = run.change
        table = "plan_kwargs" if name in PLAN else "" if name in TRAINING else "model_kwargs"
        arguments = _merge(arguments, {table: {name: value}} if table else {name: value})
    reps: dict[str, Any] = {"student_rep": rep, "teacher_rep": settings.teacher.rep}
    if not method.is_trained:
        return scl.tl.distill(
            mdata, objective=method.objective, **reps, **plan.settings.pairing, rng=run.seed, key_added=EMBEDDING,
            **arguments,
        )  # fmt: skip
    if plan.quick and (run.change is None or run.change[0] != "max_epochs"):
        arguments["max_epochs"] = min(arguments.get("max_epochs") or QUICK_EPOCHS, QUICK_EPOCHS)
    for kind in run.views:
        rna.obsm[kind] = np.load(views / name_views(plan, run.seed, kind), allow_pickle=False)
    if run.views:
        arguments["views"] = list(run.views)
    arguments |= {"pea": LADDER[run.rung]["pea"] if plan.has_controls else False, "enable_progress_bar": False}
    arguments |= {"recipe": method.recipe, "rng": run.seed, "key_added": EMBEDDING, **reps, **plan.settings.pairing}
    with redirect_stdout(io.StringIO()):  # scvi-tools prints what it raises
        if method.objective == OURS:
            return scl.tl.semiclip(mdata, **arguments)
        return scl.tl.distill(mdata, objective=method.objective, **arguments)


EXPRESSION = "X_expression"


def _fit_encoder(plan: Plan, run: Run, material: Material, rep: str) -> Any:
    """Return an encoder to train, and lay out expression as it reads it."""
    rna = get_modality(material.mdata, str(plan.settings.student.modality))
    if run.trained == SCRATCH:
        options = choose_options(plan, str(run.encoder), run.seed)
        encoder: Any = scl.encoders.MLPEncoder(**options).fit(rna)
    else:
        encoder = material.encoders[encode(plan, material, run.encoder, run.seed)]
    for adata in (rna, material.unseen[plan.main].rna):
        scl.pp.expression(adata, encoder=encoder, key_added=EXPRESSION)
    return encoder


def _embed(model: Any, one: UnseenSet) -> None:
    """Embed an unseen set."""
    scl.tl.embed(one.rna, model, **one.columns, key_added=EMBEDDING)


def _measure_recall(plan: Plan, run: Run, material: Material, rep: str) -> pd.DataFrame:
    """Return recall of every unseen set, after TVN and after centring."""
    tables = []
    for name in plan.list_judged(run.encoder):
        one = material.unseen[name]
        for method in JUDGED:
            table = scl.tl.recall(
                one.rna, use_rep=EMBEDDING, **one.columns, relationships=material.relationships, method=method,
                n_permutations=0, rng=run.seed,
            )  # fmt: skip
            tables.append(table.assign(dataset=name, correction=method))
    kept = ["dataset", "correction", "metric", "key", "value", "n_pairs", "n_recalled", "n_genes", "rank"]
    return pd.concat(tables, ignore_index=True)[kept]


def _measure_preservation(plan: Plan, run: Run, material: Material, rep: str) -> pd.DataFrame:
    """Return how much of expression a decoder gets back, in unseen sets with controls and batches."""
    tables = []
    for name, one in material.unseen.items():
        if not one.can_decode:
            continue
        options: dict[str, Any] = {
            "baselines": (),
            "normalize": not one.settings.zscores,
            "progress_bar": False,
            "device": "auto",
        }
        options |= plan.settings.evaluation.preservation or {}
        if one.settings.normalize is not None:
            options["normalize"] = one.settings.normalize
        if plan.quick:
            options["max_epochs"] = min(options.get("max_epochs", 30), QUICK_EPOCHS)
        origin, origins = plan.settings.name_origin(f"unseen.{name}"), {**plan.settings.arguments, **one.origins}
        with blame(origin, origins, tuple(FAILURES)):
            table = scl.tl.preservation(one.rna, use_rep=EMBEDDING, **one.columns, rng=run.seed, **options)
        tables.append(table.assign(dataset=name))
    kept = ["dataset", "metric", "key", "value"]
    return pd.concat(tables, ignore_index=True)[kept] if tables else pd.DataFrame(columns=kept)


def _list_sets(plan: Plan, one: UnseenSet, rep: str, material: Material) -> dict[str, Any]:
    """Return the arguments by which the pairs of a method are set beside those of both modalities."""
    arguments: dict[str, Any] = {"use_rep": [rep, EMBEDDING], **one.columns, "relationships": material.relationships}
    arguments["method"] = plan.correction
    if one.image is not None:
        arguments["references"] = {one.settings.image_rep or plan.settings.teacher.rep: one.image}
    return arguments


def _name_sets(plan: Plan, run: Run, one: UnseenSet, rep: str) -> dict[str, str]:
    method = plan.methods[run.method].label
    names = {rep: TX, EMBEDDING: method, f"{EMBEDDING} (permuted)": f"{method} (permuted)"}
    return names | {str(one.settings.image_rep or plan.settings.teacher.rep): IMG}


def _measure_sets(plan: Plan, run: Run, material: Material, rep: str) -> pd.DataFrame:
    """Return which pairs of each unseen set the method recalls, and either modality alone (Figures 4, 5)."""
    tables = []
    for name, one in material.unseen.items():
        table = scl.tl.relationship_sets(one.rna, **_list_sets(plan, one, rep, material))
        tables.append(table.rename(columns=_name_sets(plan, run, one, rep)).assign(dataset=name))
    return pd.concat(tables, ignore_index=True)


def _measure_null_sets(plan: Plan, run: Run, material: Material, rep: str) -> pd.DataFrame:
    """Return sets over thresholds, also those of the method after an exchange of labels (Figures 6, 7)."""
    tables = []
    for name in dict.fromkeys([plan.main, plan.null]):
        one = material.unseen[name]
        sets = scl.tl.relationship_sets(
            one.rna, **_list_sets(plan, one, rep, material), thresholds=NULL_THRESHOLDS, baselines=["permuted"],
            rng=run.seed,
        )  # fmt: skip
        sets = sets.drop(columns=f"{rep} (permuted)").rename(columns=_name_sets(plan, run, one, rep))
        tables.append(sets.assign(dataset=name))
    return pd.concat(tables, ignore_index=True)


def _measure_null(plan: Plan, run: Run, material: Material, rep: str) -> pd.DataFrame:
    """Return how many pairs the method shares with either modality, and how many by chance (Figures 6, 7)."""
    tables = []
    for name in dict.fromkeys([plan.main, plan.null]):
        one = material.unseen[name]
        arguments = _list_sets(plan, one, rep, material) | {"use_rep": EMBEDDING}
        images = arguments.pop("references", {})
        table = scl.tl.null_overlap(
            one.rna, **arguments, references={rep: one.rna, **images}, rng=run.seed,
            n_permutations=max(1, plan.n_permutations), progress_bar=False,
        )  # fmt: skip
        names = _name_sets(plan, run, one, rep)
        tables.append(table.replace({"reference": names, "representation": names}).assign(dataset=name))
    return pd.concat(tables, ignore_index=True)


MEASURE = {
    RECALL: _measure_recall,
    PRESERVATION: _measure_preservation,
    SETS: _measure_sets,
    NULL_SETS: _measure_null_sets,
    NULL: _measure_null,
}


def name_views(plan: Plan, seed: int, kind: str) -> str:
    """Return the name of the file of some views."""
    from semiclip._cli._paper._plan import Run

    digest = plan.digest(Run(seed, OURS, BASE, (kind,)))
    return f"{kind}-{seed}-{digest}.npy"


def _read_settings(model: Any) -> dict[str, Any]:
    """Return how a model was trained, as JSON can hold it."""
    of_objective = model.init_params_["kwargs"].get("objective_kwargs", {})
    settings = {**model.train_params_, **of_objective}
    return {name: value for name, value in settings.items() if isinstance(value, int | float | str | dict)}


def _merge(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return both, with ``other`` before ``one``, table by table."""
    tables = {
        name: _merge(one[name], value)
        for name, value in other.items()
        if isinstance(value, dict) and isinstance(one.get(name), dict)
    }
    return {**one, **other, **tables}


@contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Compute with one thread, so that figures do not depend on the number of processes, and collect warnings."""
    import logging

    import lightning.pytorch  # noqa: F401  # sets its logger's level when it is imported
    import torch
    from threadpoolctl import threadpool_limits

    loggers, threads = [logging.getLogger(name) for name in ("lightning.pytorch", "semiclip")], torch.get_num_threads()
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1), warnings.catch_warnings(record=True) as told:  # BLAS has threads of its own
            warnings.simplefilter("always")
            yield told
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        torch.set_num_threads(threads)
