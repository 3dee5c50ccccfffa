import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData
from scipy import sparse

import semiclip as scl
from semiclip.pp._mistakes import CONTROL_NAME, Keys, Side, few_controls, missing_values, not_counts, not_finite, simple


@pytest.mark.parametrize(
    "name",
    "DMSO dmso Control ctrl NEG negcon Neg.Ctrl non-targeting NonTargeting_12 NT NTC vehicle EMPTY empty_vector "
    "Untreated mock scrambled".split(),
)
def test_knows_usual_names_of_controls(name):
    assert CONTROL_NAME.fullmatch(simple(pd.Series([name]))[0])


@pytest.mark.parametrize("name", "aspirin NTRK1 CTRL1B DMSOX MOCOS NEGR1 controlin NT5E VHL".split())
def test_knows_perturbations_from_controls(name):
    assert not CONTROL_NAME.fullmatch(simple(pd.Series([name]))[0])


@pytest.mark.parametrize("kind", ["embedding", "views", "table"])
def test_the_mend_for_what_is_not_finite_runs(kind):
    values = np.arange(24, dtype=np.float32).reshape((4, 6) if kind != "views" else (4, 2, 3))
    values[1].flat[4], values[3].flat[0] = np.nan, -np.inf
    adata = AnnData(np.ones((4, 2), np.float32), obs=pd.DataFrame(index=list("abcd")))
    adata.obsm["X"] = pd.DataFrame(values, adata.obs_names, list("uvwxyz")) if kind == "table" else values
    mdata = MuData({"rna": adata})
    (found,) = not_finite(Side("rna", mdata["rna"]))
    assert found.finding == "obsm['X'] is NaN or infinite in 2 row(s): b, d"
    exec(found.mend, {"mdata": mdata, "np": np})
    assert mdata["rna"].obs_names.tolist() == ["a", "c"]
    np.testing.assert_array_equal(np.asarray(mdata["rna"].obsm["X"]), values[[0, 2]])
    assert not list(not_finite(Side("rna", mdata["rna"])))


@pytest.mark.parametrize("make", [np.asarray, sparse.csr_matrix, sparse.csc_array])
@pytest.mark.parametrize("place", ["X", "obsm"])
def test_not_a_number_is_found_dense_or_sparse_and_is_no_fraction(make, place):
    values = np.eye(6, 5, dtype=np.float32)
    values[1, 1], values[4, 0], values[4, 4] = np.nan, np.inf, -np.inf
    if place == "X":
        adata = AnnData(make(values))
        where = "X"
    else:
        adata = AnnData(np.ones((6, 2), np.float32), obsm={"X_e": make(values)})
        where = "obsm['X_e']"
    adata.obs_names = list("abcdef")
    mdata = MuData({"rna": adata})
    (found,) = [*not_finite(Side("rna", mdata["rna"])), *not_counts(Side("rna", mdata["rna"]))]
    assert found[:3] == ("error", "not finite", "rna")
    assert found.finding == f"{where} is NaN or infinite in 2 row(s): b, e"
    exec(found.mend, {"mdata": mdata, "np": np})
    assert mdata["rna"].obs_names.tolist() == ["a", "c", "d", "f"]
    assert not list(not_finite(Side("rna", mdata["rna"])))


def test_fractions_beside_what_is_not_a_number_are_still_found():
    adata = AnnData(sparse.csr_matrix(np.array([[0.5, np.nan], [1, 2]], np.float32)))
    (found,) = not_counts(Side("rna", adata))
    assert found.finding.startswith("X holds fractions")


def test_a_column_without_numbers_does_not_cost_all_rows():
    values = np.ones((4, 3), np.float32)
    values[:, 1] = np.nan
    (found,) = not_finite(Side("rna", AnnData(values)))
    assert "in 4 row(s)" in found.finding
    assert found.mend == "fill mdata['rna'].X, or leave out its columns that hold them: few rows have none"


def labelled(n_controls):
    adata = AnnData(obs=pd.DataFrame(index=[str(i) for i in range(6)]))
    adata.obs["drug"] = ["DMSO"] * n_controls + ["x"] * (6 - n_controls)
    adata.obs["plate"] = list("aaabbb")
    adata.obs["dose"] = 1.0
    return adata


def keys(batch=None):
    return Keys(["drug", "dose"], "drug", ["DMSO"], batch, None)


def test_without_batches_all_rows_are_one():
    assert not list(few_controls(Side("rna", labelled(2)), keys()))
    (found,) = few_controls(Side("rna", labelled(1)), keys())
    assert found.finding == "1 batch(es) have fewer than 2 controls: all rows (1)"
    with pytest.raises(ValueError, match="control"):
        scl.pp.pea_correct(with_embedding(labelled(1)), use_rep="X_e", perturbation_key="drug", control="DMSO")
    scl.pp.pea_correct(with_embedding(labelled(2)), use_rep="X_e", perturbation_key="drug", control="DMSO")


def with_embedding(adata):
    adata.obsm["X_e"] = np.random.default_rng(0).normal(size=(6, 1)).astype(np.float32)
    return adata


def test_batches_are_not_dropped_where_none_would_stay():
    (some,) = few_controls(Side("rna", labelled(3)), keys("plate"))
    assert some.mend.startswith("mdata.mod['rna'] = mdata['rna'][~mdata['rna'].obs['plate'].isin(['b'])]")
    (every,) = few_controls(Side("rna", labelled(1)), keys("plate"))
    assert "a (1), b (0)" in every.finding
    assert every.mend == "2 are needed in each: name all controls in control=, or larger batches as batch_key="


@pytest.mark.parametrize("dtype", ["float64", "category", "Float64"])
def test_controls_need_no_dose_and_treated_rows_do(dtype):
    adata = labelled(2)
    adata.obs["dose"] = pd.Series([np.nan, np.nan, 1, 1, 1, 1], adata.obs_names).astype(dtype)
    (found,) = missing_values(Side("rna", adata), keys())
    assert found.severity == "info"
    exec(found.mend, {"mdata": {"rna": adata}})
    assert adata.obs["dose"].tolist() == [0, 0, 1, 1, 1, 1]
    adata.obs["dose"] = pd.Series([0, 0, 1, np.nan, 1, 1], adata.obs_names).astype(dtype)
    (found,) = missing_values(Side("rna", adata), keys())
    assert found[:4] == ("error", "missing values", "rna", "obs['dose'] has no value in 1 row(s): 3")


def test_the_batch_and_the_perturbation_have_defaults():
    mdata = scl.datasets.simulate(n_compounds=20, n_knockouts=20, n_pathways=5, n_genes=40).mdata
    pair_on = ["perturbation", "dose"]
    assert scl.pp.check(mdata, pair_on=pair_on, perturbation_key="perturbation", control="control").empty
    for name, adata in mdata.mod.items():
        adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace("control", f"{name} 0")
    assert scl.pp.check(mdata, pair_on=pair_on, control=None).empty
