"""Reads what a user's AnnData holds, or says what is wrong, where, and the call that mends it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from semiclip.errors import (
    CannotWrite,
    Empty,
    MissingColumn,
    MissingEntry,
    MissingValues,
    NameTaken,
    NotFinite,
    NotInMemory,
    Repeated,
    WrongDtype,
    WrongShape,
    WrongType,
    some,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData


UNSET: Any = object()  # the default of an argument for which None has a meaning
USUAL = {"learning_rate": "lr", "epochs": "max_epochs", "seed": "rng", "random_state": "rng"}  # names that others use


def arguments(
    kind: Callable[..., Any],
    given: Mapping[str, Any],
    what: str,
    *,
    also: Iterable[str] = (),
    filled: Iterable[str] = (),
    passed_on: Iterable[str] = (),
    homes: Mapping[str, Iterable[str]] | None = None,
) -> None:
    """Refuse arguments that a class does not take, and the lack of one that it needs; say what may be meant.

    Where it takes any and hands them on, ``passed_on`` names those that arrive, and ``also`` what the caller takes.
    What the caller fills in itself, ``filled``, is not taken.
    ``homes`` are the arguments of others, by a text with ``{}`` for the name that says how they are given there.
    """
    takes = signature(kind)
    takes = takes.replace(parameters=[each for name, each in takes.parameters.items() if name not in {*filled}])
    named = (each.name for each in takes.parameters.values() if each.kind is not Parameter.VAR_KEYWORD)
    own = list(dict.fromkeys([*named, *also]))
    passed_on = list(passed_on)
    unknown = [name for name in given if name not in (*own, *passed_on)]
    try:
        takes.bind(**given)
        if passed_on and unknown:
            msg = f"got an unexpected keyword argument {unknown[0]!r}"
            raise TypeError(msg)
    except TypeError as error:
        hint = _hint(unknown[0], own, passed_on, homes or {}) if unknown else ""
        msg = f"{what}: {error}; {hint or f'{kind.__name__} takes {some(own, 99)}'}"
        raise TypeError(msg) from error


def _hint(name: str, own: Sequence[str], passed_on: Sequence[str], homes: Mapping[str, Iterable[str]]) -> str:
    """Say where an argument belongs, or which one is much like it."""
    theirs: dict[str, str] = {}
    for home, names in homes.items():
        theirs = {**dict.fromkeys(names, home), **theirs}  # what several take belongs to the first
    if name in theirs:
        return f"it is an argument of {theirs[name].format(name)}"
    meant = USUAL.get(name, name)
    near = (get_close_matches(meant, known, 1) for known in (own, list(theirs), passed_on))  # the likeliest first
    if not (found := next(filter(None, near), [])):
        return ""
    where = theirs.get(found[0])
    return f"did you mean {found[0]!r}{f' of {where.format(found[0])}' if where else ''}?"


def modality(mdata: MuData, name: str, way_out: str = "name yours with modalities={...}") -> AnnData:
    """Return one modality, which must exist and hold observations."""
    if not hasattr(mdata, "mod"):
        msg = f"a MuData with the modality {name!r} is needed, not {type(mdata).__name__}"
        raise TypeError(msg)
    if name not in mdata.mod:
        msg = f"the MuData has no modality {name!r}, only {some(mdata.mod)}; {way_out}"
        raise KeyError(msg)
    return nonempty(mdata.mod[name], f"modality {name!r}")


def nonempty(adata: AnnData, what: str = "the AnnData") -> AnnData:
    """Refuse an object without observations or with observation names that repeat, and a MuData."""
    if hasattr(adata, "mod"):
        example = next(iter(adata.mod), "rna")
        msg = f"an AnnData is needed, not a MuData; pass one of its modalities, such as mdata[{example!r}]"
        raise TypeError(msg)
    if adata.n_obs == 0:
        msg = f"{what} has no observations"
        raise ValueError(msg)
    if not adata.obs_names.is_unique:
        repeated = adata.obs_names[adata.obs_names.duplicated()].unique()
        msg = f"{what} repeats observation names: {some(repeated)}; call .obs_names_make_unique() first"
        raise ValueError(msg)
    return adata


def writable(adata: AnnData, key_added: str, *, copy: bool = False) -> None:
    """Refuse to write into a view, or under a key that no file can hold."""
    if "/" in key_added:
        msg = f"key_added={key_added!r} contains '/', which h5ad and zarr read as a folder; choose another name"
        raise ValueError(msg)
    if adata.is_view and not copy:
        msg = "cannot write into a view, since its parent would not see the result; call .copy() on the subset first"
        raise ValueError(msg)


def spare(key_added: str, student_rep: str) -> None:
    """Refuse to overwrite the representation that a model reads."""
    if key_added == student_rep:
        msg = f"key_added={key_added!r} would overwrite the representation that the model reads; choose another name"
        raise ValueError(msg)


def column(adata: AnnData, key: str, parameter: str, rows: np.ndarray | None = None) -> pd.Series:
    """Return a column of ``obs``, or the rows of a mask of it, that has no missing value."""
    if key not in adata.obs:
        msg = f"{parameter}={key!r} is not a column of obs, which has {some(adata.obs.columns)}"
        raise KeyError(msg)
    values = adata.obs[key] if rows is None else adata.obs[key][rows]
    if missing := values.index[values.isna()].tolist():
        msg = f"obs[{key!r}] ({parameter}) has no value in {len(missing)} row(s): {some(missing)}; fill or drop them"
        raise ValueError(msg)
    return values


def batches(adata: AnnData, batch_key: str | None) -> tuple[np.ndarray, pd.Index]:
    """Return batch codes per row and the batch names; without a ``batch_key`` all rows are one batch."""
    if batch_key is None:
        return np.zeros(adata.n_obs, dtype=np.intp), pd.Index(["all rows"])
    codes, names = pd.factorize(column(adata, batch_key, "batch_key").to_numpy(), sort=True)
    return codes, pd.Index(names)


def controls(adata: AnnData, perturbation_key: str | None, control: str | Sequence[str] | None) -> np.ndarray:
    """Return a mask of the control rows; ``control=None`` says that the data have none.

    Raises
    ------
    ValueError
        If a control label matches no row.
    """
    if control is None:
        return np.zeros(adata.n_obs, dtype=bool)
    found, absent = _told_apart(adata, perturbation_key, control)
    if absent:
        msg = f"{_absent([adata], perturbation_key, absent)}, or control=None for data without controls"
        raise ValueError(msg)
    return adata.obs[perturbation_key].isin(found).to_numpy()


def own_labels(
    adata: AnnData, perturbation_key: str | None, control: str | Sequence[str] | None
) -> Sequence[str] | None:
    """Return those of the control labels that one of several modalities has, since each may have its own.

    Raises
    ------
    ValueError
        If it has none of them.
    """
    if control is None:
        return None
    found, absent = _told_apart(adata, perturbation_key, control)
    if not found:
        msg = (
            f"{_absent([adata], perturbation_key, absent)}, several where modalities name their controls differently, "
            "or control=None for data without controls"
        )
        raise ValueError(msg)
    return found


def known_labels(sides: Sequence[AnnData], perturbation_key: str | None, control: str | Sequence[str] | None) -> None:
    """Refuse a control label that none of several modalities has."""
    if control is None:
        return
    absents = [_told_apart(side, perturbation_key, control)[1] for side in sides]
    if nowhere := [label for label in absents[0] if all(label in absent for absent in absents)]:
        msg = f"{_absent(sides, perturbation_key, nowhere)}, or control=None for data without controls"
        raise ValueError(msg)


def _told_apart(
    adata: AnnData, perturbation_key: str | None, control: str | Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the control labels that are there and those that are not."""
    if perturbation_key is None:
        msg = f"control={control!r} needs perturbation_key=, the obs column that holds this label"
        raise ValueError(msg)
    labels = column(adata, perturbation_key, "perturbation_key")
    wanted = list(control) if isinstance(control, Iterable) and not isinstance(control, str) else [control]
    if not wanted:
        msg = "control names no label; pass the label(s), or control=None for data without controls"
        raise ValueError(msg)
    there = [bool((labels == label).any()) for label in wanted]
    found = [label for label, is_there in zip(wanted, there, strict=True) if is_there]
    return found, [label for label, is_there in zip(wanted, there, strict=True) if not is_there]


