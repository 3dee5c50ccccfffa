from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import pytest

from semiclip.datasets._assemble import make_adata, make_mudata


@pytest.mark.parametrize("kind", ["string", "object", "numpy", "category"])
def test_text_of_every_kind_becomes_categories(kind):
    text = np.array(["b", "a", "b"])
    column = text if kind == "numpy" else pd.Series(text, dtype=kind)
    adata = make_adata(
        np.eye(3),
        obs={"label": column, "number": [3, 1, 2], "flag": np.array([True, False, True])},
        obs_names=pd.Index(["x", "y", "z"]),
        var_names=column.astype(str) + np.array(["0", "1", "2"]) if kind != "numpy" else ["b0", "a1", "b2"],
    )
    assert adata.X.dtype == np.float32
    assert adata.obs["label"].cat.categories.tolist() == ["a", "b"]
    assert adata.obs["label"].tolist() == ["b", "a", "b"]
    assert adata.obs["number"].tolist() == [3, 1, 2]
    assert adata.obs["flag"].dtype == bool
    assert adata.var_names.tolist() == ["b0", "a1", "b2"]


def test_modalities_keep_their_own_columns():
    def make(name):
        return make_adata(
            np.eye(2), obs={"batch": ["1", "2"]}, obs_names=[f"{name}1", f"{name}2"], var_names=[name, "v" + name]
        )

    # present in mudata 0.3 alone
    options = dict(mudata._core.config.OPTIONS) if hasattr(mudata, "set_options") else None
    mdata = make_mudata(rna=make("r"), image=make("i"))
    assert mdata.n_obs == 4
    assert list(mdata.obs.columns) == []
    assert mdata["image"].obs["batch"].tolist() == ["1", "2"]
    if options is not None:
        assert options == mudata._core.config.OPTIONS
