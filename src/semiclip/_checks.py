"""Reads what a user's AnnData holds, or says what is wrong, where, and the call that mends it."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip import errors

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from anndata import AnnData
    from mudata import MuData


def get_modality(mdata: MuData, name: str) -> AnnData:
    """Return one modality, which must exist and hold observations."""
    if not hasattr(mdata, "mod") or not hasattr(mdata, "obs_names"):  # a DataFrame has a method of this name
        raise errors.WrongType("mdata", type(mdata), f"a MuData with the modality {name!r}")
    if name not in mdata.mod:
        way_out = "name yours with modalities={...} where the columns are named, or pass the modality itself"
        raise errors.MissingEntry(name, mdata.mod, "the MuData", way_out=way_out)
    return check_adata(mdata.mod[name], f"modality {name!r}")


def check_adata(adata: AnnData, what: str = "the AnnData") -> AnnData:
    """Refuse an object without observations or with observation names that repeat, and a MuData."""
    if not hasattr(adata, "obs_names"):
        raise errors.WrongType(what, type(adata), "an AnnData")
    if hasattr(adata, "mod"):
        way_out = f"pass one of its modalities, such as mdata[{next(iter(adata.mod), 'rna')!r}]"
        raise errors.WrongType("the data", type(adata), "an AnnData", way_out)
    if adata.n_obs == 0:
        raise errors.Empty(f"observations in {what}")
    if not adata.obs_names.is_unique:
        repeated = adata.obs_names[adata.obs_names.duplicated()].unique()
        raise errors.Repeated(f"observation names of {what}", repeated, "call .obs_names_make_unique() first")
    return adata


def check_writable(adata: AnnData, key_added: str, *, copy: bool = False, reads: Collection[str] = ()) -> None:
    """Refuse to write into a view, under a key that no file can hold, or over the keys that a model reads."""
    if "/" in key_added:
        raise errors.CannotWrite(f"key_added={key_added!r}", "h5ad and zarr read '/' as a folder", "choose another")
    if adata.is_view and not copy:
        raise errors.CannotWrite("into a view", "its parent would not see the result", "call .copy() on it first")
    if key_added in reads:
        raise errors.NameTaken(key_added, "a representation that the model reads")


def read_column(adata: AnnData, key: str, parameter: str, rows: np.ndarray | None = None) -> pd.Series:
    """Return a column of ``obs``, or the rows of a mask of it, that has no missing value."""
    if key not in adata.obs:
        raise errors.MissingColumn(key, adata.obs.columns, name=parameter)
    values = adata.obs[key] if rows is None else adata.obs[key][rows]
    # as an array, since a Series that is a mask makes pandas hash all names of observations
    if missing := values.index[values.isna().to_numpy()].tolist():
        raise errors.MissingValues(f"obs[{key!r}]", missing, name=parameter)
    return values


def read_representation(
    adata: AnnData, use_rep: str, parameter: str = "use_rep", *, keep_half: bool = False
) -> np.ndarray:
    """Return ``obsm[use_rep]`` (or ``X``) as a dense, finite array (n_obs, d): float64, or else float32.

    ``keep_half`` leaves float16 as it is stored.
    """
    if use_rep != "X" and use_rep not in adata.obsm:
        raise errors.MissingEntry(use_rep, adata.obsm, name=parameter, way_out="make it with scl.pp.encode")
    values = adata.X if use_rep == "X" else adata.obsm[use_rep]
    where = "X" if use_rep == "X" else f"obsm[{use_rep!r}]"
    if hasattr(values, "compute"):
        raise errors.NotInMemory(where, f"load it with adata.{where} = adata.{where}.compute()")
    if use_rep == "X" and adata.isbacked:
        raise errors.NotInMemory("X")
    if isinstance(values, pd.DataFrame):
        values = values.to_numpy()
    elif hasattr(values, "toarray"):
        values = values.toarray()
    array = np.asarray(values)
    if array.dtype not in (np.float32, np.float64) and not (keep_half and array.dtype == np.float16):
        if array.dtype.kind == "c":
            raise errors.WrongDtype(where, array.dtype)
        try:
            array = array.astype(np.float32)
        except (TypeError, ValueError) as error:
            raise errors.WrongDtype(where, array.dtype) from error
    if array.ndim != 2 or array.shape[1] == 0:
        raise errors.WrongShape(where, array.shape, "(n_obs, n_dimensions), an embedding")
    check_finite(array, adata.obs_names, where)
    return array


def check_finite(array: np.ndarray, names: pd.Index | Sequence[object], where: str) -> None:
    """Refuse NaN and infinity, naming the rows."""
    # one pass without a temporary of the array's size; only a bad sum needs the rows looked at
    if np.isfinite(np.einsum("ij->", array, dtype=np.float64)):
        return
    if bad := np.asarray(names)[~np.isfinite(array).all(axis=1)].tolist():
        raise errors.NotFinite(where, bad)


def read_rows(name: str, rows: Any, n_rows: int) -> np.ndarray:
    """Return row numbers that are given as such or as a mask of all ``n_rows`` rows."""
    numbers = np.asarray(rows)
    if numbers.ndim == 1 and numbers.size == 0:
        return np.empty(0, dtype=np.intp)
    if numbers.ndim == 1 and numbers.dtype == object and all(isinstance(row, bool | np.bool_) for row in numbers):
        numbers = numbers.astype(bool)  # pandas' own booleans
    if numbers.dtype == bool:
        if numbers.shape != (n_rows,):
            raise errors.WrongShape(name, numbers.shape, f"({n_rows},), a boolean for each row, or row numbers")
        return np.flatnonzero(numbers)
    if numbers.ndim != 1:
        raise errors.WrongShape(name, numbers.shape, f"row numbers, or a mask of shape ({n_rows},)")
    if numbers.dtype == object and all(isinstance(row, Integral) for row in numbers):
        numbers = numbers.astype(np.intp)
    if numbers.dtype.kind not in "iu":
        raise errors.WrongDtype(name, numbers.dtype, f"row numbers, or a mask of {n_rows} booleans")
    return numbers.astype(np.intp)
