from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors


@pytest.fixture(scope="module")
def compounds(data_dir):
    return scl.datasets.u2os_compounds()


@pytest.fixture(scope="module")
def orfs(data_dir):
    return scl.datasets.u2os_orfs(rng=0)


def test_compounds(compounds):
    assert list(compounds.mod) == ["rna", "image"]
    assert compounds["rna"].shape == (162, 978)
    assert compounds["image"].shape == (162, 812)
    assert list(compounds.obs.columns) == []
    for adata in compounds.mod.values():
        assert adata.X.dtype == np.float32
        assert np.abs(adata.X).max() == 10
        assert adata.var_names.is_unique
        assert adata.obs_names.tolist() == adata.obs["perturbation"].tolist()
        assert adata.obs["perturbation"].str.fullmatch(r"BRD-[AKM]\d{8}").all()
        assert adata.obs["perturbation"].is_unique
    assert compounds["rna"].obs_names.equals(compounds["image"].obs_names)
    assert compounds["rna"].var_names[:3].tolist() == ["PSME1", "ATF1", "RHEB"]
    assert compounds["image"].var_names[0] == "Cells_AreaShape_Area"


def test_clip(compounds):
    published = scl.datasets.u2os_compounds(clip=None)
    assert published["image"].X.min() == pytest.approx(-50.329463956664)
    assert published["image"].X.max() == pytest.approx(59.448525032224)
    assert published["rna"].X[0, 0] == pytest.approx(-1.011860, abs=1e-6)
    for name in ("rna", "image"):
        np.testing.assert_array_equal(published[name].X.clip(-10, 10), compounds[name].X)
    assert np.abs(scl.datasets.u2os_compounds(clip=2)["image"].X).max() == 2


@pytest.mark.parametrize("load", [scl.datasets.u2os_compounds, scl.datasets.u2os_orfs])
@pytest.mark.parametrize("clip", [0, -1.0, float("nan")])
def test_clip_must_be_positive(load, clip, refuses):
    with refuses(errors.BadValue, name="clip"):
        load(clip=clip)


def test_orfs(orfs):
    assert orfs.shape == (1092, 978)
    assert orfs.X.dtype == np.float32
    assert np.abs(orfs.X).max() == 10
    assert orfs.obs_names.is_unique
    assert orfs.var_names.is_unique
    treated = orfs.obs[orfs.obs["pert_type"] == "trt_oe"]
    assert len(treated) == 934
    assert treated["perturbation"].nunique() == 189
    assert treated["construct"].nunique() == 324
    assert (treated["perturbation"].astype(str) == treated["pert_mfc_desc"].astype(str)).all()
    assert (treated["allele"].str.split("_").str[0] == treated["perturbation"].astype(str)).mean() > 0.99
    controls = orfs.obs[orfs.obs["perturbation"] == "control"]
    assert (controls["pert_type"] != "trt_oe").all()
    assert set(controls["pert_mfc_desc"]) == {"EGFP", "LACZ", "LUCIFERASE", "UnTrt"}
    table = pd.crosstab(controls["batch"], controls["pert_type"])
    assert table["ctl_vector"].tolist() == [24, 24, 24]
    assert table["ctl_untrt"].between(26, 30).all()
    assert not controls["reproducible"].any()


def test_values_belong_to_their_wells(orfs):
    # the published matrix has genes as rows; rdata gives its corner as below
    assert orfs["TA.OE005_U2OS_72H_X1_B15:A03", "PSME1"].X.item() == pytest.approx(0.1206, abs=1e-4)
    assert orfs["TA.OE005_U2OS_72H_X1_B15:A03", "CISD1"].X.item() == pytest.approx(-1.5736, abs=1e-4)
    assert orfs["TA.OE005_U2OS_72H_X3_B15:P23", "PSME1"].X.item() == pytest.approx(-1.4685, abs=1e-4)


def test_reproducible_constructs(orfs):
    constructs = orfs.obs[orfs.obs["pert_type"] == "trt_oe"].groupby("construct", observed=True)
    replicated = constructs["batch"].nunique() > 1
    assert replicated.sum() == 318
    marked = constructs["reproducible"].any()
    assert (constructs["reproducible"].all() == marked).all()
    assert not (marked & ~replicated).any()
    assert 78 <= marked.sum() <= 83
    assert 65 <= orfs.obs.loc[orfs.obs["reproducible"], "perturbation"].nunique() <= 69


def test_reproducible_depends_on_the_seed_only_at_the_edge(orfs):
    other = scl.datasets.u2os_orfs()
    assert (other.obs["reproducible"] != orfs.obs["reproducible"]).mean() < 0.01
    assert scl.datasets.u2os_orfs(rng=np.random.default_rng(0)).obs["reproducible"].equals(orfs.obs["reproducible"])


def test_genes_are_shared(compounds, orfs):
    genes = compounds["rna"].var_names
    assert set(genes) == set(orfs.var_names)
    # as published 976 are, since R writes these two with a dot
    assert [gene for gene in genes if "-" in gene] == ["HLA-DMA", "HLA-DRA"]
