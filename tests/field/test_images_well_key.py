"""Functions that need the position of a well, on samples that `io.images` or `io.profiles` made."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import semiclip as scl
from semiclip import errors

KEYS = {"use_rep": "X_image", "perturbation_key": "drug", "control": "DMSO"}


@pytest.fixture
def adata():
    """Twelve wells of a plate, in the column that `io.images` writes."""
    wells = [f"{row}{column:02d}" for row in "ABC" for column in range(1, 5)]
    obs = pd.DataFrame({"Metadata_Well": wells, "drug": ["DMSO"] * 4 + ["taxol", "aspirin"] * 4}, index=wells)
    return AnnData(obs=obs, obsm={"X_image": np.random.default_rng(0).normal(size=(12, 3))})


@pytest.mark.parametrize("function", [scl.tl.position_baseline, scl.pl.plate])
def test_a_missing_column_of_wells_names_the_argument_that_mends_it(refuses, adata, function):
    columns = ["Metadata_Well", "drug"]
    with refuses(errors.MissingColumn, key="well", name="well_key", there=columns, way_out="pass well_key="):
        function(adata, **KEYS)


def test_the_argument_mends_it(adata):
    table = scl.tl.position_baseline(adata, well_key="Metadata_Well", method="center", **KEYS)
    assert table.loc[table["representation"] == "position", "n_obs"].tolist() == [8, 8]
    scl.pl.plate(adata, well_key="Metadata_Well", **KEYS)
