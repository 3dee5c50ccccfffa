"""The usual mistakes within one modality, one function for each."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from semiclip.encoders._expression import find_rows
from semiclip.errors import some
from semiclip.pp._modality import Finding, Modality, find_gaps, is_numeric

ROWS_LOOKED_AT = 1000  # of a matrix of counts
GENE_ID = r"(?:ENS[A-Z]*G\d{6,}(?:\.\d+)?|\d+)"  # Ensembl or Entrez
SYMBOLS = ("gene_symbols", "gene_symbol", "symbol", "symbols", "gene_name", "gene_names", "feature_name")


def find_missing_columns(modality: Modality) -> Iterator[Finding]:
    """Find columns that are not there."""
    obs, code = modality.adata.obs, modality.code
    if absent := [key for key in modality.columns if key not in obs]:
        finding = f"obs has no column {some(absent)}, only {some(obs.columns, 10) or 'none'}"
        mend = f"{code}.obs = {code}.obs.rename(columns={{...}}), or scl.io.plate_map with a plate map"
        yield Finding("error", "missing column", modality.name, finding, mend)


def find_repeated_names(modality: Modality) -> Iterator[Finding]:
    """Find names of samples or variables that repeat."""
    for axis, severity in (("obs", "error"), ("var", "warning")):
        names = getattr(modality.adata, f"{axis}_names")
        if repeated := names[names.duplicated()].unique().tolist():
            finding = f"{len(repeated)} {axis}_names repeat: {some(repeated)}"
            mend = f"{modality.code}.{axis}_names_make_unique(); mdata.update()"
            yield Finding(severity, "repeated names", modality.name, finding, mend)


def find_not_finite(modality: Modality) -> Iterator[Finding]:
    """Find NaN and infinity in embeddings and expression, dense or sparse."""
    adata = modality.adata
    places: dict[str, Any] = {} if adata.isbacked else {"X": adata.X}  # a file is not read for this
    places |= {f"obsm[{key!r}]": values for key, values in adata.obsm.items()}
    for where, values in places.items():
        values = np.asarray(values) if isinstance(values, pd.DataFrame) else values
        is_sparse = hasattr(values, "tocoo")
        if not (is_sparse or isinstance(values, np.ndarray)) or values.dtype.kind != "f":
            continue
        bad = find_rows(values if is_sparse else values.reshape(adata.n_obs, -1), lambda x: ~np.isfinite(x))
        if not bad.size:
            continue
        finding = f"{where} is NaN or infinite in {len(bad)} row(s): {some(adata.obs_names[bad])}"
        code = f"{modality.code}.{where}"
        if len(bad) > adata.n_obs / 2:
            mend = f"fill {code}, or leave out its columns that hold them: few rows have none"
        elif is_sparse:
            mend = modality.subset(f"np.isfinite(np.asarray(abs({code}).sum(axis=1))).ravel()")
        else:  # obsm may have three axes
            mend = modality.subset(f"np.isfinite(np.asarray({code})).reshape({modality.code}.n_obs, -1).all(axis=1)")
        yield Finding("error", "not finite", modality.name, finding, mend)


def find_gene_identifiers(modality: Modality) -> Iterator[Finding]:
    """Find genes by identifier, where relationships and gene sets know symbols."""
    names, code = modality.adata.var_names.astype(str), modality.code
    identifiers = names[names.str.fullmatch(GENE_ID)]
    if len(identifiers) and len(identifiers) >= len(names) / 2:
        column = next((key for key in SYMBOLS if key in modality.adata.var), None)
        symbols = "symbols of these genes" if column is None else f"{code}.var[{column!r}].astype(str)"
        finding = f"{len(identifiers)} of {len(names)} var_names are identifiers, such as {some(identifiers, 3)}"
        mend = f"{code}.var_names = {symbols}; {code}.var_names_make_unique()"
        yield Finding("warning", "gene identifiers", modality.name, finding, mend)


def find_no_counts(modality: Modality) -> Iterator[Finding]:
    """Find values that are no raw counts."""
    values: Any = modality.adata.X
    if values is None:
        return
    values = values[:ROWS_LOOKED_AT]
    values = values.data if hasattr(values, "toarray") else np.asarray(values)
    if values.dtype.kind not in "iuf":
        return
    values = values[np.isfinite(values)]  # what is not is a finding of its own
    kind = "negative values" if (values < 0).any() else "fractions" if (values != np.floor(values)).any() else None
    if kind is not None:
        finding = f"X holds {kind}, no raw counts, which encoder='scvi' reads and encoder='pca' normalises"
        mend = "scl.pp.encode(..., encoder='pca', normalize=False) for values that are normalised already"
        if "counts" in modality.adata.layers:
            mend = f"{modality.code}.X = {modality.code}.layers['counts'].copy()"
        yield Finding("info", "no counts", modality.name, finding, mend)


def find_missing_values(modality: Modality) -> Iterator[Finding]:
    """Find rows without a value, such as treated rows without a dose."""
    is_control = modality.is_control
    for key in modality.columns:
        column, code = modality.adata.obs[key], modality.column(key)
        missing = find_gaps(column)
        if missing.any():
            finding = f"obs[{key!r}] has no value in {missing.sum()} row(s): {some(modality.adata.obs_names[missing])}"
            mend, severity = f"fill these rows of {code}, or drop them", "error"
            if not missing[~is_control].any():
                finding += ", all controls"
                if missing[is_control].all() and is_numeric(column):
                    mend = f"{code} = {code}.astype(float).fillna(0)"
                if key not in (modality.design.perturbation_key, modality.design.batch_key):
                    severity = "info"  # controls are not paired
            yield Finding(severity, "missing values", modality.name, finding, mend)


def find_few_controls(modality: Modality) -> Iterator[Finding]:
    """Find batches that have no two controls to be corrected on; without batches all rows are one."""
    is_control, key = modality.is_control, modality.design.batch_key
    names = np.repeat("all rows", len(is_control)) if key is None else np.asarray(modality.adata.obs[key])
    counts = pd.Series(is_control).groupby(names).sum()
    few = counts[counts < 2]
    if is_control.any() and len(few):
        finding = f"{len(few)} batch(es) have fewer than 2 controls: {some(f'{name} ({n})' for name, n in few.items())}"
        mend = "2 are needed in each: name all controls in control=, or larger batches as batch_key="
        if key is not None and len(few) < len(counts):
            mend = modality.subset(f"~{modality.column(key)}.isin({few.index.tolist()!r})")
        yield Finding("error", "few controls", modality.name, finding, mend)


def find_repeated_wells(modality: Modality) -> Iterator[Finding]:
    """Find plates that have a well several times: two experiments that name their plates alike."""
    batch, well, obs = modality.design.batch_key, modality.well_key, modality.adata.obs
    if batch is None or well is None or not (repeated := obs.duplicated([batch, well]).to_numpy()).any():
        return
    plates = obs.loc[repeated, batch].astype(str).unique().tolist()
    # what tells them apart is the column with the fewest values under which no well repeats
    others = sorted((obs[key].nunique(), str(key)) for key in obs.columns.difference([batch, well]))
    apart = [key for n, key in others if n > 1 and not obs.duplicated([batch, well, key]).any()]
    finding = f"{repeated.sum()} well(s) occur twice on plate(s) {some(plates)}: do several plates share a name?"
    column = modality.column(batch)
    mend = f"add what tells the plates apart, such as the experiment, to {column}"
    if apart:
        mend = f"{column} = {modality.text(apart[0])} + ':' + {modality.text(batch)}"
    yield Finding("error", "repeated wells", modality.name, finding, mend)


ALWAYS = (find_repeated_names, find_not_finite)
STUDENT = (find_gene_identifiers, find_no_counts)
WITH_COLUMNS = (find_missing_values, find_few_controls, find_repeated_wells)
