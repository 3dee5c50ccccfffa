from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip._mudata import make_mudata
from semiclip.datasets._assemble import make_adata


@pytest.mark.parametrize("kind", ["string", "object", "numpy", "category"])
def test_text_of_every_kind_becomes_categories(kind):
    text = np.array(["b", "a", "b"])
    column = text if kind == "numpy" else pd.Series(text, dtype=kind)
    obs = {"label": column, "number": [3, 1, 2], "flag": np.array([True, False, True])}
    adata = make_adata(np.eye(3), obs=obs, obs_names=pd.Index(["x", "y", "z"]), var_names=["b0", "a1", "b2"])
    assert adata.X.dtype == np.float32
    assert adata.obs["label"].cat.categories.tolist() == ["a", "b"]
    assert adata.obs["label"].tolist() == ["b", "a", "b"]
    assert adata.obs["number"].tolist() == [3, 1, 2]
    assert adata.obs["flag"].dtype == bool
    assert adata.var_names.tolist() == ["b0", "a1", "b2"]


def test_modalities_keep_their_columns():
    # present in mudata 0.3 alone
    options = dict(mudata._core.config.OPTIONS) if hasattr(mudata, "set_options") else None
    names = {"rna": ["r1", "r2"], "image": ["i1", "i2"]}
    obs = {"batch": ["1", "2"]}
    parts = {key: make_adata(np.eye(2), obs=obs, obs_names=two, var_names=two) for key, two in names.items()}
    mdata = make_mudata(**parts)
    assert mdata.n_obs == 4
    assert list(mdata.obs.columns) == []
    assert mdata["image"].obs["batch"].tolist() == ["1", "2"]
    if options is not None:
        assert options == mudata._core.config.OPTIONS


SLOW_TO_READ = pytest.param("rpe1_periscope", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["simulated", "u2os_compounds", "u2os_orfs", "lincs_a549", SLOW_TO_READ])
def test_data_sets_survive_a_file(name, request, small_study, through_h5mu):
    if name != "simulated":
        request.getfixturevalue("data_dir")
    data = small_study.knockouts if name == "simulated" else getattr(scl.datasets, name)()
    mdata = data if isinstance(data, mudata.MuData) else make_mudata(rna=data)
    again = through_h5mu(mdata)
    assert list(again.mod) == list(mdata.mod)
    for modality, adata in mdata.mod.items():
        np.testing.assert_array_equal(again[modality].X, adata.X)
        for key in adata.obsm:
            np.testing.assert_array_equal(again[modality].obsm[key], adata.obsm[key])
        pd.testing.assert_frame_equal(again[modality].obs, adata.obs, check_categorical=False)
        assert again[modality].var_names.equals(adata.var_names)
