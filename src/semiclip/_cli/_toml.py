"""Settings from a TOML file and flags, and back into a TOML file."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semiclip._arguments import check_arguments
from semiclip._cli._settings import FROM_FLAGS, KEYS, TABLES, UNSEEN, Settings, Unseen, read_value
from semiclip._damage import say_reason
from semiclip.errors import DamagedFile, MissingFile, WrongType

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSIONS, COMMAND = "versions", "command"  # tables that results have and that say nothing when they are read again
# what of the file a flag stands for, beside the setting of its own name
REPLACES = {
    "data.file": ("data.rna", "data.image", "data.dataset", "data.options"),
    "data.rna": ("data.file", "data.dataset", "data.options"),
    "data.image": ("data.file", "data.dataset", "data.options"),
    "student.rep": ("student.encoder", "student.options"),
    "student.encoder": ("student.rep",),
}


def read_settings(path: Path | None, flags: Mapping[str, Any]) -> Settings:
    """Return the settings of a TOML file, if there is one, and of flags by names such as ``columns.batch``, which win.

    Paths in the file are relative to its folder, those of flags to where the command runs.
    """
    document = {} if path is None else _read_document(path)
    source = FROM_FLAGS if path is None else path.name
    homes = {f"[{table}]": [name.split(".")[1] for name in KEYS if name.startswith(f"{table}.")] for table in TABLES}
    check_arguments(Settings, document, source, filled=("source", "origins"), homes=homes)
    values: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
    origins: dict[str, str] = {}
    named: dict[str, Any] = {}
    folder = path.absolute().parent if path else Path()
    for table, given in document.items():
        where = f"{source}: [{table}]"
        if not isinstance(given, dict):
            raise WrongType(where, type(given), "a table")
        if table not in TABLES:
            named[table] = _read_named(table, given, folder, source, origins)
            continue
        check_arguments(
            TABLES[table], given, where, homes={home: homes[home] for home in homes if home != f"[{table}]"}
        )
        for key, value in given.items():
            name = f"{table}.{key}"
            origins[name] = f"{source}: {name}"
            values[table][key] = read_value(KEYS[name], value, folder, origins[name])
    for replaced in {part for name in flags for part in REPLACES.get(name, ())}:
        table, key = replaced.split(".")
        values[table].pop(key, None)
        origins.pop(replaced, None)
    for name, value in flags.items():
        table, key = name.split(".")
        origins[name] = KEYS[name].flag
        values[table][key] = read_value(KEYS[name], value, Path.cwd(), origins[name])
    made = {table: kind(**values[table]) for table, kind in TABLES.items()}
    return Settings(**made, **named, source=source, origins=origins)


def _read_named(table: str, given: Mapping[str, Any], folder: Path, source: str, origins: dict[str, str]) -> Any:
    """Return a table of tables: data sets by name, arguments by what they are for, or lists of settings."""
    result: dict[str, Any] = {}
    kind, needed = (list, "a list of settings") if table == "sweep" else (dict, "a table")
    for name, part in given.items():
        origin = origins[f"{table}.{name}"] = f"{source}: {table}.{name}"
        if not isinstance(part, kind):
            raise WrongType(origin, type(part), needed)
        result[name] = _read_unseen(part, folder, origin) if table == "unseen" else part
        if table == "unseen":
            origins |= {f"{table}.{name}.{key}": f"{origin}.{key}" for key in part}
    return result


def _read_unseen(part: Any, folder: Path, origin: str) -> Unseen:
    """Return an unseen data set."""
    check_arguments(Unseen, part, origin)
    return Unseen(**{key: read_value(UNSEEN[key], part[key], folder, f"{origin}.{key}") for key in part})


def _read_document(path: Path) -> dict[str, Any]:
    """Return what a TOML file says."""
    if not path.exists():
        raise MissingFile(path, "semiclip init writes a template")
    try:
        document = tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DamagedFile(path, say_reason(error), "mend it; semiclip init writes a template") from error
    return {name: table for name, table in document.items() if name not in (VERSIONS, COMMAND)}


def format_toml(tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Return tables as TOML, for which the standard library has a reader alone."""
    lines: list[str] = []

    def add(name: str, table: Mapping[str, Any]) -> None:
        plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
        lines.extend([f"[{name}]", *(f"{_quote(key)} = {_format(value)}" for key, value in plain.items()), ""])
        for key in (key for key in table if key not in plain):
            add(f"{name}.{_quote(key)}", table[key])

    for name, table in tables.items():
        add(name, table)
    return "\n".join(lines)


def _quote(key: str) -> str:
    return (
        key
        if key.replace("_", "").replace("-", "").isalnum() and key.isascii()
        else json.dumps(key, ensure_ascii=False)
    )


def _format(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_format, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_quote(key)} = {_format(part)}' for key, part in value.items())}}}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | Path):  # a string of JSON is one of TOML, but for the character that it leaves alone
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value)  # dates and times
