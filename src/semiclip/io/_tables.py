"""Reads tables of wells, cells and files, and writes labels and wells in one way."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from semiclip._damage import say_reason
from semiclip.errors import (
    DamagedFile,
    Empty,
    MissingExtra,
    MissingFile,
    Refused,
    Repeated,
    SemiclipError,
    WrongType,
    some,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Table = str | PathLike[str] | pd.DataFrame

PREFIX = "Metadata_"  # of the columns that describe a row, in tables of features
NAMELESS = "Unnamed: "  # pandas gives this name to a column without one, such as an index in a file
NOT_A_NUMBER = ["", "NA", "N/A", "#N/A", "NaN", "nan", "-nan", "null", "NULL", "None", "none"]
LABELS = ["None", "none"]  # beside numbers, these name a control rather than a gap
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
LARGEST = (32, 48)  # rows and columns of a plate of 1536 wells
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zip")

logger = logging.getLogger(__name__)


@contextmanager
def refuse_damage(file: object, way_out: str = "", *, extra: str) -> Iterator[None]:
    """Turn whatever a reader raises into an error that names the file, or the package to install (``extra``)."""
    try:
        yield
    except SemiclipError:
        raise
    except ImportError as error:
        raise MissingExtra(error.name or extra, f"reading {file}", extra) from error
    except Exception as error:  # libraries raise anything about a damaged file
        raise DamagedFile(file, say_reason(error), way_out) from error


def read_table(
    table: Table, is_text: Callable[[str], bool], choose_features: Callable[[list[str]], list[str]] | None = None
) -> pd.DataFrame:
    """Return the columns of a table with rows numbered from 0: descriptions, of which those with ``is_text`` stay text.

    With ``choose_features``, a function of all names, the descriptions begin with ``Metadata_``.
    """
    if isinstance(table, pd.DataFrame):
        names = check_names(table.columns, "the table")
        descriptions, features = _choose_columns(names, choose_features)
        return table.set_axis(names, axis=1)[descriptions + features].reset_index(drop=True)
    if not isinstance(table, str | PathLike):
        raise WrongType("table", type(table), "a DataFrame or the path of a file")
    path = Path(table)
    if not path.is_file():
        raise MissingFile(path)
    kind = next((suffix.lower() for suffix in path.suffixes[::-1] if suffix.lower() not in COMPRESSIONS), "")
    if kind not in (*SEPARATORS, ".parquet"):
        raise DamagedFile(path, f"it is not {some([*SEPARATORS, '.parquet'])}", "pass a DataFrame instead")
    with refuse_damage(path, extra="pyarrow"):
        if kind != ".parquet":
            read = _read_text(path, is_text, choose_features, sep=SEPARATORS[kind], keep_default_na=False)
        else:
            frame = pd.read_parquet(path)  # pandas may make an index of columns
            frame = frame.reset_index(drop=frame.index.names == [None])
            read = read_table(frame, is_text, choose_features)
    if read.empty:
        raise Empty(f"rows in {path}", "the file ends after its header")
    return read


def _choose_columns(names: list[str], choose_features: Any) -> tuple[list[str], list[str]]:
    if choose_features is None:
        return [name for name in names if not name.startswith(NAMELESS)], []
    return [name for name in names if name.startswith(PREFIX)], choose_features(names)


def _read_text(path: Path, is_text: Callable[[str], bool], choose_features: Any, **layout: Any) -> pd.DataFrame:
    # the header by itself, since pandas renames columns that are named twice
    header = pd.read_csv(path, header=None, nrows=1, dtype=str, **layout).iloc[0]
    names = [name or f"{NAMELESS}{i}" for i, name in enumerate(header)]
    descriptions, features = _choose_columns(check_names(names, path.name), choose_features)
    # "NA" and "None" may be names of controls, so that a description lacks a value only where it is empty
    missing = dict.fromkeys(descriptions, [""]) | dict.fromkeys(features, NOT_A_NUMBER)
    layout |= {"dtype": dict.fromkeys(descriptions, str), "na_values": missing, "low_memory": False}
    with warnings.catch_warnings(category=pd.errors.ParserWarning, action="error"):
        # pandas only warns of a row with more fields than the header, which would shift the columns
        frame = pd.read_csv(path, index_col=False, **layout)[descriptions + features]
    return frame.assign(**{name: _parse_numbers(frame[name]) for name in descriptions if not is_text(name)})


def _parse_numbers(column: pd.Series) -> pd.Series:
    """Return a column of text as numbers, unless it holds names, such as codes that begin with zeros."""
    values = column.mask(column.isin(NOT_A_NUMBER))
    if values.isna().all() or column.isin(LABELS).any() or values.str.match(r"0\d").any():
        return column
    numbers = pd.to_numeric(values, errors="coerce")
    return numbers if numbers.notna().equals(values.notna()) else column


def check_names(columns: Iterable[object], where: str) -> list[str]:
    """Return column names as text, none of which may repeat."""
    names = pd.Index([str(name) for name in columns])
    if repeated := names[names.duplicated()].unique().tolist():
        raise Repeated(f"column names of {where}", repeated, "rename or drop them")
    return names.tolist()


def format_labels(labels: pd.Series) -> pd.Series:
    """Return labels as text without blanks around them, whole numbers without a decimal point; gaps stay gaps."""
    if labels.dtype.kind == "f" and (labels.dropna() % 1 == 0).all():
        labels = labels.astype("Int64")
    return labels.astype(str).astype(object).str.strip().where(labels.notna())


def format_wells(wells: pd.Series) -> pd.Series:
    """Return names of wells in one spelling, such as A01 for a1; other names stay as they are."""
    parts = format_labels(wells).str.extract(r"^([A-Za-z]{1,2})0*(\d{1,2})$")
    return (parts[0].str.upper() + parts[1].str.zfill(2)).fillna(format_labels(wells))


def read_positions(wells: pd.Series, where: str) -> pd.DataFrame:
    """Return ``row`` and ``column`` of wells such as A01 or AF48, whole numbers from 0; AA follows Z."""
    parts = format_wells(wells).str.extract(r"^([A-Z]{1,2})(\d{2})$")
    column = pd.to_numeric(parts[1]) - 1
    if (unknown := wells.index[~(column >= 0)]).size:
        spelt = some(wells[unknown].unique(), 3)
        raise Refused(f"{where} holds {spelt}, not wells such as A01", unknown.tolist(), "mend or drop these rows")
    letters = [[ord(letter) - ord("A") + 1 for letter in name] for name in parts[0]]
    row = [value[0] - 1 if len(value) == 1 else 26 * value[0] + value[1] - 1 for value in letters]
    positions = pd.DataFrame({"row": row, "column": column.astype(int)}, index=wells.index)
    if (beyond := (positions >= list(LARGEST)).any(axis=1)).any():
        names = format_wells(wells)[beyond].unique().tolist()
        raise Refused(f"{where} holds wells beyond AF48, the last of the largest plate", names, "mend or drop them")
    return positions


def format_columns(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table as columns of ``obs`` that files can hold: text as categories, ``_`` for ``/`` in names."""
    names = [str(name) for name in table]
    text = [name for name in names if table[name].dtype.kind not in "iufb"]
    table = table.assign(**{name: format_labels(table[name]).astype("category") for name in text})
    renamed = {name: name.replace("/", "_") for name in names if "/" in name}
    result = table.rename(columns=renamed)
    if clash := table.columns[result.columns.duplicated(keep=False)].tolist():
        raise Repeated("column names with '_' for '/', which files cannot hold,", clash, "rename one of them")
    if renamed:
        pairs = some(f"{name} to {new}" for name, new in renamed.items())
        logger.info("files cannot hold '/' in names of columns; renamed %s", pairs)
    return result
