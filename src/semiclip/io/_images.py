from __future__ import annotations

import os
from functools import partial
from itertools import chain, groupby
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip import errors
from semiclip._arguments import check_whole
from semiclip._checks import check_finite, check_writable
from semiclip._messages import warn
from semiclip._provenance import record
from semiclip.io._image_files import PICTURE, TIFF, WAY_OUT, Source, map_in_order, read_pixels, read_shape
from semiclip.io._tables import (
    PREFIX,
    Table,
    format_columns,
    format_plates,
    format_wells,
    read_table,
    warn_of_split_wells,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData

    from semiclip.encoders import EmbedsImages

FILE, FOLDER, PAGE = "FileName_", "PathName_", "Frame_"  # columns of a channel begin with these
Sites = list[tuple[Source, ...]]  # the files of each site


def images(
    table: Table,
    *,
    encoder: EmbedsImages,
    channels: str | Sequence[str] | None = None,
    folder: str | PathLike[str] | None = None,
    well_keys: str | Sequence[str] = ("Metadata_Plate", "Metadata_Well"),
    obs: Mapping[str, str] | None = None,
    n_sites: int = 16,
    n_threads: int = 4,
    key_added: str = "X_image",
    progress_bar: bool = True,
) -> AnnData:
    """Return a teacher made of the images of a screen: one embedding per well, from a table of files.

    The headers of all files are read first, so that missing, damaged and ill-matched files are refused before anything
    is computed. Then threads read files while earlier ones are embedded; at most ``3 * n_sites`` sites are in memory.

    Parameters
    ----------
    table
        Table, or its file (CSV, TSV or parquet), in the format of LoadData of CellProfiler: one row per site (field of
        view), with the TIFF, PNG or JPEG file of each channel in ``FileName_<channel>``. Its folder,
        ``PathName_<channel>``, and its page, ``Frame_<channel>``, counted from 0, are optional; without a page all
        channels of the file are read, but no alpha channel. Columns ``Metadata_…`` describe the site.
    encoder
        Object with ``encode(images)``, such as :class:`semiclip.encoders.ImageEncoder`.
    channels
        Names of the channels in the order in which the encoder reads them. By default these are all channels in the
        order of the table, except illumination functions (``FileName_Illum…``).
    folder
        Folder of the files and of relative folders; by default the folder of the table's file, or the current one.
    well_keys
        Columns that together name a well, as text, the well itself last: ``a1`` and ``A01`` are one well, A01.
    obs
        Columns to rename, such as ``{"Metadata_Plate": "batch", "Metadata_broad_sample": "perturbation"}``. They must
        be constant within each well.
    n_sites, n_threads
        Number of sites that are read and embedded at a time, and of threads that read files.
    key_added, progress_bar
        Key of ``obsm`` for the embedding, and whether to show progress.

    Returns
    -------
    One row per well, sorted by ``well_keys`` and named by them, joined by ":". ``X`` and ``obsm[key_added]`` are the
    mean of the embeddings of the sites of the well, float32, whatever the order of rows in the table. ``obs`` has
    ``n_images``, the number of sites, and the ``Metadata_…`` columns that are constant within every well, renamed as
    ``obs`` says; ``_`` replaces ``/``, which files cannot hold. ``uns["semiclip"][key_added]["params"]`` has the
    settings. The log counts constant images.

    Raises
    ------
    FileNotFoundError, ImportError
        If files, or the extra ``images`` that reads them, are missing.
    ValueError
        If files cannot be read, differ in size within a site or in their number of channels, or a site repeats, or a
        file is named for several channels, sites or wells. :doc:`/real_tables` has examples.

    Examples
    --------
    >>> import semiclip as scl
    >>> from torch import nn
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> encoder = scl.encoders.ImageEncoder(network, size=16, device="cpu")
    >>> teacher = scl.io.images("load_data.csv", encoder=encoder)  # doctest: +SKIP
    >>> teacher.obsm["X_image"].shape, teacher.obs_names.tolist()  # doctest: +SKIP
    ((2, 8), ['p1:A01', 'p1:A02'])
    """
    from anndata import AnnData
    from tqdm.auto import tqdm

    if isinstance(encoder, type) or not callable(getattr(encoder, "encode", None)):
        way_out = "pass for example scl.encoders.ImageEncoder(...)"
        raise errors.WrongType("encoder", type(encoder), "an object with encode(images)", way_out)
    check_whole("n_sites", n_sites)
    check_whole("n_threads", n_threads)
    check_writable(AnnData(), key_added)
    keys = [well_keys] if isinstance(well_keys, str) else list(well_keys)
    sites, sources, channels = _read_sites(table, channels, folder, keys)
    wells = _describe_wells(sites, obs or {}, keys[0])
    files = list(chain(*sources))
    headers = map_in_order(read_shape, files, n_threads=n_threads, ahead=n_sites)
    shapes = _check_shapes(sources, list(tqdm(headers, "headers", len(files), disable=not progress_bar)))

    well_codes = wells.index.get_indexer(sites.index)
    total, constant, n_done = np.zeros((len(wells), 0), dtype=np.float32), list[str](), 0
    read = partial(_read_site, constant=constant)
    arrays = map_in_order(read, zip(sources, shapes, strict=True), n_threads=n_threads, ahead=n_sites)
    alike = groupby(enumerate(arrays), lambda item: (item[1].shape, item[1].dtype, item[0] // n_sites))
    with tqdm(desc="images", total=len(sources), unit="site", disable=not progress_bar) as bar:
        for _, group in alike:
            stack = np.stack([array for _, array in group])
            block = slice(n_done, n_done + len(stack))
            embedding = _embed(encoder, stack, sources[block], total.shape[1])
            if not n_done:
                total = np.zeros((len(wells), embedding.shape[1]), dtype=np.float32)
            np.add.at(total, well_codes[block], embedding)
            n_done = block.stop
            bar.update(len(stack))
    total /= wells["n_images"].to_numpy(dtype=np.float32)[:, None]
    if constant:
        warn(f"{len(constant)} of {len(files)} image(s) are constant: {errors.some(sorted(constant))}")
    var = pd.DataFrame(index=[f"image_{i}" for i in range(total.shape[1])])
    adata = AnnData(total, obs=wells, var=var, obsm={key_added: total.copy()})
    params = {"encoder": type(encoder).__name__, **getattr(encoder, "settings", {})}
    record(adata, key_added, {**params, "image_channels": channels, "well_keys": keys})
    return adata


def _read_site(job: tuple[tuple[Source, ...], np.ndarray], constant: list[str]) -> np.ndarray:
    """Return the channels of a site; names of files that are constant in some channel are added to a list."""
    planes = []
    for source, shape in zip(*job, strict=True):
        values = read_pixels(source)
        if values.shape != tuple(shape):
            reason = f"its header says {shape}, but its pixels have shape {values.shape}"
            raise errors.DamagedFile(source, reason, WAY_OUT)
        if (values.min(axis=(1, 2)) == values.max(axis=(1, 2))).any():
            constant.append(str(source))
        planes.append(values)
    return np.concatenate(planes)


def _embed(encoder: EmbedsImages, stack: np.ndarray, sources: Sites, width: int) -> np.ndarray:
    """Return the embedding of some sites, of a width unless it is 0; every error has a note that names their files."""
    try:
        embedding = np.asarray(encoder.encode(stack))
        if embedding.ndim != 2 or not embedding.size or embedding.shape != (len(stack), width or embedding.shape[1]):
            raise errors.WrongShape("the encoder's embedding", embedding.shape, f"({len(stack)}, {width or 'd'})")
        check_finite(embedding, [str(site[0]) for site in sources], "the embedding")
    except Exception as error:
        error.add_note(f"while embedding the images of {errors.some(source.path for source in chain(*sources))}")
        raise
    return embedding


def _read_sites(
    table: Table, channels: str | Sequence[str] | None, folder: str | PathLike[str] | None, well_keys: list[str]
) -> tuple[pd.DataFrame, Sites, list[str]]:
    """Return the table, sorted, with the wells of sites as index; the files of each site, which exist; the channels."""
    if folder is None:
        folder = Path(table).parent if isinstance(table, str | PathLike) else Path()
    rows = read_table(table, lambda name: name in well_keys or name.startswith((FILE, FOLDER)))
    if absent := [key for key in well_keys if key not in rows]:
        raise errors.MissingColumn(absent, rows.columns, "the table", "well_keys")
    available = [str(name).removeprefix(FILE) for name in rows if str(name).startswith(FILE)]
    if channels is None:
        channels = [name for name in available if not name.startswith("Illum")]
    names = [channels] if isinstance(channels, str) else list(channels)
    if absent := [FILE + name for name in names or ["<channel>"] if name not in available]:
        raise errors.MissingColumn(absent, rows.columns, "the table")
    for column in (*well_keys, *(FILE + name for name in names)):
        if gaps := rows.index[rows[column].isna()].tolist():
            raise errors.MissingValues(f"column {column!r}", gaps)
    is_well = {key: "well" in key.lower() for key in well_keys}
    if not any(is_well.values()) and len(well_keys) > 1:
        is_well[well_keys[-1]] = True
    rows = rows.assign(**{key: (format_wells if is_well[key] else format_plates)(rows[key]) for key in well_keys})
    sources = list(zip(*(_list_sources(rows, name, Path(folder)) for name in names), strict=True))
    wells = rows[well_keys].agg(":".join, axis=1).tolist()
    _check_files(sources, names, wells)
    order = sorted(range(len(rows)), key=lambda row: (wells[row], [*map(str, sources[row])]))
    return rows.set_axis(pd.Index(wells)).iloc[order], [sources[row] for row in order], names


def _describe_wells(sites: pd.DataFrame, renamed: Mapping[str, str], plate: str) -> pd.DataFrame:
    """Return the number of sites of each well, and the columns that are constant within wells."""
    if absent := [column for column in renamed if column not in sites]:
        raise errors.MissingColumn(absent, sites.columns, "the table", "obs")
    columns = [name for name in sites if str(name).startswith(PREFIX) or name in renamed]
    groups = sites[columns].groupby(level=0, sort=False)
    is_mixed = groups.nunique(dropna=False) > 1
    warn_of_split_wells(sites[is_mixed.columns[is_mixed.any()]], plate)
    if mixed := [column for column in renamed if is_mixed[column].any()]:
        wells = is_mixed.index[is_mixed[mixed[0]]].tolist()
        raise errors.Refused(f"column {mixed[0]!r} of obs has several values in wells", wells, "leave it out")
    constant = groups.first().loc[:, ~is_mixed.any()].rename(columns=renamed)
    names = ["n_images", *map(str, constant)]
    if taken := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise errors.NameTaken(taken, "another column of the wells", "rename columns otherwise with obs={...}")
    constant.insert(0, "n_images", groups.size())
    return format_columns(constant)


def _check_shapes(sources: Sites, shapes: list[Any]) -> np.ndarray:
    """Return the shapes of the files of each site (n_sites, n_files, 3), and refuse errors and shapes that differ."""
    if damaged := [error for error in shapes if isinstance(error, errors.DamagedFile)]:
        reasons = errors.some(f"{error.path} ({error.reason})" for error in damaged)
        raise errors.DamagedFile(f"{len(damaged)} of {len(shapes)} image(s)", reasons, "mend them or drop their rows")
    array = np.array(shapes).reshape(len(sources), -1, 3)
    names = np.array([f"{source} {shape}" for source, shape in zip(chain(*sources), shapes, strict=True)])
    names = names.reshape(array.shape[:2])
    if (is_uneven := (array[..., 1:] != array[:, :1, 1:]).any(axis=(1, 2))).any():
        sites = [" and ".join(site) for site in names[is_uneven]]
        raise errors.Refused("sites have images of different height and width", sites, "drop their rows")
    usual = [int(np.bincount(counts).argmax()) for counts in array[..., 0].T]
    if odd := names[array[..., 0] != usual].tolist():
        problem = f"images have another number of channels than most ({errors.some(usual)})"
        raise errors.Refused(problem, odd, "drop their rows")
    return array


def _list_sources(rows: pd.DataFrame, channel: str, folder: Path) -> list[Source]:
    columns = rows.reindex(columns=[part + channel for part in (FILE, FOLDER, PAGE)]).astype(object)
    return [
        Source(folder / ("" if pd.isna(path) else str(path)) / str(name), None if pd.isna(page) else int(page))
        for name, path, page in columns.itertuples(index=False)
    ]


def _check_files(sources: Sites, channels: list[str], wells: list[str]) -> None:
    repeats = pd.Series(list(zip(wells, sources, strict=True))).duplicated()  # in several wells the uses below tell
    if rows := repeats.index[repeats].tolist():
        raise errors.Repeated("files of rows", rows, "drop these rows")
    paths = list(dict.fromkeys(source.path for source in chain(*sources)))
    if unreadable := [path for path in paths if path.suffix.lower() not in TIFF + PICTURE]:
        reason = f"only {', '.join(TIFF + PICTURE)} can be"
        raise errors.DamagedFile(errors.some(unreadable), reason, "convert them, or choose others with channels=")
    uses: dict[str, dict[int | None, list[str]]] = {}
    for well, site in zip(wells, sources, strict=True):
        for channel, source in zip(channels, site, strict=True):
            pages = uses.setdefault(os.path.normpath(source.path), {})
            pages.setdefault(source.page, []).append(f"{channel} of {well}")
    shared = []
    for path, pages in uses.items():
        if None in pages:  # all pages
            pages = {None: list(chain(*pages.values()))}
        for page, users in pages.items():
            shared += [f"{Source(Path(path), page)} ({errors.some(users, 3)})"] if len(users) > 1 else []
    if shared:
        way_out = f"name each file once, or the page of each channel in a column {PAGE}<channel>"
        raise errors.Refused("files are named for several channels, sites or wells", shared, way_out)
    if missing := [path for path in paths if not path.is_file()]:
        way_out = f"name their folder with folder=, or drop columns {FOLDER} with folders of another machine"
        raise errors.MissingFile(missing, way_out)
