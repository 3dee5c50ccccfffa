from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from semiclip import errors
from semiclip.datasets import l1000_crispr, replogle_rpe1

LOADERS = {"replogle_2022.h5ad": replogle_rpe1, "crispr_l1000.h5ad": l1000_crispr}
# the files of these tests hold a few cells only
pytestmark = pytest.mark.filterwarnings("ignore:replogle_2022 holds:semiclip.errors.SemiclipWarning")

PARTS = [f"replogle_2022_part{part}.h5ad" for part in (1, 2, 3)]


def _published(n: int = 6, *, seed: int = 0, matrix=np.asarray, prefix: str = "cell") -> ad.AnnData:
    """A file with the columns that the code of its publishers reads; every third row is a control."""
    rng = np.random.default_rng(seed)
    genes = ["non-targeting", "TP53", "MDM2"] * n
    x = matrix(rng.poisson(1.0, (n, 4)).astype(np.float32))
    columns = {
        "gene_name": pd.Categorical(genes[:n]),
        "is_control": [gene == "non-targeting" for gene in genes[:n]],
        "dataset_batch_num": np.arange(n) % 2 + 9,
        "gem_group": np.arange(n),
        "sgID_AB": [f"guide_{row % 4}" for row in range(n)],
    }
    obs = pd.DataFrame(columns, index=[f"{prefix}{row}" for row in range(n)])
    var = pd.DataFrame({"gene_name": ["ACTB", "TBCE", "TBCE", "GAPDH"]}, index=[f"ENSG0000000000{i}" for i in range(4)])
    return ad.AnnData(x, obs, var, obsm={"X_pca": rng.normal(size=(n, 2))})


def _dense(matrix) -> np.ndarray:
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)


@pytest.mark.parametrize("name", LOADERS)
def test_obs_gets_the_names_of_the_package(folder, name):
    raw = _published()
    raw.write_h5ad(folder / name)
    assert not LOADERS[name](backed=False).isbacked
    adata = LOADERS[name]()
    assert adata.isbacked
    assert adata.obs["perturbation"].tolist() == ["control", "TP53", "MDM2"] * 2
    assert adata.obs["batch"].tolist() == ["9", "10"] * 3
    assert adata.obs["batch"].cat.categories.tolist() == ["9", "10"]
    pd.testing.assert_frame_equal(adata.obs[raw.obs.columns], raw.obs)
    if name.startswith("replogle"):
        assert adata.obs["guide"].tolist() == raw.obs["sgID_AB"].tolist()
        assert adata.obs.columns[:3].tolist() == ["perturbation", "batch", "guide"]
    else:
        assert "guide" not in adata.obs
    adata.file.close()


@pytest.mark.parametrize("matrix", [np.asarray, sparse.csr_matrix])
def test_a_backed_object_goes_to_memory_with_its_new_names(folder, matrix, tmp_path):
    raw = _published(matrix=matrix)
    raw.write_h5ad(folder / "replogle_2022.h5ad")
    before = (folder / "replogle_2022.h5ad").read_bytes()
    adata = replogle_rpe1()
    values = _dense(raw.X)
    whole, some = adata.to_memory(), adata[(adata.obs["perturbation"] == "control").to_numpy()].to_memory()
    adata.file.close()
    for loaded, rows in ((whole, slice(None)), (some, [0, 3])):
        np.testing.assert_array_equal(_dense(loaded.X), values[rows])
        np.testing.assert_array_equal(loaded.obsm["X_pca"], raw.obsm["X_pca"][rows])
        assert loaded.var_names.tolist() == ["ACTB", "TBCE", "TBCE-1", "GAPDH"]
    assert some.obs["perturbation"].tolist() == ["control", "control"]
    assert (folder / "replogle_2022.h5ad").read_bytes() == before
    whole.write_h5ad(tmp_path / "again.h5ad")
    # anndata 0.13 reads text as str, which this is not
    pd.testing.assert_frame_equal(ad.read_h5ad(tmp_path / "again.h5ad").obs, whole.obs, check_categorical=False)


