"""What is known of genes: sets of them, pairs that work together, and the names that they had before."""

from __future__ import annotations

import gzip
import logging
import re
import zlib
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._arguments import check_choice
from semiclip._damage import say_reason
from semiclip._labels import fold
from semiclip.datasets._files import fetch
from semiclip.errors import BadValue, DamagedFile, Empty, MissingColumn, MissingFile, Refused, Repeated

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

_HGNC = "genes/hgnc_complete_set_2026-10-02.txt"
_SYMBOLS = ("symbol", "prev_symbol", "alias_symbol")
_GENE_SETS = {"hallmark": "genesets/h.all.v7.0.symbols.gmt", "reactome": "genesets/ReactomePathways_2024-09-18.gmt"}
GZIP, BINARY = b"\x1f\x8b", r"[\x00-\x08\x0e-\x1f]"
_DATABASES = ("CORUM", "HuMAP", "Reactome", "SIGNOR", "StringDB")


def gene_sets(source: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Gene sets, public ones by name or those of a GMT file.

    Hallmark (MSigDB 7.0) is CC BY 4.0, Reactome (18 September 2024) is CC0. KEGG, which the paper adds to Reactome, is
    not free: get its GMT file from MSigDB and pass the path.

    Parameters
    ----------
    source
        ``"hallmark"``, ``"reactome"`` or the path of a GMT file: a line has a name, a description and genes, with tabs.
        The file is text in UTF-8, or else in Latin-1, and may be gzipped.

    Returns
    -------
    The genes of each set by its name, in the order of the file and without repetition.

    Raises
    ------
    FileNotFoundError, ValueError
        If ``source`` is neither a public name nor a file, or the file is not a GMT file.

    References
    ----------
    Liberzon et al., Cell Systems 2015, DOI 10.1016/j.cels.2015.12.004 (Hallmark); Milacic et al., Nucleic Acids
    Research 2024, DOI 10.1093/nar/gkad1025 (Reactome).

    Examples
    --------
    >>> import semiclip as scl
    >>> len(scl.datasets.gene_sets("hallmark"))  # doctest: +SKIP
    50
    """
    path = fetch(_GENE_SETS[source]) if isinstance(source, str) and source in _GENE_SETS else Path(source).expanduser()
    if not path.is_file():
        raise MissingFile(str(source), f"pass {' or '.join(map(repr, _GENE_SETS))}, or the path of a GMT file")
    sets: dict[str, list[str]] = {}
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        genes = list(dict.fromkeys(filter(None, rest[1:])))  # a tab too many makes no gene
        if not name or not genes:
            problem = "is no name, description and genes, separated by tabs"
            raise DamagedFile(path, f"line {number}, {line[:60]!r}, {problem}")
        if name in sets:
            raise Repeated(f"gene set names in {path}", [name], "rename or merge these sets")
        sets[name] = genes
    if not sets:
        raise Empty(f"gene sets in {path}")
    return sets


def _read_text(path: Path) -> str:
    """Return the text of a file in UTF-8 or Latin-1 (as Windows extends it), gzipped or not."""
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw.startswith(GZIP) else raw
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("cp1252")
        if re.search(BINARY, text):
            raise Refused("it is not text")
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise DamagedFile(path, say_reason(error), "save it again as text in UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def relationships(*, databases: str | Sequence[str] = _DATABASES) -> pd.DataFrame:
    """Annotated gene pairs, the known relationships by which a map of perturbations is judged (Appendix B.1).

    The lists are those of EFAAR_benchmarking. CORUM and SIGNOR may not be used commercially (CC BY-NC 4.0); HuMAP and
    StringDB are CC BY 4.0, Reactome is CC0.

    Parameters
    ----------
    databases
        One or several of ``"CORUM"``, ``"HuMAP"``, ``"Reactome"``, ``"SIGNOR"`` and ``"StringDB"``.

    Returns
    -------
    A table with the columns ``database``, ``gene_a`` and ``gene_b``, one row for each pair in a database, sorted. Pairs
    have no direction: ``gene_a < gene_b``, no pair repeats within a database and no gene is paired with itself.

    Notes
    -----
    Source: 10.48550/arXiv.2505.21317, Appendix B.1. CORUM holds 37,649 pairs, HuMAP 58,538, Reactome 18,565, SIGNOR
    11,617 and StringDB 58,059; 143,252 are distinct.

    Examples
    --------
    >>> import semiclip as scl
    >>> scl.datasets.relationships(databases="SIGNOR").shape  # doctest: +SKIP
    (11617, 3)
    """
    names = [databases] if isinstance(databases, str) else sorted(set(databases))
    if not names:
        raise BadValue("databases", names, f"one or more of {', '.join(_DATABASES)}")
    for name in names:  # before the first is downloaded
        check_choice("databases", name, _DATABASES)
    tables = []
    for name in names:
        # a gene symbol that spells a missing value stays a symbol
        listed = pd.read_csv(fetch(f"relationships/{name}.txt"), dtype=str, keep_default_na=False)
        genes = np.sort(listed[["entity1", "entity2"]].to_numpy(dtype=object), axis=1)  # many are in both orders
        pairs = pd.DataFrame({"database": name, "gene_a": genes[:, 0], "gene_b": genes[:, 1]})
        pairs = pairs[pairs["gene_a"] != pairs["gene_b"]]
        tables.append(pairs.drop_duplicates().sort_values(["gene_a", "gene_b"]))
    return pd.concat(tables, ignore_index=True)


def gene_aliases(path: str | os.PathLike[str] | None = None) -> pd.Series:
    """Approved symbols of human genes by their former symbols and aliases, as HGNC lists them.

    :func:`semiclip.pp.match_genes` renames genes by it. Names that could mean several genes are left out: those that
    HGNC lists for more than one, and those that are the approved symbol of another, both without regard to case. The
    log counts them.

    Parameters
    ----------
    path
        HGNC's complete set of any month as a tab-separated file, gzipped or not. By default that of 2 October 2026
        (17 MB, CC0) is downloaded on first use, see :func:`fetch`.

    Returns
    -------
    The approved symbol (``symbol``) of each other name (``alias``), which are sorted and as HGNC spells them.
    ``attrs["summary"]`` has the numbers of ``genes``, of ``aliases``, and of names that are left out, those
    ``of_several`` genes and those ``of_symbols``.

    Raises
    ------
    FileNotFoundError, KeyError, ValueError
        If there is no such file, it lacks one of the columns ``symbol``, ``prev_symbol`` and ``alias_symbol``, or it
        cannot be read.

    References
    ----------
    Seal et al., Nucleic Acids Research 2023, DOI 10.1093/nar/gkac888 (HGNC).

    Examples
    --------
    >>> import semiclip as scl
    >>> scl.datasets.gene_aliases()["H2AFX"]  # doctest: +SKIP
    'H2AX'
    """
    file = fetch(_HGNC) if path is None else Path(path).expanduser()
    if not file.is_file():
        raise MissingFile(file, "pass the path of HGNC's complete set, or none to download it")
    text = _read_text(file)
    there = text.partition("\n")[0].split("\t")
    if absent := [name for name in _SYMBOLS if name not in there]:
        raise MissingColumn(absent, there, file.name, way_out="pass HGNC's complete set as a tab-separated file")
    try:  # "NA" and "nan" may be aliases
        table = pd.read_csv(StringIO(text), sep="\t", usecols=[*_SYMBOLS], dtype=str, keep_default_na=False)
    except ValueError as error:  # of the parser
        raise DamagedFile(file, say_reason(error)) from error
    if table.empty:
        raise Empty(f"genes in {file.name}")
    # an entry that HGNC withdrew is SYMBOL~withdrawn, and its other names may mean a gene by now
    by_gene = table[~table["symbol"].str.contains("~")].set_index("symbol")
    names = pd.concat([by_gene[name].str.split("|").explode().str.strip() for name in _SYMBOLS[1:]])
    pairs = names.rename("alias").reset_index().drop_duplicates()
    pairs = pairs[(pairs["alias"] != "") & (pairs["alias"] != pairs["symbol"])]
    # without case, as match_genes compares names: "Cad" is no alias of another gene where there is a gene CAD
    form, own = pairs["alias"].map(fold), pairs["symbol"].map(fold)
    is_symbol = form.isin(by_gene.index.map(fold)) & (form != own)
    is_shared = (pairs["symbol"].groupby(form).transform("nunique") > 1) & ~is_symbol
    aliases = pairs[~is_symbol & ~is_shared].set_index("alias")["symbol"].sort_index()
    numbers = [len(by_gene), len(aliases), *(pairs["alias"][mask].nunique() for mask in (is_shared, is_symbol))]
    aliases.attrs["summary"] = dict(zip(("genes", "aliases", "of_several", "of_symbols"), numbers, strict=True))
    told = "%d genes have %d other names; left out: %d that several genes have, %d that are the symbol of another gene"
    logger.info(told, *numbers)
    return aliases
