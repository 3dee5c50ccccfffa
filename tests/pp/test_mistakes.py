import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from semiclip.pp._mistakes import CONTROL_NAME, Side, not_finite, simple


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
