"""Reads tables of wells, cells and files, and writes labels and wells in one way."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Mapping, Set
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip._checks import read_column
from semiclip._damage import say_reason
from semiclip._messages import warn
from semiclip._well_parts import tells_parts_apart
from semiclip.errors import (
    DamagedFile,
    Empty,
    MissingColumn,
    MissingExtra,
    MissingFile,
    Refused,
    Repeated,
    SemiclipError,
    WrongType,
    some,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from anndata import AnnData

Table = str | PathLike[str] | pd.DataFrame

PREFIX = "Metadata_"  # of the columns that describe a row, in tables of features
NAMELESS = "Unnamed: "  # pandas gives this name to a column without one, such as an index in a file
NOT_A_NUMBER = ["", "NA", "N/A", "#N/A", "NaN", "nan", "-nan", "null", "NULL", "None", "none"]
LABELS = ["None", "none"]  # beside numbers, these name a control rather than a gap
SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
LARGEST = (32, 48)  # rows and columns of a plate of 1536 wells
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zip")
IMAGE_PREFIX = "Image_" + PREFIX  # in tables of CellProfiler that join objects and their images
LARGEST_WHOLE = 2**53  # beyond it, floats skip whole numbers

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
        names = _check_columns(_join_levels(table.columns), "the table", choose_features)
        descriptions, features = _choose_columns(names, choose_features)
        chosen = table.set_axis(names, axis=1)[descriptions + features].reset_index(drop=True)
        if not len(chosen):
            raise Empty("rows in the table", "it has a header alone")
        return _simplify(chosen)
    if not isinstance(table, str | PathLike):
        raise WrongType("table", type(table), "a DataFrame or the path of a file")
    path = Path(table)
    if not path.is_file():
        raise MissingFile(path)
    kind = next((suffix.lower() for suffix in path.suffixes[::-1] if suffix.lower() not in COMPRESSIONS), "")
    if kind not in (*SEPARATORS, ".parquet"):
        raise DamagedFile(path, f"it is not {some([*SEPARATORS, '.parquet'])}", "pass a DataFrame instead")
    with refuse_damage(path, extra="pyarrow"), _refuse_nothing(path):
        if kind != ".parquet":
            read = _read_text(path, is_text, choose_features, sep=SEPARATORS[kind], keep_default_na=False)
        else:
            frame = pd.read_parquet(path)  # pandas may make an index of columns
            frame = frame.reset_index(drop=frame.index.names == [None])
            read = read_table(frame, is_text, choose_features)
    if read.empty:
        raise Empty(f"rows in {path}", "the file ends after its header")
    return read


@contextmanager
def _refuse_nothing(path: Path) -> Iterator[None]:
    try:
        yield
    except pd.errors.EmptyDataError as error:
        raise Empty(f"rows in {path}", "the file is empty") from error


def _choose_columns(names: list[str], choose_features: Any) -> tuple[list[str], list[str]]:
    if choose_features is None:
        return [name for name in names if not name.startswith(NAMELESS)], []
    return [name for name in names if name.startswith(PREFIX)], choose_features(names)


def _check_columns(names: Sequence[str], where: str, choose_features: Any) -> list[str]:
    """Return the names of columns, none of which may repeat; those of images describe the rows of a feature table."""
    if choose_features is not None and not any(name.startswith(PREFIX) for name in names):
        names = [name.removeprefix("Image_") if name.startswith(IMAGE_PREFIX) else name for name in names]
    return check_names(names, where)


def _join_levels(columns: pd.Index) -> list[str]:
    """Return names of columns; of several header rows, as CellProfiler writes, Nuclei and Area are Nuclei_Area."""
    if columns.nlevels == 1:
        return [str(name) for name in columns]
    parts = [[str(part) for part in name if not str(part).startswith(NAMELESS)] for name in columns]
    return ["_".join(filter(None, levels)) for levels in parts]


def _has_two_headers(rows: pd.DataFrame) -> bool:
    """Say whether the first of two rows names objects, such as Image and Nuclei, and the second their features."""
    if len(rows) < 2:
        return False
    first, second = rows.fillna("").to_numpy(dtype=str)
    is_second = any(name.startswith((PREFIX, "ImageNumber", "ObjectNumber")) for name in second)
    return is_second and not any(name.startswith(PREFIX) for name in first)


def _read_text(path: Path, is_text: Callable[[str], bool], choose_features: Any, **layout: Any) -> pd.DataFrame:
    # the header by itself, since pandas renames columns that are named twice
    rows = pd.read_csv(path, header=None, nrows=1, dtype=str, **layout)
    if rows.iloc[0].duplicated().any():  # perhaps of two rows
        rows = pd.read_csv(path, header=None, nrows=2, dtype=str, **layout)
    names = [name or f"{NAMELESS}{i}" for i, name in enumerate(rows.iloc[0])]
    if _has_two_headers(rows):
        names = _join_levels(pd.MultiIndex.from_arrays(rows.to_numpy()))
        layout |= {"skiprows": 1}
    names = _check_columns(names, path.name, choose_features)
    descriptions, features = _choose_columns(names, choose_features)
    # "NA" and "None" may be names of controls, so that a description lacks a value only where it is empty
    missing = dict.fromkeys(descriptions, [""]) | dict.fromkeys(features, NOT_A_NUMBER)
    layout |= {"dtype": dict.fromkeys(descriptions, str), "na_values": missing, "low_memory": False}
    with warnings.catch_warnings(category=pd.errors.ParserWarning, action="error"):
        # pandas only warns of a row with more fields than the header, which would shift the columns
        frame = pd.read_csv(path, index_col=False, header=0, names=names, **layout)[descriptions + features]
    return frame.assign(**{name: _parse_numbers(frame[name]) for name in descriptions if not is_text(name)})


def _simplify(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table, which is changed in place, with columns of NumPy's types and of categories alone."""
    for name, kind in table.dtypes.to_dict().items():
        if not isinstance(kind, np.dtype) or kind.kind == "O":
            table[name] = _to_numpy(table[name])
    return table


