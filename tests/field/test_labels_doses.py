"""Doses on shifted ladders, and doses as text with units."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import semiclip as scl

KEYS = {"pair_on": ["drug", "dose"], "perturbation_key": "drug", "control": "dmso"}
DRUGS = [f"drug {i}" for i in range(30)]


@pytest.fixture
def dosed(make_screen):
    """Make every drug at the doses of each modality; controls have the dose 0, in the same writing."""

    def make(rna, image):
        mdata = make_screen(*([name for name in DRUGS for _ in doses] for doses in (rna, image)))
        for name, doses in (("rna", rna), ("image", image)):
            column = [*doses] * len(DRUGS) + ["0" if isinstance(doses[0], str) else 0] * 2
            mdata[name].obs["dose"] = pd.Series(column, mdata[name].obs_names).infer_objects()
        return mdata

    return make


def find(mdata, check):
    table = scl.pp.check(mdata, **KEYS)
    return table[table["check"] == check]


# ---- ladders


def test_a_shifted_ladder_is_found_though_many_keys_pair(dosed):
    mdata = dosed([1.25, 2.5, 5], [2.5, 5, 10])
    assert scl.pp.pair(mdata, **KEYS).attrs["summary"]["shared_keys"] == 60
    (row,) = find(mdata, "shifted doses").itertuples()
    assert row.severity == "warning"
    assert "factor of 2 in 30 of 30 ladders: 1.25, 2.5, 5 against 2.5, 5, 10; 60 keys pair" in row.finding
    assert row.code == ""  # which of them is right nobody can tell from the data
    mdata["rna"].obs["dose"] *= 2
    assert find(mdata, "shifted doses").empty
    assert scl.pp.pair(mdata, **KEYS).attrs["summary"]["shared_keys"] == 90


def test_a_shifted_ladder_without_a_common_dose_is_an_error(dosed):
    (row,) = find(dosed([1, 3, 9], [2, 6, 18]), "shifted doses").itertuples()
    assert row.severity == "error"
    assert "factor of 2 in 30 of 30" in row.finding


@pytest.mark.parametrize(
    ("rna", "image"), [([1, 3, 10], [1, 3, 10]), ([1, 3, 10], [1, 10]), ([1, 2, 5], [2, 5, 10]), ([5], [10])]
)
def test_other_designs_are_no_shifted_ladders(dosed, rna, image):
    assert find(dosed(rna, image), "shifted doses").empty


def test_a_thousandfold_is_a_unit_and_no_ladder(dosed):
    mdata = dosed([0.1, 1, 10], [100, 1000, 10000])
    assert len(find(mdata, "units")) == 1
    assert find(mdata, "shifted doses").empty


# ---- text with units


@pytest.mark.parametrize(
    ("written", "unit", "expected"),
    [
        (["0.1 uM", "100 nM", "1 µM"], "um", [0.1, 0.1, 1.0]),
        (["0.1uM", "1 \u03bcM", "10 UM"], "um", [0.1, 1.0, 10.0]),
        (["100 nM", "0,5 nM", "1e3 nM"], "nm", [100.0, 0.5, 1000.0]),
        (["1 ug/mL", "500 ng/ml", "0.002 mg/ml"], "ug/ml", [1.0, 0.5, 2.0]),
        (["24h", "2 days", "48 h"], "h", [24.0, 48.0, 48.0]),
    ],
)
def test_doses_with_units_become_numbers_of_one_unit(dosed, written, unit, expected):
    mdata = dosed(written, [*written, f"7 {unit}"])
    (row,) = find(mdata, "units in text").itertuples()
    assert f"numbers in {unit}" in row.mend
    for _ in range(2):  # and again
        exec(row.code, {"mdata": mdata})
        for name in ("rna", "image"):
            doses = mdata[name].obs["dose"]
            assert doses.dtype == float
            np.testing.assert_allclose(doses.iloc[:3], expected, rtol=1e-12)
            assert doses.iloc[-1] == 0


def test_text_with_units_beside_numbers_is_an_error_and_units_follow(dosed):
    mdata = dosed(["100 nM", "1000 nM", "10000 nM"], [0.1, 1.0, 10.0])
    (row,) = find(mdata, "units in text").itertuples()
    assert row.severity == "error"
    exec(row.code, {"mdata": mdata})
    exec(find(mdata, "units")["code"].item(), {"mdata": mdata})
    assert scl.pp.pair(mdata, **KEYS).attrs["summary"]["shared_keys"] == 90


@pytest.mark.parametrize("strange", ["low", "5", "1 mg/ml", "1,000 nM"])
def test_what_tells_no_unit_or_another_kind_is_left_to_a_person(dosed, strange):
    mdata = dosed(["0.1 uM", "1 uM", strange], ["0.1 uM", "1 uM", "10 uM"])
    (row,) = find(mdata, "units in text").itertuples()
    assert row.code == ""
    assert "by hand" in row.mend


def test_controls_may_have_a_word_for_no_dose(dosed):
    mdata = dosed(["0.1 uM", "1 uM"], ["100 nM", "1000 nM"])
    obs = mdata["rna"].obs
    obs["dose"] = obs["dose"].replace("0", "vehicle")
    (row,) = find(mdata, "units in text").itertuples()
    exec(row.code, {"mdata": mdata})
    assert obs["dose"].tolist()[-2:] == [0, 0]
    assert scl.pp.pair(mdata, **KEYS).attrs["summary"]["shared_keys"] == 60