@pytest.mark.parametrize("matrix", [np.asarray, sparse.csr_matrix])
def test_parts_are_joined_in_order(folder, matrix, web, monkeypatch):
    monkeypatch.setattr("semiclip.datasets._files._BLOCK", 40)  # a row or two at a time
    parts = [_published(n, seed=n, matrix=matrix, prefix=f"part{n}_") for n in (5, 1, 7)]
    parts[1].obs["gene_name"] = pd.Categorical(["CDK1"])
    parts[1].obs["is_control"] = False
    for name, part in zip(PARTS, parts, strict=True):
        part.layers["counts"] = part.X.copy()
        part.write_h5ad(folder / name)
    adata = replogle_rpe1().to_memory()
    expected = ad.concat(parts, join="outer")
    assert sparse.issparse(adata.X) == sparse.issparse(parts[0].X)
    np.testing.assert_array_equal(_dense(adata.X), _dense(expected.X))
    np.testing.assert_array_equal(_dense(adata.layers["counts"]), _dense(expected.X))
    np.testing.assert_array_equal(adata.obsm["X_pca"], expected.obsm["X_pca"])
    assert adata.obs_names.tolist() == expected.obs_names.tolist()
    assert adata.obs["gene_name"].astype(str).tolist() == expected.obs["gene_name"].astype(str).tolist()
    assert adata.obs["is_control"].dtype == bool
    assert adata.obs["perturbation"].tolist()[:6] == ["control", "TP53", "MDM2", "control", "TP53", "CDK1"]
    assert adata.var["published_name"].tolist() == parts[0].var_names.tolist()
    assert len(web.files()) == 1  # the joined one


def test_parts_are_joined_once_and_again_when_they_change(folder, web):
    for name in PARTS:
        _published(2).write_h5ad(folder / name)
    names = [f"cell{row}{suffix}" for suffix in ("", "-1", "-2") for row in (0, 1)]  # names that repeat become unique
    assert replogle_rpe1(backed=False).obs_names.tolist() == names
    (joined,) = web.cache.rglob("*.h5ad")
    stamp = joined.stat().st_mtime_ns
    assert replogle_rpe1(backed=False).n_obs == 6
    assert joined.stat().st_mtime_ns == stamp
    _published(9, prefix="other").write_h5ad(folder / PARTS[2])
    assert replogle_rpe1(backed=False).n_obs == 13


def test_parts_that_do_not_belong_together(folder, web, refuses):
    for name in PARTS:
        _published(prefix=name).write_h5ad(folder / name)
    _published()[:, ::-1].copy().write_h5ad(folder / PARTS[1])
    with refuses(errors.Refused, items=[folder / PARTS[0], folder / PARTS[1]]):
        replogle_rpe1()
    _published(matrix=sparse.csr_matrix).write_h5ad(folder / PARTS[1])
    with refuses(errors.Mismatch, got=["array", "csr_matrix"]):
        replogle_rpe1()
    assert web.files() == []


def test_controls_by_label_by_flag_and_by_argument(folder):
    raw = _published()
    raw.obs["is_control"] = pd.Categorical(["True", "False", "False"] * 2)  # a flag that went through text
    raw.obs["gene_name"] = raw.obs["gene_name"].cat.remove_categories("non-targeting")  # and no gene for controls
    unflagged = _published()
    del unflagged.obs["is_control"]
    for published in (raw, unflagged):
        published.write_h5ad(folder / "crispr_l1000.h5ad")
        assert l1000_crispr(backed=False).obs["perturbation"].tolist() == ["control", "TP53", "MDM2"] * 2
    both = l1000_crispr(backed=False, control=["TP53", "MDM2"]).obs["perturbation"]
    assert both.tolist() == ["non-targeting", "control", "control"] * 2
    assert (l1000_crispr(backed=False, control="TP53").obs["perturbation"] == "control").sum() == 2


