"""Classes: from training rows alone, by the labels that a setup names."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

from semiclip.model import SemiClip
from semiclip.model._data import read_classes


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30), st.data())
def test_classes_are_the_labels_of_training_and_keys_say_which(rows, data):
    key = np.array([k if paired else -1 for k, paired in rows])
    label_of = data.draw(st.lists(st.sampled_from("zyxw"), min_size=6, max_size=6))
    labels = np.array([label_of[k] for k, _ in rows], dtype=object)
    paired = np.flatnonzero(key >= 0)
    chosen = np.array([data.draw(st.booleans()) for _ in paired], dtype=bool)
    if not chosen.any():
        return
    train = paired[chosen]
    classes, of_key = read_classes(labels, key, train, 7)
    assert classes.tolist() == sorted({label_of[k] for k in key[train]})
    for k in range(7):
        known = k in key and label_of[k] in classes
        assert of_key[k] == (classes.tolist().index(label_of[k]) if known else -1)


def test_rows_of_one_key_with_two_labels_are_refused_by_name():
    labels, key = np.array(["a", "b", "c", "d", "e"], dtype=object), np.array([1, 0, 0, 2, 2])
    message = (
        r"samples of one pairing key must have one label, but 2 key\(s\) have several, such as b, c; pair on the label "
        "too, or choose another label_key"
    )
    with pytest.raises(ValueError, match=message):
        read_classes(labels, key, np.array([0]), 3)
    # rows without a key say nothing
    classes, of_key = read_classes(labels, np.array([1, 0, -1, 2, -1]), np.array([0, 3]), 3)
    assert (classes.tolist(), of_key.tolist()) == (["a", "d"], [-1, 0, 1])


@pytest.fixture
def data(mdata, setup):
    """The data that training would read, and the model."""

    def make(objective="kd", **changes):
        SemiClip.setup_mudata(mdata, **{**setup, **changes})
        model = SemiClip(mdata, objective=objective, n_hidden=[16])
        return model._pair_data(None, [], train_size=0.75), model

    return make


def names(mdata, rows, *keys):
    obs = mdata["rna"].obs.iloc[rows]
    return set(obs[list(keys)].astype(str).agg(" | ".join, axis=1))


def test_by_default_a_class_is_a_perturbation_at_a_dose(data, mdata):
    paired, _ = data()
    assert set(paired.classes) == names(mdata, paired.train_idx, "perturbation", "dose")
    assert len(paired.classes) == 54  # 18 of 24 compounds at 3 doses
    assert not set(paired.classes) & names(mdata, paired.val_idx, "perturbation", "dose")
    assert paired.n_val_known == 0
    of_row = paired._class_of_key[paired.host.key.numpy()[paired.train_idx]]
    expected = mdata["rna"].obs.iloc[paired.train_idx][["perturbation", "dose"]].astype(str).agg(" | ".join, axis=1)
    assert paired.classes[of_row].tolist() == expected.tolist()


def test_a_label_key_makes_doses_one_class(data, mdata):
    paired, _ = data(label_key="perturbation")
    assert set(paired.classes) == names(mdata, paired.train_idx, "perturbation")
    assert len(paired.classes) == 18
    assert "control" not in paired.classes


def test_classes_may_be_on_both_sides(data, mdata):
    paired, _ = data(split_key="batch", label_key="perturbation")
    held_out = mdata["rna"].obs["perturbation"].iloc[paired.val_idx]
    assert paired.n_val_known == held_out.isin(paired.classes).sum() > 0


def test_without_labels_nothing_is_read(data):
    paired, _ = data("semiclip", label_key="dose")
    assert paired.labels is None


def test_a_label_that_its_key_does_not_decide_is_refused_before_training(mdata, setup, quiet):
    obs = mdata["rna"].obs
    obs["half"] = np.random.default_rng(0).permuted(np.where(np.arange(len(obs)) % 2, "odd", "even"))
    SemiClip.setup_mudata(mdata, **setup, label_key="half")
    with pytest.raises(ValueError, match=r"one label, but \d+ key\(s\) have several, such as (even, odd|odd, even);"):
        SemiClip(mdata, objective="shake").train(1, **quiet)
    SemiClip(mdata).train(1, **quiet)  # which needs none


def test_a_label_key_must_be_a_column_that_is_whole_where_samples_are_paired(mdata, setup, quiet):
    with pytest.raises(KeyError, match="label_key='moa' is not a column of obs"):
        SemiClip.setup_mudata(mdata, **setup, label_key="moa")
    control = (mdata["rna"].obs["perturbation"] == "control").to_numpy()
    mdata["rna"].obs["moa"] = np.where(control, None, mdata["rna"].obs["perturbation"].astype(object))
    SemiClip.setup_mudata(mdata, **setup, label_key="moa")
    model = SemiClip(mdata, objective="kd", n_hidden=[4])
    model.train(1, pretrain_epochs=0, **quiet)  # controls are not paired, and need no label
    assert len(model.classes_) < mdata["rna"].obs["moa"].nunique() + 1
    mdata["rna"].obs.iloc[np.flatnonzero(~control)[0], -1] = None
    SemiClip.setup_mudata(mdata, **setup, label_key="moa")
    with pytest.raises(ValueError, match=r"obs\['moa'\] \(label_key\) has no value in 1 row"):
        SemiClip(mdata, objective="kd").train(1, **quiet)


def test_one_class_cannot_be_told_from_others(mdata, setup, quiet):
    mdata["rna"].obs["one"] = "one"
    SemiClip.setup_mudata(mdata, **setup, label_key="one")
    model = SemiClip(mdata, objective="kd")
    with pytest.raises(ValueError, match="1 class cannot be told from others; training needs at least two"):
        model.train(1, **quiet)
    assert model.classes_ is None


@pytest.fixture
def adata():
    rng = np.random.default_rng(0)
    adata = AnnData(np.zeros((40, 1), dtype=np.float32))
    adata.obs["drug"] = np.repeat(["dmso", "a", "b", "c", "d"], 8)
    adata.obs["target"] = np.repeat(["none", "x", "x", "y", "y"], 8)
    adata.obsm = {"X_s": rng.normal(size=(40, 5)), "X_t": rng.normal(size=(40, 4))}
    return adata


@pytest.mark.parametrize(("label_key", "classes"), [(None, "abcd"), ("target", "xy")])
def test_of_strong_pairs_a_class_is_a_perturbation(adata, quiet, label_key, classes):
    keys = {"student_rep": "X_s", "teacher_rep": "X_t", "control": "dmso", "perturbation_key": "drug"}
    SemiClip.setup_anndata(adata, **keys, label_key=label_key)
    model = SemiClip(adata, objective="kd", n_hidden=[])
    model.train(1, train_size=1.0, **quiet)
    assert model.classes_.tolist() == list(classes)
    assert model.module.objective.heads["student_head"].out_features == len(classes)


def test_strong_pairs_without_perturbations_have_no_classes(adata, quiet):
    SemiClip.setup_anndata(adata, student_rep="X_s", teacher_rep="X_t", control=None)
    with pytest.raises(ValueError, match="learns from labels; name their obs column as label_key or perturbation_key"):
        SemiClip(adata, objective="kd").train(1, **quiet)
