"""Turns a table of image files, in the format of LoadData of CellProfiler, into sites and wells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from semiclip._checks import some
from semiclip.pp._image_files import PICTURE, TIFF, Source
from semiclip.pp._tables import read_table, without_slashes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FILES = ("FileName_", "PathName_")  # what columns of files begin with


class Sites(NamedTuple):
    """Sites in an order that does not depend on that of the table."""

    rows: pd.DataFrame
    sources: list[tuple[Source, ...]]
    wells: pd.Index
    of_site: np.ndarray
    channels: list[str]


def sites(
    table: pd.DataFrame | str | Path,
    channels: str | Sequence[str] | None,
    folder: str | Path | None,
    well_keys: list[str],
) -> Sites:
    """Return the sites of a table, whose files must exist and be in a format that can be read."""
    rows, folder = _loaded(table, folder, well_keys)
    names = _channels(rows, channels)
    _check_values(rows, [*well_keys, *(f"FileName_{name}" for name in names)])
    rows = rows.assign(**{key: rows[key].astype(str) for key in well_keys})
    sources = list(zip(*(_sources(rows, name, Path(folder)) for name in names), strict=True))
    name_of_row = rows[well_keys].agg(":".join, axis=1).to_numpy(dtype=object)
    order = sorted(range(len(rows)), key=lambda row: (name_of_row[row], [str(source) for source in sources[row]]))
    _check_files(rows, sources)
    wells, of_site = np.unique(name_of_row[order].astype(str), return_inverse=True)
    return Sites(rows.iloc[order], [sources[row] for row in order], pd.Index(wells), of_site, names)


def metadata(found: Sites, renamed: Mapping[str, str]) -> pd.DataFrame:
    """Return what is known about each well: how many sites it has, and columns that are constant within it."""
    if absent := [column for column in renamed if column not in found.rows]:
        msg = f"obs names {some(absent)}, which the table does not have; its columns are {some(found.rows.columns)}"
        raise KeyError(msg)
    columns = [name for name in found.rows if str(name).startswith("Metadata_") or name in renamed]
    varying = found.rows[columns].groupby(found.of_site).nunique(dropna=False) > 1
    if mixed := [column for column in renamed if varying[column].any()]:
        wells = found.wells[varying[mixed[0]].to_numpy()]
        msg = f"column {mixed[0]!r} of obs has several values in {len(wells)} well(s): {some(wells)}; leave it out"
        raise ValueError(msg)
    first = np.unique(found.of_site, return_index=True)[1]
    constant = found.rows.iloc[first][[column for column in columns if not varying[column].any()]]
    names = pd.Index(["n_images", *(renamed.get(str(column), column) for column in constant)])
    if clash := names[names.duplicated()].unique().tolist():
        msg = f"several columns of the wells would be called {some(clash)}; rename them otherwise with obs={{...}}"
        raise ValueError(msg)
    frame = pd.DataFrame({"n_images": np.bincount(found.of_site)}, index=found.wells)
    for column in constant:
        values: Any = constant[column].to_numpy()
        if values.dtype.kind not in "buif":  # files hold text as categories, and no mixture of types
            values = pd.Categorical([None if pd.isna(value) else str(value) for value in values])
        frame[renamed.get(str(column), column)] = values
    return without_slashes(frame)


def _loaded(
    table: pd.DataFrame | str | Path, folder: str | Path | None, keys: list[str]
) -> tuple[pd.DataFrame, str | Path]:
    """Return the table, with text as it is written where it names something, and the folder of its files."""
    if isinstance(table, str | Path):
        folder = Path(table).parent if folder is None else folder
        table = read_table(
            table, lambda names: ([*names], []), text=lambda name: name in keys or name.startswith(FILES)
        )
    if not isinstance(table, pd.DataFrame):
        msg = f"the table of images is a {type(table).__name__}; pass a DataFrame or the path of a CSV file"
        raise TypeError(msg)
    if table.empty:
        msg = "the table of images is empty"
        raise ValueError(msg)
    if absent := [key for key in keys if key not in table]:
        msg = f"well_keys {some(absent)} are not in the table, whose columns are {some(table.columns)}"
        raise KeyError(msg)
    return table, Path() if folder is None else folder


def _channels(table: pd.DataFrame, channels: str | Sequence[str] | None) -> list[str]:
    there = [str(name).removeprefix("FileName_") for name in table if str(name).startswith("FileName_")]
    if channels is None:
        names = [name for name in there if not name.startswith("Illum")]
    else:
        names = [channels] if isinstance(channels, str) else list(channels)
    if not names or (absent := [name for name in names if name not in there]):
        what = f"channels {some(absent)} have no column" if names else "the table has no column of images,"
        msg = f"{what} FileName_<channel>; it has {some(there) if there else some(table.columns)}"
        raise KeyError(msg)
    return names


def _sources(table: pd.DataFrame, channel: str, folder: Path) -> list[Source]:
    nothing = pd.Series([None] * len(table), dtype=object)
    paths, pages = (table.get(f"{part}_{channel}", nothing) for part in ("PathName", "Frame"))
    return [
        Source(folder / ("" if pd.isna(path) else str(path)) / str(name), None if pd.isna(page) else int(page))
        for path, name, page in zip(paths, table[f"FileName_{channel}"], pages, strict=True)
    ]


def _check_values(table: pd.DataFrame, columns: list[str]) -> None:
    for column in columns:
        if (bad := table.index[table[column].isna()]).size:
            msg = f"column {column!r} has no value in {len(bad)} row(s): {some(bad)}; fill or drop them"
            raise ValueError(msg)


def _check_files(rows: pd.DataFrame, sources: list[tuple[Source, ...]]) -> None:
    if (again := pd.Series(sources).duplicated().to_numpy()).any():
        msg = f"{again.sum()} row(s) of the table repeat the files of another one: {some(rows.index[again])}; drop them"
        raise ValueError(msg)
    paths = dict.fromkeys(source.path for site in sources for source in site)
    if unknown := [path for path in paths if path.suffix.lower() not in TIFF + PICTURE]:
        msg = f"{len(unknown)} file(s) are not {', '.join(TIFF + PICTURE)}: {some(unknown)}; convert them, or choose "
        msg += "others with channels="
        raise ValueError(msg)
    if missing := [path for path in paths if not path.is_file()]:
        msg = f"{len(missing)} of {len(paths)} file(s) are missing: {some(missing)}. Name their folder with folder=; "
        msg += "where PathName_ columns hold folders of another machine, drop these columns"
        raise FileNotFoundError(msg)


def check_shapes(sources: list[tuple[Source, ...]], shapes: list[Any]) -> None:
    """Refuse files that cannot be read, differ in size within a site or have another number of channels than most.

    ``shapes`` holds, for each site, a shape or an error for each file.
    """
    found = [(source, shape) for site in zip(sources, shapes, strict=True) for source, shape in zip(*site, strict=True)]
    if broken := [f"{source} ({shape})" for source, shape in found if not isinstance(shape, tuple)]:
        msg = f"{len(broken)} of {len(found)} image(s) cannot be read: {some(broken)}; mend them or drop their rows"
        raise ValueError(msg)
    uneven = [
        " and ".join(f"{source} {shape[1:]}" for source, shape in zip(*site, strict=True))
        for site in zip(sources, shapes, strict=True)
        if len({shape[1:] for shape in site[1]}) > 1
    ]
    if uneven:
        msg = f"{len(uneven)} site(s) have images of different height and width: {some(uneven)}; drop their rows"
        raise ValueError(msg)
    counts = np.array([[shape[0] for shape in site] for site in shapes])
    usual = [np.bincount(column).argmax() for column in counts.T]
    odd = [f"{sources[row][column]} ({counts[row, column]})" for row, column in np.argwhere(counts != usual)]
    if odd:
        msg = f"{len(odd)} image(s) have not as many channels as most ({some(usual)}): {some(odd)}; drop their rows"
        raise ValueError(msg)
