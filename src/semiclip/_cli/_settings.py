"""What a TOML file of a study may say, with types: the one list that flags, the reader and its errors are made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from semiclip._arguments import check_choice, check_whole
from semiclip.errors import Conflict, IdleArgument, NotGiven, WrongType
from semiclip.tl._distill import Recipe

NEEDED = {
    str: "a text in quotes",
    tuple: "a text in quotes or a list of them",
    Path: "the path of a file in quotes",
    int: "a whole number",
    bool: "true or false",
    dict: "a table",
    Literal: "a text in quotes",
}
FROM_FLAGS = "the command line"
Dataset = Literal["simulation", "u2os", "rpe1_periscope"]
TABLE_METHODS = ("kd", "shake", "vicreg", "semiclip")  # of Table 1; Figure 2a has all
MORE_METHODS = ("clip", "siglip", "dcca", "c2kd")


def _setting(
    flag: str, argument: str, text: str, *, least: int | None = None, default: Any = None, folder: bool = False
) -> Any:
    """Describe a setting: its flag ("" for none), the argument of the library that it is, and what it means."""
    return field(
        default=default,
        metadata={"flag": flag, "argument": argument, "text": text, "least": least, "folder": folder},
    )


@dataclass(frozen=True)
class Data:
    """Files of the training data."""

    file: Path | None = _setting("--data", "", "MuData (.h5mu) of both modalities")
    rna: Path | None = _setting("--rna", "", "or AnnData (.h5ad) of the expression, with --image")
    image: Path | None = _setting("--image", "", "or AnnData (.h5ad) of the images, with --rna")
    dataset: Dataset | None = _setting("", "", "or a data set of the package: simulation, u2os or rpe1_periscope")
    options: dict[str, Any] | None = _setting("", "", "arguments of the data set")


@dataclass(frozen=True)
class Columns:
    """What the columns of obs mean."""

    pair_on: tuple[str, ...] | None = _setting("--pair-on", "pair_on", "column or columns that pair the modalities")
    perturbation: str | None = _setting("--perturbation", "perturbation_key", "column of the perturbations")
    control: tuple[str, ...] | None = _setting(
        "--control", "control", 'label or labels of the controls; "" if there are none'
    )
    batch: str | None = _setting("--batch", "batch_key", "column of the batches")
    split: str | None = _setting("--split", "split_key", "column whose groups validation keeps apart")
    unlabelled: tuple[str, ...] | None = _setting(
        "--unlabelled", "unlabelled", 'label or labels that name no perturbation, if not the usual; "" for none'
    )
    separator: str | None = _setting(
        "--separator", "separator", "between parts of a combination in any order, as in A+B"
    )


@dataclass(frozen=True)
class Student:
    """The expression: an embedding that the data hold, or an encoder that is fitted on them first."""

    rep: str | None = _setting("--student-rep", "student_rep", "embedding in obsm of the expression")
    encoder: str | None = _setting(
        "--encoder", "encoder", "or an encoder: pca, scvi or scgpt, to fit on the expression"
    )
    options: dict[str, Any] | None = _setting("", "", "arguments of the encoder")
    modality: str | None = _setting("", "modalities", "modality of the expression in the MuData", default="rna")


@dataclass(frozen=True)
class Teacher:
    """The images."""

    rep: str | None = _setting("--teacher-rep", "teacher_rep", "embedding in obsm of the images")
    modality: str | None = _setting("", "modalities", "modality of the images in the MuData", default="image")


@dataclass(frozen=True)
class Training:
    """How the model is made and trained."""

    recipe: Recipe | None = _setting("--recipe", "recipe", "what the adapter learns, and how", default="shared")
    epochs: int | None = _setting("--epochs", "max_epochs", "training epochs, if not those of the recipe", least=1)
    seed: int | None = _setting("--seed", "rng", "of the encoder and of training", least=0, default=0)
    pea: bool | dict[str, Any] | None = _setting("--pea/--no-pea", "pea", "whether to augment the expression (PEA)")
    model: dict[str, Any] | None = _setting("", "model_kwargs", "arguments of scl.model.SemiClip")
    plan: dict[str, Any] | None = _setting("", "plan_kwargs", "arguments of the training plan, such as lr")
    options: dict[str, Any] | None = _setting("", "training", "other arguments of SemiClip.train")


@dataclass(frozen=True)
class Evaluation:
    """How representations are judged."""

    rep: tuple[str, ...] | None = _setting("--rep", "use_rep", "embedding or embeddings in obsm to judge")
    modality: str | None = _setting("--modality", "", "modality to judge, of an .h5mu file", default="rna")
    relationships: Path | None = _setting(
        "--relationships", "relationships", "table of database, gene_a, gene_b; the public databases if not given"
    )
    databases: tuple[str, ...] | None = _setting("", "", "databases of the relationships to use; all if not given")
    gene_sets: Literal["hallmark", "reactome"] | Path | None = _setting(
        "--gene-sets", "gene_sets", "hallmark, reactome or a GMT file, for the report"
    )
    permutations: int | None = _setting(
        "--permutations", "n_permutations", "exchanges of the labels that measure chance", least=0, default=1000
    )
    seed: int | None = _setting("--seed", "rng", "of the exchanges", least=0, default=0)
    preservation: dict[str, Any] | None = _setting("", "", "arguments of scl.tl.preservation, for the paper")


@dataclass(frozen=True)
class Paper:
    """What the tables and figures of the paper are made of."""

    methods: tuple[str, ...] | None = _setting("", "", "methods of the tables", default=TABLE_METHODS)
    compared: tuple[str, ...] | None = _setting("", "", "further methods of Figure 2a", default=MORE_METHODS)
    recipe: Literal["paper", "whole"] | None = _setting("", "", "settings that methods start from", default="paper")
    correction: Literal["tvn", "center"] | None = _setting("", "", "of embeddings before recall", default="tvn")
    seeds: int | None = _setting("--seeds", "", "seeds of each method", least=1, default=15)
    choices: tuple[str, ...] | None = _setting("", "", "encoders of Figure 1, such as 'scvi fine-tuned'")
    augmentations: tuple[str, ...] | None = _setting("", "", "rivals of PEA in Figure 2b")
    main: str | None = _setting("", "", "unseen set of the tables and figures that have one; the first")
    null: str | None = _setting("", "", "unseen set of Figure 6; the second, if there is one")


@dataclass(frozen=True)
class Unseen:
    """A data set that no model has seen."""

    file: Path | None = _setting("", "", "AnnData (.h5ad) of expression, or MuData (.h5mu) with images beside it")
    image: Path | None = _setting("", "", "AnnData (.h5ad) of images of the same perturbations, in other wells")
    image_rep: str | None = _setting("", "references", "embedding in obsm of these images")
    perturbation: str | None = _setting("", "perturbation_key", "column of the perturbations")
    control: tuple[str, ...] | None = _setting("", "control", "label or labels of the controls")
    batch: str | None = _setting("", "batch_key", "column of the batches")
    zscores: bool | None = _setting("", "zscores", "whether X holds z-scores, not counts")
    normalize: bool | None = _setting("", "normalize", "whether preservation normalises X, as counts need it")
    paper: str | None = _setting("", "", "data set of the paper to show the numbers of beside these")


@dataclass(frozen=True)
class Output:
    """Where the result goes."""

    folder: Path | None = _setting("--out", "", "folder for the model and the resolved settings", folder=True)


@dataclass(frozen=True)
class Settings:
    """All settings of a study, and where each was given, by its name such as ``columns.batch``."""

    data: Data = Data()
    columns: Columns = Columns()
    student: Student = Student()
    teacher: Teacher = Teacher()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    output: Output = Output()
    paper: Paper = Paper()
    unseen: Mapping[str, Unseen] = field(default_factory=dict)
    methods: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    encoders: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    augmentations: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    choices: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    sweep: Mapping[str, list[Any]] = field(default_factory=dict)
    source: str = FROM_FLAGS
    origins: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse settings that exclude each other."""
        files = ("data.rna", "data.image")
        exclusive = {"data.file": files, "data.dataset": ("data.file", *files), "student.encoder": ("student.rep",)}
        for one, others in exclusive.items():
            for other in others:
                if self.get(one) is not None and self.get(other) is not None:
                    raise Conflict(self.origins[one], self.origins[other], "give one of them")
        for options, needed in (("student.options", "student.encoder"), ("data.options", "data.dataset")):
            if self.get(options) is not None and self.get(needed) is None:
                raise IdleArgument([self.origins[options]], f"without {needed}")

    def __hash__(self) -> int:
        return hash(repr(self.tables))  # of dicts, which have none of their own

    def get(self, name: str) -> Any:
        """Return a setting by its name, such as ``columns.batch``."""
        table, key = name.split(".")
        return getattr(getattr(self, table), key)

    def need(self, name: str) -> Any:
        """Return a setting that must have been given."""
        if (value := self.get(name)) is None:
            where = name if self.source == FROM_FLAGS else f"{self.source}: {name}"
            raise NotGiven(where, f"set it in a TOML file or by {KEYS[name].flag}")
        return value

    def name_origin(self, name: str) -> str:
        """Return where a setting was given, for an error."""
        return self.origins.get(name, name)

    @property
    def pairing(self) -> dict[str, Any]:
        """What the columns mean, as the functions for two modalities take it."""
        given = {KEYS[f"columns.{part.name}"].argument: getattr(self.columns, part.name) for part in fields(Columns)}
        given["control"] = given["control"] or None
        return {**given, "modalities": {"student": self.student.modality, "teacher": self.teacher.modality}}

    @property
    def arguments(self) -> dict[str, str]:
        """Where the settings that were given come from, by the arguments of the library that they are."""
        given = {name: origin for name, origin in self.origins.items() if name in KEYS}
        whole = {KEYS[name].argument: origin for name, origin in given.items() if KEYS[name].argument}
        options = {name: list(table) for name in given if isinstance(table := self.get(name), dict)}
        return whole | {option: f"{given[name]}.{option}" for name, names in options.items() for option in names}

    @property
    def tables(self) -> dict[str, dict[str, Any]]:
        """What is set, as a TOML file can hold it."""
        tables: dict[str, dict[str, Any]] = {}
        for name in KEYS:
            table, key = name.split(".")
            if (value := self.get(name)) is not None and (table != "paper" or self.unseen):
                tables.setdefault(table, {})[key] = value
        unseen = {
            name: {key: value for key, value in vars(one).items() if value is not None}
            for name, one in self.unseen.items()
        }
        free = {name: dict(getattr(self, name)) for name in (*FREE, "sweep")}
        return tables | {name: table for name, table in {"unseen": unseen, **free}.items() if table}


