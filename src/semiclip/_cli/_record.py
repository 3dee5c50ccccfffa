"""What a result says of how it was made: settings with whole paths, seeds, and the versions of the packages."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiclip._cli._files import check_new, write_text
from semiclip._cli._toml import COMMAND, VERSIONS, format_toml
from semiclip.errors import FileExists

if TYPE_CHECKING:
    from collections.abc import Mapping

    from semiclip._cli._settings import Settings

MODEL, ENCODER, RESOLVED = "model", "encoder", "settings.toml"  # what a result folder holds
PACKAGES = ("semiclip", "anndata", "mudata", "numpy", "scikit-learn", "scipy", "scvi-tools", "torch")


def format_record(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return tables as TOML, with whole paths and the versions of the packages."""
    return format_toml({**_make_absolute(tables), VERSIONS: list_versions()})


def list_versions() -> dict[str, str]:
    """Return the versions of what results depend on."""
    return {name: version(name) for name in PACKAGES}


def name_record(out: Path) -> Path:
    """Return where the settings of a result that is one file are: beside it, such as recall.csv.settings.toml."""
    return out.with_name(f"{out.name}.{RESOLVED}")


def prepare_record(out: Path, *, overwrite: bool) -> None:
    """Refuse a result, or its settings, that would be replaced, before anything is computed."""
    if out.is_dir():
        raise FileExists(f"{out} (--out)", "it is a folder: name a file")
    for path in (out, name_record(out)):
        check_new(path, "--out", overwrite=overwrite)


def forget_record(out: Path) -> None:
    """Remove the settings of an earlier result, which must not stand beside the new one if a process dies."""
    name_record(out).unlink(missing_ok=True)


def write_record(out: Path, command: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> None:
    """Write how a result was made: the command with its arguments, and the settings."""
    plain = {name: value for name, value in command.items() if value is not None}
    write_text(name_record(out), format_record({COMMAND: plain, **tables}))


def resolve_training(settings: Settings, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of training with what the recipe chose: epochs, PEA, optimisation and rows of a mini-batch.

    ``params`` are those of a trained model. Trained with this table again, it is the same.
    """
    from semiclip.model._plan import DistillationPlan

    training = {**settings.tables["training"], "epochs": params["max_epochs"]}
    if not isinstance(settings.training.pea, dict):
        training["pea"] = bool(params["pea"])
    of_plan = [name for name in inspect.signature(DistillationPlan).parameters if name in params]
    chosen = {name: params[name] for name in of_plan if name != "max_epochs"}
    training["plan"] = {**(settings.training.plan or {}), **chosen}
    training["options"] = {**(settings.training.options or {}), "batch_size": params["batch_size"]}
    return training


def _make_absolute(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table, or tables, with paths that mean the same from any folder."""
    inner = {key: _make_absolute(value) for key, value in table.items() if isinstance(value, dict)}
    paths = {key: value.absolute() for key, value in table.items() if isinstance(value, Path)}
    return {**table, **inner, **paths}
