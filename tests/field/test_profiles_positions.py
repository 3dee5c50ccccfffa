"""Tables of CellProfiler hold positions and numbers of objects, which say nothing about looks."""

import logging

import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors

KEYS = {"perturbation_key": "drug", "control": "DMSO"}
POSITIONS = [
    "Nuclei_Location_Center_X",
    "Cells_Location_CenterMassIntensity_Y_DNA",
    "Cells_Location_MaxIntensity_X_ER",
    "Cells_AreaShape_Center_X",
    "Nuclei_AreaShape_Centroid_Y",
    "Nuclei_AreaShape_BoundingBoxMaximum_Y",
    "Nuclei_AreaShape_BoundingBoxMinimum_X",
    "Nuclei_Number_Object_Number",
    "Nuclei_ObjectNumber",
    "Cells_ImageNumber",
    "Cells_Parent_Nuclei",
    "Cells_Neighbors_FirstClosestObjectNumber_5",
    "Nuclei_Metadata_Site",
]
LOOKS = [
    "Cells_AreaShape_Area",
    "Cells_AreaShape_BoundingBoxArea",
    "Cells_AreaShape_CenterOfMassShift",
    "Cells_Children_Spots_Count",
    "Cells_Intensity_MassDisplacement_DNA",
    "Cells_Neighbors_NumberOfNeighbors_5",
    "Nuclei_RadialDistribution_FracAtD_DNA_1of4",
    "Nuclei_AreaShape_Zernike_2_0",
]


@pytest.fixture
def table():
    drug = ["DMSO"] * 6 + ["taxol"] * 2
    described = {"Metadata_Plate": "p1", "Metadata_Well": [f"A{i}" for i in range(1, 9)], "Metadata_drug": drug}
    names = [name for pair in zip(POSITIONS, LOOKS + POSITIONS, strict=False) for name in pair]
    names = list(dict.fromkeys(names + ["ImageNumber", "ObjectNumber", "Location_Center_X"]))
    values = np.random.default_rng(0).normal(10, 3, (8, len(names)))
    return pd.DataFrame(described).join(pd.DataFrame(values, columns=names))


def test_they_go_counted_and_named_and_looks_stay(table, caplog):
    with caplog.at_level(logging.INFO, logger="semiclip"):
        images = scl.io.profiles(table, **KEYS)
    assert sorted(images.var_names) == sorted(LOOKS)
    (message,) = [line for line in caplog.messages if "positions" in line]
    assert message.startswith("13 column(s) are positions or numbers of objects and images, and go: Nuclei_Location")
    assert images.uns["semiclip"]["X_image"]["params"]["keep_positions"] is False


def test_an_argument_or_their_full_name_keeps_them(table):
    assert sorted(scl.io.profiles(table, keep_positions=True, **KEYS).var_names) == sorted(LOOKS + POSITIONS)
    named = scl.io.profiles(table, features=["Nuclei_Location_Center_X", "Nuclei_"], **KEYS)
    nuclei = [name for name in LOOKS if name.startswith("Nuclei_")]
    assert sorted(named.var_names) == sorted(["Nuclei_Location_Center_X", *nuclei])
    assert scl.io.profiles(table, features="ImageNumber", **KEYS).var_names.tolist() == ["ImageNumber"]


def test_a_prefix_of_nothing_else_is_refused(refuses, table):
    with refuses(errors.Empty, way_out="pass keep_positions=True to keep them"):
        scl.io.profiles(table, features="Nuclei_Location_", **KEYS)


def test_profiles_do_not_depend_on_where_cells_lie(table):
    moved = table.assign(**{name: table[name] * 7 + 1000 for name in POSITIONS})
    np.testing.assert_array_equal(scl.io.profiles(table, **KEYS).X, scl.io.profiles(moved, **KEYS).X)
