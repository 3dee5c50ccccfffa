"""Reads and writes the files of a study; an error names the file and the setting that gave it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiclip._cli._datasets import make_dataset
from semiclip._cli._settings import KEYS
from semiclip._mudata import make_mudata, silence_mudata
from semiclip._storage import write_file
from semiclip.errors import BadValue, Conflict, FileExists, IdleArgument, MissingEntry, MissingFile
from semiclip.io._tables import read_table, refuse_damage

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

    from semiclip._cli._settings import Settings

Samples = Any  # an AnnData or a MuData
SUFFIXES = (".h5ad", ".h5mu")
REPLACE = "pass --overwrite to replace it, or choose another path"


def read_samples(path: Path, origin: str, *, suffixes: tuple[str, ...] = SUFFIXES) -> Samples:
    """Return the AnnData or MuData of a file that a setting or an argument names."""
    import anndata
    import mudata

    if path.suffix not in suffixes:
        raise BadValue(origin, str(path), f"the path of an {' or '.join(suffixes)} file")
    what = f"{path} ({origin})"
    check_there(path, origin)
    read = mudata.read_h5mu if path.suffix == ".h5mu" else anndata.read_h5ad
    with refuse_damage(what, f"save it again with write_{path.suffix[1:]}", extra="h5py"), silence_mudata():
        return read(path)


def read_study(settings: Settings) -> MuData:
    """Return both modalities of a study."""
    student, teacher = "student.modality", "teacher.modality"
    if settings.data.dataset is not None:
        options, seed = settings.data.options or {}, int(settings.training.seed or 0)
        return make_dataset(settings.data.dataset, options, seed, settings.name_origin("data.options")).mdata
    if settings.data.file is not None:
        mdata = read_samples(settings.data.file, settings.name_origin("data.file"), suffixes=(".h5mu",))
        for name in (student, teacher):
            check_modality(mdata, name, settings)
        return mdata
    if settings.data.rna is None and settings.data.image is None:
        settings.need("data.file")
    if settings.get(student) == settings.get(teacher):
        raise Conflict(settings.name_origin(student), settings.name_origin(teacher), "two files are two modalities")
    parts = {
        settings.get(modality): read_samples(settings.need(name), settings.name_origin(name), suffixes=(".h5ad",))
        for name, modality in (("data.rna", student), ("data.image", teacher))
    }
    return make_mudata(**parts)


def read_judged(path: Path, origin: str, settings: Settings) -> AnnData:
    """Return the AnnData of a file, or the modality of its MuData that is to be judged."""
    samples = read_samples(path, origin)
    if not hasattr(samples, "mod"):
        flag = KEYS["evaluation.modality"].flag
        if settings.name_origin("evaluation.modality") == flag:  # in a file it is of the .h5mu files of the study
            raise IdleArgument([flag], f"on {path.name}, which has no modalities")
        return samples
    check_modality(samples, "evaluation.modality", settings)
    return samples[settings.evaluation.modality]


def check_modality(mdata: MuData, name: str, settings: Settings) -> None:
    """Refuse the name of a modality that is not there."""
    if (modality := settings.get(name)) not in mdata.mod:
        raise MissingEntry(modality, mdata.mod, "the MuData", name=settings.name_origin(name))


def read_relationships(settings: Settings) -> pd.DataFrame | None:
    """Return the annotated pairs of a table, or ``None`` for the public ones."""
    path = settings.evaluation.relationships
    check_there(path, settings.name_origin("evaluation.relationships"))
    return None if path is None else read_table(path, lambda name: True)


def check_there(path: object, origin: str) -> None:
    """Refuse the path of a file that is not there; what is no path is left alone."""
    if isinstance(path, Path) and not path.is_file():
        raise MissingFile(f"{path} ({origin})")


def check_new(path: Path, origin: str, *, overwrite: bool) -> None:
    """Refuse a file or folder that would be replaced, before anything is computed."""
    if path.exists() and not overwrite:
        raise FileExists(f"{path} ({origin})", REPLACE)


def write_text(path: Path, text: str) -> None:
    """Write a file, with the folders above it, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.encode())


def write_samples(samples: Samples, path: Path) -> None:
    """Write an AnnData or MuData, with the folders above it, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write = samples.write_h5mu if hasattr(samples, "mod") else samples.write_h5ad
    with silence_mudata():
        write_file(path, write)
