"""Data sets of the package that a study can name instead of files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import semiclip as scl
from semiclip._arguments import check_arguments
from semiclip._mudata import make_mudata
from semiclip.errors import IdleArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

HELD_OUT = 0.25  # of the genes that both modalities of rpe1_periscope have


class Made(NamedTuple):
    """What is distilled from, unseen expression with or without images, and what is known of genes."""

    mdata: MuData
    unseen: dict[str, Callable[[], tuple[AnnData, AnnData | None]]]
    relationships: pd.DataFrame | None
    gene_sets: dict[str, list[str]] | None = None


def make_dataset(name: str, options: Mapping[str, Any], seed: int, origin: str) -> Made:
    """Return a data set of the package; a seed is a simulation, or a split, of its own."""
    return DATASETS[name](dict(options), seed, origin)


def _simulate(options: dict[str, Any], seed: int, origin: str) -> Made:
    """Simulate compounds, and knockouts as three assays see them."""
    check_arguments(scl.datasets.simulate, options, origin)
    study = scl.datasets.simulate(**{"rng": seed, **options})
    rna, image = study.knockouts["rna"], study.knockouts["image"]
    unseen = {
        "knockouts": lambda: (rna, image),
        "l1000": lambda: (scl.datasets.shift_assay(rna, assay="l1000", batch_key="batch", rng=seed), image),
        "single_cell": lambda: (scl.datasets.shift_assay(rna, assay="single_cell", rng=seed), image),
    }
    treated = rna.obs[rna.obs["perturbation"] != "control"]
    genes = treated.groupby("pathway", observed=True)["perturbation"].unique()
    pathways = {str(name): sorted(map(str, members)) for name, members in genes.items()}
    return Made(study.mdata, unseen, study.relationships, pathways)


def _read_u2os(options: dict[str, Any], seed: int, origin: str) -> Made:
    """Read compounds, and overexpressed genes, all or those of reproducible constructs."""
    _refuse_options(options, origin)
    orfs = scl.datasets.u2os_orfs(rng=0)
    kept = orfs[orfs.obs["reproducible"] | (orfs.obs["perturbation"] == "control")].copy()
    unseen = {"overexpressed": lambda: (orfs, None), "reproducible": lambda: (kept, None)}
    return Made(scl.datasets.u2os_compounds(), unseen, None)


def _read_rpe1(options: dict[str, Any], seed: int, origin: str) -> Made:
    """Read knockdowns and knockouts; a quarter of the genes that both have are unseen, as are those without images."""
    _refuse_options(options, origin)
    mdata = scl.datasets.rpe1_periscope()
    rna, image = mdata["rna"], mdata["image"]
    paired = np.flatnonzero(rna.obs_names.isin(image.obs_names))
    held_out = np.random.default_rng(seed).choice(paired, round(HELD_OUT * len(paired)), replace=False)
    is_unseen = ~rna.obs_names.isin(image.obs_names)
    is_unseen[held_out] = True
    seen = make_mudata(rna=rna[~is_unseen].copy(), image=image[~image.obs_names.isin(rna.obs_names[held_out])].copy())
    return Made(seen, {"never_imaged": lambda: (rna[is_unseen].copy(), None)}, None)


def _refuse_options(options: dict[str, Any], origin: str) -> None:
    if options:
        raise IdleArgument([origin], "on data that were measured")


DATASETS: dict[str, Callable[[dict[str, Any], int, str], Made]] = {
    "simulation": _simulate,
    "u2os": _read_u2os,
    "rpe1_periscope": _read_rpe1,
}
