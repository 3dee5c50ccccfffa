"""Features whose controls differ by rounding alone: scaled, they would be huge."""

import logging

import numpy as np
import pandas as pd
import pytest

import semiclip as scl

KEYS = {"perturbation_key": "drug", "control": "DMSO", "clip": None}


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    drug = np.repeat(["DMSO", "taxol"], 8)
    described = {"Metadata_Plate": "p1", "Metadata_Well": [f"A{i}" for i in range(1, 17)], "Metadata_drug": drug}
    return pd.DataFrame(described).assign(Cells_Area=rng.normal(100, 10, 16), Cells_Skew=rng.normal(0, 1e-3, 16))


def noise(scale):
    return scale * np.random.default_rng(1).normal(size=16)


@pytest.mark.parametrize("scale", [1e-17, 1e-12, 1e-9])
def test_noise_around_zero_goes_where_other_wells_have_values(table, caplog, scale):
    table["Cells_Zero"] = np.where(table["Metadata_drug"] == "DMSO", noise(scale), 0.01)
    with caplog.at_level(logging.INFO, logger="semiclip"):
        images = scl.io.profiles(table, **KEYS)
    assert images.var_names.tolist() == ["Cells_Area", "Cells_Skew"]
    assert np.abs(images.X).max() < 20
    assert (
        "1 feature(s) vary among controls by less than a millionth of their largest value: Cells_Zero"
        in caplog.messages
    )


def test_noise_that_is_all_there_is_goes_and_small_units_stay(table):
    images = scl.io.profiles(table.assign(Cells_Zero=noise(1e-17), Cells_m2=table["Cells_Area"] * 1e-12), **KEYS)
    assert images.var_names.tolist() == ["Cells_Area", "Cells_Skew", "Cells_m2"]
    np.testing.assert_allclose(images.X[:, 2], images.X[:, 0], rtol=1e-4)


def test_a_feature_around_zero_is_scaled_as_by_hand(table):
    values = table["Cells_Skew"].to_numpy()
    controls = values[:8]
    spread = 1.4826 * np.median(np.abs(controls - np.median(controls)))
    expected = (values - np.median(controls)) / spread
    np.testing.assert_allclose(scl.io.profiles(table, **KEYS)[:, "Cells_Skew"].X.ravel(), expected, rtol=1e-5)


def test_agrees_with_pycytominer_where_no_feature_is_dropped(table):
    normalize = pytest.importorskip("pycytominer", exc_type=ImportError).normalize
    features = ["Cells_Area", "Cells_Skew"]
    controls = {"meta_features": ["Metadata_Well"], "samples": "Metadata_drug == 'DMSO'"}
    other = normalize(table, features, **controls, method="mad_robustize", mad_robustize_epsilon=0)
    np.testing.assert_allclose(scl.io.profiles(table, **KEYS).X, other[features], rtol=1e-4)
