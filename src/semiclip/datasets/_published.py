"""Published compounds, overexpressed genes and their morphology, in two cell lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from semiclip._arguments import check_number
from semiclip._mudata import make_mudata
from semiclip.datasets._assemble import make_adata, read_r
from semiclip.datasets._files import fetch

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

_COORDINATES = ["UMAP_0", "UMAP_1", "TSNE_0", "TSNE_1"]
_DRAWS = 100_000  # of the null of replicates


def lincs_a549() -> MuData:
    """LINCS compounds in A549, L1000 and Cell Painting: realistic scale and structure for weak pairing.

    Only four coordinates of each well are published (two of a UMAP, two of a t-SNE). They serve to exercise pairing and
    correction on real plates, and are **never a basis for claims about biology**, since neither map keeps distances.

    Returns
    -------
    A MuData with the modalities ``rna`` (L1000, 27,837 replicates, 75 plates, 1,485 DMSO wells) and ``image`` (Cell
    Painting, 51,833 wells, 136 plates, 3,264 DMSO wells), whose observations differ. Both hold the four coordinates in
    ``obsm["X_umap_tsne"]`` and, the same, in ``X`` (float32), and in ``obs``

    ``perturbation``
        First 13 characters of the BRD identifier (the compound without its salt form and batch), or ``"DMSO"``.
    ``dose``
        Code of the concentration, integer: 1 to 7 for 0.04, 0.12, 0.37, 1.11, 3.33, 10 and 20 µM; 0 for DMSO. In
        ``image`` only the positive controls, bortezomib and MG-132, have code 7.
    ``batch``, ``compound``, ``moa``, ``well``
        Plate, name of the compound, its mechanism of action, position on the plate.

    The modalities share 1,402 compounds and 8,361 pairs of compound and dose, DMSO aside.

    Notes
    -----
    Source: Way et al., Cell Systems 2022, 10.1016/j.cels.2022.10.001; BSD-3-Clause.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.lincs_a549()  # doctest: +SKIP
    """
    rna = ["pert_id", "dose", "replicate_id", "det_well"]
    image = [f"Metadata_{name}" for name in ("broad_sample", "dose_recode", "Plate", "Well")]
    return make_mudata(
        rna=_read_wells("rna", "l1000_embeddings_umap_tsne.tsv.gz", rna),
        image=_read_wells("image", "cellpainting_embeddings_batch1.tsv.gz", image),
    )


def _read_wells(modality: str, name: str, published: list[str]) -> AnnData:
    """Read a table whose perturbation, dose, plate and well are in these columns."""
    keys = ["perturbation", "dose", "batch", "well", "compound", "moa"]
    columns = dict(zip([*published, "pert_iname", "moa"], keys, strict=True))
    table = pd.read_csv(fetch(name), sep="\t", usecols=[*columns, *_COORDINATES]).rename(columns=columns)
    # an L1000 replicate is named plate:well, where det_plate lists all plates of the signature
    table["batch"] = table["batch"].str.partition(":")[0]
    table["perturbation"] = table["perturbation"].str[:13]
    adata = make_adata(
        table[_COORDINATES],
        obs={key: table[key] for key in ("perturbation", "dose", "batch", "compound", "moa", "well")},
        obs_names=table["batch"] + ":" + table["well"],
        # var_names of a MuData must differ between modalities
        var_names=[f"{modality}_{coordinate}" for coordinate in _COORDINATES],
    )
    adata.obsm["X_umap_tsne"] = adata.X.copy()
    return adata


def u2os_compounds(*, clip: float | None = 10.0) -> MuData:
    """L1000 expression and Cell Painting morphology of 162 compounds in U2OS: the small real paired set.

    Each modality holds one consensus profile per compound, so a row of one modality has exactly one partner in the
    other, under the same observation name. The published data have **no controls, no plates and no doses**: pass
    ``control=None`` and ``batch_key=None``, and pair by ``perturbation`` alone.

    Parameters
    ----------
    clip
        Values beyond ± ``clip`` are set to it (morphology reaches from -50 to 59); ``None`` leaves them as published.

    Returns
    -------
    A MuData with ``rna``, 162 × 978 expression values of landmark genes (``var_names`` are their symbols), and
    ``image``, 162 × 812 CellProfiler features, which are also in ``obsm["X_image"]`` as a teacher representation. Both
    have float32 ``X`` and ``obs["perturbation"]``, the BRD identifier of the compound.

    Notes
    -----
    Published with CMEA (Nassiri and McCall, 2018), GPL-2. The genes are those of :func:`u2os_orfs` in another order:
    ``orfs[:, mdata["rna"].var_names]`` brings the columns into line.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.u2os_compounds()  # doctest: +SKIP
    """
    limit = _read_limit(clip)
    modalities = {}
    for modality, name in {"rna": "Transcriptomic_Profile", "image": "Cell_Morphology_Profile"}.items():
        table = read_r(fetch(f"{name}.rda"))[name]
        # R turns a hyphen in a column name into a dot, and no landmark gene has a dot of its own
        variables = table.columns.str.replace(".", "-", regex=False) if modality == "rna" else table.columns
        values, obs = table.to_numpy().clip(-limit, limit), {"perturbation": table.index}
        modalities[modality] = make_adata(values, obs=obs, obs_names=table.index, var_names=variables)
    modalities["image"].obsm["X_image"] = np.asarray(modalities["image"].X)
    return make_mudata(**modalities)


def u2os_orfs(*, clip: float | None = 10.0, rng: int | np.random.Generator | None = None) -> AnnData:
    """L1000 expression of U2OS cells that overexpress one of 189 genes: the real out-of-distribution genetic set.

    Cell line and genes are those of :func:`u2os_compounds`. The signal is weak: of the 318 constructs with replicates
    about 80 are marked as reproducible, and 16 would be by chance.

    Parameters
    ----------
    clip
        Values beyond ± ``clip`` are set to it; ``None`` leaves them as published.
    rng
        Seed or generator of the null that decides about ``reproducible``; ``None`` draws another null each time.

    Returns
    -------
    An AnnData of 1,092 wells × 978 genes (z-scores, float32) with gene symbols as ``var_names`` and in ``obs``

    ``perturbation``
        Symbol of the overexpressed gene as published (one construct says MEK1, another name of MAP2K1);
        ``"control"`` for vector controls and untreated wells.
    ``batch``
        Plate (three, of 54 to 60 controls each).
    ``reproducible``
        Whether the well belongs to a construct whose replicates agree: the mean Pearson correlation of their pairs
        across genes is above the 95 % quantile of the same mean over random sets, each of as many treated wells of
        different constructs on different plates. Never true for controls.
    ``construct``, ``pert_type``, ``pert_mfc_desc``, ``allele``, ``well``
        As published: identifier of the construct; ``trt_oe``, ``ctl_vector`` or ``ctl_untrt``; gene, vector or
        ``UnTrt``; gene with its mutation, if any; position on the plate. Replicates of a construct share the position,
        so a positional effect counts as agreement.

    Notes
    -----
    Source: Rohban et al., eLife 2017, 10.7554/eLife.24060; BSD-3-Clause.

    Examples
    --------
    >>> import semiclip as scl
    >>> adata = scl.datasets.u2os_orfs(rng=0)  # doctest: +SKIP
    """
    limit = _read_limit(clip)
    table = read_r(fetch("TA.OE005_U2OS_72H_ZSPCQNORM_n1092x978.rds"))
    wells, values = table.cdesc, table.mat.to_numpy().T.clip(-limit, limit)
    treated = (wells["pert_type"] == "trt_oe").to_numpy(dtype=bool)
    construct, plate = (wells[key].to_numpy(dtype=str) for key in ("pert_id", "det_plate"))
    marked = np.zeros(len(wells), dtype=bool)
    marked[treated] = mark_reproducible(values[treated], construct[treated], plate[treated], rng=rng)
    return make_adata(
        values,
        obs={
            "perturbation": wells["pert_mfc_desc"].where(treated, "control"),
            "batch": plate,
            "reproducible": marked,
            "construct": construct,
            **{key: wells[key] for key in ("pert_type", "pert_mfc_desc")},
            "allele": wells["x_genesymbol_mutation"],
            "well": wells["det_well"],
        },
        obs_names=wells.index,
        var_names=table.rdesc["pr_gene_symbol"],
    )


def _read_limit(clip: float | None) -> float:
    """Return the largest absolute value to keep."""
    if clip is not None:
        check_number("clip", clip, above=0)
    return np.inf if clip is None else clip


def mark_reproducible(
    values: np.ndarray,
    constructs: np.ndarray,
    plates: np.ndarray,
    *,
    rng: int | np.random.Generator | None = None,
    level: float = 0.95,
) -> np.ndarray:
    """Mask the wells of constructs (at most one per plate) whose replicates agree more than chance, as in u2os_orfs."""
    generator, correlation = np.random.default_rng(rng), np.corrcoef(values)
    construct, plate = (np.unique(labels, return_inverse=True)[1] for labels in (constructs, plates))
    n_plates = plate.max() + 1
    first, second = np.triu_indices(n_plates, k=1)

    def statistic(sets: np.ndarray) -> np.ndarray:
        """Mean correlation of the wells in each row, with a column per plate, -1 where the set has no well."""
        pairs = (sets[:, first] >= 0) & (sets[:, second] >= 0)
        total = np.where(pairs, correlation[sets[:, first], sets[:, second]], 0).sum(axis=1)
        return total / np.maximum(pairs.sum(axis=1), 1)

    replicates = np.full((construct.max() + 1, n_plates), -1)
    replicates[construct, plate] = np.arange(len(construct))
    n_replicates = (replicates >= 0).sum(axis=1)
    agreement = statistic(replicates)
    passed = np.zeros(len(replicates), dtype=bool)
    for n in range(2, n_plates + 1):
        draws = np.stack([generator.choice(np.flatnonzero(plate == p), _DRAWS) for p in range(n_plates)], axis=1)
        # a random n plates; an absent well gets a construct of its own, so that it equals no other
        absent = generator.random(draws.shape).argsort(axis=1) >= n
        drawn = np.where(absent, -1 - np.arange(n_plates), construct[draws])
        mixed = (drawn[:, first] != drawn[:, second]).all(axis=1)
        null = statistic(np.where(absent, -1, draws)[mixed])
        passed |= (n_replicates == n) & (agreement > np.quantile(null, level))
    return passed[construct]
