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
    gene_sets: Literal["hallmark", "reactome"] | Path | None = _setting(
        "--gene-sets", "gene_sets", "hallmark, reactome or a GMT file, for the report"
    )
    permutations: int | None = _setting(
        "--permutations", "n_permutations", "exchanges of the labels that measure chance", least=0, default=1000
    )
    seed: int | None = _setting("--seed", "rng", "of the exchanges", least=0, default=0)


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
    source: str = FROM_FLAGS
    origins: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse settings that exclude each other."""
        for one, others in (("data.file", ("data.rna", "data.image")), ("student.encoder", ("student.rep",))):
            for other in others:
                if self.get(one) is not None and self.get(other) is not None:
                    raise Conflict(self.origins[one], self.origins[other], "give one of them")
        if self.student.options is not None and self.student.encoder is None:
            raise IdleArgument([self.origins["student.options"]], "without student.encoder")

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
    def arguments(self) -> dict[str, str]:
        """Where the settings that were given come from, by the arguments of the library that they are."""
        whole = {KEYS[name].argument: origin for name, origin in self.origins.items() if KEYS[name].argument}
        tables = {name: self.get(name) for name in self.origins}
        options = {name: list(table) for name, table in tables.items() if isinstance(table, dict)}
        return whole | {option: f"{self.origins[name]}.{option}" for name, names in options.items() for option in names}

    @property
    def tables(self) -> dict[str, dict[str, Any]]:
        """What is set, as a TOML file can hold it."""
        tables: dict[str, dict[str, Any]] = {}
        for name in KEYS:
            if (value := self.get(name)) is not None:
                table, key = name.split(".")
                tables.setdefault(table, {})[key] = value
        return tables


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
}
KEYS: dict[str, Key] = {
    f"{table}.{part.name}": Key(get_type_hints(kind)[part.name], **part.metadata, default=part.default)
    for table, kind in TABLES.items()
    for part in fields(kind)
}


def list_kinds(kind: Any) -> list[Any]:
    """Return the types that a setting may have: str, tuple, Path, int, bool, dict or a ``Literal``."""
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return [part if get_origin(part) in (None, Literal) else get_origin(part) for part in kinds if part is not NoneType]


def read_value(name: str, value: Any, folder: Path, origin: str) -> Any:
    """Return a value of the type that the setting has, or say what is wrong; paths are relative to ``folder``."""
    key = KEYS[name]
    kinds = list_kinds(key.kind)
    for kind in kinds:
        if get_origin(kind) is Literal and isinstance(value, str) and (value in get_args(kind) or len(kinds) == 1):
            check_choice(origin, value, kind)
            return value
        if kind is tuple and isinstance(value, str):
            return tuple(filter(None, [value]))
        if kind is tuple and isinstance(value, list | tuple) and all(isinstance(part, str) for part in value):
            return tuple(filter(None, value))
        if kind is Path and isinstance(value, str):
            return folder / Path(value).expanduser()
        if kind is int and isinstance(value, int) and not isinstance(value, bool):
            check_whole(origin, value, key.least or 0)
            return value
        if kind in (str, bool, dict) and isinstance(value, kind):
            return value
    needed = " or ".join(NEEDED[get_origin(kind) or kind] for kind in kinds)
    raise WrongType(origin, type(value), needed)
