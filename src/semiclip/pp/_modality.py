"""One modality as the checks look at it: its columns, how pairing compares them, and how to write them in code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pandas as pd

from semiclip._pairing import canonical_keys, find_unlabelled, sort_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from semiclip._design import Design


class Finding(NamedTuple):
    """One mistake: a row of what :func:`semiclip.pp.check` returns.

    ``mend`` is a sentence to a person. ``code`` is what may be run without one: it drops no row, it does nothing where
    the mistake is no more, and so it may be run in any order and again.
    """

    severity: str
    check: str
    modality: str
    finding: str
    mend: str
    code: str = ""


class Joint(NamedTuple):
    """What a MuData has of its own, beside copies from its modalities."""

    columns: Sequence[str] = ()
    """Columns of its ``obs``."""
    arrays: Sequence[str] = ()
    """Entries of its ``obsm`` and ``obsp``, as code."""
    is_named: bool = True
    """Whether each row is that of a sample by its name: no name repeats, or has changed since ``update()``."""

    @classmethod
    def of(cls, mdata: MuData) -> Self:
        """Look through a MuData."""
        copied = {f"{name}:{key}" for name, adata in mdata.mod.items() for key in adata.obs}
        kinds = {"obsm": mdata.obsm, "obsp": mdata.obsp}
        arrays = [f"mdata.{kind}[{key!r}]" for kind, held in kinds.items() for key in held if key not in mdata.mod]
        is_named = all(_is_named(mdata, name) for name in mdata.mod)
        return cls([key for key in mdata.obs if key not in copied], arrays, is_named)


def _is_named(mdata: MuData, name: str) -> bool:
    """Say whether a modality's samples have names of their own, under which the MuData has them."""
    names = mdata.mod[name].obs_names
    if name not in mdata.obsmap or not names.is_unique:
        return False
    rows = np.ravel(mdata.obsmap[name]).astype(np.intp)  # from 1; 0 for samples that the modality lacks
    held = rows[rows > 0]
    return len(held) == len(names) and mdata.obs_names[rows > 0].equals(names[held - 1])


class Modality(NamedTuple):
    """One modality and what its columns mean; its control labels need not occur."""

    name: str
    adata: AnnData
    design: Design
    well_key: str | None = None
    joint: Joint = Joint()

    @property
    def pair_on(self) -> list[str]:
        """The columns of the pairing key."""
        return list(self.design.pair_on or ())

    @property
    def columns(self) -> list[str]:
        """All columns that have a meaning."""
        keys = [*self.pair_on, self.design.perturbation_key, self.design.batch_key, self.well_key]
        return list(dict.fromkeys(key for key in keys if key is not None))

    @property
    def is_control(self) -> np.ndarray:
        """A mask of the controls."""
        if self.design.perturbation_key is None:
            return np.zeros(self.adata.n_obs, dtype=bool)
        labels = pd.Series(self.design.control or (), dtype=object).to_numpy()  # see Design.controls
        return self.adata.obs[self.design.perturbation_key].isin(labels).to_numpy(dtype=bool)

    @property
    def unlabelled(self) -> np.ndarray:
        """A mask of the treated rows whose label names nothing, which pairing leaves out."""
        return find_unlabelled(self.adata.obs, self.design, ~self.is_control)[0]

    def treated_keys(self) -> pd.DataFrame:
        """Return the distinct keys of the treated rows that have a label and all values, as pairing compares them."""
        obs = self.adata.obs[self.pair_on]
        left_out = [self.is_control, self.unlabelled, *(find_gaps(obs[key]) for key in self.pair_on)]
        rows = obs[~np.any(left_out, axis=0)].drop_duplicates()
        keys = pd.DataFrame({key: canonical_keys(rows[key]) for key in self.pair_on})
        return sort_keys(keys, self.design).drop_duplicates()

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

    def subset(self, rows: str) -> str:
        """Write how to keep the rows of a mask, for a person to decide: no ``code`` drops rows."""
        return f"mdata.mod[{self.name!r}] = {self.code}[{rows}].copy(); mdata.update()"

    def rename(self, key: str, names: Mapping[str, object]) -> str:
        """Write code that replaces labels of a column; no new name is an old one, so that it may be run again."""
        column, plain = self.column(key), {str(label): to_plain(name) for label, name in names.items()}
        # the names as a default, since a table in the body would be made again for each row
        return f"{column} = {column}.astype(object).map(lambda label, names={plain!r}: names.get(label, label))"


def to_plain(label: Any) -> Any:
    """Return a label of a type of NumPy as one of Python, which code and words can show."""
    return label.item() if isinstance(label, np.generic) else label


def is_numeric(column: pd.Series) -> bool:
    """Tell whether a column holds numbers, also as categories, by the rule of pairing."""
    return column.dropna().to_numpy().dtype.kind in "iuf"


def find_gaps(column: pd.Series) -> np.ndarray:
    """Return a mask of the rows without a value, or without a finite number in a column of numbers."""
    return ~np.isfinite(column.astype(float).to_numpy()) if is_numeric(column) else column.isna().to_numpy()


def parse_numbers(values: pd.Series) -> pd.Series:
    """Return text as numbers, NaN where it is none."""
    numbers = pd.to_numeric(values.astype(str), errors="coerce").astype(float)
    return numbers.where(np.isfinite(numbers))


def write_floats(modalities: Iterable[Modality], key: str) -> str | None:
    """Write code that makes columns numbers; ``None`` if it would fail, or make one value of two."""
    code = []
    for modality in modalities:
        column, at = modality.adata.obs[key], modality.column(key)
        if not is_numeric(column):
            numbers = parse_numbers(pd.Series(column.dropna().astype(str).unique(), dtype=object))
            if numbers.isna().any() or len(set(canonical_keys(numbers))) < len(numbers):
                return None
        if column.dtype.kind not in "iuf":
            code.append(f"{at} = {at}.astype(float)")
    return "; ".join(code)
