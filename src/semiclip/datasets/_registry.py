"""Pinned addresses and checksums of the public files, and the one way to get at them."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from semiclip._checks import some

DATA_DIR = "SEMICLIP_DATA_DIR"
_GITHUB = "https://raw.githubusercontent.com"
_CMEA = "isarnassiri/CMEA/960cda0c627f45b82bdf636a250c91ef1f9b2d46/data"
_ROHBAN = "carpenterlab/2017_Rohban_eLife/ceea8aa83d2c82013f9fde0f3711822b39c1bd00/input/TA-OE-L1000-B1"
_LINCS = (
    "broadinstitute/lincs-profiling-comparison/c3ea8ee6e950f22888b91cc57a18d5aea45c3f6b/"
    "1.Data-exploration/Profiles_level4"
)
_EFAAR = (
    "recursionpharma/EFAAR_benchmarking/2248f400630abfb711bb442be7e29a34c70d4720/"
    "efaar_benchmarking/benchmark_annotations"
)
_GSEA = "GSEA-MSigDB/GSEA_R/b49beee596ec188deaf62cb3d40d1c7c006af347/inst/extdata"
_REACTOME = "markziemann/asd_meth/dbedd487e766eb52938d48e0b3769293db8f1397"

# name here -> folder at the pinned commit (the file name is the last part of the name here), SHA-256
FILES = {
    "Transcriptomic_Profile.rda": (_CMEA, "408fc21276e58737712960188056bbaa3c09dd9a1e91809d7f9a332f149d41b7"),
    "Cell_Morphology_Profile.rda": (_CMEA, "3c93451202101c5ea6f25fadd90b87716f56e25220b0dae673fd7f0fa1b40f44"),
    "TA.OE005_U2OS_72H_ZSPCQNORM_n1092x978.rds": (
        _ROHBAN,
        "0316efce1efe2812da242b5c74a3336d264e2d778ed48876ebb6d3420d847217",
    ),
    "cellpainting_embeddings_batch1.tsv.gz": (
        f"{_LINCS}/cell_painting/embeddings",
        "e940b4f0f88f9ad881b7f23b8de78629c497a424c16b5d1562577b6e3acdb7d3",
    ),
    "l1000_embeddings_umap_tsne.tsv.gz": (
        f"{_LINCS}/L1000/embeddings",
        "4d2f680df9e2c822f623fa797e3b9cbcddc3262f323c9a157258cd27349d033b",
    ),
    "relationships/CORUM.txt": (_EFAAR, "edaafc77a184ef452996d211e9fe1699615315a36e1efc9d602042c06168a695"),
    "relationships/HuMAP.txt": (_EFAAR, "6d08074df77f1a7274e754bc6e5e29aa438004bec0a13cbfb934c2c81328f3c4"),
    "relationships/Reactome.txt": (_EFAAR, "ed3cd0fc32d2fe3510f167e9df39668bc9637348d78787615d3f970b2b862e70"),
    "relationships/SIGNOR.txt": (_EFAAR, "00525d3a90198378b54c5c3093374d5c9ee0550bbd799f06b443512a465bcad3"),
    "relationships/StringDB.txt": (_EFAAR, "7955c846a551530c07b1eb508404cf15ef0b77ea39ad2368ed40c5c099dedb8c"),
    "genesets/h.all.v7.0.symbols.gmt": (_GSEA, "4803c09aae50bbd96d53fc681bd5545a4c89278993c15145dd7b7c994f893516"),
    "genesets/ReactomePathways_2024-09-18.gmt": (
        _REACTOME,
        "54eb5a0cf45aa6b9a575c9c00b61394973b7f0ec7c78060e35b1ceecf0223ef4",
    ),
}


def fetch(name: str) -> Path:
    """Return the path of a public file, downloading it when it is not on this machine.

    The folder named by the environment variable ``SEMICLIP_DATA_DIR`` is looked at first, then the cache
    (``pooch.os_cache("semiclip")``); a file in neither is downloaded into the cache from a pinned commit. Whatever the
    place, the file is given out only if its SHA-256 is the published one. ``TQDM_DISABLE=1`` in the environment hides
    the progress bar.

    Parameters
    ----------
    name
        Relative path of the file: ``relationships/CORUM.txt`` (HuMAP, Reactome, SIGNOR, StringDB),
        ``genesets/h.all.v7.0.symbols.gmt`` (Hallmark), ``genesets/ReactomePathways_2024-09-18.gmt``, or a file behind
        one of the other loaders.

    Returns
    -------
    Path of the file.

    Raises
    ------
    KeyError
        If no file has this name.
    ValueError
        If the file in ``SEMICLIP_DATA_DIR``, which is never replaced, or the downloaded one has a wrong checksum.
    OSError
        If the file cannot be downloaded or stored. The cache never holds a part of a file.

    Examples
    --------
    >>> from semiclip.datasets import fetch
    >>> fetch("genesets/h.all.v7.0.symbols.gmt").name  # doctest: +SKIP
    'h.all.v7.0.symbols.gmt'
    """
    if name not in FILES:
        msg = f"no public file is called {name!r}; choose one of {some(FILES, len(FILES))}"
        raise KeyError(msg)
    folder, checksum = FILES[name]
    address = f"{_GITHUB}/{folder}/{PurePosixPath(name).name}"
    return _provided(name, address, checksum) or _downloaded(name, address, checksum)


def _provided(name: str, address: str, checksum: str) -> Path | None:
    """Return the file in the user's own folder, if there is one."""
    if not (folder := os.environ.get(DATA_DIR)):
        return None
    path = Path(folder).expanduser() / name
    if not path.is_file():
        return None
    import pooch

    if (found := pooch.file_hash(str(path), alg="sha256")) != checksum:
        msg = (
            f"{path} has the SHA-256 {found}, not the published {checksum}: it is damaged or another version. Replace "
            f"it with {address}, or remove it from {DATA_DIR}={folder} so that it is downloaded"
        )
        raise ValueError(msg)
    return path


def _downloaded(name: str, address: str, checksum: str) -> Path:
    """Return the file in the cache; pooch writes to a temporary name and moves it only when the checksum is right."""
    import pooch

    cache = pooch.create(
        path=pooch.os_cache("semiclip"),
        base_url="",
        registry={name: checksum},
        urls={name: address},
        retry_if_failed=2,
    )
    mend = (
        f"Get the file by other means, store it as {name} in a folder of yours, and set the environment variable "
        f"{DATA_DIR} (now {os.environ.get(DATA_DIR) or 'not set'}) to that folder"
    )
    try:
        return Path(cache.fetch(name, progressbar=True))
    except OSError as error:
        msg = f"{name} could not be downloaded from {address} to {cache.abspath}: {error}. {mend}"
        raise OSError(msg) from error
    except ValueError as error:
        msg = f"{name} from {address} is not the published file and was not kept: {error}. {mend}"
        raise ValueError(msg) from error