def _absent(sides: Sequence[AnnData], perturbation_key: str | None, absent: Sequence[str]) -> str:
    frequent = [some(side.obs[perturbation_key].value_counts().index, 5) for side in sides]
    where = "" if len(sides) == 1 else " of any modality"
    return (
        f"control label(s) {some(absent)} match no row of obs[{perturbation_key!r}]{where}; its most frequent labels "
        f"are {'; '.join(frequent)}. Pass the right label(s) as control="
    )


def representation(adata: AnnData, use_rep: str, parameter: str = "use_rep") -> np.ndarray:
    """Return ``obsm[use_rep]`` (or ``X`` for ``"X"``) as a dense, finite float array of shape (n_obs, d).

    float32 and float64 keep their width, anything else becomes float32; a dense array is not copied.
    """
    if use_rep != "X" and use_rep not in adata.obsm:
        there = some(adata.obsm) or "nothing"
        msg = f"{parameter}={use_rep!r} is not in obsm, which has {there}; make it with scl.pp.encode"
        raise KeyError(msg)
    values = adata.X if use_rep == "X" else adata.obsm[use_rep]
    where = "X" if use_rep == "X" else f"obsm[{use_rep!r}]"
    if hasattr(values, "compute"):
        msg = f"{where} is a lazy dask array; load it with adata.{where} = adata.{where}.compute()"
        raise TypeError(msg)
    if use_rep == "X" and adata.isbacked:
        msg = "X is backed by a file; load it with adata = adata.to_memory()"
        raise TypeError(msg)
    if isinstance(values, pd.DataFrame):
        values = values.to_numpy()
    elif hasattr(values, "toarray"):
        values = values.toarray()
    array = np.asarray(values)
    if array.dtype not in (np.float32, np.float64):
        if array.dtype.kind == "c":
            msg = f"{where} holds complex values; an embedding is real"
            raise TypeError(msg)
        try:
            array = array.astype(np.float32)
        except (TypeError, ValueError) as error:
            msg = f"{where} holds {array.dtype} values, not numbers"
            raise TypeError(msg) from error
    if array.ndim != 2 or array.shape[1] == 0:
        msg = f"{where} has shape {array.shape}; an embedding of shape (n_obs, n_dimensions) is needed"
        raise ValueError(msg)
    finite_rows(array, adata.obs_names, where)
    return array


