from __future__ import annotations

import logging
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._checks import finite_rows, some, writable
from semiclip._damage import DAMAGE
from semiclip._provenance import record
from semiclip.pp._image_files import in_order, read, shape
from semiclip.pp._image_table import check_shapes, metadata, sites

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from anndata import AnnData

    from semiclip.encoders import EmbedsImages
    from semiclip.pp._image_files import Source

logger = logging.getLogger(__name__)


def images(
    table: pd.DataFrame | str | Path,
    *,
    encoder: EmbedsImages,
    channels: str | Sequence[str] | None = None,
    folder: str | Path | None = None,
    well_keys: str | Sequence[str] = ("Metadata_Plate", "Metadata_Well"),
    obs: Mapping[str, str] | None = None,
    n_sites: int = 16,
    n_threads: int = 4,
    key_added: str = "X_image",
    progress_bar: bool = True,
) -> AnnData:
    """Embed the images of a screen: from a table of files to one teacher embedding per well.

    The header of every file is read first, so that missing, broken and ill-matched files are refused before anything
    is computed. Then files are read in threads while earlier ones are embedded, ``n_sites`` sites at a time; at most
    three times as many are in memory.

    Parameters
    ----------
    table
        Table, or its file (CSV, TSV or parquet), in the format of LoadData of CellProfiler: one row per site (field of
        view), with the file of each channel in ``FileName_<channel>``, its folder in ``PathName_<channel>`` and, for
        one page of a file of several, the page in ``Frame_<channel>``, counted from 0; the last two are optional.
        Further columns, ``Metadata_…``, tell about the site. Without a page all channels that a file holds are taken,
        one after another. TIFF (through tifffile), PNG and JPEG (through Pillow) can be read; what a file calls its
        alpha channel is left out, and colours of PNG and JPEG have 8 bits.
    encoder
        Object with ``encode(images)``, such as :class:`semiclip.encoders.ImageEncoder`.
    channels
        Names of the channels in the order in which the encoder gets them; by default all of the table in its order,
        save illumination functions (``FileName_Illum…``).
    folder
        Where files and relative folders are; by default the folder of the table's file, or the current one.
    well_keys
        Columns that together name a well, as text.
    obs
        Columns to rename, such as ``{"Metadata_Plate": "batch", "Metadata_broad_sample": "perturbation"}``. They must
        be constant within each well.
    n_sites
        Sites that are read and embedded at a time.
    n_threads
        Threads that read files.
    key_added
        Where in ``obsm`` the embedding goes.
    progress_bar
        Whether to show progress.

    Returns
    -------
    An AnnData with one row per well, sorted by ``well_keys`` and named by them, joined by ":". ``X`` and
    ``obsm[key_added]`` are the mean of the embeddings of the sites of the well, float32, whatever the order of rows
    in the table. ``obs`` has ``n_images``, the number of sites, and the ``Metadata_…`` columns that are constant
    within every well, under their own names unless ``obs`` renames them, with ``_`` for ``/``, which files cannot hold;
    ``uns["semiclip"][key_added]["params"]`` tells how it was made. Where images are constant, the log tells how many.

    Raises
    ------
    KeyError
        If the table lacks a column.
    FileNotFoundError
        If files are missing.
    ValueError
        If the table is empty, has no value or repeats a site; if files cannot be read, differ in size within a site
        or in their number of channels; if two columns of ``obs`` get one name; or if the embedding is not finite.
    TypeError
        If ``encoder`` has no ``encode``.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> from PIL import Image
    >>> from torch import nn
    >>> folder, rng, rows = tempfile.TemporaryDirectory(), np.random.default_rng(0), []
    >>> for site in ("A01_1", "A01_2", "A02_1", "A02_2"):
    ...     row = {"Metadata_Plate": "plate1", "Metadata_Well": site[:3], "Metadata_compound": f"of {site[:3]}"}
    ...     for channel in ("DNA", "ER"):
    ...         pixels = rng.integers(0, 4000, (32, 32)).astype(np.uint16)
    ...         Image.fromarray(pixels).save(Path(folder.name) / f"{site}_{channel}.png")
    ...         row[f"FileName_{channel}"] = f"{site}_{channel}.png"
    ...     rows.append(row)
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> teacher = scl.pp.images(
    ...     pd.DataFrame(rows),
    ...     folder=folder.name,
    ...     encoder=scl.encoders.ImageEncoder(network, size=16, device="cpu"),
    ...     obs={"Metadata_Plate": "batch", "Metadata_compound": "perturbation"},
    ...     progress_bar=False,
    ... )
    >>> teacher.obsm["X_image"].shape, teacher.obs_names.tolist()
    ((2, 16), ['plate1:A01', 'plate1:A02'])
    >>> folder.cleanup()
    """
    from anndata import AnnData
    from tqdm.auto import tqdm

    if isinstance(encoder, type) or not callable(getattr(encoder, "encode", None)):
        msg = f"encoder is a {type(encoder).__name__} without encode(images); pass scl.encoders.ImageEncoder(...)"
        raise TypeError(msg)
    for name, count in {"n_sites": n_sites, "n_threads": n_threads}.items():
        if count < 1:
            msg = f"{name}={count} must be at least 1"
            raise ValueError(msg)
    writable(AnnData(), key_added)
    keys = [well_keys] if isinstance(well_keys, str) else list(well_keys)
    found = sites(table, channels, folder, keys)
    frame = metadata(found, obs or {})
    threads = {"n_threads": n_threads, "ahead": n_sites}
    total_sites = {"total": len(found.sources), "unit": "site", "disable": not progress_bar}
    shapes = list(tqdm(in_order(_shapes, found.sources, **threads), "headers", **total_sites))
    check_shapes(found.sources, shapes)

    total = np.zeros((len(frame), 0), dtype=np.float32)
    constant: list[str] = []
    done = 0
    with tqdm(desc="images", **total_sites) as bar:
        jobs = zip(found.sources, shapes, strict=True)
        for stack, flat in _stacks(in_order(_read, jobs, **threads), n_sites):
            now = slice(done, done + len(stack))
            embedding = _embedding(encoder, stack, found.sources[now], total.shape[1] if done else None)
            total = total if done else np.zeros((len(frame), embedding.shape[1]), dtype=np.float32)
            np.add.at(total, found.of_site[now], embedding)
            constant += flat
            done = now.stop
            bar.update(len(stack))
    total /= frame["n_images"].to_numpy(dtype=np.float32)[:, None]
    if constant:
        n_images = sum(map(len, found.sources))
        logger.warning("%d of %d image(s) are constant: %s", len(constant), n_images, some(constant))
    var = pd.DataFrame(index=[f"image_{i}" for i in range(total.shape[1])])
    adata = AnnData(total, obs=frame, var=var, obsm={key_added: total.copy()})
    settings = getattr(encoder, "settings", {})
    params = {"encoder": type(encoder).__name__, **settings, "image_channels": found.channels, "well_keys": keys}
    record(adata, key_added, params)
    return adata


