"""Turns a table of image files, in the format of LoadData of CellProfiler, into sites and wells."""

from __future__ import annotations

from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip import errors
from semiclip.io._image_files import PICTURE, TIFF, Source
from semiclip.io._tables import PREFIX, Table, format_columns, read_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FILE, FOLDER, PAGE = "FileName_", "PathName_", "Frame_"  # columns of a channel begin with these


def read_sites(
    table: Table, channels: str | Sequence[str] | None, folder: str | PathLike[str] | None, well_keys: list[str]
) -> tuple[pd.DataFrame, list[tuple[Source, ...]], list[str]]:
    """Return the table, sorted, with the wells of sites as index; the files of each site, which exist; the channels."""
    if folder is None:
        folder = Path(table).parent if isinstance(table, str | PathLike) else Path()
    rows = read_table(table, lambda name: name in well_keys or name.startswith((FILE, FOLDER)))
    if rows.empty:
        raise errors.Empty("rows in the table of images")
    if absent := [key for key in well_keys if key not in rows]:
        raise errors.MissingColumn(absent, rows.columns, "the table", "well_keys")
    names = _choose_channels([str(name) for name in rows], channels)
    for column in (*well_keys, *(FILE + name for name in names)):
        if gaps := rows.index[rows[column].isna()].tolist():
            raise errors.MissingValues(f"column {column!r}", gaps)
    rows = rows.astype(dict.fromkeys(well_keys, str))
    sources = list(zip(*(_list_sources(rows, name, Path(folder)) for name in names), strict=True))
    _check_files(sources)
    wells = rows[well_keys].agg(":".join, axis=1).tolist()
    order = sorted(range(len(rows)), key=lambda row: (wells[row], [*map(str, sources[row])]))
    return rows.set_axis(pd.Index(wells)).iloc[order], [sources[row] for row in order], names


def describe_wells(sites: pd.DataFrame, renamed: Mapping[str, str]) -> pd.DataFrame:
    """Return the number of sites of each well, and the columns that are constant within wells."""
    if absent := [column for column in renamed if column not in sites]:
        raise errors.MissingColumn(absent, sites.columns, "the table", "obs")
    columns = [name for name in sites if str(name).startswith(PREFIX) or name in renamed]
    groups = sites[columns].groupby(level=0, sort=False)
    is_mixed = groups.nunique(dropna=False) > 1
    if mixed := [column for column in renamed if is_mixed[column].any()]:
        wells = is_mixed.index[is_mixed[mixed[0]]].tolist()
        raise errors.Refused(f"column {mixed[0]!r} of obs has several values in wells", wells, "leave it out")
    constant = groups.first().loc[:, ~is_mixed.any()].rename(columns=renamed)
    names = ["n_images", *map(str, constant)]
    if taken := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise errors.NameTaken(taken, "another column of the wells", "rename columns otherwise with obs={...}")
    constant.insert(0, "n_images", groups.size())
    return format_columns(constant)


def check_shapes(sources: list[tuple[Source, ...]], shapes: list[Any]) -> np.ndarray:
    """Return the shapes of the files of each site (n_sites, n_files, 3), and refuse errors and shapes that differ."""
    if damaged := [error for error in shapes if isinstance(error, errors.DamagedFile)]:
        reasons = errors.some(f"{error.path} ({error.reason})" for error in damaged)
        raise errors.DamagedFile(f"{len(damaged)} of {len(shapes)} image(s)", reasons, "mend them or drop their rows")
    array = np.array(shapes).reshape(len(sources), -1, 3)
    names = np.array([f"{source} {shape}" for source, shape in zip(chain(*sources), shapes, strict=True)])
    names = names.reshape(len(sources), -1)
    if (is_uneven := (array[..., 1:] != array[:, :1, 1:]).any(axis=(1, 2))).any():
        sites = [" and ".join(site) for site in names[is_uneven]]
        raise errors.Refused("sites have images of different height and width", sites, "drop their rows")
    usual = [int(np.bincount(counts).argmax()) for counts in array[..., 0].T]
    if odd := names[array[..., 0] != usual].tolist():
        raise errors.Refused(
            f"images have another number of channels than most ({errors.some(usual)})", odd, "drop their rows"
        )
    return array


def _choose_channels(columns: list[str], channels: str | Sequence[str] | None) -> list[str]:
    available = [name.removeprefix(FILE) for name in columns if name.startswith(FILE)]
    if channels is None:
        channels = [name for name in available if not name.startswith("Illum")]
    names = [channels] if isinstance(channels, str) else list(channels)
    if absent := [FILE + name for name in names or ["<channel>"] if name not in available]:
        raise errors.MissingColumn(absent, columns, "the table")
    return names


def _list_sources(rows: pd.DataFrame, channel: str, folder: Path) -> list[Source]:
    columns = rows.reindex(columns=[part + channel for part in (FILE, FOLDER, PAGE)]).astype(object)
    return [
        Source(folder / ("" if pd.isna(path) else str(path)) / str(name), None if pd.isna(page) else int(page))
        for name, path, page in columns.itertuples(index=False)
    ]


def _check_files(sources: list[tuple[Source, ...]]) -> None:
    repeats = pd.Series(sources).duplicated()
    if rows := repeats.index[repeats].tolist():
        raise errors.Repeated("files of rows", rows, "drop these rows")
    paths = list(dict.fromkeys(source.path for site in sources for source in site))
    if unreadable := [path for path in paths if path.suffix.lower() not in TIFF + PICTURE]:
        reason = f"only {', '.join(TIFF + PICTURE)} can be"
        raise errors.DamagedFile(errors.some(unreadable), reason, "convert them, or choose others with channels=")
    if missing := [path for path in paths if not path.is_file()]:
        way_out = f"name their folder with folder=, or drop columns {FOLDER} with folders of another machine"
        raise errors.MissingFile(missing, way_out)
