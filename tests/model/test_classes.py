"""Classes: from training rows alone, by the labels that a setup names."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData

from semiclip import errors
from semiclip.model import SemiClip


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of a teacher without pretraining
@pytest.mark.parametrize(
    ("changes", "columns", "n_classes", "some_known"),
    [
        ({}, ["perturbation", "dose"], 54, False),  # 18 of 24 compounds at 3 doses
        ({"label_key": "perturbation"}, ["perturbation"], 18, False),
        ({"label_key": "perturbation", "split_key": "batch"}, ["perturbation"], 24, True),
    ],
)
def test_a_class_is_a_pairing_key_or_what_a_label_key_says(
    mdata, setup, quiet, spy, changes, columns, n_classes, some_known
):
    SemiClip.setup_mudata(mdata, **setup, **changes)
    model = SemiClip(mdata, objective="kd", n_hidden=[16])
    model.train(1, train_size=0.75, pretrain_epochs=0, callbacks=[seen := spy()], **quiet)
    data = seen.data
    labels = mdata["rna"].obs[columns].astype(str).agg(" | ".join, axis=1).to_numpy()
    assert data.classes.tolist() == model.classes_.tolist() == sorted(set(labels[data.train_idx]))
    assert len(data.classes) == n_classes
    for rows in (data.train_idx, data.val_idx):  # classes that training lacks are -1
        known = np.isin(labels[rows], data.classes)
        code = data.class_of_key[data.host.key[rows]].numpy()
        assert code.tolist() == np.where(known, np.searchsorted(data.classes, labels[rows]), -1).tolist()
    assert data.n_val_known == known.sum()
    assert (data.n_val_known > 0) == some_known


def test_one_class_or_labels_that_a_key_does_not_decide_are_refused_before_training(mdata, setup, quiet, refuses):
    obs = mdata["rna"].obs
    first = obs["perturbation"] == obs["perturbation"][obs["perturbation"] != "control"].iloc[0]
    half = np.random.default_rng(0).permuted(np.where(np.arange(len(obs)) % 2, "odd", "even"))
    obs["half"] = np.where(first, half, obs["perturbation"].astype(str))
    obs["one"] = "one"
    unfit = {"one": (errors.TooFew, {"number": 1, "needed": 2}), "half": (errors.Refused, {"items": ["even", "odd"]})}
    for label_key, (error, data) in unfit.items():
        SemiClip.setup_mudata(mdata, **setup, label_key=label_key)
        model = SemiClip(mdata, objective="shake")
        with refuses(error, **data):
            model.train(1, **quiet)
        assert model.classes_ is None
    SemiClip(mdata).train(1, pretrain_epochs=0, **quiet)  # which needs none


@pytest.mark.filterwarnings("ignore::semiclip.errors.SemiclipWarning")  # of a teacher without pretraining
def test_a_label_key_must_be_a_column_that_is_whole_where_samples_are_paired(mdata, setup, quiet, refuses):
    with refuses(errors.MissingColumn, key="moa", name="label_key"):
        SemiClip.setup_mudata(mdata, **setup, label_key="moa")
    control = (mdata["rna"].obs["perturbation"] == "control").to_numpy()
    mdata["rna"].obs["moa"] = np.where(control, None, mdata["rna"].obs["perturbation"].astype(object))
    SemiClip.setup_mudata(mdata, **setup, label_key="moa")
    model = SemiClip(mdata, objective="kd", n_hidden=[4])
    model.train(1, pretrain_epochs=0, **quiet)  # controls are not paired, and need no label
    assert len(model.classes_) == 22  # of 24 compounds
    first = np.flatnonzero(~control)[0]
    mdata["rna"].obs.iloc[first, -1] = None
    SemiClip.setup_mudata(mdata, **setup, label_key="moa")
    with refuses(errors.MissingValues, rows=[mdata["rna"].obs_names[first]]):
        SemiClip(mdata, objective="kd").train(1, **quiet)


@pytest.mark.parametrize(
    ("columns", "classes"),
    [
        ({"control": "dmso", "perturbation_key": "drug"}, "abcd"),
        ({"control": "dmso", "perturbation_key": "drug", "label_key": "target"}, "xy"),
        ({"control": None}, None),
    ],
)
def test_of_strong_pairs_a_class_is_a_perturbation(quiet, refuses, columns, classes):
    rng = np.random.default_rng(0)
    adata = AnnData(np.zeros((40, 1), dtype=np.float32))
    adata.obs["drug"] = np.repeat(["dmso", "a", "b", "c", "d"], 8)
    adata.obs["target"] = np.repeat(["none", "x", "x", "y", "y"], 8)
    adata.obsm = {"X_s": rng.normal(size=(40, 5)), "X_t": rng.normal(size=(40, 4))}
    SemiClip.setup_anndata(adata, student_rep="X_s", teacher_rep="X_t", **columns)
    model = SemiClip(adata, objective="kd", n_hidden=[])
    if classes is None:
        with refuses(errors.BadValue, name="label_key", value=None):
            model.train(1, **quiet)
        return
    model.train(1, train_size=1.0, **quiet)
    assert model.classes_.tolist() == list(classes)
    assert model.module.objective.heads["student_head"].out_features == len(classes)