def cached_views(adata: AnnData, key: str, use_rep: str, control: np.ndarray) -> np.ndarray:
    """Return augmented views of an embedding of d dimensions, an array (n_obs, n_views, d).

    Views of the rows that ``control`` masks are what these rows have in the embedding, which tells whether it is still
    the one that the views are of.
    """
    if key not in adata.obsm:
        there = some(adata.obsm) or "nothing"
        msg = f"augment={key!r} is not in obsm, which has {there}; make it with scl.pp.augment"
        raise KeyError(msg)
    views, plain = np.asarray(adata.obsm[key]), representation(adata, use_rep, "student_rep")
    width = plain.shape[1]
    if views.ndim != 3 or views.shape[1] == 0 or views.shape[2] != width:
        msg = (
            f"obsm[{key!r}] has shape {views.shape}, but views of {use_rep!r} have ({adata.n_obs}, n_views, {width}); "
            "make them with scl.pp.augment and the encoder of that embedding"
        )
        raise ValueError(msg)
    finite_rows(views.reshape(adata.n_obs, -1), adata.obs_names, f"obsm[{key!r}]")
    apart = np.linalg.norm(views[control] - plain[control, None], axis=(0, 2)).max(initial=0)
    if apart > 0.01 * np.linalg.norm(plain[control]):  # devices and blocks differ by less
        msg = (
            f"controls have other values in obsm[{key!r}] than in obsm[{use_rep!r}], so that these are views of "
            "another embedding; make them again with scl.pp.augment and the encoder of this one"
        )
        raise ValueError(msg)
    return views


def finite_rows(array: np.ndarray, names: pd.Index, where: str) -> None:
    """Refuse NaN and infinity, naming the rows."""
    # one pass without a temporary of the array's size; only a bad sum needs the rows looked at
    if np.isfinite(np.einsum("ij->", array, dtype=np.float64)):
        return
    if bad := names[~np.isfinite(array).all(axis=1)].tolist():
        msg = f"{where} holds NaN or infinite values in {len(bad)} row(s): {some(bad)}; drop or mend these rows first"
        raise ValueError(msg)


