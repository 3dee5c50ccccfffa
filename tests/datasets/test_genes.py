from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import rdata

import semiclip as scl
from semiclip.datasets._genes import score_ranks


@pytest.fixture(scope="module")
def mdata(data_dir):
    return scl.datasets.rpe1_periscope()


def test_shapes_names_and_shared_genes(mdata):
    assert list(mdata.mod) == ["rna", "image"]
    assert mdata["rna"].shape == (585, 4925)
    assert mdata["image"].shape == (3454, 56)
    assert mdata.n_obs == 3675 == 585 + 3454 - 364
    assert list(mdata.obs.columns) == []
    for adata in mdata.mod.values():
        assert adata.X.dtype == np.float32
        assert np.isfinite(adata.X).all()
        assert adata.var_names.is_unique
        assert list(adata.obs.columns) == ["perturbation"]
        assert adata.obs["perturbation"].is_unique
        assert adata.obs_names.tolist() == adata.obs["perturbation"].tolist()
    knockdowns, knockouts = (set(adata.obs["perturbation"]) for adata in mdata.mod.values())
    assert len(knockdowns & knockouts) == 364
    assert len(knockdowns - knockouts) == 221
    assert "CTRL" in knockouts
    assert "CTRL" not in knockdowns


def test_genes_pair_without_controls(mdata):
    summary = scl.pp.pair(mdata, pair_on="perturbation", control=None).attrs["summary"]
    assert summary["shared_keys"] == summary["student_kept"] == summary["teacher_kept"] == 364


def test_expression_is_the_rank_in_each_list(mdata, data_dir):
    rna = mdata["rna"]
    lists = rdata.read_rda(data_dir / "perturbseq.rpe1.rda")["perturbseq.rpe1"]
    assert rna.obs_names.tolist() == list(lists)
    n_lists = dict.fromkeys(rna.var_names, 0)
    for gene in ("UBL5", "SMG5", "RPL10A", "PSMC2"):
        expected = dict.fromkeys(rna.var_names, 0.0)
        ranked = list(lists[gene]["up_full"])
        for place, other in enumerate(ranked):
            if other in expected:
                expected[other] = (len(ranked) - place) / len(ranked)
        np.testing.assert_allclose(rna[gene].X[0], list(expected.values()), rtol=1e-6)
    for signature in lists.values():
        for other in signature["up_full"]:
            if other in n_lists:
                n_lists[other] += 1
    assert min(n_lists.values()) == 30  # 5 % of 585 are 29.25
    np.testing.assert_array_equal((rna.X > 0).sum(axis=0), list(n_lists.values()))
    assert rna["UBL5", "GADD45A"].X.item() == 1
    assert rna["UBL5", "DDIT3"].X.item() == np.float32(0.999)
    assert (rna.X.max(axis=1) > 0.9).all()


def test_images_are_as_published(mdata, data_dir):
    published = pd.read_csv(data_dir / "HeLa_HPLM_hit_list_PCA.csv").set_index(
        "Metadata_Foci_Barcode_MatchedTo_GeneCode"
    )
    image = mdata["image"]
    assert image.obs_names.tolist() == published.index.tolist()
    np.testing.assert_array_equal(image.X, published.to_numpy(dtype=np.float32))
    np.testing.assert_array_equal(image.obsm["X_image"], image.X)
    assert image.var_names[[0, -1]].tolist() == ["image_0", "image_55"]
    assert image["AAAS", "image_0"].X.item() == pytest.approx(-3.063103, abs=1e-6)


def test_ranks_of_lists_of_different_lengths():
    lists = {"A": ["x", "y"], "B": ["y", "z", "x", "w"], "C": ["x"], "D": ["y"]}
    values, genes = score_ranks(lists, least=0.5)
    assert genes.tolist() == ["x", "y"]
    assert values.tolist() == [[1, 0.5], [0.5, 1], [1, 0], [0, 1]]
    values, genes = score_ranks(lists, least=0.25)
    assert genes.tolist() == ["w", "x", "y", "z"]
    assert values[1].tolist() == [0.25, 0.5, 1, 0.75]
