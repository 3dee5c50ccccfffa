from __future__ import annotations

import logging
from functools import partial
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._arguments import check_whole
from semiclip._checks import check_finite, check_writable
from semiclip._provenance import record
from semiclip.errors import DamagedFile, WrongShape, WrongType, some
from semiclip.io._image_files import WAY_OUT, Source, map_in_order, read_pixels, read_shape
from semiclip.io._image_table import check_shapes, describe_wells, read_sites

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike

    from anndata import AnnData

    from semiclip.encoders import EmbedsImages
    from semiclip.io._tables import Table

logger = logging.getLogger(__name__)


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
        view), with the file of each channel in ``FileName_<channel>``. Its folder, ``PathName_<channel>``, and its
        page, ``Frame_<channel>``, counted from 0, are optional; without a page all channels of the file are read.
        Columns ``Metadata_…`` describe the site. TIFF, PNG and JPEG files can be read. Alpha channels are left out;
        colours of PNG and JPEG have 8 bits.
    encoder
        Object with ``encode(images)``, such as :class:`semiclip.encoders.ImageEncoder`.
    channels
        Names of the channels in the order in which the encoder reads them. By default these are all channels in the
        order of the table, except illumination functions (``FileName_Illum…``).
    folder
        Folder of the files and of relative folders; by default the folder of the table's file, or the current one.
    well_keys
        Columns that together name a well, as text.
    obs
        Columns to rename, such as ``{"Metadata_Plate": "batch", "Metadata_broad_sample": "perturbation"}``. They must
        be constant within each well.
    n_sites, n_threads
        Number of sites that are read and embedded at a time, and of threads that read files.
    key_added
        Key of ``obsm`` for the embedding.
    progress_bar
        Whether to show progress.

    Returns
    -------
    One row per well, sorted by ``well_keys`` and named by them, joined by ":". ``X`` and ``obsm[key_added]`` are the
    mean of the embeddings of the sites of the well, float32, whatever the order of rows in the table. ``obs`` has
    ``n_images``, the number of sites, and the ``Metadata_…`` columns that are constant within every well, renamed as
    ``obs`` says; ``_`` replaces ``/``, which files cannot hold. ``uns["semiclip"][key_added]["params"]`` has the
    settings. The log counts constant images.

    Raises
    ------
    FileNotFoundError, ImportError, KeyError, TypeError
        If files, columns, the extra ``images`` or the method ``encode`` are missing, or ``table`` is no table.
    ValueError
        If the table is empty, has gaps or repeats a site; if files cannot be read, differ in size within a site or in
        their number of channels; if two columns of ``obs`` have one name; or if the embedding is not finite.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> import pandas as pd
    >>> import semiclip as scl
    >>> from PIL import Image
    >>> from torch import nn
    >>> folder, files = TemporaryDirectory(), ["A01_1.png", "A01_2.png", "A02_1.png"]
    >>> for i, file in enumerate(files):
    ...     pixels = np.random.default_rng(i).integers(0, 4000, (32, 32)).astype(np.uint16)
    ...     Image.fromarray(pixels).save(Path(folder.name) / file)
    >>> table = pd.DataFrame({"Metadata_Plate": "p1", "Metadata_Well": ["A01", "A01", "A02"], "FileName_DNA": files})
    >>> network = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> encoder = scl.encoders.ImageEncoder(network, size=16, device="cpu")
    >>> teacher = scl.io.images(table, encoder=encoder, folder=folder.name, progress_bar=False)
    >>> teacher.obsm["X_image"].shape, teacher.obs_names.tolist()
    ((2, 8), ['p1:A01', 'p1:A02'])
    >>> folder.cleanup()
    """
    from anndata import AnnData
    from tqdm.auto import tqdm

    if isinstance(encoder, type) or not callable(getattr(encoder, "encode", None)):
        way_out = "pass for example scl.encoders.ImageEncoder(...)"
        raise WrongType("encoder", type(encoder), "an object with encode(images)", way_out)
    check_whole("n_sites", n_sites)
    check_whole("n_threads", n_threads)
    check_writable(AnnData(), key_added)
    keys = [well_keys] if isinstance(well_keys, str) else list(well_keys)
    sites, sources, channels = read_sites(table, channels, folder, keys)
    wells = describe_wells(sites, obs or {})
    files = list(chain(*sources))
    headers = map_in_order(_read_shape, files, n_threads=n_threads, ahead=n_sites)
    shapes = check_shapes(sources, list(tqdm(headers, "headers", len(files), disable=not progress_bar)))

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
        logger.warning("%d of %d image(s) are constant: %s", len(constant), len(files), some(sorted(constant)))
    var = pd.DataFrame(index=[f"image_{i}" for i in range(total.shape[1])])
    adata = AnnData(total, obs=wells, var=var, obsm={key_added: total.copy()})
    params = {"encoder": type(encoder).__name__, **getattr(encoder, "settings", {})}
    record(adata, key_added, {**params, "image_channels": channels, "well_keys": keys})
    return adata


def _read_shape(source: Source) -> Any:
    """Return the shape of a file, or the error, so that all faults of a table are told together."""
    try:
        return read_shape(source)
    except DamagedFile as error:
        return error


def _read_site(job: tuple[tuple[Source, ...], np.ndarray], constant: list[str]) -> np.ndarray:
    """Return the channels of a site; names of files that are constant in some channel are added to a list."""
    planes = []
    for source, shape in zip(*job, strict=True):
        values = read_pixels(source)
        if values.shape != tuple(shape):
            raise DamagedFile(source, f"its header says {shape}, but its pixels have shape {values.shape}", WAY_OUT)
        if (values.min(axis=(1, 2)) == values.max(axis=(1, 2))).any():
            constant.append(str(source))
        planes.append(values)
    return np.concatenate(planes)


def _embed(encoder: EmbedsImages, stack: np.ndarray, sources: list[tuple[Source, ...]], width: int) -> np.ndarray:
    """Return the embedding of some sites, of a width unless it is 0; every error has a note that names their files."""
    try:
        embedding = np.asarray(encoder.encode(stack))
        if embedding.ndim != 2 or not embedding.size or embedding.shape != (len(stack), width or embedding.shape[1]):
            raise WrongShape("the encoder's embedding", embedding.shape, f"({len(stack)}, {width or 'd'})")
        check_finite(embedding, [str(site[0]) for site in sources], "the embedding")
    except Exception as error:
        error.add_note(f"while embedding the images of {some(source.path for site in sources for source in site)}")
        raise
    return embedding
