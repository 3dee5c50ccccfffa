"""Looks for mistakes of a study before anything is trained; an error names the key of the file."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

import semiclip as scl
from semiclip._arguments import check_arguments, check_number, check_whole
from semiclip._checks import check_adata, get_modality, read_representation
from semiclip._cli._origins import Located, locate
from semiclip._design import Design
from semiclip._device import usable_device
from semiclip._sides import check_columns, pair_sides
from semiclip.augment import AUGMENTATIONS
from semiclip.baselines import BASELINES
from semiclip.correction._correct import find_short_batches
from semiclip.encoders import ENCODERS
from semiclip.encoders._expression import check_overlap, read_counts
from semiclip.errors import (
    BadValue,
    Empty,
    IdleArgument,
    NotFinite,
    NothingShared,
    Refused,
    UnexpectedArgument,
)
from semiclip.metrics._map import ONE_LABEL
from semiclip.model import Baseline, SemiClip
from semiclip.model._base import check_training_arguments
from semiclip.model._plan import DistillationPlan
from semiclip.objectives import OBJECTIVES
from semiclip.tl import distill, preservation

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from semiclip._cli._paper._material import Material, UnseenSet
    from semiclip._cli._paper._plan import Method, Plan
    from semiclip._cli._settings import Settings

# what the command itself says of a training
FILLED = ("mdata", "objective", "student_rep", "teacher_rep", "rng", "pea", "key_added", "views", "recipe")
JUDGED = ("adata", "use_rep", "perturbation_key", "control", "batch_key")  # and of preservation
WHOLE = {"max_epochs": 1, "batch_size": 2}  # and at least this


def check_method(method: Method, settings: Settings) -> None:
    """Refuse arguments that no training takes."""
    origin = settings.name_origin(f"methods.{method.name}")
    check_training(method.objective, method.arguments, origin)
    if not method.is_trained and (idle := [name for name in method.arguments if name != "model_kwargs"]):
        raise IdleArgument([f"{origin}.{name}" for name in idle], f"on {method.objective!r}, which trains no adapter")


def check_training(objective: str, arguments: dict[str, Any], origin: str) -> None:
    """Refuse arguments that the training of an objective does not take."""
    if refused := [name for name in arguments if name in FILLED]:
        raise UnexpectedArgument(origin, refused, f"{refused[0]!r} is not for a study to say")
    model_cls: Any = SemiClip if objective in OBJECTIVES else Baseline
    with locate({}, origin):
        check_training_arguments(SemiClip.train, model_cls, objective, arguments, caller=distill)
    taken = [*signature({**OBJECTIVES, **BASELINES}[objective]).parameters]
    tables: dict[str, tuple[Any, dict[str, Any]]] = {
        "model_kwargs": (model_cls, {"passed_on": taken or ["objective"], "filled": ("adata", "registry", "method")}),
        "plan_kwargs": (DistillationPlan, {"filled": ("module", "max_epochs")}),
    }
    for name, (taker, options) in tables.items():
        place = f"{origin}.{name}"
        if not isinstance(given := arguments.get(name, {}), dict):
            raise BadValue(place, given, "a table")
        check_arguments(taker, given, place, **options)
    rates = arguments.get("plan_kwargs", {}).get("lr", {})
    for rate in rates.values() if isinstance(rates, dict) else [rates]:
        check_number(f"{origin}.plan_kwargs.lr", rate, least=0)
    _check_whole(arguments, origin)


def _check_whole(arguments: dict[str, Any], origin: str) -> None:
    """Refuse epochs and rows of a mini-batch that are none."""
    for name in WHOLE:
        if arguments.get(name) is not None:
            check_whole(f"{origin}.{name}", arguments[name], WHOLE[name])


def check_encoder(name: str, options: dict[str, Any], origin: str) -> None:
    """Refuse arguments that an encoder does not take, and the lack of one that it needs."""
    kind: Any = {**ENCODERS, "mlp": scl.encoders.MLPEncoder}[name]
    check_arguments(kind, options, origin)
    for width in {"n_components", "n_latent"} & {*options}:
        check_whole(f"{origin}.{width}", options[width])
    if "min_overlap" in options:
        check_number(f"{origin}.min_overlap", options["min_overlap"], above=0, most=1)


def check_augmentation(kind: str, options: dict[str, Any], origin: str) -> None:
    """Refuse arguments that an augmentation does not take."""
    check_arguments(AUGMENTATIONS[kind], options, origin, filled=("progress_bar",))


def check_sweep(name: str, values: list[Any], origin: str) -> None:
    """Refuse settings of Figure 3 that are no numbers."""
    if not values:
        raise BadValue(origin, values, "one setting or more")
    for value in values:
        if name in WHOLE:
            check_whole(origin, value, WHOLE[name])
        else:
            check_number(origin, value, above=0)


def check_material(plan: Plan, material: Material) -> None:
    """Refuse columns, labels, expression and embeddings that cannot be used."""
    settings = plan.settings
    with locate(settings.arguments):
        design = Design.of(**settings.pairing)
        for side in ("student", "teacher"):
            get_modality(material.mdata, getattr(design, side))
            check_columns(material.mdata, design, side)
        pair_sides(material.mdata, design)
        for side, rep in (("student", settings.student.rep), ("teacher", settings.teacher.rep)):
            if rep is not None:
                read_representation(get_modality(material.mdata, getattr(design, side)), rep, f"{side}_rep")
    for name, one in material.unseen.items():
        with locate(one.origins, settings.name_origin(f"unseen.{name}")):
            _check_unseen(plan, material, name, one)
    if settings.evaluation.preservation:
        origin = settings.name_origin("evaluation.preservation")
        check_arguments(preservation, settings.evaluation.preservation, origin, filled=JUDGED)
        _check_whole(settings.evaluation.preservation, origin)
        try:
            usable_device(settings.evaluation.preservation.get("device", "cpu"))
        except (ValueError, TypeError) as error:
            raise Located(f"{origin}.device", Refused(str(error))) from error


def _check_unseen(plan: Plan, material: Material, name: str, one: UnseenSet) -> None:
    """Refuse columns, labels and expression that an unseen set does not have."""
    settings, design = plan.settings, Design.of(**one.columns)
    origin = settings.name_origin(f"unseen.{name}")
    if one.image is None and one.settings.image_rep is not None:
        raise IdleArgument([f"{origin}.image_rep"], "without images")
    for adata in filter(None, (check_adata(one.rna), one.image)):
        for read in (design.batches, design.perturbations, design.controls):
            read(adata)
        _check_controls(design, adata)
        _check_labels(design.perturbations(adata), material.relationships)
    if settings.student.rep is not None:
        with locate({}, f"{origin}: {settings.name_origin('student.rep')}"):
            read_representation(one.rna, settings.student.rep, "student_rep")
    else:
        _check_expression(plan, material, one, origin)
    if one.image is not None:
        rep = one.settings.image_rep or str(settings.teacher.rep)
        with locate({}, settings.name_origin(f"unseen.{name}.image_rep")):
            read_representation(one.image, rep, "image_rep")


def _check_controls(design: Design, adata: AnnData) -> None:
    """Refuse batches that cannot be corrected, as recall would after training."""
    if design.control is not None and design.batch_key is not None:
        batch, names = design.batches(adata)
        find_short_batches(batch, design.controls(adata), "error", names.tolist())


def _check_labels(labels: pd.Series, relationships: pd.DataFrame) -> None:
    """Refuse perturbations of which no two are annotated to belong together."""
    names = labels.astype(str).unique()
    a, b = (relationships[key].isin(names) for key in ("gene_a", "gene_b"))
    if not (a & b).any():
        sides = ("relationships", "the unseen set")
        raise NothingShared("pair of two genes", relationships["gene_a"].unique(), names, sides, ONE_LABEL)


def _check_expression(plan: Plan, material: Material, one: UnseenSet, origin: str) -> None:
    """Refuse expression that the encoder would refuse once it is fitted, which takes its time."""
    settings, name = plan.settings, str(plan.settings.student.encoder)
    options = {**settings.encoders.get(name, {}), **(settings.student.options or {})}
    default = signature(ENCODERS[name]).parameters
    layer = options.get("layer")
    values = read_counts(one.rna, layer)
    held = values.data if sparse.issparse(values) else values
    if held.size == 0:
        raise Empty("values in X")
    if not np.isfinite(np.sum(held, dtype=np.float64)):
        rows = np.flatnonzero(~np.isfinite(np.asarray(values.sum(axis=1), dtype=np.float64).ravel()))
        raise NotFinite("expression", one.rna.obs_names[rows].tolist())
    if one.settings.zscores and held.min() >= 0:
        raise BadValue(f"{origin}.zscores", one.settings.zscores, "false for expression without a negative value")
    if "gene_key" not in default:  # scGPT reads symbols of its own
        genes = get_modality(material.mdata, str(settings.student.modality)).var_names
        needed = options.get("min_overlap", default["min_overlap"].default)
        what = f"genes of the encoder's {len(genes)} in var_names"
        check_overlap(genes.isin(one.rna.var_names), genes, one.rna.var_names, needed, what)
