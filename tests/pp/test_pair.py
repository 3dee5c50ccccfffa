import logging
import re

import anndata
import numpy as np
import pandas as pd
import pytest

import semiclip as scl
from semiclip.datasets._assemble import modalities

KEYS = {"pair_on": ["drug", "dose"], "perturbation_key": "drug", "control": "dmso"}
SIZES = {"n_compounds": 5, "n_knockouts": 20, "n_pathways": 5, "n_genes": 40}


def make(name, drugs, dose=1.0):
    index = [f"{name}{i}" for i in range(len(drugs))]
    return anndata.AnnData(obs=pd.DataFrame({"drug": pd.array(list(drugs), dtype=object), "dose": dose}, index=index))


@pytest.fixture
def mdata():
    return modalities(
        rna=make("rna", ["b", "dmso", "a", "a", "c", "d", "d"]), image=make("image", ["a", "z", "b", "dmso", "b"])
    )


def test_reports_each_key_and_the_totals(mdata, caplog):
    with caplog.at_level(logging.INFO, logger="semiclip"):
        report = scl.pp.pair(mdata, **KEYS)
    expected = pd.DataFrame(
        {
            "drug": list("abcdz"),
            "dose": 1.0,
            "n_student": [2, 1, 1, 2, 0],
            "n_teacher": [1, 2, 0, 0, 1],
            "shared": [True, True, False, False, False],
        }
    )
    pd.testing.assert_frame_equal(report, expected, check_dtype=False)
    assert report.attrs["summary"] == {
        "shared_keys": 2,
        "student_kept": 3,
        "student_dropped": 3,
        "teacher_kept": 3,
        "teacher_dropped": 1,
    }
    assert caplog.messages == [
        "pairing on ['drug', 'dose']: shared_keys 2, student_kept 3, student_dropped 3, "
        "teacher_kept 3, teacher_dropped 1"
    ]


def test_the_totals_add_up_on_a_whole_study():
    mdata = scl.datasets.simulate(**SIZES).mdata
    keep = mdata["rna"].obs["perturbation"] != "compound_3"
    mdata = modalities(rna=mdata["rna"][keep].copy(), image=mdata["image"])
    report = scl.pp.pair(mdata, pair_on=["perturbation", "dose"], perturbation_key="perturbation", control="control")
    summary = report.attrs["summary"]
    for side, name in (("student", "rna"), ("teacher", "image")):
        treated = (mdata[name].obs["perturbation"] != "control").sum()
        assert summary[f"{side}_kept"] + summary[f"{side}_dropped"] == report[f"n_{side}"].sum() == treated
    assert summary["shared_keys"] == report["shared"].sum() == 12
    assert summary["student_dropped"] == 0
    assert summary["teacher_dropped"] == 9
    assert not report.loc[report["perturbation"] == "compound_3", "shared"].any()


def test_names_of_the_modalities(mdata):
    report = scl.pp.pair(mdata, **KEYS)
    other = modalities(expression=mdata["rna"], cells=mdata["image"])
    names = {"student": "expression", "teacher": "cells"}
    pd.testing.assert_frame_equal(scl.pp.pair(other, modalities=names, **KEYS), report)
    swapped = scl.pp.pair(mdata, modalities={"student": "image", "teacher": "rna"}, **KEYS)
    assert swapped["n_teacher"].sum() == report["n_student"].sum()
    half = modalities(rna=mdata["rna"], cells=mdata["image"])
    pd.testing.assert_frame_equal(scl.pp.pair(half, modalities={"teacher": "cells"}, **KEYS), report)


def test_without_controls_all_rows_count(mdata):
    report = scl.pp.pair(mdata, pair_on="drug", control=None)
    assert report.attrs["summary"]["student_kept"] == 4
    assert "dmso" in report.loc[report["shared"], "drug"].tolist()


def test_counts_the_batches_that_are_paired(mdata):
    """Neither the batch of the control alone counts, nor that of rows without a partner."""
    mdata["rna"].obs["plate"] = ["p1", "p2", "p1", "p3", "p4", "p5", "p5"]
    mdata["image"].obs["plate"] = ["q1", "q2", "q1", "q1", "q1"]
    without = scl.pp.pair(mdata, **KEYS)
    report = scl.pp.pair(mdata, batch_key="plate", **KEYS)
    pd.testing.assert_frame_equal(report, without)
    batches = {"student_batches": 2, "teacher_batches": 1}
    assert report.attrs["summary"] == {**without.attrs["summary"], **batches}


def test_takes_the_columns_that_training_takes():
    columns = {"batch_key": "batch", "perturbation_key": "perturbation", "control": "control"}
    mdata = scl.datasets.simulate(**SIZES).mdata
    summary = scl.pp.pair(mdata, pair_on="perturbation", **columns).attrs["summary"]
    assert summary["student_batches"] == mdata["rna"].obs["batch"].nunique()
    assert summary["teacher_batches"] == mdata["image"].obs["batch"].nunique()


def test_changes_nothing(mdata):
    before = {name: adata.obs.copy() for name, adata in mdata.mod.items()}
    scl.pp.pair(mdata, **KEYS)
    for name, adata in mdata.mod.items():
        pd.testing.assert_frame_equal(adata.obs, before[name])
        assert not adata.uns
    assert not mdata.uns


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
def test_refuses(mdata):
    def refuses(error, message, mdata, **change):
        with pytest.raises(error, match=re.escape(message)):
            scl.pp.pair(mdata, **KEYS | change)

    rna, image = mdata["rna"], mdata["image"]
    refuses(TypeError, "a MuData with the modality 'rna' is needed, not AnnData", rna)
    refuses(KeyError, "the MuData has no modality 'image', only rna", modalities(rna=rna))
    refuses(KeyError, "no modality 'protein', only rna, image", mdata, modalities={"student": "protein"})
    pupil = {"pupil": "rna"}
    refuses(ValueError, "modalities names pupil, but the roles are student and teacher", mdata, modalities=pupil)
    refuses(ValueError, "modality 'image' has no observations", modalities(rna=rna, image=image[:0].copy()))
    twice = make("rna", ["a", "dmso"])
    twice.obs_names = ["x", "x"]
    refuses(ValueError, "modality 'rna' repeats observation names: x; call", modalities(rna=twice, image=image))
    refuses(KeyError, "pair_on='gene' is not a column of obs, which has drug, dose", mdata, pair_on="gene")
    refuses(KeyError, "perturbation_key='gene' is not a column", mdata, perturbation_key="gene")
    refuses(KeyError, "batch_key='plate' is not a column", mdata, batch_key="plate")
    refuses(ValueError, "control label(s) DMSO match no row of obs['drug']", mdata, control="DMSO")
    refuses(ValueError, "control='dmso' needs perturbation_key=", mdata, perturbation_key=None)
    strangers = modalities(rna=make("rna", ["x", "dmso"]), image=image)
    refuses(ValueError, "the modalities share no key on ['drug', 'dose']: the student has x | 1.0; ", strangers)
    image.obs["dose"] = np.nan
    refuses(ValueError, "obs['dose'] (pair_on) has no value in 4 row(s): image0, image1, image2, image4;", mdata)
