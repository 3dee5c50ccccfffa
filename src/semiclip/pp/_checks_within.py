"""The usual mistakes within one modality, one function for each."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from semiclip.encoders._expression import find_rows
from semiclip.errors import some
from semiclip.pp._checks_controls import find_few_controls, find_no_treated
from semiclip.pp._checks_labels import find_blanks, find_nameless
from semiclip.pp._checks_position import find_repeated_wells
from semiclip.pp._modality import Finding, Modality, find_gaps, is_numeric

ROWS_LOOKED_AT = 1000  # of a matrix of counts
GENE_ID = r"(?:ENS[A-Z]*G\d{6,}(?:\.\d+)?|\d+)"  # Ensembl or Entrez
SYMBOLS = ("gene_symbols", "gene_symbol", "symbol", "symbols", "gene_name", "gene_names", "feature_name")


def find_missing_columns(modality: Modality) -> Iterator[Finding]:
    """Find columns that are not there."""
    obs, code = modality.adata.obs, modality.code
    if absent := [key for key in modality.columns if key not in obs]:
        finding = f"obs has no column {some(absent)}, only {some(obs.columns, 10) or 'none'}"
        mend = f"rename a column of {code}.obs, or join a plate map by scl.io.plate_map"
        yield Finding("error", "missing column", modality.name, finding, mend)


def find_repeated_columns(modality: Modality) -> Iterator[Finding]:
    """Find columns of ``obs`` whose name repeats, of which none can be read."""
    obs = modality.adata.obs
    if repeated := obs.columns[obs.columns.duplicated()].unique().tolist():
        finding = f"obs has more than one column named {some(repeated)}"
        mend, code = f"rename or delete them in {modality.code}.obs, since they differ", ""
        if all(obs[key].T.drop_duplicates().shape[0] == 1 for key in repeated):
            columns = f"{modality.code}.obs.columns.duplicated()"
            mend = "keep the first column of each name; they are the same"
            code = f"{modality.code}.obs = {modality.code}.obs.loc[:, ~{columns}]"
        yield Finding("error", "repeated columns", modality.name, finding, mend, code)


def find_repeated_names(modality: Modality) -> Iterator[Finding]:
    """Find names of samples or variables that repeat."""
    for axis, severity in (("obs", "error"), ("var", "warning")):
        names = getattr(modality.adata, f"{axis}_names")
        if repeated := names[names.duplicated()].unique().tolist():
            finding = f"{len(repeated)} {axis}_names repeat: {some(repeated)}"
            mend = f"number the {axis}_names that repeat"
            code = f"{modality.code}.{axis}_names_make_unique(); mdata.update()"
            yield Finding(severity, "repeated names", modality.name, finding, mend, code)


def _list_values(modality: Modality) -> dict[str, Any]:
    """Return expression and embeddings, dense or sparse, of two axes each, by where they are."""
    adata = modality.adata
    places: dict[str, Any] = {} if adata.isbacked else {"X": adata.X}  # a file is not read for this
    places |= {f"obsm[{key!r}]": values for key, values in adata.obsm.items()}
    arrays = {where: np.asarray(x) if isinstance(x, pd.DataFrame) else x for where, x in places.items()}
    dense = {where: x.reshape(adata.n_obs, -1) for where, x in arrays.items() if isinstance(x, np.ndarray)}
    return {where: dense.get(where, x) for where, x in arrays.items() if where in dense or hasattr(x, "tocoo")}


def find_not_finite(modality: Modality) -> Iterator[Finding]:
    """Find NaN and infinity in embeddings and expression, dense or sparse."""
    adata = modality.adata
    for where, values in _list_values(modality).items():
        is_sparse = hasattr(values, "tocoo")
        if values.dtype.kind != "f":
            continue
        bad = find_rows(values, lambda x: ~np.isfinite(x))
        if not bad.size:
            continue
        finding = f"{where} is NaN or infinite in {len(bad)} row(s): {some(adata.obs_names[bad])}"
        code = f"{modality.code}.{where}"
        if len(bad) > adata.n_obs / 2:
            mend = f"fill {code}, or leave out its columns that hold them: few rows have none"
        else:
            rows = f"np.isfinite(np.asarray({code})).reshape({modality.code}.n_obs, -1).all(axis=1)"  # or three axes
            rows = f"np.isfinite(np.asarray(abs({code}).sum(axis=1))).ravel()" if is_sparse else rows
            mend = f"measure them again, or drop {len(bad)} row(s): {modality.subset(rows)}"
        yield Finding("error", "not finite", modality.name, finding, mend)


def find_gene_identifiers(modality: Modality) -> Iterator[Finding]:
    """Find genes by identifier, where relationships and gene sets know symbols."""
    names, code = modality.adata.var_names.astype(str), modality.code
    identifiers = names[names.str.fullmatch(GENE_ID)]
    if len(identifiers) and len(identifiers) >= len(names) / 2:
        column = next((key for key in SYMBOLS if key in modality.adata.var), None)
        finding = f"{len(identifiers)} of {len(names)} var_names are identifiers, such as {some(identifiers, 3)}"
        mend, change = f"name the genes of {code} by symbols", ""
        if column is not None:
            mend += f", which are in var[{column!r}]"
            # a gene without a symbol keeps its identifier
            names_of = "symbol if isinstance(symbol, str) and symbol.strip() else name for symbol, name in zip"
            change = f"{code}.var_names = [{names_of}({code}.var[{column!r}], {code}.var_names)]"
            change += f"; {code}.var_names_make_unique(); mdata.update()"
        yield Finding("warning", "gene identifiers", modality.name, finding, mend, change)


def find_no_counts(modality: Modality) -> Iterator[Finding]:
    """Find values that are no raw counts."""
    kind = _name_kind(modality.adata.X)
    if kind is not None:
        finding = f"X holds {kind}, no raw counts, which encoder='scvi' reads and encoder='pca' normalises"
        mend = "encode by scl.pp.encode(..., encoder='pca', normalize=False), if they are normalised already"
        if "counts" in modality.adata.layers and _name_kind(modality.adata.layers["counts"]) is None:
            mend = "read the counts by layer='counts' of scl.pp.encode, or put them in place of X, which is lost then: "
            mend += f"{modality.code}.X = {modality.code}.layers['counts'].copy()"
        yield Finding("info", "no counts", modality.name, finding, mend)


def _name_kind(values: Any) -> str | None:
    """Return what the first rows of a matrix hold, unless these are counts."""
    if values is None:
        return None
    values = values[:ROWS_LOOKED_AT]
    values = values.data if hasattr(values, "toarray") else np.asarray(values)
    if values.dtype.kind not in "iuf":
        return None
    values = values[np.isfinite(values)]  # what is not is a finding of its own
    return "negative values" if (values < 0).any() else "fractions" if (values != np.floor(values)).any() else None


def find_empty_rows(modality: Modality) -> Iterator[Finding]:
    """Find rows in which nothing was measured: no counts, or an embedding of zeros."""
    adata = modality.adata
    for where, values in _list_values(modality).items():
        if values.dtype.kind not in "iuf" or values.shape[0] == 0:
            continue
        filled = find_rows(values, lambda x: x != 0)
        if len(filled) == adata.n_obs:
            continue
        empty = np.setdiff1d(np.arange(adata.n_obs), filled)
        finding = f"{where} is zero throughout in {len(empty)} row(s): {some(adata.obs_names[empty])}"
        mend = f"see what became of these rows; if nothing was measured, drop them from {modality.code}, as "
        mend += "scanpy.pp.filter_cells does for rows without counts"
        yield Finding("warning", "empty rows", modality.name, finding, mend)


def find_no_values(modality: Modality) -> Iterator[Finding]:
    """Find a student with neither expression nor an embedding."""
    if modality.adata.X is None and not len(modality.adata.obsm):
        finding, mend = "there are neither values in X nor embeddings in obsm", "add the counts as X, or an embedding"
        yield Finding("error", "no values", modality.name, finding, f"{mend} as obsm['X_pca']")


def find_no_embedding(modality: Modality) -> Iterator[Finding]:
    """Find a teacher whose values are in ``X`` alone, where training does not look for them."""
    adata = modality.adata
    if len(adata.obsm):
        return
    if adata.X is None:
        finding, mend = "there are neither values in X nor embeddings in obsm", "add an embedding as obsm['X_image']"
        yield Finding("error", "no values", modality.name, finding, mend)
        return
    key, values = f"X_{modality.name}", f"{modality.code}.X"
    finding = "obsm holds no embedding, which training reads; X holds values"
    mend = f"copy X to obsm[{key!r}], if it is the embedding, and pass teacher_rep={key!r}"
    values += ".toarray()" if hasattr(adata.X, "toarray") else ".copy()"
    yield Finding("error", "no embedding", modality.name, finding, mend, f"{modality.code}.obsm[{key!r}] = {values}")


def find_missing_values(modality: Modality) -> Iterator[Finding]:
    """Find rows without a value, such as treated rows without a dose."""
    is_control, design = modality.is_control, modality.design
    names = (design.perturbation_key, design.batch_key, modality.well_key)  # also where numbers, they measure nothing
    for key in modality.columns:
        column, code = modality.adata.obs[key], modality.column(key)
        missing = find_gaps(column)
        if missing.any():
            finding = f"obs[{key!r}] has no value in {missing.sum()} row(s): {some(modality.adata.obs_names[missing])}"
            mend, change, severity = f"fill these rows of {code}, or drop them", "", "error"
            if not missing[~is_control].any():
                finding += ", all controls"
                if column.isna()[is_control].all() and is_numeric(column) and key not in names:
                    mend = f"give the {missing.sum()} controls in {code} the dose 0"
                    change = f"{code} = {code}.astype(float).fillna(0)"
                if key not in (design.perturbation_key, design.batch_key):
                    severity = "info"  # controls are not paired
            yield Finding(severity, "missing values", modality.name, finding, mend, change)


ALWAYS = (find_repeated_names, find_not_finite, find_empty_rows)
STUDENT = (find_no_values, find_gene_identifiers, find_no_counts)
TEACHER = (find_no_embedding,)
COLUMNS = (find_missing_columns, find_repeated_columns)
WITH_COLUMNS = (
    find_blanks, find_nameless, find_no_treated, find_missing_values, find_few_controls, find_repeated_wells,
)  # fmt: skip
