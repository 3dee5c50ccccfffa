import subprocess
import sys

import pandas as pd
import pytest
from anndata import AnnData

import semiclip as scl
from semiclip import errors

TABLE = pd.DataFrame({"Plate": "p1", "Well": ["A1", "A2", "A3", "A4"], "drug": ["DMSO", "DMSO", "DMSO", "aspirin"]})


def test_profiles_and_annotate_warn_and_do_the_same():
    features = TABLE.add_prefix("Metadata_").assign(Cells_Area=[100.0, 110.0, 90.0, 120.0])
    keys = {"perturbation_key": "drug", "control": "DMSO"}
    with pytest.warns(FutureWarning, match="semiclip.io.profiles"):
        former = scl.pp.profiles(features, **keys)
    pd.testing.assert_frame_equal(former.to_df(), scl.io.profiles(features, **keys).to_df())

    samples = AnnData(obs=pd.DataFrame({"Plate": ["p1"], "Well": ["A04"]}, index=["s"]))
    with pytest.warns(FutureWarning, match="semiclip.io.plate_map"):
        former = scl.pp.annotate(samples, plate_map=TABLE, on=["Plate", "Well"], copy=True)
    pd.testing.assert_frame_equal(former.obs, scl.io.plate_map(samples, TABLE, copy=True).obs)


def test_images_warns_and_does_the_same():
    with pytest.warns(FutureWarning, match="semiclip.io.images"), pytest.raises(errors.WrongType):
        scl.pp.images(TABLE, encoder=None)


def test_preparation_loads_no_reader():
    code = "import semiclip.pp, sys; print('semiclip.io' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