# ---- what rooms use from now on


def get_modality(mdata: MuData, name: str) -> AnnData:
    """Return one modality, which must exist and hold observations."""
    if not hasattr(mdata, "mod"):
        raise WrongType("mdata", type(mdata), f"a MuData with the modality {name!r}")
    if name not in mdata.mod:
        way_out = "name yours with modalities={...} where the columns are named, or pass the modality itself"
        raise MissingEntry(name, mdata.mod, "the MuData", way_out=way_out)
    return check_adata(mdata.mod[name], f"modality {name!r}")


def check_adata(adata: AnnData, what: str = "the AnnData") -> AnnData:
    """Refuse an object without observations or with observation names that repeat, and a MuData."""
    if hasattr(adata, "mod"):
        example = next(iter(adata.mod), "rna")
        raise WrongType(
            "the data", type(adata), "an AnnData", f"pass one of its modalities, such as mdata[{example!r}]"
        )
    if adata.n_obs == 0:
        raise Empty(f"observations in {what}")
    if not adata.obs_names.is_unique:
        repeated = adata.obs_names[adata.obs_names.duplicated()].unique()
        raise Repeated(f"observation names of {what}", repeated, "call .obs_names_make_unique() first")
    return adata


def check_writable(adata: AnnData, key_added: str, *, copy: bool = False, reads: str | None = None) -> None:
    """Refuse to write into a view, under a key that no file can hold, or over what a model reads (``reads``)."""
    if "/" in key_added:
        raise CannotWrite(f"key_added={key_added!r}", "h5ad and zarr read '/' as a folder", "choose another name")
    if adata.is_view and not copy:
        raise CannotWrite("into a view", "its parent would not see the result", "call .copy() on the subset first")
    if key_added == reads:
        raise NameTaken(key_added, "the representation that the model reads")


def read_column(adata: AnnData, key: str, parameter: str, rows: np.ndarray | None = None) -> pd.Series:
    """Return a column of ``obs``, or the rows of a mask of it, that has no missing value."""
    if key not in adata.obs:
        raise MissingColumn(key, adata.obs.columns, name=parameter)
    values = adata.obs[key] if rows is None else adata.obs[key][rows]
    if missing := values.index[values.isna()].tolist():
        raise MissingValues(f"obs[{key!r}] ({parameter})", missing)
    return values


def read_representation(adata: AnnData, use_rep: str, parameter: str = "use_rep") -> np.ndarray:
    """Return ``obsm[use_rep]`` (or ``X`` for ``"X"``) as a dense, finite float array of shape (n_obs, d).

    float32 and float64 keep their width, anything else becomes float32; a dense array is not copied.
    """
    if use_rep != "X" and use_rep not in adata.obsm:
        raise MissingEntry(use_rep, adata.obsm, name=parameter, way_out="make it with scl.pp.encode")
    values = adata.X if use_rep == "X" else adata.obsm[use_rep]
    where = "X" if use_rep == "X" else f"obsm[{use_rep!r}]"
    if hasattr(values, "compute"):
        raise NotInMemory(where, f"load it with adata.{where} = adata.{where}.compute()")
    if use_rep == "X" and adata.isbacked:
        raise NotInMemory("X")
    if isinstance(values, pd.DataFrame):
        values = values.to_numpy()
    elif hasattr(values, "toarray"):
        values = values.toarray()
    array = np.asarray(values)
    if array.dtype not in (np.float32, np.float64):
        if array.dtype.kind == "c":
            raise WrongDtype(where, array.dtype)
        try:
            array = array.astype(np.float32)
        except (TypeError, ValueError) as error:
            raise WrongDtype(where, array.dtype) from error
    if array.ndim != 2 or array.shape[1] == 0:
        raise WrongShape(where, array.shape, "(n_obs, n_dimensions), an embedding")
    check_finite(array, adata.obs_names, where)
    return array


def check_finite(array: np.ndarray, names: pd.Index | Sequence[object], where: str) -> None:
    """Refuse NaN and infinity, naming the rows."""
    # one pass without a temporary of the array's size; only a bad sum needs the rows looked at
    if np.isfinite(np.einsum("ij->", array, dtype=np.float64)):
        return
    if bad := np.asarray(names)[~np.isfinite(array).all(axis=1)].tolist():
        raise NotFinite(where, bad)
