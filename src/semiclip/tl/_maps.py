"""Reads representations corrected on the controls, one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from anndata import AnnData

from semiclip._checks import check_adata, read_representation
from semiclip._design import Design
from semiclip._labels import list_unlabelled, mark_unlabelled
from semiclip._messages import warn, warn_without_repeats
from semiclip.correction import Affine, CorrectionSpec
from semiclip.errors import BadValue, Conflict, Empty, some
from semiclip.metrics import group_mean

RecallBaseline = Literal["permuted", "normal", "uniform"]

AGGREGATE = "aggregate"  # what tl.aggregate records in uns["semiclip"], as its name


@dataclass(frozen=True)
class Corrected:
    """A corrected representation of all rows, also those of controls, shape (n_obs, d), and what its rows are."""

    name: str
    x: np.ndarray
    codes: np.ndarray
    """Perturbation of each row as an index of ``labels``, which are in alphabetical order; -1 for a control."""
    labels: np.ndarray
    rank: int
    """Directions that the correction kept."""

    @property
    def treated(self) -> np.ndarray:
        """Numbers of the rows that are no controls."""
        return np.flatnonzero(self.codes >= 0)

    @property
    def counts(self) -> np.ndarray:
        """Rows of each perturbation, shape (len(labels),)."""
        return np.bincount(self.codes[self.treated], minlength=len(self.labels))

    def average(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean of each perturbation, shape (len(labels), d), and the perturbations."""
        codes = np.where(self.codes < 0, len(self.labels), self.codes)  # controls are a last group of their own
        return group_mean(self.x, codes, int(codes.max()) + 1)[: len(self.labels)], self.labels

    def exchange(self, rng: np.random.Generator) -> Self:
        """Exchange the perturbations of the treated rows; each perturbation keeps its number of rows."""
        codes = self.codes.copy()
        codes[self.treated] = rng.permutation(codes[self.treated])
        return replace(self, name=f"{self.name} (permuted)", codes=codes)


def list_names(names: str | Sequence[str], argument: str = "use_rep") -> list[str]:
    """Return the names of representations, each once."""
    keys = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    if not keys:
        raise BadValue(argument, names, "one name or more")
    return keys


def list_sources(adata: AnnData, references: str | Sequence[str] | Mapping[str, AnnData]) -> dict[str, AnnData]:
    """Return where each representation to compare with is: in ``adata``, unless a mapping names other objects."""
    if isinstance(references, Mapping):
        list_names(list(references), "references")
        return dict(references)
    return dict.fromkeys(list_names(references, "references"), adata)


def _check_uncorrected(adata: AnnData, names: Sequence[str]) -> None:
    """Refuse to correct what :func:`semiclip.tl.aggregate` has corrected: its rows have no controls any more."""
    made: Any = adata.uns
    for key in ("semiclip", AGGREGATE, "params"):
        made = made.get(key) if isinstance(made, Mapping) else None
    corrected: Any = np.ravel(made["use_rep"]) if isinstance(made, Mapping) and "method" in made else []
    if twice := [name for name in names if name in corrected]:
        raise Conflict("a correction", f"what scl.tl.aggregate has corrected: {some(twice)}", "pass method=None")


def read_corrected(
    adata: AnnData,
    use_rep: str | Sequence[str],
    design: Design,
    spec: CorrectionSpec,
    fit_on: np.ndarray | None = None,
) -> Iterator[Corrected]:
    """Check everything at once, then yield one representation at a time, so that a single corrected copy exists.

    The correction is fitted on the reference of the design, or on the rows of the mask ``fit_on``.
    """
    names = list_names(use_rep)
    check_adata(adata)
    if spec.method is not None:
        _check_uncorrected(adata, names)
    batch, batch_names = design.batches(adata)
    control = design.controls(adata)
    if control.all():
        raise Empty("treated rows", f"all {adata.n_obs} rows are controls")
    reference = design.reference(adata) if fit_on is None else fit_on
    codes = np.full(adata.n_obs, -1)
    codes[~control], labels = pd.factorize(design.perturbations(adata)[~control].to_numpy(), sort=True)
    arrays = {name: read_representation(adata, name) for name in names}
    _warn_unlabelled(labels, codes, design)

    def correct() -> Iterator[Corrected]:
        for name, x in arrays.items():
            rank = None
            if spec.method is not None:
                correction = spec.fit(x, batch, reference, list(batch_names))
                x, rank = correction(x, batch), correction.rank
            yield Corrected(name, x, codes, labels, x.shape[1] if rank is None else rank)

    return correct()


def read_with_sources(
    adata: AnnData, use_rep: str | Sequence[str], sources: Mapping[str, AnnData], design: Design, spec: CorrectionSpec
) -> tuple[Iterator[Corrected], list[Iterator[Corrected]]]:
    """Check representations and those to compare them with, and warn once of what several of them share."""
    with warn_without_repeats():
        representations = read_corrected(adata, use_rep, design, spec)
        return representations, [read_corrected(data, key, design, spec) for key, data in sources.items()]


def _warn_unlabelled(labels: np.ndarray, codes: np.ndarray, design: Design) -> None:
    """Warn of treated rows whose label names nothing, such as "unassigned", which would count as replicates."""
    is_none = mark_unlabelled(pd.Series(labels, dtype=object), list_unlabelled(design, str(design.perturbation_key)))
    if is_none.any():
        counts = np.bincount(codes[codes >= 0])[is_none]
        told = some(f"{label!r} ({n} rows)" for label, n in zip(labels[is_none].tolist(), counts, strict=True))
        warn(
            f"{counts.sum()} rows have a label that names nothing, and count as rows of one perturbation: {told}; "
            f"leave them out with adata[~adata.obs[{design.perturbation_key!r}].isin({labels[is_none].tolist()!r})]"
        )


def add_baselines(
    representations: Iterator[Corrected], baselines: Sequence[RecallBaseline], rng: int | np.random.Generator | None
) -> Iterator[Corrected]:
    """Yield representations, each followed by its exchange if there is one, and then the random ones."""
    first = None
    for corrected in representations:
        first = first or corrected
        yield corrected
        if "permuted" in baselines:
            yield corrected.exchange(np.random.default_rng(rng))
    for kind in dict.fromkeys(baselines):
        if kind != "permuted" and first is not None:
            generator, shape = np.random.default_rng(rng), first.x.shape
            x = generator.standard_normal(shape) if kind == "normal" else generator.random(shape)
            yield replace(first, name=f"random ({kind})", x=x, rank=shape[1])


def fit_chains(
    spec: CorrectionSpec,
    values: np.ndarray,
    batch: np.ndarray,
    reference: np.ndarray,
    batch_names: Sequence[Any],
    rows: np.ndarray,
) -> dict[int, Affine]:
    """Fit a correction on the reference among ``rows``, and return the map of each of their batches, in float64.

    Batches are numbered anew: what a batch without one of these rows lacks must not matter.
    """
    codes, batch_in_use = np.unique(batch[rows], return_inverse=True)
    names = [batch_names[code] for code in codes]
    correction = spec.fit(values[rows].astype(np.float64), batch_in_use, reference[rows], names)
    return dict(zip(codes.tolist(), correction.chains, strict=True))
