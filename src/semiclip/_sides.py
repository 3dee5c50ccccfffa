"""Reads both sides of a study as arrays: representations, pairs, groups of a split, classes and augmented views."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from semiclip._checks import check_finite, read_column, read_representation
from semiclip._design import SIDES, STUDENT
from semiclip._messages import warn
from semiclip._numerics import row_blocks
from semiclip._pairing import key_codes, pair_rows, pair_rows_in_place
from semiclip._provenance import recorded_fingerprint
from semiclip._views import split_views
from semiclip.errors import BadValue, Mismatch, Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData

    from semiclip._design import Design, Side
    from semiclip._pairing import Pairing
    from semiclip.correction import Correction, CorrectionSpec

logger = logging.getLogger(__name__)

FINGERPRINT = "fingerprint"  # of the student's encoder, in the registry of a model whose training data tell it
HASHED = 1 << 14  # rows at a time
SAME_VIEWS = 0.01  # relative distance up to which controls and their views are the same; devices differ by less


class SideArrays(NamedTuple):
    """One side as arrays: the representation (n, d), and batch codes and a mask of the reference rows, both (n,).

    The representation is float64, float32 or, as it is stored, float16; a correction of the last is float32.
    """

    values: np.ndarray
    batch: np.ndarray
    reference: np.ndarray
    batch_names: list[Any]

    def fit(self, spec: CorrectionSpec) -> Correction:
        """Fit a correction on the reference rows."""
        return spec.fit(self.values, self.batch, self.reference, self.batch_names)

    def correct(self, spec: CorrectionSpec) -> np.ndarray:
        """Return all rows, corrected."""
        return self.fit(spec)(self.values, self.batch)


def read_side(
    adata: AnnData, rep: str, design: Design, side: Side, learned: Mapping[str, Any] | None = None
) -> SideArrays:
    """Return the arrays of one side; ``learned`` says what a trained model knows of the representation's columns."""
    values = read_representation(adata, rep, f"{side}_rep", keep_half=True)
    if learned is not None:
        values = match_columns(adata, rep, values, learned, is_query=True)
    batch, names = design.batches(adata)
    return SideArrays(values, batch, design.within(adata).reference(adata), names.tolist())


@dataclass
class PairedObs:
    """The columns of both sides that say what a row is, as they were when this was made, and the pairs they make."""

    data: AnnData | MuData
    design: Design
    obs: dict[Side, pd.DataFrame] = field(init=False)

    def __post_init__(self) -> None:
        self.obs = {side: self._columns(side).copy() for side in SIDES}

    @cached_property
    def pairing(self) -> Pairing:
        """The pairs, made when they are first asked for."""
        return pair_sides(self.data, self.design)

    def is_current(self, data: AnnData | MuData, design: Design) -> bool:
        """Say whether these are the pairs of some data, whose columns have not changed since."""
        if self.data is not data or self.design != design:
            return False
        return all(_are_alike(self._columns(side), self.obs[side]) for side in SIDES)

    def _columns(self, side: Side) -> pd.DataFrame:
        obs, design = self.design.side(self.data, side).obs, self.design
        columns = [design.perturbation_key, design.batch_key, *(design.pair_on or ())]
        return obs[[key for key in dict.fromkeys(columns) if key in obs]]


@dataclass
class Reading:
    """Both sides of a study, their corrections and pairs, each read or fitted when it is first asked for, and once."""

    paired: PairedObs
    reps: Mapping[Side, str]
    specs: Mapping[Side, CorrectionSpec]
    learned: Mapping[Side, Mapping[str, Any]]
    key_means: Any = None  # of all keys, where they were counted
    traces: dict[Side, tuple[Any, np.ndarray | None, str | None]] = field(init=False, default_factory=dict)

    @property
    def design(self) -> Design:
        """What the columns mean."""
        return self.paired.design

    @property
    def pairing(self) -> Pairing:
        """Which rows belong together."""
        return self.paired.pairing

    @cached_property
    def sides(self) -> dict[Side, SideArrays]:
        """Arrays of each side, whose representation must be the one of the setup."""
        self.traces = {side: (stored := self._stored(side), _hash_rows(stored), self._record(side)) for side in SIDES}
        side_of = {side: (self.adata(side), self.reps[side]) for side in SIDES}
        return {side: read_side(*side_of[side], self.design, side, self.learned[side]) for side in SIDES}

    @cached_property
    def corrections(self) -> dict[Side, Correction]:
        """What corrects each side."""
        return {side: arrays.fit(self.specs[side]) for side, arrays in self.sides.items()}

    def is_current(self) -> bool:
        """Say whether representations are still those that were read; what is in a file is not looked at again."""
        for side, (known, hashes, record) in self.traces.items():
            if record != self._record(side):
                return False
            stored = self._stored(side)  # a table or a sparse matrix is not looked into, but read again
            if stored is not known:
                return False
            again = _hash_rows(stored)
            same = _is_in_file(stored) if hashes is None or again is None else np.array_equal(again, hashes)
            if not same:
                return False
        return True

    def adata(self, side: Side) -> AnnData:
        """Return the samples of a side."""
        return self.design.side(self.paired.data, side)

    def _stored(self, side: Side) -> Any:
        return self.adata(side).obsm.get(self.reps[side])

    def _record(self, side: Side) -> str | None:
        return recorded_fingerprint(self.adata(side), self.reps[side]) if side == STUDENT else None


