"""A record is trusted as long as the values are those that it describes."""

from __future__ import annotations

import anndata
import numpy as np
import pytest
import scanpy as sc

import semiclip as scl
from semiclip import errors
from semiclip.model import SemiClip


@pytest.fixture
def query(small_study):
    return small_study.knockouts["rna"].copy()


def overwrite_by_scanpy(adata):
    copy = adata.copy()
    sc.pp.normalize_total(copy)
    sc.pp.log1p(copy)
    sc.pp.pca(copy, n_comps=8)
    adata.obsm["X_pca"] = copy.obsm["X_pca"]


def flip(adata):
    adata.obsm["X_pca"] = adata.obsm["X_pca"] * np.array([-1, 1, 1, 1, 1, 1, 1, 1], dtype=np.float32)


def change_one_row(adata):
    adata.obsm["X_pca"][3] += 1


@pytest.mark.parametrize("change", [overwrite_by_scanpy, flip, change_one_row])
def test_values_that_were_overwritten_are_refused(models, small_study, setup, query, change, refuses):
    model = models[0]
    change(query)
    with refuses(errors.Mismatch, expected="what the encoder in its record wrote") as caught:
        model.get_latent_representation(query)
    n_changed = int(caught.value.what.split(" of ")[1])
    assert n_changed == 1 if change is change_one_row else n_changed > 0.9 * query.n_obs
    mdata = small_study.mdata.copy()
    change(mdata["rna"])
    with refuses(errors.Mismatch, expected="what the encoder in its record wrote"):
        SemiClip.setup_mudata(mdata, **setup)
    del mdata["rna"].uns["semiclip"]["X_pca"]  # the way out
    SemiClip.setup_mudata(mdata, **setup)


def test_what_only_moves_or_loses_rows_is_trusted(models, query, tmp_path):
    model = models[0]
    expected = model.get_latent_representation(query)
    order = np.random.default_rng(0).permutation(query.n_obs)
    np.testing.assert_allclose(model.get_latent_representation(query[order].copy()), expected[order], atol=1e-5)
    control = (query.obs["perturbation"] == "control").to_numpy()
    part = query[control | (np.arange(query.n_obs) % 3 == 0)].copy()
    assert model.get_latent_representation(part).shape[0] == part.n_obs
    for dtype in (np.float16, np.float64):
        other = query.copy()
        other.obsm["X_pca"] = other.obsm["X_pca"].astype(dtype)
        np.testing.assert_allclose(model.get_latent_representation(other), expected, atol=0.02)
    query.write_h5ad(tmp_path / "query.h5ad")
    stored = anndata.read_h5ad(tmp_path / "query.h5ad")
    np.testing.assert_array_equal(model.get_latent_representation(stored), expected)
    halves = [query[:100].copy(), query[100:].copy()]
    joined = anndata.concat(halves, uns_merge="same")
    np.testing.assert_allclose(model.get_latent_representation(joined), expected, atol=1e-5)
    joined.obs_names = [f"new {name}" for name in joined.obs_names]
    assert model.get_latent_representation(joined).shape == expected.shape


def test_a_record_stays_small():
    n = 10_000
    adata = anndata.AnnData(np.random.default_rng(0).poisson(5, (n, 6)).astype(np.float32))
    scl.pp.encode(adata, encoder="pca", n_components=2, rng=0)
    assert len(adata.uns["semiclip"]["X_pca"]["rows"]) == 4096