def test_other_columns_and_columns_with_our_names(folder):
    raw = _published()
    raw.obs = raw.obs.rename(columns={"gene_name": "perturbation", "gem_group": "batch"})
    raw.write_h5ad(folder / "replogle_2022.h5ad")
    adata = replogle_rpe1(perturbation_key="perturbation", batch_key="batch", guide_key="sgID_AB", backed=False)
    assert adata.obs["perturbation"].tolist() == ["control", "TP53", "MDM2"] * 2
    assert adata.obs["perturbation_published"].tolist() == ["non-targeting", "TP53", "MDM2"] * 2
    assert adata.obs["batch"].tolist() == list("012345")
    assert adata.obs["batch_published"].tolist() == list(range(6))
    assert adata.obs.columns.is_unique


@pytest.mark.parametrize(
    ("change", "arguments", "error", "data"),
    [
        ({"gene_name": None}, {}, errors.MissingColumn, {"key": "gene_name", "name": "perturbation_key"}),
        ({}, {"batch_key": "plate"}, errors.MissingColumn, {"key": "plate", "name": "batch_key"}),
        ({}, {"guide_key": "sg"}, errors.MissingColumn, {"key": "sg", "name": "guide_key"}),
        ({"is_control": None, "gene_name": [*"AABABC"]}, {}, errors.UnknownControl, {"frequent": ["A", "B", "C"]}),
        ({"is_control": False}, {}, errors.Empty, {}),
        ({}, {"control": ["non-targeting", "x"]}, errors.UnknownControl, {"labels": ["x"]}),
        ({}, {"control": []}, errors.UnknownControl, {"labels": ()}),
        ({"is_control": 2}, {}, errors.BadValue, {"name": "obs['is_control']", "value": ["2"]}),
        ({"gene_name": ["non-targeting", "control", "B"] * 2}, {}, errors.NameTaken, {"items": "control"}),
        ({"gene_name": ["non-targeting", None, "B"] * 2}, {}, errors.MissingValues, {"rows": ["cell1", "cell4"]}),
        ({"dataset_batch_num": [1, 2, 3, 4, 5, np.nan]}, {}, errors.MissingValues, {"rows": ["cell5"]}),
        ({}, {"files": "replogle_2022.h5ad"}, errors.BadValue, {"name": "files", "value": "replogle_2022.h5ad"}),
    ],
)
def test_what_cannot_be_read_is_named(folder, refuses, change, arguments, error, data):
    raw = _published()
    for key, values in change.items():
        if values is None:
            del raw.obs[key]
        else:
            raw.obs[key] = values
    raw.write_h5ad(folder / "replogle_2022.h5ad")
    with refuses(error, **data):
        replogle_rpe1(**{"backed": False} | arguments)


def test_genes_without_a_symbol(folder, warned):
    raw = _published()
    raw.var["gene_name"] = ["ACTB", None, "", "GAPDH"]
    raw.write_h5ad(folder / "crispr_l1000.h5ad")
    adata = l1000_crispr(backed=False)
    assert adata.var_names.tolist() == ["ACTB", "ENSG00000000001", "ENSG00000000002", "GAPDH"]
    assert not warned()
    raw.var = raw.var.rename(columns={"gene_name": "chromosome"})
    raw.write_h5ad(folder / "crispr_l1000.h5ad")
    assert l1000_crispr(backed=False).var_names.tolist() == raw.var_names.tolist()
    (message,) = warned()
    assert "chromosome" in message


def test_another_number_of_cells_is_warned_of(folder, warned):
    _published().write_h5ad(folder / "replogle_2022.h5ad")
    replogle_rpe1(backed=False)
    (message,) = warned()
    assert "replogle_2022 holds 6 cells" in message
    assert "247914" in message
    n = 247_914
    obs = pd.DataFrame({"gene_name": "non-targeting", "dataset_batch_num": 1}, index=np.arange(n).astype(str))
    ad.AnnData(np.zeros((n, 1), np.float32), obs).write_h5ad(folder / "replogle_2022.h5ad")
    replogle_rpe1().file.close()
    assert not warned()


def test_either_name_of_the_l1000_file_and_other_names(folder):
    _published().write_h5ad(folder / "l1000_crispr.h5ad")
    assert l1000_crispr(backed=False).n_obs == 6
    _published(3).write_h5ad(folder / "new.h5ad")
    assert l1000_crispr(backed=False, files=["new.h5ad"]).n_obs == 3