def _are_alike(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    """Say whether columns are equal, with the types of their values: 1 and 1.0 are other labels."""
    return one.equals(other) and all(_list_types(one[key]) == _list_types(other[key]) for key in one)


def _list_types(column: pd.Series) -> list[type]:
    """Return the types of a column's values, or of its categories."""
    values = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column
    return list(map(type, values)) if values.dtype == object else []


def _hash_rows(stored: Any) -> np.ndarray | None:
    """Return a number for each row of an array of numbers, which changes with any of its bits; ``None`` of all else."""
    if not isinstance(stored, np.ndarray) or stored.ndim != 2 or stored.dtype.kind not in "fiu":
        return None
    # in words of up to 32 bits, so that odd factors of 64 bits keep changes of the highest ones apart
    word = f"u{math.gcd(stored.dtype.itemsize, 4)}"
    n_words = stored.shape[1] * stored.dtype.itemsize // np.dtype(word).itemsize
    factors = np.random.default_rng(0).integers(2**63, size=n_words, dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(stored), dtype=np.uint64)
    for rows in row_blocks(len(stored), HASHED):
        np.einsum("ij,j->i", np.ascontiguousarray(stored[rows]).view(word), factors, dtype=np.uint64, out=hashes[rows])
    return hashes


def _is_in_file(values: Any) -> bool:
    return hasattr(values, "chunks") and not hasattr(values, "compute") and getattr(values, "ndim", 0) == 2


def check_representation(adata: AnnData, rep: str, parameter: str) -> None:
    """Refuse a representation that cannot be trained on; values in a file are checked when training reads them."""
    values = adata.obsm.get(rep)
    if not (_is_in_file(values) and values.shape[1] and np.dtype(values.dtype).kind in "fiu"):
        read_representation(adata, rep, parameter, keep_half=True)


def check_columns(data: AnnData | MuData, design: Design, side: Side) -> None:
    """Read every column of a side that the design names, so that what is wrong is said before anything is computed."""
    adata = design.side(data, side)
    design.batches(adata)
    own = design.within(adata) if design.pair_on is not None else design
    own.controls(adata)
    if design.perturbation_key is not None:
        design.perturbations(adata)
    if side == STUDENT and design.split_key is not None:
        read_column(adata, design.split_key, "split_key")
    if side == STUDENT and design.label_key is not None:
        read_column(adata, design.label_key, "label_key", np.zeros(adata.n_obs, dtype=bool))  # rows may lack a label


def pair_sides(data: AnnData | MuData, design: Design) -> Pairing:
    """Pair by key, or row by row in an AnnData that holds both representations."""
    if design.pair_on is None:
        return pair_rows_in_place(design.side(data, STUDENT), design)
    return pair_rows(*design.sides(data), design)


def read_groups(student: AnnData, design: Design, key: np.ndarray) -> np.ndarray:
    """Return a code of what a split must not tear apart for each student row: by default perturbations and keys."""
    column = design.split_key or design.perturbation_key
    if column is None:
        return key
    code, names = pd.factorize(read_column(student, column, "split_key"))
    code = np.unique(np.asarray(names).astype(str), return_inverse=True)[1][code]  # in the order of their names
    if design.split_key is not None:
        return code
    groups = tie_groups(code, key)
    n_apart, n_together = (np.count_nonzero(np.bincount(codes[key >= 0])) for codes in (code, groups))
    if n_tied := n_apart - n_together:
        logger.info("%d perturbations join others in the split, because they share a pairing key", n_tied)
    return groups


def tie_groups(code: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Return for each sample the first code of all groups, such as guides, tied to its own by keys; -1 is no key."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n_groups, keyed = int(code.max(initial=-1)) + 1, key >= 0
    size = n_groups + int(key.max(initial=-1)) + 1
    edges = code[keyed], n_groups + key[keyed]
    graph = coo_array((np.ones(keyed.sum(), dtype=bool), edges), shape=(size, size))
    component = connected_components(graph, directed=False)[1][:n_groups]
    _, first, whole = np.unique(component, return_index=True, return_inverse=True)
    return first[whole][code]


def read_labels(student: AnnData, design: Design, pairing: Pairing) -> np.ndarray:
    """Return the class of each student row: its pairing key, unless ``label_key`` says otherwise."""
    column = design.label_key or (design.perturbation_key if design.pair_on is None else None)
    if column is not None:
        paired = pairing.student >= 0  # other rows, such as controls, need no label
        read_column(student, column, "label_key", paired)
        return student.obs[column].astype(str).to_numpy()
    if design.pair_on is None:
        raise BadValue("label_key", None, "an obs column with the classes that this objective learns from")
    keys = pairing.counts.drop(columns=["n_student", "n_teacher"]).astype(str).agg(" | ".join, axis=1).to_numpy()
    return keys[pairing.student]  # rows without a key get the last one, which nobody reads


def match_columns(
    adata: AnnData, rep: str, values: np.ndarray, learned: Mapping[str, Any], *, is_query: bool
) -> np.ndarray:
    """Return ``obsm[rep]`` with the columns in the order of the setup, or refuse it; a query without a record warns."""
    columns, mend = learned["column_names"], "encode the query with the encoder of the training data"
    if values.shape[1] != len(columns):
        raise Mismatch(f"the number of dimensions of obsm[{rep!r}]", values.shape[1], len(columns), mend)
    own, trained = recorded_fingerprint(adata, rep), learned.get(FINGERPRINT)
    if trained is not None and own != trained:
        told = f"{mend}: scl.pp.encode(query, encoder=encoder, key_added={rep!r})"
        if own is not None:
            told += f"; if obsm was written otherwise since, delete uns['semiclip'][{rep!r}]"
            raise Mismatch(f"the encoder that made obsm[{rep!r}]", own, trained, told)
        if is_query:
            warn(f"obsm[{rep!r}] does not tell which encoder made it; {told}")
    if not isinstance(adata.obsm[rep], pd.DataFrame) or not isinstance(columns, list):
        return values
    names, expected = (pd.Index([str(name) for name in labels]) for labels in (adata.obsm[rep].columns, columns))
    if names.equals(expected):
        return values
    if not names.is_unique or not expected.is_unique or not expected.isin(names).all():
        raise Mismatch(f"the columns of obsm[{rep!r}]", list(names), list(expected), mend)
    return values.take(names.get_indexer(expected), axis=1)


def warn_if_corrected(student: AnnData, rep: str) -> None:
    """Warn of a student that is recorded to be corrected, since a model corrects it by itself."""
    params = student.uns.get("semiclip", {}).get(rep, {}).get("params", {})
    if "use_rep" in params:
        warn(
            f"obsm[{rep!r}] was corrected by scl.pp.pea_correct, and the model corrects it once more, which costs "
            f"recall: pass student_rep={params['use_rep']!r}, or make the model with student_correction=None and train "
            "it with pea=False"
        )


def read_views(student: AnnData, keys: Sequence[str], rep: str, design: Design, groups: np.ndarray) -> list[np.ndarray]:
    """Return the student's views in each ``obsm`` key, (n_student, n_views, d), which must not mix ``groups``."""
    control, arrays = design.within(student).controls(student), []
    for key in keys:
        values = read_representation(student, rep, "student_rep")
        views, mend = split_views(student, key, values.shape[1]), "make them again by scl.pp.augment"
        check_finite(views.reshape(student.n_obs, -1), student.obs_names, f"obsm[{key!r}]")
        fingerprints = {recorded_fingerprint(student, name) for name in (key, rep)} - {None}
        # views of controls are the controls themselves, which tells whether the embedding is still the same
        distance = np.linalg.norm(views[control] - values[control, None], axis=(0, 2)).max(initial=0)
        if len(fingerprints) > 1 or distance > SAME_VIEWS * np.linalg.norm(values[control]):
            raise Refused(f"obsm[{key!r}] has views of another embedding than obsm[{rep!r}]", way_out=mend)
        _check_mixed(student, key, groups, control)
        arrays.append(views)
    return arrays


def _check_mixed(student: AnnData, key: str, groups: np.ndarray, control: np.ndarray) -> None:
    """Refuse views that mix what the split holds apart, where their record tells."""
    params = student.uns.get("semiclip", {}).get(key, {}).get("params", {})
    # one name or several, also in the array that a file makes of a list
    columns = [str(name) for part in ("pair_on", "split_key") if part in params for name in np.ravel(params[part])]
    if "augmentation" not in params or not columns or not set(columns) <= set(student.obs):
        return
    pairs = np.column_stack([key_codes(student, columns, ~control), groups])[~control]
    if len(np.unique(pairs, axis=0)) > len(np.unique(pairs[:, 0])):
        mend = "make them again by scl.pp.augment with pair_on= and split_key= of the setup"
        raise Refused(f"views in obsm[{key!r}] mix samples that the split keeps apart", columns, mend)
