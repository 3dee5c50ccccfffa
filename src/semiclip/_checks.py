"""Reads what a user's AnnData holds, or says what is wrong, where, and the call that mends it."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData


UNSET: Any = object()  # the default of an argument for which None has a meaning


def some(items: Iterable[object], limit: int = 5) -> str:
    """Name the first few items and, if there are more, how many there are."""
    names = [str(item) for item in items]
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, … ({len(names)} in all)"


def arguments(kind: Callable[..., Any], given: Mapping[str, Any], what: str) -> None:
    """Refuse arguments that a class does not take, and the lack of one that it needs."""
    try:
        signature(kind).bind(**given)
    except TypeError as error:
        msg = f"{what}: {error}; {kind.__name__} takes {some(signature(kind).parameters, 99)}"
        raise TypeError(msg) from error


def modality(mdata: MuData, name: str) -> AnnData:
    """Return one modality, which must exist and hold observations."""
    if not hasattr(mdata, "mod"):
        msg = f"a MuData with the modality {name!r} is needed, not {type(mdata).__name__}"
        raise TypeError(msg)
    if name not in mdata.mod:
        msg = f"the MuData has no modality {name!r}, only {some(mdata.mod)}; name yours with modalities={{...}}"
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


def column(adata: AnnData, key: str, parameter: str) -> pd.Series:
    """Return a column of ``obs`` that has no missing value."""
    if key not in adata.obs:
        msg = f"{parameter}={key!r} is not a column of obs, which has {some(adata.obs.columns)}"
        raise KeyError(msg)
    values = adata.obs[key]
    if missing := adata.obs_names[values.isna()].tolist():
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
    if perturbation_key is None:
        msg = f"control={control!r} needs perturbation_key=, the obs column that holds this label"
        raise ValueError(msg)
    labels = column(adata, perturbation_key, "perturbation_key")
    wanted = list(control) if isinstance(control, Iterable) and not isinstance(control, str) else [control]
    if not wanted:
        msg = "control names no label; pass the label(s), or control=None for data without controls"
        raise ValueError(msg)
    if absent := [label for label in wanted if not (labels == label).any()]:
        counts = labels.value_counts()
        msg = (
            f"control label(s) {some(absent)} match no row of obs[{perturbation_key!r}]; its most frequent labels are "
            f"{some(counts.index, 5)}. Pass the right label(s) as control=, or control=None for data without controls"
        )
        raise ValueError(msg)
    return labels.isin(wanted).to_numpy()


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
