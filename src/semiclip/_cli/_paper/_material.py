"""The data of a study as a run needs them: read, or made by the package, and encoded."""

from __future__ import annotations

import warnings
from functools import lru_cache
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple

import semiclip as scl
from semiclip._checks import get_modality
from semiclip._cli._datasets import make_dataset
from semiclip._cli._files import check_there, read_relationships, read_samples, read_study
from semiclip._cli._origins import blame, locate
from semiclip.datasets import relationships as read_public
from semiclip.errors import IdleArgument, MissingColumn, MissingEntry, SemiclipWarning
from semiclip.metrics._map import check_relationships

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from semiclip._cli._paper._plan import Plan
    from semiclip._cli._settings import Settings, Unseen


class UnseenSet(NamedTuple):
    """A data set to judge on."""

    rna: AnnData
    image: AnnData | None
    columns: dict[str, Any]
    """What the columns mean, as the functions of tl take it."""
    origins: dict[str, str]
    """Where that was said, by the names of these arguments."""
    settings: Unseen

    @property
    def can_decode(self) -> bool:
        """Whether expression is there, measured in batches with controls; an embedding may be all that there is."""
        has_expression = self.rna.X is not None and self.rna.n_vars > 0
        return has_expression and self.columns["control"] is not None and self.columns["batch_key"] is not None


class Material(NamedTuple):
    """What is distilled from, and what is judged."""

    mdata: MuData
    unseen: dict[str, UnseenSet]
    relationships: pd.DataFrame
    encoders: dict[str, Any]
    """Those that were fitted before, by the embeddings that they write."""
    told: dict[tuple[str, str], list[Warning]]
    """What encoding warned of, by embedding and unseen set, or "" for the training data."""


class Files(NamedTuple):
    """What the files of a study hold, which all seeds share."""

    mdata: MuData | None
    unseen: dict[str, tuple[AnnData, AnnData | None]]
    relationships: pd.DataFrame | None


def read_material(plan: Plan, seed: int) -> Material:
    """Read or make the data; a seed is a data set of its own where the package makes it."""
    return _read_material(plan.settings, plan.stamps, seed, quick=plan.quick)


@lru_cache(maxsize=1)  # a study may be larger than half of the memory
def _read_files(settings: Settings, stamps: object) -> Files:
    """Read files once: scvi-tools keeps all data that models were set up with."""
    mdata = read_study(settings) if settings.data.dataset is None else None
    unseen = {
        name: _read_unseen(settings, name, one)
        for name, one in settings.unseen.items()
        if settings.data.dataset is None or one.file is not None
    }
    with locate({}, settings.name_origin("evaluation.relationships")):
        relationships = read_relationships(settings)
    return Files(mdata, unseen, relationships)


@lru_cache(maxsize=1)  # runs come seed by seed; encoders depend on all that is named here
def _read_material(settings: Settings, stamps: object, seed: int, *, quick: bool) -> Material:
    files, made = _read_files(settings, stamps), None
    if settings.data.dataset is not None:
        origin = settings.name_origin("data.options")
        made = make_dataset(settings.data.dataset, settings.data.options or {}, seed, origin)
    mdata = files.mdata if made is None else made.mdata
    assert mdata is not None  # one or the other
    unseen = {}
    for name, one in settings.unseen.items():
        columns, origins = _read_columns(settings, name, one)
        if made is None or name in files.unseen:
            parts = files.unseen[name]
        elif name in made.unseen:
            if one.image is not None:
                raise IdleArgument([settings.name_origin(f"unseen.{name}.image")], "without a file of expression")
            parts = made.unseen[name]()
        else:
            where = f"the data set {settings.data.dataset!r}"
            raise MissingEntry(name, made.unseen, where, name=f"{settings.source}: unseen")
        unseen[name] = UnseenSet(*parts, columns, origins, one)
    relationships = files.relationships
    if relationships is None:
        relationships = read_public() if made is None or made.relationships is None else made.relationships
    with locate({}, settings.name_origin("evaluation.relationships")):
        check_relationships(relationships)
    if (databases := settings.evaluation.databases) is not None:
        with locate({}, settings.name_origin("evaluation.databases")):
            if "database" not in relationships:
                raise MissingColumn("database", relationships.columns, "relationships")
            known = list(relationships["database"].unique())
            if unknown := [name for name in databases if name not in known]:
                raise MissingEntry(unknown, known, "the relationships")
        relationships = relationships[relationships["database"].isin(databases)].reset_index(drop=True)
    return Material(mdata, unseen, relationships, {}, {})