class Key(NamedTuple):
    """A setting as its dataclass declares it."""

    kind: Any
    flag: str
    argument: str
    text: str
    least: int | None
    folder: bool
    default: Any


TABLES: dict[str, type] = {
    "data": Data,
    "columns": Columns,
    "student": Student,
    "teacher": Teacher,
    "training": Training,
    "evaluation": Evaluation,
    "output": Output,
    "paper": Paper,
}
FREE = ("methods", "encoders", "augmentations", "choices")  # tables of tables that are passed on
KEYS: dict[str, Key] = {
    f"{table}.{part.name}": Key(get_type_hints(kind)[part.name], **part.metadata, default=part.default)
    for table, kind in TABLES.items()
    for part in fields(kind)
}
UNSEEN: dict[str, Key] = {
    part.name: Key(get_type_hints(Unseen)[part.name], **part.metadata, default=part.default) for part in fields(Unseen)
}


def list_kinds(kind: Any) -> list[Any]:
    """Return the types that a setting may have: str, tuple, Path, int, bool, dict or a ``Literal``."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return [part if get_origin(part) in (None, Literal) else get_origin(part) for part in kinds if part is not NoneType]


def read_value(key: Key, value: Any, folder: Path, origin: str) -> Any:
    """Return a value of the type that the setting has, or say what is wrong; paths are relative to ``folder``."""
    kinds = list_kinds(key.kind)
    for kind in kinds:
        if get_origin(kind) is Literal and isinstance(value, str) and (value in get_args(kind) or len(kinds) == 1):
            check_choice(origin, value, kind)
            return value
        if kind is tuple and isinstance(value, str):
            return tuple(filter(None, [value]))
        if kind is tuple and isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            return tuple(value) if any(value) else ()  # an empty text beside others is a label
        if kind is Path and isinstance(value, str):
            return folder / Path(value).expanduser()
        if kind is int and isinstance(value, int) and not isinstance(value, bool):
            check_whole(origin, value, key.least or 0)
            return value
        if kind in (str, bool, dict) and isinstance(value, kind):
            return value
    needed = " or ".join(NEEDED[get_origin(kind) or kind] for kind in kinds)
    raise WrongType(origin, type(value), needed)
