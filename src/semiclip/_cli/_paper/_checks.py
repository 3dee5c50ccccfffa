"""Looks for mistakes of a study before anything is trained; an error names the key of the file."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from semiclip._arguments import check_arguments
from semiclip._checks import get_modality, read_representation
from semiclip._cli._origins import locate
from semiclip._design import Design
from semiclip._sides import check_columns, pair_sides
from semiclip.baselines import BASELINES
from semiclip.errors import UnexpectedArgument
from semiclip.model import Baseline, SemiClip
from semiclip.model._base import check_training_arguments
from semiclip.objectives import OBJECTIVES
from semiclip.tl import distill, preservation

if TYPE_CHECKING:
    from semiclip._cli._paper._material import Material, UnseenSet
    from semiclip._cli._paper._plan import Method, Plan
    from semiclip._cli._settings import Settings

# what the command itself says of a training
FILLED = ("mdata", "objective", "student_rep", "teacher_rep", "rng", "pea", "key_added", "views", "recipe")
JUDGED = ("adata", "use_rep", "perturbation_key", "control", "batch_key")  # and of preservation


def check_method(method: Method, settings: Settings) -> None:
    """Refuse arguments that no training takes."""
    origin = settings.name_origin(f"methods.{method.name}")
    if refused := [name for name in method.arguments if name in FILLED]:
        raise UnexpectedArgument(origin, refused, f"{refused[0]!r} is not for a study to say")
    is_objective = method.objective in OBJECTIVES
    model_cls: Any = SemiClip if is_objective else Baseline
    with locate({}, origin):
        check_training_arguments(SemiClip.train, model_cls, method.objective, method.arguments, caller=distill)
    taken = signature({**OBJECTIVES, **BASELINES}[method.objective]).parameters
    given = method.arguments.get("model_kwargs", {})
    filled = ("adata", "registry", "objective", "method")
    check_arguments(model_cls, given, f"{origin}.model_kwargs", also=taken, filled=filled)


def check_material(plan: Plan, material: Material) -> None:
    """Refuse columns, labels and embeddings that the data do not have."""
    settings, columns = plan.settings, plan.settings.columns
    modalities = {"student": str(settings.student.modality), "teacher": str(settings.teacher.modality)}
    with locate(settings.arguments):
        design = Design.of(
            perturbation_key=columns.perturbation, control=columns.control or None, batch_key=columns.batch,
            pair_on=columns.pair_on, split_key=columns.split, modalities=modalities,
        )  # fmt: skip
        for side in ("student", "teacher"):
            get_modality(material.mdata, getattr(design, side))
            check_columns(material.mdata, design, side)
        pair_sides(material.mdata, design)
        for side, rep in (("student", settings.student.rep), ("teacher", settings.teacher.rep)):
            if rep is not None:
                read_representation(get_modality(material.mdata, getattr(design, side)), rep, f"{side}_rep")
    for name, one in material.unseen.items():
        _check_unseen(settings, name, one)
    if settings.evaluation.preservation:
        origin = settings.name_origin("evaluation.preservation")
        given = {**dict.fromkeys(JUDGED), **settings.evaluation.preservation}
        check_arguments(preservation, given, origin)


def _check_unseen(settings: Settings, name: str, one: UnseenSet) -> None:
    """Refuse columns and labels that an unseen set does not have."""
    with locate(one.origins, settings.name_origin(f"unseen.{name}")):
        design = Design.of(**one.columns)
        for adata in filter(None, (one.rna, one.image)):
            for read in (design.batches, design.perturbations, design.controls):
                read(adata)
    if settings.student.rep is not None:
        origin = f"{settings.name_origin(f'unseen.{name}')}: {settings.name_origin('student.rep')}"
        with locate({}, origin):
            read_representation(one.rna, settings.student.rep, "student_rep")
    if one.image is not None:
        origin = settings.name_origin(f"unseen.{name}.image_rep")
        with locate({}, origin):
            read_representation(one.image, one.settings.image_rep or str(settings.teacher.rep), "image_rep")
