import anndata
import numpy as np
import pytest

from semiclip._provenance import record, storable


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (True, True),
        (3, 3),
        (0.5, 0.5),
        ("mask", "mask"),
        (np.float32(0.5), np.float32(0.5)),
        (("a", "b"), ["a", "b"]),
        ([(1, 2), [3]], [[1, 2], [3]]),
        ({"a": None, "b": (1,)}, {"b": [1]}),
        ({"a/b": {"c/d": 1}, 2: "x"}, {"a_b": {"c_d": 1}, "2": "x"}),
        (np.random.default_rng(0), "Generator"),
        (object(), "object"),
    ],
)
def test_storable(value, stored):
    out = storable(value)
    assert out == stored
    assert type(out) is type(stored)


def test_arrays_stay_as_they_are():
    array = np.arange(3)
    assert storable(array) is array


def test_keeps_other_entries_and_replaces_its_own():
    adata = anndata.AnnData(np.eye(2))
    adata.uns["other"] = 1
    record(adata, "X_a", {"use_rep": "X", "ridge": None})
    before = adata.uns["semiclip"]
    record(adata, "X_b", {"method": "tvn"}, table=np.arange(2))
    record(adata, "X_a", {"use_rep": "X_pca"})
    assert adata.uns["semiclip"]["X_a"] == {"params": {"use_rep": "X_pca"}}
    assert adata.uns["semiclip"]["X_b"]["params"] == {"method": "tvn"}
    assert adata.uns["semiclip"]["X_b"]["table"].tolist() == [0, 1]
    assert adata.uns["other"] == 1
    assert before == {"X_a": {"params": {"use_rep": "X"}}}  # a shallow copy of the object still has this one


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_what_is_recorded_can_be_stored(suffix, tmp_path):
    adata = anndata.AnnData(np.eye(2))
    params = {"none": None, "keys": ("a", "b"), "nested": {"a/b": (1, 2), "none": None}, "flag": True, "rng": np.random}
    record(adata, "X_a", params)
    getattr(adata, f"write_{suffix}")(tmp_path / f"stored.{suffix}")
    back = getattr(anndata, f"read_{suffix}")(tmp_path / f"stored.{suffix}").uns["semiclip"]["X_a"]["params"]
    assert sorted(back) == ["flag", "keys", "nested", "rng"]
    assert list(back["keys"]) == ["a", "b"]
    assert list(back["nested"]["a_b"]) == [1, 2]
    assert back["flag"]
    assert back["rng"] == "module"
