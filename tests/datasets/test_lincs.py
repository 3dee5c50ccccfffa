from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import semiclip as scl


@pytest.fixture(scope="module")
def lincs(data_dir):
    return scl.datasets.lincs_a549()


@pytest.mark.parametrize(
    ("modality", "wells", "plates", "dmso"), [("rna", 27_837, 75, 1_485), ("image", 51_833, 136, 3_264)]
)
def test_wells_plates_and_controls(lincs, modality, wells, plates, dmso):
    adata = lincs[modality]
    assert adata.shape == (wells, 4)
    assert adata.obs["batch"].nunique() == plates
    control = adata.obs["perturbation"] == "DMSO"
    assert control.sum() == dmso
    assert control.groupby(adata.obs["batch"], observed=True).sum().min() >= 2
    assert ((adata.obs["dose"] == 0) == control).all()
    assert adata.obs["dose"].dtype.kind == "i"
    assert adata.obs["dose"].max() == 7
    assert adata.obs.loc[~control, "perturbation"].str.fullmatch(r"BRD-[AKMU]\d{8}").all()
    assert (adata.obs.loc[control, "compound"] == "DMSO").all()
    assert not adata.obs.isna().any(axis=None)


def test_names_and_shared_keys(lincs):
    for columns, n_shared in ((["perturbation", "dose"], 8_361), (["perturbation"], 1_402)):
        rna, image = (set(map(tuple, adata.obs[columns].to_numpy())) for adata in lincs.mod.values())
        assert len({key for key in rna & image if key[0] != "DMSO"}) == n_shared
    rna, image = lincs["rna"], lincs["image"]
    assert rna.obs_names.is_unique
    assert image.obs_names.is_unique
    assert not rna.obs_names.intersection(image.obs_names).size
    assert rna.obs_names[0] == "REP.A001_A549_24H_X1_B27:A03"
    assert rna.obs["batch"].iloc[0] == "REP.A001_A549_24H_X1_B27"
    assert image.obs_names[0] == "SQ00015211:A01"
    assert list(lincs.obs.columns) == []


def test_coordinates(lincs, data_dir):
    for modality, name in [("rna", "l1000_embeddings_umap_tsne"), ("image", "cellpainting_embeddings_batch1")]:
        published = pd.read_csv(data_dir / f"{name}.tsv.gz", sep="\t").iloc[:, -5:-1]
        adata = lincs[modality]
        assert adata.obsm["X_umap_tsne"].dtype == np.float32
        np.testing.assert_array_equal(adata.obsm["X_umap_tsne"], published.to_numpy(dtype=np.float32))
        np.testing.assert_array_equal(adata.X, adata.obsm["X_umap_tsne"])
        assert adata.var_names.tolist() == [f"{modality}_{column}" for column in published.columns]