def read_gene_sets(settings: Settings, seed: int) -> Any:
    """Return the gene sets to test: those that are named, or the pathways of a simulation, or ``None``."""
    if settings.evaluation.gene_sets is not None or settings.data.dataset is None:
        return settings.evaluation.gene_sets
    origin = settings.name_origin("data.options")
    return make_dataset(settings.data.dataset, settings.data.options or {}, seed, origin).gene_sets


def encode(plan: Plan, material: Material, encoder: str | None, seed: int) -> str:
    """Encode all expression by an encoder fitted on the training data, and return the key of the embedding."""
    settings = plan.settings
    if encoder is None and settings.student.rep is not None:
        return str(settings.student.rep)
    name = str(settings.student.encoder if encoder is None else encoder)
    rep = f"X_{name}"
    for set_name in ("", *plan.list_judged(encoder)):
        if (rep, set_name) not in material.told:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                _encode_part(plan, material, name, rep, set_name, seed)
            material.told[rep, set_name] = [one.message for one in told if isinstance(one.message, SemiclipWarning)]
        for warning in material.told[rep, set_name]:  # of each run alike, whichever came first
            warnings.warn(warning, stacklevel=2)
    return rep


def _encode_part(plan: Plan, material: Material, encoder: str, rep: str, set_name: str, seed: int) -> None:
    """Fit an encoder on the training data, or encode an unseen set with it."""
    settings = plan.settings
    if not set_name:
        rna, options = get_modality(material.mdata, str(settings.student.modality)), choose_options(plan, encoder, seed)
        given = f"encoders.{encoder}" if encoder in settings.encoders else "paper.choices"
        if encoder == settings.student.encoder and encoder not in settings.encoders:
            given = "student.options" if settings.student.options else "student.encoder"
        with blame(settings.name_origin(given), settings.arguments):
            material.encoders[rep] = scl.pp.encode(rna, encoder=encoder, key_added=rep, **options)
        return
    one = material.unseen[set_name]
    more = {"zscores": True} if one.settings.zscores else {}
    with locate({}, settings.name_origin(f"unseen.{set_name}")):
        scl.pp.encode(one.rna, encoder=material.encoders[rep], key_added=rep, **more)


def list_warnings(told: list[warnings.WarningMessage]) -> list[str]:
    """Return what the package warned of, each text once."""
    return list(dict.fromkeys(str(one.message) for one in told if issubclass(one.category, SemiclipWarning)))


def choose_options(plan: Plan, encoder: str, seed: int) -> dict[str, Any]:
    """Return the arguments of an encoder, with the seed if it takes one."""
    settings = plan.settings
    kind: Any = {**scl.encoders.ENCODERS, "mlp": scl.encoders.MLPEncoder}[encoder]
    taken = signature(kind).parameters
    options: dict[str, Any] = {"rng": seed} if "rng" in taken else {}
    options |= settings.encoders.get(encoder, {})
    if encoder == settings.student.encoder:
        options |= settings.student.options or {}
    if plan.quick and "max_epochs" in taken:
        options["max_epochs"] = min(options.get("max_epochs") or 10, 10)
    if encoder == "scvi":
        options["train_kwargs"] = {"enable_progress_bar": False, **(options.get("train_kwargs") or {})}
    return options


def _read_unseen(settings: Settings, name: str, one: Unseen) -> tuple[AnnData, AnnData | None]:
    """Return expression, and images if there are some."""
    origin = settings.name_origin(f"unseen.{name}.file")
    if one.file is None:
        raise MissingEntry(
            "file",
            [key for key, value in vars(one).items() if value is not None],
            settings.name_origin(f"unseen.{name}"),
        )
    samples: Any = read_samples(one.file, origin)
    image: Any = None
    if hasattr(samples, "mod"):
        for side in (settings.student.modality, settings.teacher.modality):
            if side == settings.student.modality and side not in samples.mod:
                raise MissingEntry(side, samples.mod, "the MuData", name=origin)
        image = samples.mod.get(settings.teacher.modality)
        samples = samples[settings.student.modality]
    if one.image is not None:
        place = settings.name_origin(f"unseen.{name}.image")
        check_there(one.image, place)
        image = read_samples(one.image, place, suffixes=(".h5ad",))
    return samples, image


def _read_columns(settings: Settings, name: str, one: Unseen) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the columns of an unseen set mean, which are those of training where it does not say."""
    columns, origins = {}, {}
    for key, argument in (("perturbation", "perturbation_key"), ("control", "control"), ("batch", "batch_key")):
        value, place = getattr(one, key), f"unseen.{name}.{key}"
        if value is None:
            value, place = getattr(settings.columns, key), f"columns.{key}"
        columns[argument] = value or None
        origins[argument] = settings.name_origin(place)
        if place.startswith("columns."):
            origins[argument] += f", for unseen.{name}"
    return columns, origins
