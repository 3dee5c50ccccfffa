from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from semiclip.datasets._assemble import make_adata, make_mudata
from semiclip.datasets._files import fetch

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

_COORDINATES = ["UMAP_0", "UMAP_1", "TSNE_0", "TSNE_1"]


def lincs_a549() -> MuData:
    """LINCS compounds in A549, L1000 and Cell Painting: realistic scale and structure for weak pairing.

    Only four coordinates of each well are published (two of a UMAP, two of a t-SNE). They serve to exercise pairing,
    batch correction and throughput on real plates, doses and DMSO wells; they are **never a basis for claims about
    biology**, since neither map keeps distances.

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
    ``batch``
        Plate.
    ``compound``, ``moa``, ``well``
        Name of the compound, its mechanism of action, position on the plate.

    The modalities share 1,402 compounds and 8,361 pairs of compound and dose, DMSO aside.

    Notes
    -----
    Source: Way et al., Cell Systems 2022, 10.1016/j.cels.2022.10.001; BSD-3-Clause.

    Examples
    --------
    >>> import semiclip as scl
    >>> mdata = scl.datasets.lincs_a549()  # doctest: +SKIP
    >>> mdata["image"].obs["batch"].nunique()  # doctest: +SKIP
    136
    """
    rna = ["pert_id", "dose", "replicate_id", "det_well"]
    image = [f"Metadata_{name}" for name in ("broad_sample", "dose_recode", "Plate", "Well")]
    return make_mudata(
        rna=_read_wells("rna", "l1000_embeddings_umap_tsne.tsv.gz", rna),
        image=_read_wells("image", "cellpainting_embeddings_batch1.tsv.gz", image),
    )


def _read_wells(modality: str, name: str, published: list[str]) -> AnnData:
    """Read a table whose perturbation, dose, plate and well are in these columns."""
    names = ["perturbation", "dose", "batch", "well", "compound", "moa"]
    columns = dict(zip([*published, "pert_iname", "moa"], names, strict=True))
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
