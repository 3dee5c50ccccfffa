"""How encoders read the expression in an AnnData: genes by name, values checked and normalised."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from semiclip import errors
from semiclip._arguments import check_number
from semiclip._messages import warn
from semiclip._numerics import row_blocks, rows_at_once
from semiclip.errors import some

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


TARGET_SUM = 1e4  # counts that a sample is scaled to
WAYS_OUT = "pass normalize=False if it is normalised already, or zscores=True to encode z-scores by PCA"
BLOCK_VALUES = 2**18  # of a matrix, that are looked at together
ENSEMBL = r"ENS[A-Z]*[GT]\d{6}"
Marks = Callable[[np.ndarray], np.ndarray]  # says of each value of an array whether it is wrong


def read_expression(encoder: Any, adata: AnnData, genes: pd.Index, total: float = TARGET_SUM) -> tuple[Any, Any]:
    """Return the values of genes, raw and as an encoder reads them, with a warning if they look normalised already."""
    raw = align_genes(read_counts(adata, encoder.layer), adata.var_names, genes, encoder.min_overlap)
    values = normalize_expression(raw, adata.obs_names, normalize=encoder.normalize, total=total)
    if encoder.normalize:
        warn_unless_counts(raw, adata, encoder.layer)
    return raw, values


def normalize_expression(values: Any, names: pd.Index, *, normalize: bool, total: float = TARGET_SUM) -> Any:
    """Check expression, dense or sparse, and scale rows to ``total`` counts and log them; errors name the rows."""
    from sklearn import preprocessing

    if (rows := find_rows(values, lambda x: ~np.isfinite(x))).size:
        raise errors.NotFinite("expression", names[rows].tolist(), "drop these rows first")
    if not normalize:
        return values
    values = values.astype(np.float32) if values.dtype == np.float16 else values  # whose sums would overflow
    check_counts(values, names, "negative", lambda x: x < 0, WAYS_OUT)
    scaled = preprocessing.normalize(values, norm="l1", copy=True) * total
    return scaled.log1p() if sparse.issparse(values) else np.log1p(scaled, out=scaled)


def read_counts(adata: AnnData, layer: str | None) -> Any:
    """Return ``X`` or a layer, which must be in memory."""
    if not adata.var_names.is_unique:
        repeated = adata.var_names[adata.var_names.duplicated()].unique()
        raise errors.Repeated("var_names", repeated, "call adata.var_names_make_unique() first")
    if layer is not None and layer not in adata.layers:
        names = [name for name in adata.layers if name is not None]  # where anndata 0.13 keeps X
        raise errors.MissingEntry(layer, names, "layers", "layer")
    values = adata.X if layer is None else adata.layers[layer]
    if values is None:
        raise errors.Empty("values in X", "name the layer that holds the counts")
    if not isinstance(values, np.ndarray) and not sparse.issparse(values):
        raise errors.NotInMemory("X" if layer is None else f"layers[{layer!r}]")
    # half precision holds no sum above 65,504, which is less than the counts of a sample
    return values.astype(np.float32) if values.dtype == np.float16 else values


def align_genes(values: Any, names: pd.Index, genes: pd.Index, min_overlap: float) -> Any:
    """Return columns in the order of ``genes``, with zeros for missing ones; a share ``min_overlap`` must be there."""
    check_number("min_overlap", min_overlap, above=0, most=1)
    if names.equals(genes):
        return values
    places = names.get_indexer(genes)
    present = places >= 0
    if present.all():
        return values[:, places]
    check_overlap(present, genes, names, min_overlap, f"genes of the encoder's {len(genes)} in var_names")
    missing = f"{(~present).sum()} of the {len(genes)} genes that the encoder was fitted on are not in var_names"
    warn(f"{missing}, so it fills them in: {some(genes[~present])}")
    values, columns = values[:, places[present]], np.flatnonzero(present)
    if sparse.issparse(values):
        rows = values.tocsr()
        return type(rows)((rows.data, columns[rows.indices], rows.indptr), shape=(rows.shape[0], len(genes)))
    full = np.zeros((len(values), len(genes)), dtype=values.dtype)
    full[:, columns] = values
    return full


def check_overlap(
    present: np.ndarray, genes: pd.Index, others: pd.Index, min_overlap: float, what: str, way_out: str = ""
) -> None:
    """Refuse genes of which too few are among others, naming what is missing and how both are written."""
    needed = max(1, math.ceil(min_overlap * len(genes) - 1e-9))  # 0.7 * 10 is a little more than 7
    if present.sum() < needed:
        missing, other = (
            f"{'ENSEMBL ids' if names.str.match(ENSEMBL).sum() > len(names) / 2 else 'symbols'} {some(names) or 'none'}"
            for names in (genes[~present], others)
        )
        way_out = way_out or "write both alike, or fit the encoder on the genes that both data sets have"
        raise errors.TooFew(what, int(present.sum()), needed, f"missing are {missing}; there are {other}; {way_out}")


def check_counts(
    values: Any, names: pd.Index, reason: str, is_wrong: Marks, way_out: str = "name the layer that holds the counts"
) -> None:
    """Refuse values that are no counts, naming their rows."""
    if (rows := find_rows(values, is_wrong)).size:
        raise errors.NotCounts(names[rows].tolist(), reason, way_out)


def warn_unless_counts(values: Any, adata: AnnData | None = None, layer: str | None = None) -> None:
    """Warn if values in ``layer`` of ``adata``, taken for counts, are not whole, and so may be normalised already.

    Fractions are no error, since programs that estimate counts give them; gaps are, where they are read.
    """
    if not find_rows(values, lambda x: is_fractional(x) & ~np.isnan(x)).size:
        return
    where, layers = "expression", []
    if adata is not None:
        x = "X, which is logged by uns['log1p']," if "log1p" in adata.uns else "X"
        where = x if layer is None else f"layers[{layer!r}]"
        layers = [f"layer={name!r}" for name in {None: 0, **adata.layers} if name != layer and _has_counts(adata, name)]
    counts = f"{' or '.join(layers[:5])}, whole numbers," if layers else "the layer of the counts as layer="
    warn(
        f"{where} holds numbers that are not whole, but is scaled to 10,000 counts in each sample and logged; if it is "
        f"normalised already, pass {counts} or normalize=False, or put counts in its place"
    )


def _has_counts(adata: AnnData, layer: str | None) -> bool:
    values = adata.X if layer is None else adata.layers[layer]
    in_memory = (isinstance(values, np.ndarray) or sparse.issparse(values)) and values.dtype.kind in "iuf"
    return in_memory and not find_rows(values, lambda x: is_fractional(x) | (x < 0)).size


def is_fractional(values: np.ndarray) -> np.ndarray:
    """Return which values are no whole numbers."""
    return values != np.round(values)


def find_rows(values: Any, is_wrong: Marks) -> np.ndarray:
    """Return the rows of a dense or sparse matrix that hold a wrong value; temporaries are small beside the matrix."""
    wrong = np.zeros(values.shape[0], dtype=bool)
    if sparse.issparse(values):
        values = values if values.format in ("csr", "csc") else values.tocsr()
        starts, by_row = values.indptr, values.format == "csr"
        for block in row_blocks(int(starts[-1]), BLOCK_VALUES):
            at = np.flatnonzero(is_wrong(values.data[block])) + block.start
            rows = np.searchsorted(starts, at.astype(starts.dtype), "right") - 1 if by_row else values.indices[at]
            wrong[rows] = True
    else:
        for block in row_blocks(len(values), rows_at_once(BLOCK_VALUES, values.shape[1])):
            wrong[block] = is_wrong(np.asarray(values[block])).any(axis=1)
    return np.flatnonzero(wrong)


def densify(values: Any, *, copy: bool = False) -> np.ndarray:
    """Return a dense or sparse matrix as a dense float32 array, a new one if ``copy``."""
    with np.errstate(over="ignore"):  # whoever writes the array names the rows that float32 cannot hold
        if sparse.issparse(values):
            return values.astype(np.float32).toarray()
        return np.asarray(values).astype(np.float32, copy=copy)
