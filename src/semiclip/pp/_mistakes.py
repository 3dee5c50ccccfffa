"""The usual mistakes within one modality, each found by a function of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from semiclip._checks import some
from semiclip.encoders._protocol import rows_where

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from anndata import AnnData

ROWS_LOOKED_AT = 1000  # of a matrix of counts
CONTROL_NAME = re.compile(
    r"(dmso|control|ctrl|neg(ative)?(con|control|ctrl)?|non?targeting.*|safetargeting.*|ntc?|vehicle|empty.*|untreated|"
    r"mock|scrambled?)"
)
GENE_ID = r"(?:ENS[A-Z]*G\d{6,}(?:\.\d+)?|\d+)"  # Ensembl or Entrez
SYMBOLS = ("gene_symbols", "gene_symbol", "symbol", "symbols", "gene_name", "gene_names", "feature_name")


class Finding(NamedTuple):
    """One mistake: a row of what :func:`semiclip.pp.check` returns."""

    severity: str
    check: str
    modality: str
    finding: str
    mend: str


class Keys(NamedTuple):
    """What the columns of ``obs`` mean; without a label of controls there are none."""

    pair_on: list[str]
    perturbation: str | None
    control: list[Any]
    batch: str | None
    well: str | None


class Side(NamedTuple):
    """One modality and how to write it in code."""

    name: str
    adata: AnnData

    @property
    def code(self) -> str:
        """The modality, as code."""
        return f"mdata[{self.name!r}]"

    def column(self, key: str) -> str:
        """Write a column of its ``obs`` as code."""
        return f"{self.code}.obs[{key!r}]"

    def text(self, key: str) -> str:
        """Write a column of its ``obs`` as text, in which what is missing stays missing, as code."""
        column = self.column(key)
        return f"{column}.astype(str)" + (f".where({column}.notna())" if self.adata.obs[key].isna().any() else "")


def simple(names: pd.Series) -> pd.Series:
    """Return names as those of controls are looked up: without case, blanks, hyphens, underscores, dots."""
    return names.astype(str).str.casefold().str.replace(r"[\s_.\-‐–]+", "", regex=True)


def numeric(column: pd.Series) -> bool:
    """Tell whether a column holds numbers, be it as categories, as pairing tells it."""
    return column.dropna().to_numpy().dtype.kind in "iuf"


def control_rows(side: Side, keys: Keys) -> np.ndarray:
    """Return a mask of the controls, none of which need exist."""
    if keys.perturbation is None:
        return np.zeros(side.adata.n_obs, dtype=bool)
    return side.adata.obs[keys.perturbation].isin(keys.control).to_numpy()


def columns_of(keys: Keys) -> list[str]:
    """Return the columns that the keys name."""
    named = [*keys.pair_on, keys.perturbation, keys.batch, keys.well]
    return list(dict.fromkeys(key for key in named if key is not None))


def missing_columns(side: Side, keys: Keys) -> Iterator[Finding]:
    """Find columns that are not there."""
    obs = side.adata.obs
    if absent := [key for key in columns_of(keys) if key not in obs]:
        finding = f"obs has no column {some(absent)}, only {some(obs.columns, 10) or 'none'}"
        mend = f"{side.code}.obs = {side.code}.obs.rename(columns={{...}}), or scl.pp.annotate with a plate map"
        yield Finding("error", "missing column", side.name, finding, mend)


def repeated_names(side: Side) -> Iterator[Finding]:
    """Find names of samples or variables that repeat."""
    for axis, severity in (("obs", "error"), ("var", "warning")):
        names = getattr(side.adata, f"{axis}_names")
        if repeated := names[names.duplicated()].unique().tolist():
            finding = f"{len(repeated)} {axis}_names repeat: {some(repeated)}"
            mend = f"{side.code}.{axis}_names_make_unique(); mdata.update()"
            yield Finding(severity, "repeated names", side.name, finding, mend)


def not_finite(side: Side) -> Iterator[Finding]:
    """Find NaN and infinity in embeddings and expression, dense or sparse."""
    adata = side.adata
    places: dict[str, Any] = {} if adata.isbacked else {"X": adata.X}  # a file is not read for this
    places |= {f"obsm[{key!r}]": values for key, values in adata.obsm.items()}
    for where, held in places.items():
        values = np.asarray(held) if isinstance(held, pd.DataFrame) else held
        sparse = hasattr(values, "tocoo")
        if not (sparse or isinstance(values, np.ndarray)) or values.dtype.kind != "f":
            continue
        bad = rows_where(values if sparse else values.reshape(adata.n_obs, -1), lambda x: ~np.isfinite(x))
        if not bad.size:
            continue
        finding = f"{where} is NaN or infinite in {len(bad)} row(s): {some(adata.obs_names[bad])}"
        code = f"{side.code}.{where}"
        # views of samples have three axes
        finite = f"np.isfinite(np.asarray({code})).reshape({side.code}.n_obs, -1).all(axis=1)"
        if sparse:
            finite = f"np.isfinite(np.asarray(abs({code}).sum(axis=1))).ravel()"
        mend = f"mdata.mod[{side.name!r}] = {side.code}[{finite}].copy(); mdata.update()"
        if len(bad) > adata.n_obs / 2:
            mend = f"fill {code}, or leave out its columns that hold them: few rows have none"
        yield Finding("error", "not finite", side.name, finding, mend)


def gene_identifiers(side: Side) -> Iterator[Finding]:
    """Find genes by identifier, where relationships and gene sets know symbols."""
    names, var = side.adata.var_names.astype(str), side.adata.var
    identifiers = names[names.str.fullmatch(GENE_ID)]
    if len(identifiers) and len(identifiers) >= len(names) / 2:
        finding = f"{len(identifiers)} of {len(names)} var_names are identifiers, such as {some(identifiers, 3)}"
        mend = f"{side.code}.var_names = symbols of these genes; {side.code}.var_names_make_unique()"
        if there := [key for key in SYMBOLS if key in var]:
            mend = mend.replace("symbols of these genes", f"{side.code}.var[{there[0]!r}].astype(str)")
        yield Finding("warning", "gene identifiers", side.name, finding, mend)


def not_counts(side: Side) -> Iterator[Finding]:
    """Find values that are no raw counts."""
    values: Any = side.adata.X
    if values is None:
        return
    values = values[:ROWS_LOOKED_AT]
    values = values.data if hasattr(values, "toarray") else np.asarray(values)
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]  # what is not is a finding of its own
    if not values.size or values.dtype.kind not in "iuf":
        return
    negative = bool((values < 0).any())
    if negative or bool((values != np.floor(values)).any()):
        kind = "negative values" if negative else "fractions"
        finding = f"X holds {kind}, no raw counts, which encoder='scvi' reads and encoder='pca' normalises"
        mend = "scl.pp.encode(..., encoder='pca', normalize=False) for values that are normalised already"
        if "counts" in side.adata.layers:
            mend = f"{side.code}.X = {side.code}.layers['counts'].copy()"
        yield Finding("info", "no counts", side.name, finding, mend)


def missing_values(side: Side, keys: Keys) -> Iterator[Finding]:
    """Find rows without a value, such as treated rows without a dose."""
    is_control = control_rows(side, keys)
    for key in columns_of(keys):
        column = side.adata.obs[key]
        missing = column.isna().to_numpy()
        if numeric(column):
            missing = ~np.isfinite(column.astype(float).to_numpy())
        if missing.any():
            finding = f"obs[{key!r}] has no value in {missing.sum()} row(s): {some(side.adata.obs_names[missing])}"
            mend, severity = f"fill these rows of {side.column(key)}, or drop them", "error"
            if not missing[~is_control].any():
                finding = f"{finding}, all controls"
                if missing[is_control].all() and numeric(column):
                    mend = f"{side.column(key)} = {side.column(key)}.astype(float).fillna(0)"
                if key not in (keys.perturbation, keys.batch):
                    severity = "info"  # controls are not paired
            yield Finding(severity, "missing values", side.name, finding, mend)


def few_controls(side: Side, keys: Keys) -> Iterator[Finding]:
    """Find batches that have no two controls to be corrected on; without batches all rows are one."""
    is_control = control_rows(side, keys)
    if not is_control.any():
        return
    names = np.repeat("all rows", side.adata.n_obs) if keys.batch is None else np.asarray(side.adata.obs[keys.batch])
    counts = pd.Series(is_control).groupby(names).sum()
    few = counts[counts < 2]
    if len(few):
        finding = f"{len(few)} batch(es) have fewer than 2 controls: {some(f'{name} ({n})' for name, n in few.items())}"
        mend = "2 are needed in each: name all controls in control=, or larger batches as batch_key="
        if keys.batch is not None and len(few) < len(counts):
            keep = f"~{side.column(keys.batch)}.isin({few.index.tolist()!r})"
            mend = f"mdata.mod[{side.name!r}] = {side.code}[{keep}].copy(); mdata.update()"
        yield Finding("error", "few controls", side.name, finding, mend)


def repeated_wells(side: Side, keys: Keys) -> Iterator[Finding]:
    """Find plates that have a well several times: two experiments that name their plates alike."""
    if keys.batch is None or keys.well is None:
        return
    obs = side.adata.obs
    repeated = obs.duplicated([keys.batch, keys.well])
    if not repeated.any():
        return
    plates = obs.loc[repeated.to_numpy(), keys.batch].astype(str).unique().tolist()
    # what tells them apart is the column with the fewest values under which no well repeats
    others = sorted((obs[key].nunique(), str(key)) for key in obs.columns.difference([keys.batch, keys.well]))
    apart = [key for n, key in others if n > 1 and not obs.duplicated([keys.batch, keys.well, key]).any()]
    finding = f"{repeated.sum()} well(s) are there again on plate(s) {some(plates)}: several plates of one name?"
    column = side.column(keys.batch)
    mend = f"add what tells the plates apart, such as the experiment, to {column}"
    if apart:
        mend = f"{column} = {side.text(apart[0])} + ':' + {side.text(keys.batch)}"
    yield Finding("error", "repeated wells", side.name, finding, mend)


ALWAYS: list[Callable[[Side], Iterator[Finding]]] = [repeated_names, not_finite]
STUDENT: list[Callable[[Side], Iterator[Finding]]] = [gene_identifiers, not_counts]
WITH_COLUMNS: list[Callable[[Side, Keys], Iterator[Finding]]] = [
    missing_values,
    few_controls,
    repeated_wells,
]
