import logging

import anndata
import pandas as pd
import pytest

import semiclip as scl
from semiclip import errors

KEYS = {"pair_on": ["drug", "dose"], "perturbation_key": "drug", "control": "dmso"}


def make(name, drugs, dose=1.0):
    index = [f"{name}{i}" for i in range(len(drugs))]
    return anndata.AnnData(obs=pd.DataFrame({"drug": pd.array(list(drugs), dtype=object), "dose": dose}, index=index))


@pytest.fixture
def mdata(make_mdata):
    return make_mdata(
        rna=make("rna", ["b", "dmso", "a", "a", "c", "d", "d"]), image=make("image", ["a", "z", "b", "dmso", "b"])
    )


def test_reports_each_key_and_the_totals_and_changes_nothing(mdata, caplog):
    before = {name: adata.obs.copy() for name, adata in mdata.mod.items()}
    with caplog.at_level(logging.INFO, logger="semiclip"):
        report = scl.pp.pair(mdata, **KEYS)
    counts = {"n_student": [2, 1, 1, 2, 0], "n_teacher": [1, 2, 0, 0, 1]}
    shared = [True, True, False, False, False]
    expected = pd.DataFrame({"drug": list("abcdz"), "dose": 1.0, **counts, "shared": shared})
    pd.testing.assert_frame_equal(report, expected, check_dtype=False)
    kept = {"student_kept": 3, "student_dropped": 3, "teacher_kept": 3, "teacher_dropped": 1}
    assert report.attrs["summary"] == {"shared_keys": 2, **kept}
    assert [f"{name} {value}" in caplog.text for name, value in report.attrs["summary"].items()] == [True] * 5
    for name, adata in mdata.mod.items():
        pd.testing.assert_frame_equal(adata.obs, before[name])
        assert not adata.uns
    assert not mdata.uns


def test_names_of_the_modalities(mdata, make_mdata):
    report = scl.pp.pair(mdata, **KEYS)
    other = make_mdata(expression=mdata["rna"], cells=mdata["image"])
    names = {"student": "expression", "teacher": "cells"}
    pd.testing.assert_frame_equal(scl.pp.pair(other, modalities=names, **KEYS), report)
    swapped = scl.pp.pair(mdata, modalities={"student": "image", "teacher": "rna"}, **KEYS)
    assert swapped["n_teacher"].sum() == report["n_student"].sum()
    half = make_mdata(rna=mdata["rna"], cells=mdata["image"])
    pd.testing.assert_frame_equal(scl.pp.pair(half, modalities={"teacher": "cells"}, **KEYS), report)


def test_without_controls_all_rows_count(mdata):
    report = scl.pp.pair(mdata, pair_on="drug", control=None)
    assert report.attrs["summary"]["student_kept"] == 4
    assert "dmso" in report.loc[report["shared"], "drug"].tolist()


def test_counts_the_batches_that_are_paired(mdata):
    """Neither the batch of the control alone counts, nor that of rows without a partner."""
    mdata["rna"].obs["plate"] = ["p1", "p2", "p1", "p3", "p4", "p5", "p5"]
    mdata["image"].obs["plate"] = ["q1", "q2", "q1", "q1", "q1"]
    report = scl.pp.pair(mdata, batch_key="plate", **KEYS)
    pd.testing.assert_frame_equal(report, scl.pp.pair(mdata, **KEYS))
    assert (report.attrs["summary"]["student_batches"], report.attrs["summary"]["teacher_batches"]) == (2, 1)


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
def test_refuses_data(mdata, make_mdata, refuses):
    rna, image = mdata["rna"], mdata["image"]
    with refuses(errors.MissingColumn, key="plate", name="batch_key"):
        scl.pp.pair(mdata, **KEYS, batch_key="plate")
    with refuses(errors.WrongType, got=anndata.AnnData):
        scl.pp.pair(rna, **KEYS)
    with refuses(errors.Empty):
        scl.pp.pair(make_mdata(rna=rna, image=image[:0].copy()), **KEYS)
    twice = make("rna", ["a", "dmso"])
    twice.obs_names = ["x", "x"]
    with refuses(errors.Repeated, items=["x"]):
        scl.pp.pair(make_mdata(rna=twice, image=image), **KEYS)
