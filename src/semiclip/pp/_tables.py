"""Reads the tables that plate readers, plate maps and feature extractors write, and the names of their wells."""

from __future__ import annotations

import logging
import lzma
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from semiclip._checks import some

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from os import PathLike

PREFIX = "Metadata_"  # of the columns that say what a row is, in tables of features
NOT_A_NUMBER = ["", "NA", "N/A", "#N/A", "NaN", "nan", "-nan", "null", "NULL", "None", "none"]
NOTHING = ["None", "none"]  # what beside numbers is the name of a control rather than a gap
NAMELESS = "Unnamed: "  # how pandas calls a column without a name, such as an index that it wrote
# what a table that is broken, encrypted or ends too early raises, by its compression
BROKEN = (
    ValueError,
    OSError,
    EOFError,
    RuntimeError,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    pd.errors.ParserWarning,
)
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}

logger = logging.getLogger(__name__)


def read_table(
    table: str | PathLike[str] | pd.DataFrame,
    choose: Callable[[Sequence[str]], tuple[list[str], list[str]]],
    *,
    text: Callable[[str], bool] = lambda _: False,
) -> pd.DataFrame:
    """Read the columns that are wanted: those that describe and those that hold features.

    Parameters
    ----------
    table
        CSV or TSV, also compressed, or parquet; or a DataFrame.
    choose
        Takes the names of all columns and returns the descriptions and the features among them.
    text
        Says of a description whether it stays text, such as plate barcodes, which may begin with zeros.

    Raises
    ------
    FileNotFoundError, ImportError, ValueError
        If the file is not there, cannot be read or names a column twice.
    """
    if isinstance(table, pd.DataFrame):
        described, features = choose(_unrepeated(table.columns, "the table"))
        return table[described + features].reset_index(drop=True)
    path = Path(table)
    suffixes = [suffix for suffix in path.suffixes if suffix not in (".gz", ".bz2", ".xz", ".zip")]
    kind = suffixes[-1].lower() if suffixes else ""
    if not path.is_file():
        msg = f"there is no file {path}"
        raise FileNotFoundError(msg)
    if kind not in (*SEPARATORS, ".parquet"):
        msg = f"{path.name} is not a table of a known kind: {some([*SEPARATORS, '.parquet'])}, or a DataFrame"
        raise ValueError(msg)
    try:
        if kind == ".parquet":
            return _read_parquet(path, choose)
        # the header by itself, since pandas renames columns that are named twice
        header = pd.read_csv(path, sep=SEPARATORS[kind], header=None, nrows=1, dtype=str, keep_default_na=False)
        names = [name or f"{NAMELESS}{i}" for i, name in enumerate(header.iloc[0])]
        described, features = choose(_unrepeated(pd.Index(names), path.name))
        # "NA" and "None" may be names of controls, so that a description lacks a value only where it is empty
        missing = {name: [""] for name in described} | dict.fromkeys(features, NOT_A_NUMBER)
        with warnings.catch_warnings():
            # neither may a row of more fields than the header shift the columns, which pandas only warns of
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=SEPARATORS[kind],
                dtype=dict.fromkeys(described, str),
                keep_default_na=False,
                na_values=missing,
                index_col=False,
                low_memory=False,
            )[described + features]
    except BROKEN as error:
        if isinstance(error, _Refused):
            raise
        msg = f"{path.name} cannot be read as a table: {error}"
        raise ValueError(msg) from error
    numeric = {name: _as_numbers(frame[name]) for name in described if not text(name)}
    return frame.assign(**{name: column for name, column in numeric.items() if column is not None})


def well_names(wells: pd.Series) -> pd.Series:
    """Write names of wells in one way, such as A01 for a1, and leave what is no such name as it is."""
    parts = as_text(wells).str.extract(r"^([A-Za-z]{1,2})0*(\d{1,2})$")
    return (parts[0].str.upper() + parts[1].str.zfill(2)).fillna(as_text(wells))


def as_text(column: pd.Series) -> pd.Series:
    """Write names as text without blanks around them, whole numbers without a decimal point; gaps stay gaps."""
    if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    text = pd.Series(column.astype(str).to_numpy(dtype=object), index=column.index)
    return text.str.strip().where(column.notna())


def without_slashes(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns files can hold: ``/`` would be read as a folder, and becomes ``_``."""
    renamed = {name: str(name).replace("/", "_") for name in table if "/" in str(name)}
    if not renamed:
        return table
    names = pd.Series([renamed.get(name, name) for name in table], index=table.columns)
    if clash := names.index[names.duplicated(keep=False)].tolist():
        msg = f"columns {some(clash)} have one name once '/' is '_', since files cannot hold '/'; rename one of them"
        raise ValueError(msg)
    logger.info(
        "files cannot hold '/' in names of columns; renamed %s", some(f"{a} to {b}" for a, b in renamed.items())
    )
    return table.rename(columns=renamed)


class _Refused(ValueError):
    """An error that already says everything."""


def _unrepeated(columns: pd.Series | pd.Index, where: str) -> list[str]:
    names = pd.Index(columns)
    if repeated := names[names.duplicated()].unique().tolist():
        msg = f"{where} has several columns of one name: {some(repeated)}; rename or drop them"
        raise _Refused(msg)
    return [str(name) for name in names]


def _read_parquet(path: Path, choose: Callable[[Sequence[str]], tuple[list[str], list[str]]]) -> pd.DataFrame:
    try:
        from pyarrow import parquet
    except ImportError as error:
        msg = f"{path.name} needs pyarrow, which is not installed: pip install pyarrow, or write the table as CSV"
        raise ImportError(msg) from error
    described, features = choose(_unrepeated(pd.Index(parquet.read_schema(path).names), path.name))
    columns = described + features
    # without the metadata of pandas, which would make an index of some columns
    return parquet.read_table(path, columns=columns).to_pandas(ignore_metadata=True)[columns]


def _as_numbers(column: pd.Series) -> pd.Series | None:
    """Return a column of text as numbers, or None where it holds names, such as codes that begin with zeros."""
    given = column.mask(column.isin(NOT_A_NUMBER))
    if given.str.match(r"0\d").any() or given.isna().all() or column.isin(NOTHING).any():
        return None
    numbers = pd.to_numeric(given, errors="coerce")
    return numbers if numbers.notna().equals(given.notna()) else None