def _to_numpy(column: pd.Series) -> pd.Series:
    """Return a column of a type of pandas' own or of Arrow as NumPy's, which files can hold; gaps become NaN."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column
    if isinstance(column.dtype, np.dtype):
        numbers = column.infer_objects()
        if numbers.dtype.kind == "f" and (numbers.abs() > LARGEST_WHOLE).any():
            return column
        return _write_collections(numbers) if numbers.dtype.kind == "O" else numbers
    is_gap, kind = column.isna(), column.dtype.kind
    if kind not in "iufb":
        return _write_collections(column.astype(object).where(~is_gap))
    if is_gap.any() and (kind == "b" or (kind in "iu" and (column.abs() > LARGEST_WHOLE).any())):
        return column.astype(object).astype(str).astype(object).where(~is_gap)  # as in a CSV file
    values = column.to_numpy(dtype=np.float64, na_value=np.nan) if is_gap.any() else column.to_numpy()
    return pd.Series(values, column.index, name=column.name)


def _write_collections(column: pd.Series) -> pd.Series:
    """Return a column of objects with lists, arrays and the like as text, one label for those that are equal."""
    if not any(map(_is_collection, column)):
        return column
    labels = [_write(value) if _is_collection(value) else value for value in column]
    return pd.Series(labels, column.index, dtype=object, name=column.name)


def _is_collection(value: Any) -> bool:
    return not isinstance(value, str | bytes) and isinstance(value, Collection)


def _write(value: Any) -> str:
    """Write a collection in full, arrays and the like as lists, and what has no order sorted."""
    if isinstance(value, pd.DataFrame):
        value = value.to_dict("list")
    elif isinstance(value, np.generic | np.ndarray | pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        value = value.tolist()
    if isinstance(value, Mapping):
        pairs = sorted((_write(key), _write(item)) for key, item in value.items())
        return "{" + ", ".join(f"{key}: {item}" for key, item in pairs) + "}"
    if isinstance(value, Set):
        return "{" + ", ".join(sorted(map(_write, value))) + "}"
    if not _is_collection(value):
        return repr(value)
    parts = ", ".join(map(_write, value))
    if isinstance(value, tuple):
        return f"({parts},)" if len(value) == 1 else f"({parts})"
    return f"[{parts}]"


def read_numbers(column: pd.Series) -> pd.Series | None:
    """Return a feature as float64, also if its numbers are text or objects; ``None`` if one of them is no number."""
    if column.dtype.kind in "iufb":
        return column.astype(np.float64)
    if column.dtype.kind not in "OUST":
        return None
    values = column.astype(object)
    values = values.mask(values.map(lambda value: isinstance(value, str) and value.strip() in NOT_A_NUMBER))
    try:
        numbers = pd.to_numeric(values, errors="coerce")
    except TypeError:  # lists and the like
        return None
    return numbers.astype(np.float64) if numbers.notna().equals(values.notna()) else None


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


def format_plates(plates: pd.Series) -> pd.Series:
    """Return names of plates as text: barcodes that were read as decimal numbers, such as 41744.0, are whole."""
    names = format_labels(plates)
    is_decimal = names.dropna().str.fullmatch(r"\d+\.0+").all()
    return names.str.replace(r"\.0+$", "", regex=True) if is_decimal else names


def format_wells(wells: pd.Series) -> pd.Series:
    """Return names of wells in one spelling, such as A01 for a1; other names stay as they are."""
    parts = format_labels(wells).str.extract(r"^([A-Za-z]{1,2})0*(\d{1,2})$")
    return (parts[0].str.upper() + parts[1].str.zfill(2)).fillna(format_labels(wells))


def warn_of_split_wells(obs: pd.DataFrame, plate: str) -> None:
    """Warn of columns by which the rows of wells, which the index names, seem to be several wells of one name.

    These are columns with several values in a well that other wells have too, such as cell lines or time points; not
    those that number or name the parts of a well. ``plate`` is the table's column of plates.
    """
    found, split = [], pd.Series(data=False, index=obs.index.unique())
    for name in obs:
        if tells_parts_apart(str(name)):
            continue
        pairs = pd.DataFrame({"well": obs.index, "value": format_labels(obs[name]).to_numpy()}).dropna()
        pairs = pairs.drop_duplicates()
        n_wells, n_values = pairs["value"].value_counts(), pairs["well"].value_counts()
        if (n_values > 1).any() and (n_wells > 1).mean() >= 0.5:
            found.append(name)
            split |= (n_values > 1).reindex(split.index, fill_value=False)
    if found:
        wells, name = split.index[split].tolist(), PREFIX + str(found[0]).removeprefix(PREFIX)
        warn(
            f"{len(wells)} well(s), such as {' and '.join(wells[:2])}, have rows that differ in {some(found)}, which "
            f"are averaged all the same; if several plates have one name, name them apart: table[{plate!r}] = "
            f"table[{plate!r}].astype(str) + ' ' + table[{name!r}].astype(str); if not, drop the column"
        )


def read_well_positions(adata: AnnData, well_key: str, rows: np.ndarray | None = None) -> np.ndarray:
    """Return row and column (n_obs, 2), from 0, of the wells in ``obs[well_key]``, or of the rows of a mask."""
    if well_key not in adata.obs:
        raise MissingColumn(well_key, adata.obs.columns, name="well_key", way_out="pass well_key=")
    wells = read_column(adata, well_key, "well_key", rows)
    return read_positions(wells, f"obs[{well_key!r}] (well_key)").to_numpy()


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
    table = _simplify(table.set_axis(names, axis=1))
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
