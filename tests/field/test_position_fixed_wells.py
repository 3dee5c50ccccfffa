"""Perturbations that are in one well on every plate: what is retrieved may be the position."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import semiclip as scl

KEYS = {"pair_on": "drug", "perturbation_key": "drug", "control": "dmso", "batch_key": "plate", "well_key": "well"}
DRUGS = [f"drug {i}" for i in range(12)]


@pytest.fixture
def plates(make_screen):
    """Make plates of twelve drugs and two controls, in the same wells on each plate or in others."""

    def make(rna_fixed, image_fixed, n_plates=3):
        mdata = make_screen(DRUGS, DRUGS)
        rng = np.random.default_rng(0)
        for name, is_fixed in (("rna", rna_fixed), ("image", image_fixed)):
            tables = []
            for plate in range(n_plates):
                wells = [f"b{n + 1:02}" if name == "rna" else f"B{n + 1}" for n in range(12)]  # read as one
                order = np.arange(12) if is_fixed else rng.permutation(12)
                obs = mdata[name].obs.assign(plate=f"{name} {plate}", well=[*(wells[n] for n in order), "A1", "A2"])
                tables.append(obs.set_axis(f"{plate}:" + obs.index))
            obs = pd.concat(tables)
            mdata.mod[name] = AnnData(obs=obs, obsm={"X_any": rng.normal(size=(len(obs), 2))})
        return mdata

    return make


def find(mdata, **change):
    table = scl.pp.check(mdata, **{**KEYS, **change})
    return table[table["check"] == "fixed wells"]


def test_one_well_on_all_plates_in_both_is_a_warning(plates):
    (row,) = find(plates(True, True)).itertuples()
    assert (row.severity, row.modality, row.code) == ("warning", "rna, image", "")
    assert "12 of 12 keys in rna and 12 of 12 keys in image" in row.finding
    assert "12 of 12 shared keys are in one well in both" in row.finding
    assert "position_baseline" in row.mend


@pytest.mark.parametrize("fixed", ["rna", "image"])
def test_in_one_modality_it_is_good_to_know(plates, fixed):
    (row,) = find(plates(fixed == "rna", fixed == "image")).itertuples()
    assert (row.severity, row.modality) == ("info", fixed)


def test_wells_that_change_and_single_plates_are_fine(plates):
    assert find(plates(False, False)).empty
    assert find(plates(True, True, n_plates=1)).empty
    assert find(plates(True, True), well_key=None).empty
    assert find(plates(True, True), batch_key=None).empty


def test_it_is_true_that_position_alone_retrieves_then(plates):
    """The baseline that the finding names: with fixed wells position finds every replicate, else it is near chance."""
    columns = {"use_rep": "X_any", "perturbation_key": "drug", "control": "dmso", "batch_key": "plate"}
    scores = [
        scl.tl.position_baseline(plates(fixed, fixed)["image"], **columns, well_key="well", method=None)
        .query("representation == 'position' and key == 'all positions'")["value"]
        .item()
        for fixed in (True, False)
    ]
    assert scores[0] == 1
    assert scores[1] < 0.5
