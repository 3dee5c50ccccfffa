"""What a study asks for: its methods, the arms that they run in, and every single run, which one name tells apart."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiclip._arguments import check_choice
from semiclip._cli._paper._published import SETS
from semiclip.augment import AUGMENTATIONS
from semiclip.baselines import BASELINES
from semiclip.correction import LADDER
from semiclip.encoders import ENCODERS
from semiclip.errors import BadValue, Conflict, NotGiven
from semiclip.objectives import OBJECTIVES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from semiclip._cli._settings import Settings
    from semiclip.correction import Method as Correction

BASE, *_, PEA = LADDER  # the arms of Table 1: without augmentation, and with all of it
UNIMODAL, RANDOM, OURS = "unimodal", "random", "semiclip"
LABELS = {
    "kd": "KD", "shake": "SHAKE", "c2kd": "C2KD", "vicreg": "VICReg", "clip": "CLIP", "siglip": "SigLIP",
    "dcca": "DCCA", OURS: "Semi-Clipped", UNIMODAL: "Unimodal baseline", RANDOM: "Random baseline",
    "cca": "CCA", "ridge": "Ridge regression", "procrustes": "Procrustes", "knn": "Nearest neighbours",
}  # fmt: skip
TX, IMG = "transcriptomics", "microscopy"  # what either modality recalls alone, beside methods
FROZEN, TUNED, SCRATCH = "frozen", "fine-tuned", "from scratch"
# Figure 3; the paper names the parameters, and its axes are not in the text: these are around its settings
SWEEP: dict[str, list[Any]] = {
    "lr": [1e-4, 1e-3, 1e-2, 1e-1],
    "temperature": [0.01, 0.05, 0.1, 0.5, 1.0],
    "batch_size": [64, 256, 1024, 4096],
    "max_epochs": [10, 50, 100, 150, 200],
}
QUICK_SEEDS, QUICK_EPOCHS, QUICK_PERMUTATIONS = 2, 5, 50


@dataclass(frozen=True)
class Method:
    """A way to distil, as a study names it: an objective or a baseline, and arguments that go before its settings."""

    name: str
    objective: str
    recipe: str | None
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """How tables and figures call it."""
        return LABELS.get(self.name, self.name)

    @property
    def is_trained(self) -> bool:
        """Whether it trains an adapter, which can be augmented."""
        return self.objective in OBJECTIVES


@dataclass(frozen=True)
class Run:
    """One training, on one seed; equal runs of different tables and figures are made once."""

    seed: int
    method: str
    rung: str = BASE
    views: tuple[str, ...] = ()
    encoder: str | None = None
    """Of Figure 1; ``None`` is the student's."""
    trained: str = FROZEN
    teacher_adapter: bool | None = None
    change: tuple[str, Any] | None = None
    """Of Figure 3: a parameter and its setting."""

    @property
    def title(self) -> str:
        """A name that says what the run is."""
        parts = [self.method, "" if self.rung == BASE else self.rung.strip("+ "), *self.views]
        if self.encoder is not None:
            parts += [self.encoder, self.trained, "both adapters" if self.teacher_adapter else "one adapter"]
        parts += [f"{self.change[0]} {self.change[1]:g}"] if self.change else []
        return f"{', '.join(filter(None, parts))}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """A study, checked, with what ``--quick`` makes of it."""

    settings: Settings
    quick: bool
    methods: dict[str, Method]
    stamps: tuple[tuple[str, int, int], ...]
    """Size and time of the files that results depend on."""

    @property
    def seeds(self) -> range:
        """Seeds of the encoder and of training."""
        n_seeds = int(self.settings.paper.seeds or 1)
        return range(min(n_seeds, QUICK_SEEDS) if self.quick else n_seeds)

    @property
    def in_tables(self) -> list[str]:
        """Methods of the tables."""
        return list(dict.fromkeys(self.settings.paper.methods or ()))

    @property
    def compared(self) -> list[str]:
        """Methods of Figure 2a."""
        return list(dict.fromkeys([*(self.settings.paper.compared or ()), *self.in_tables]))

    @property
    def sets(self) -> list[str]:
        """Names of the unseen data sets."""
        return list(self.settings.unseen)

    def list_judged(self, encoder: str | None) -> list[str]:
        """Return the unseen sets on which runs are judged: with an encoder of Figure 1, the main one."""
        return self.sets if encoder is None else [self.main]

    @property
    def main(self) -> str:
        """The unseen set of the tables and figures that have one."""
        return self.settings.paper.main or self.sets[0]

    @property
    def null(self) -> str:
        """The unseen set of Figure 6."""
        return self.settings.paper.null or (self.sets[1] if len(self.sets) > 1 else self.sets[0])

    @property
    def correction(self) -> Correction:
        """The correction of embeddings before their pairs are counted."""
        return self.settings.paper.correction or "tvn"

    @property
    def has_controls(self) -> bool:
        """Whether the training data have controls, without which nothing can be augmented."""
        return bool(self.settings.columns.control)

    @property
    def n_permutations(self) -> int:
        """Exchanges of the labels that measure chance."""
        n_permutations = int(self.settings.evaluation.permutations or 0)
        return min(n_permutations, QUICK_PERMUTATIONS) if self.quick else n_permutations

    @property
    def null_run(self) -> Run:
        """The run of Figures 6 and 7: Semi-Clipped without augmentation."""
        return Run(self.seeds[0], OURS, BASE)

    @property
    def augmentations(self) -> list[str]:
        """Rivals of PEA in Figure 2b."""
        chosen = self.settings.paper.augmentations
        return list(AUGMENTATIONS if chosen is None else chosen)

    @property
    def choices(self) -> list[tuple[str, str]]:
        """Encoders of Figure 1, and how each is trained."""
        chosen = self.settings.paper.choices
        if chosen is None:
            encoder = self.settings.student.encoder
            chosen = () if encoder is None else (f"mlp {SCRATCH}", f"{encoder} {TUNED}", f"{encoder} {FROZEN}")
        return [(name.split(" ", 1)[0], name.split(" ", 1)[-1]) for name in chosen]

    @property
    def sweep(self) -> dict[str, list[Any]]:
        """Settings of Figure 3."""
        sweep = {name: list(dict.fromkeys(values)) for name, values in (self.settings.sweep or SWEEP).items()}
        if self.quick:
            sweep = {name: values[:: max(1, len(values) - 1)] for name, values in sweep.items()}
            sweep = {name: values for name, values in sweep.items() if name != "max_epochs"} | (
                {"max_epochs": [2, QUICK_EPOCHS]} if "max_epochs" in sweep else {}
            )
        return sweep

    def list_rungs(self, method: str) -> list[str]:
        """Return the arms of Table 1 that a method has: what trains no adapter cannot be augmented."""
        return [BASE, PEA] if self.has_controls and self.methods[method].is_trained else [BASE]

    def digest(self, run: Run) -> str:
        """Return a name for all that the result of a run depends on."""
        settings, tables = self.settings, self.settings.tables
        kept = {name: tables.get(name) for name in ("data", "columns", "student", "teacher")}
        kept["unseen"] = {name: {**vars(one), "paper": None} for name, one in settings.unseen.items()}
        judged = ("relationships", "databases", "preservation")
        kept["evaluation"] = {name: getattr(settings.evaluation, name) for name in judged}
        options = [settings.encoders.get(str(name)) for name in (settings.student.encoder, run.encoder)]
        options += [settings.choices.get(f"{run.encoder} {run.trained}")]
        options += [settings.augmentations.get(kind) for kind in run.views]
        parts = [asdict(run), asdict(self.methods[run.method]), kept, options, self.quick, self.correction]
        parts += [self.stamps, version("semiclip")]
        if run.encoder is not None:  # judged on the main unseen set
            parts.append(self.main)
        if run == self.null_run:
            parts += [self.main, self.null, self.n_permutations]
        text = json.dumps(parts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_plan(settings: Settings, *, quick: bool) -> Plan:
    """Check what can be checked without the data, and return the plan."""
    from semiclip._cli._paper._checks import check_method, check_sweep

    paper, source = settings.paper, settings.source
    settings.need("columns.pair_on")
    settings.need("teacher.rep")
    if settings.columns.control is None:
        settings.need("columns.control")
    if settings.student.rep is None:
        settings.need("student.encoder")
    if not settings.unseen:
        raise NotGiven(f"{source}: unseen", "add a table [unseen.NAME] for each data set to judge on")
    for key in ("main", "null"):
        if (name := getattr(paper, key)) is not None:
            check_choice(settings.name_origin(f"paper.{key}"), name, list(settings.unseen))
    methods = {}
    for key in ("methods", "compared"):
        for name in getattr(paper, key) or ():
            methods[name] = _read_method(settings, name, settings.name_origin(f"paper.{key}"))
    if not paper.methods:
        raise BadValue(settings.name_origin("paper.methods"), [], "one method or more")
    for name in (UNIMODAL, RANDOM):
        if name in paper.methods:
            needed = f"without {name!r}, which is in Table 1 by itself"
            raise BadValue(settings.name_origin("paper.methods"), list(paper.methods), needed)
    for name in settings.methods:
        if name not in methods:
            listed = [*(paper.methods or ()), *(paper.compared or ())]
            check_choice(settings.name_origin(f"methods.{name}"), name, listed)
    for name in (UNIMODAL, RANDOM, OURS):
        methods.setdefault(name, _read_method(settings, name, f"{source}: methods.{name}"))
    _check_labels(settings, methods)
    read = {**settings.tables, "evaluation": {"relationships": settings.evaluation.relationships}, "output": {}}
    plan = Plan(settings, quick, methods, tuple(sorted(set(_list_stamps(read)))))
    for kind in plan.augmentations:
        check_choice(settings.name_origin("paper.augmentations"), kind, AUGMENTATIONS)
    known = [f"mlp {SCRATCH}", *(f"{encoder} {trained}" for encoder in ENCODERS for trained in (FROZEN, TUNED))]
    for choice in paper.choices or ():
        check_choice(settings.name_origin("paper.choices"), choice, known)
    _check_names(settings, plan)
    for name, values in settings.sweep.items():
        check_choice(settings.name_origin(f"sweep.{name}"), name, SWEEP)
        check_sweep(name, values, settings.name_origin(f"sweep.{name}"))
    for name, one in settings.unseen.items():
        if one.paper is not None:
            check_choice(settings.name_origin(f"unseen.{name}.paper"), one.paper, SETS)
    for method in methods.values():
        check_method(method, settings)
    return plan


def _read_method(settings: Settings, name: str, origin: str) -> Method:
    """Return a method by its name, with the arguments that the study gives it."""
    arguments = dict(settings.methods.get(name, {}))
    known = [*OBJECTIVES, *BASELINES]
    place = settings.name_origin(f"methods.{name}")
    if "objective" in arguments:
        check_choice(f"{place}.objective", objective := arguments.pop("objective"), known)
    else:
        check_choice(origin, objective := name, known)
    if objective in BASELINES:
        return Method(name, objective, None, arguments)
    recipe = arguments.pop("recipe", settings.paper.recipe)
    recipes = ["whole", "paper", "shared"] if objective == OURS else ["whole", "paper"]
    check_choice(f"{place}.recipe", recipe, recipes)
    return Method(name, objective, recipe, arguments)


def _check_names(settings: Settings, plan: Plan) -> None:
    """Refuse arguments for what the study does not have, or that it does not take."""
    from semiclip._cli._paper._checks import check_augmentation, check_encoder, check_training

    encoders = {settings.student.encoder, *(encoder for encoder, _ in plan.choices)} - {None}
    for name in settings.encoders:
        origin = settings.name_origin(f"encoders.{name}")
        check_choice(origin, name, sorted(map(str, encoders)))
        if name == settings.student.encoder and settings.student.options is not None:
            raise Conflict(origin, settings.name_origin("student.options"), "give one of them")
    for name in sorted(map(str, encoders)):
        is_student = name == settings.student.encoder and name not in settings.encoders
        table = "student.options" if is_student else f"encoders.{name}"
        options = (settings.student.options or {}) if is_student else settings.encoders.get(name, {})
        check_encoder(name, options, f"{settings.source}: {table}")
    for name, options in settings.augmentations.items():
        origin = settings.name_origin(f"augmentations.{name}")
        check_choice(origin, name, plan.augmentations)
        check_augmentation(name, options, origin)
    for name, arguments in settings.choices.items():
        chosen, origin = [" ".join(choice) for choice in plan.choices], settings.name_origin(f"choices.{name}")
        check_choice(origin, name, chosen)
        check_training(OURS, arguments, origin)


def _check_labels(settings: Settings, methods: Mapping[str, Method]) -> None:
    """Refuse methods that tables could not tell apart."""
    taken = {TX: "", IMG: ""}
    for name, method in sorted(methods.items(), key=lambda item: item[0] in settings.methods):
        for label in (method.label, f"{method.label} + PEA", f"{method.label} (permuted)"):
            if label in taken:
                other = repr(taken[label]) if taken[label] else "a modality"
                raise BadValue(settings.name_origin(f"methods.{name}"), name, f"a name that tables tell from {other}")
            taken[label] = name


def _list_stamps(tables: Any) -> Iterator[tuple[str, int, int]]:
    """Yield what changes when a file is written anew, for each path of the settings; other files are refused later."""
    if isinstance(tables, Path) and tables.is_file():
        status = tables.stat()
        yield str(tables), status.st_size, status.st_mtime_ns
    for part in tables.values() if isinstance(tables, dict) else ():
        yield from _list_stamps(part)