def _shapes(site: tuple[Source, ...]) -> list[Any]:
    """Return the shape of each file of a site, or what is wrong with it."""
    shapes: list[Any] = []
    for source in site:
        try:
            shapes.append(shape(source))
        except DAMAGE as error:
            shapes.append(f"{type(error).__name__}: {error}")
    return shapes


def _read(job: tuple[tuple[Source, ...], list[tuple[int, int, int]]]) -> tuple[np.ndarray, list[str]]:
    """Return the channels of a site and the names of its files that are constant in some channel."""
    planes, constant = [], []
    for source, expected in zip(*job, strict=True):
        try:
            values = read(source)
        except DAMAGE as error:
            msg = f"{source} cannot be read: {error}; mend it or drop its row"
            raise ValueError(msg) from error
        if values.shape != expected or values.dtype.kind not in "buif":
            msg = f"{source} holds {values.dtype} of shape {values.shape}, but numbers of shape {expected} are needed"
            raise ValueError(msg)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            msg = f"{source} holds NaN or infinite values; mend it or drop its row"
            raise ValueError(msg)
        if (values.min(axis=(1, 2)) == values.max(axis=(1, 2))).any():
            constant.append(str(source))
        planes.append(values)
    return np.concatenate(planes), constant


def _stacks(images: Iterable[tuple[np.ndarray, list[str]]], n_sites: int) -> Iterator[tuple[np.ndarray, list[str]]]:
    """Stack up to so many images that follow each other with the same shape and type."""
    alike = groupby(enumerate(images), lambda item: (item[1][0].shape, item[1][0].dtype, item[0] // n_sites))
    for _, group in alike:
        arrays, constant = zip(*(image for _, image in group), strict=True)
        yield np.stack(arrays), [name for names in constant for name in names]


def _embedding(
    encoder: EmbedsImages, stack: np.ndarray, sources: list[tuple[Source, ...]], width: int | None
) -> np.ndarray:
    """Return the embedding of some sites; whatever is wrong, the error tells which they are."""
    files = some(source.path for site in sources for source in site)
    try:
        embedding = np.asarray(encoder.encode(stack))
    except Exception as error:
        error.add_note(f"while embedding the images of {files}")
        raise
    if embedding.ndim != 2 or len(embedding) != len(stack) or embedding.shape[1] != (width or embedding.shape[1] or -1):
        d = "d" if width is None else width
        msg = f"the encoder returned shape {embedding.shape} for {len(stack)} images; (n, {d}) is needed. Their files: "
        raise ValueError(msg + files)
    finite_rows(embedding, pd.Index([str(site[0]) for site in sources]), "the embedding")
    return embedding
